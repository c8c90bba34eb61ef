"""gNMI Set: enabling and disabling ports."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from engine.gnmi_paths import parse
from engine.p4rt.stubs import gnmi
from tests.p4runtime.fake import FakeBackend
from tests.p4runtime.harness import TIMEOUT_S, RawClient

ENABLED = "interfaces/interface[name=1]/config/enabled"


def path(text: str) -> gnmi.Path:
    return gnmi.Path(elem=[gnmi.PathElem(name=name, key=dict(keys)) for name, keys in parse(text)])


def update(text: str, **value: Any) -> gnmi.Update:
    return gnmi.Update(path=path(text), val=gnmi.TypedValue(**value))


def send(raw: RawClient, **parts: Any) -> gnmi.SetResponse:
    return raw.call("Set", "unary_unary", gnmi.SetResponse, "gnmi.gNMI")(gnmi.SetRequest(**parts), timeout=TIMEOUT_S)


def read(raw: RawClient, text: str, type_: int = 0) -> list[Any]:
    call = raw.call("Get", "unary_unary", gnmi.GetResponse, "gnmi.gNMI")
    response = call(gnmi.GetRequest(path=[path(text)], type=type_, encoding=gnmi.PROTO), timeout=TIMEOUT_S)
    values = [u.val for n in response.notification for u in n.update]
    return [getattr(value, value.WhichOneof("value")) for value in values]


@pytest.mark.parametrize(
    "change",
    [
        update(ENABLED, bool_val=False),
        update(ENABLED, json_ietf_val=b"false"),
        update("interfaces/interface[name=1]/config", json_ietf_val=b'{"openconfig-interfaces:enabled": false}'),
        update("interfaces/interface[name=1]", json_val=b'{"name": "1", "config": {"name": "1", "enabled": false}}'),
    ],
)
def test_a_port_is_disabled_and_enabled(raw: RawClient, backend: FakeBackend, change: gnmi.Update) -> None:
    response = send(raw, update=[change])
    assert [r.op for r in response.response] == [gnmi.UpdateResult.UPDATE] and response.timestamp
    assert backend.enabled == {1: False, 2: True}
    assert read(raw, "interfaces/interface[name=1]/state/admin-status") == ["DOWN"]
    assert read(raw, ENABLED) == [False]
    send(raw, delete=[path(ENABLED)])
    assert backend.enabled == {1: True, 2: True}, "the default"


def test_replacing_a_config_without_it_gives_the_default(raw: RawClient, backend: FakeBackend) -> None:
    send(raw, update=[update(ENABLED, bool_val=False)])
    send(raw, update=[update("interfaces/interface[name=1]/config", json_val=b'{"loopback-mode": "NONE"}')])
    assert not backend.enabled[1], "an update leaves alone what it does not name"
    send(raw, replace=[update("interfaces/interface[name=1]/config", json_val=b"{}")])
    assert backend.enabled[1]


def test_nothing_is_set_when_one_change_cannot_be(raw: RawClient, backend: FakeBackend) -> None:
    code = grpc.StatusCode
    cases = [
        (update("interfaces/interface[name=9]/config/enabled", bool_val=False), code.NOT_FOUND),
        (update("interfaces/interface[name=2]/config/enabled", string_val="no"), code.INVALID_ARGUMENT),
        (update("interfaces/interface[name=2]/config", json_val=b"{"), code.INVALID_ARGUMENT),
        (update("interfaces/interface[name=2]/config/loopback-mode", string_val="FACILITY"), code.UNIMPLEMENTED),
        (update("interfaces/interface[name=2]/config/mtu", uint_val=9000), code.UNIMPLEMENTED),
        (update("system/config/hostname", string_val="x"), code.UNIMPLEMENTED),
        (update("interfaces/interface", json_val=b"{}"), code.INVALID_ARGUMENT),
    ]
    for bad, expected in cases:
        with pytest.raises(grpc.RpcError) as caught:
            send(raw, update=[update(ENABLED, bool_val=False), bad])
        assert caught.value.code() is expected, bad
        assert backend.enabled == {1: True, 2: True}


def test_configuration_and_state_are_told_apart(raw: RawClient) -> None:
    types = gnmi.GetRequest
    everything = len(read(raw, "interfaces/interface[name=1]"))
    config = read(raw, "interfaces/interface[name=1]", types.CONFIG)
    state = read(raw, "interfaces/interface[name=1]", types.STATE)
    assert config == ["1", True, "NONE"]
    assert len(config) + len(state) == everything


def test_finsy_s_client(address: str, backend: FakeBackend) -> None:
    """What operators' scripts do with finsy: capabilities, get, set, subscribe once and on change."""
    import asyncio

    from finsy import GNMIClient, GNMIPath

    port = GNMIPath("interfaces/interface[name=1]")

    async def talk() -> None:
        async with GNMIClient(address) as client:
            assert "openconfig-interfaces" in str(await client.capabilities())
            values = await client.get(GNMIPath("interfaces/interface[name=*]/state/oper-status"))
            assert [update.value for update in values] == ["UP", "UP"]
            subscription = client.subscribe()
            subscription.on_change(port / "state/enabled")
            async for update in subscription.synchronize():
                assert update.value is True
            assert await client.set(update=[(port / "config/enabled", False)]) > 0
            async for update in subscription.updates():
                assert update.value is False
                break
            await client.set(delete=[port / "config/enabled"])

    asyncio.run(asyncio.wait_for(talk(), TIMEOUT_S))
    assert backend.enabled == {1: True, 2: True}


def test_messages_as_pygnmi_sends_them(raw: RawClient, backend: FakeBackend) -> None:
    """Origin in the path, JSON_IETF with a module's prefix, the interface named with its module."""
    change = gnmi.Update(path=path("interfaces/interface[name=2]/config"), val=gnmi.TypedValue())
    change.path.origin = "openconfig"
    change.val.json_ietf_val = b'{"openconfig-interfaces:enabled": false, "name": "2"}'
    send(raw, update=[change])
    assert backend.enabled == {1: True, 2: False}
    call = raw.call("Get", "unary_unary", gnmi.GetResponse, "gnmi.gNMI")
    request = gnmi.GetRequest(path=[path("interfaces/interface[name=2]/config/enabled")], encoding=gnmi.JSON_IETF)
    (notification,) = call(request, timeout=TIMEOUT_S).notification
    assert notification.update[0].val.json_ietf_val == b"false"
