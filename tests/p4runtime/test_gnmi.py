"""gNMI: Capabilities, Get, and Subscribe in all modes."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from engine.api import PortStatus
from engine.gnmi_paths import parse
from engine.p4rt.stubs import gnmi
from tests.p4runtime.fake import FakeBackend
from tests.p4runtime.harness import TIMEOUT_S, RawClient

POWER = "components/component[name=1]/transceiver/physical-channels/channel[index=0]/state/input-power/instant"
STATUS = "interfaces/interface[name=*]/state/oper-status"


def path(text: str) -> gnmi.Path:
    return gnmi.Path(elem=[gnmi.PathElem(name=name, key=dict(keys)) for name, keys in parse(text)] if text else [])


def text(found: gnmi.Path) -> str:
    parts = [e.name + "".join(f"[{k}={v}]" for k, v in sorted(e.key.items())) for e in found.elem]
    return "/".join(parts)


def value(found: gnmi.TypedValue) -> Any:
    kind = found.WhichOneof("value")
    assert kind is not None
    raw = getattr(found, kind)
    return json.loads(raw) if kind.startswith("json") else raw


def get(raw: RawClient, *paths: str, **more: Any) -> dict[str, Any]:
    request = gnmi.GetRequest(path=[path(p) for p in paths], **more)
    reply = raw.call("Get", "unary_unary", gnmi.GetResponse, "gnmi.gNMI")(request, timeout=TIMEOUT_S)
    return {text(u.path): value(u.val) for n in reply.notification for u in n.update}


class Subscription:
    """One Subscribe call; ``push`` sends another request."""

    def __init__(self, raw: RawClient, first: gnmi.SubscribeRequest) -> None:
        self._requests: queue.Queue[gnmi.SubscribeRequest | None] = queue.Queue()
        self._requests.put(first)
        self.replies: queue.Queue[Any] = queue.Queue()
        method = raw.call("Subscribe", "stream_stream", gnmi.SubscribeResponse, "gnmi.gNMI")
        self.call = method(iter(self._requests.get, None))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for reply in self.call:
                self.replies.put(reply)
            self.replies.put(None)
        except grpc.RpcError as error:
            self.replies.put(error)

    def push(self, request: gnmi.SubscribeRequest) -> None:
        self._requests.put(request)

    def next(self) -> Any:
        reply = self.replies.get(timeout=TIMEOUT_S)
        if isinstance(reply, grpc.RpcError):
            raise reply
        return reply

    def values(self) -> dict[str, Any]:
        return {text(u.path): value(u.val) for u in self.next().update.update}


Subscribe = Callable[..., Subscription]


@pytest.fixture
def subscribe(raw: RawClient) -> Iterator[Subscribe]:
    made: list[Subscription] = []

    def make(
        *paths: str, mode: int = gnmi.SubscriptionList.STREAM, encoding: int = 0, each: int = 0, **more: Any
    ) -> Subscription:
        request = gnmi.SubscribeRequest()
        request.subscribe.mode, request.subscribe.encoding = mode, encoding
        for item in paths:
            request.subscribe.subscription.add(path=path(item), mode=each, **more)
        made.append(Subscription(raw, request))
        return made[-1]

    yield make
    for subscription in made:
        subscription.call.cancel()


def test_capabilities(raw: RawClient) -> None:
    method = raw.call("Capabilities", "unary_unary", gnmi.CapabilityResponse, "gnmi.gNMI")
    reply = method(gnmi.CapabilityRequest(), timeout=TIMEOUT_S)
    assert gnmi.JSON in reply.supported_encodings and reply.gNMI_version


def test_get_one_leaf_a_subtree_and_a_wildcard(raw: RawClient) -> None:
    assert get(raw, POWER) == {POWER: -8.25}
    counters = get(raw, "interfaces/interface[name=2]/state/counters")
    assert counters["interfaces/interface[name=2]/state/counters/in-octets"] == 1000
    assert len(counters) == 8
    assert set(get(raw, STATUS).values()) == {"UP"}
    everything = get(raw)
    assert everything["system/cpus/cpu[index=ALL]/state/total/instant"] == 25.0
    assert everything["system/memory/state/used"] * 2 == everything["system/memory/state/physical"]
    assert everything["components/component[name=backlog]/state/packets"] == 6
    assert everything["components/component[name=backlog]/state/dropped-packets"] == 7
    assert get(raw, ".../ifindex", encoding=gnmi.PROTO) == {
        f"interfaces/interface[name={n}]/state/ifindex": n for n in (1, 2)
    }


def test_documented_paths_exist(raw: RawClient) -> None:
    port = "interfaces/interface[name=1]/"
    wanted = [port + "state/oper-status", port + "ethernet/state/port-speed", POWER]
    kinds = ("in-pkts", "in-octets", "out-pkts", "out-octets", "in-errors", "in-fcs-errors", "in-discards")
    wanted += [f"{port}state/counters/{kind}" for kind in (*kinds, "out-discards")]
    state = "components/component[name=1]/transceiver/state/"
    wanted += [state + leaf for leaf in ("pre-fec-ber/instant", "fec-corrected-bits", "fec-uncorrectable-words")]
    queue_path = "qos/interfaces/interface[interface-id=1]/output/queues/queue[name=0]/state/"
    wanted += [queue_path + leaf for leaf in ("max-queue-len", "dropped-pkts")]
    assert set(wanted) <= set(get(raw))


def test_what_does_not_exist_or_is_not_supported(raw: RawClient) -> None:
    for call, code in (
        (lambda: get(raw, "interfaces/interface[name=77]"), grpc.StatusCode.NOT_FOUND),
        (lambda: get(raw, "interfaces/nothing"), grpc.StatusCode.NOT_FOUND),
        (lambda: get(raw, POWER, encoding=gnmi.BYTES), grpc.StatusCode.UNIMPLEMENTED),
        (lambda: get(raw, prefix=gnmi.Path(origin="cli")), grpc.StatusCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() is code


def test_once(subscribe: Subscribe) -> None:
    call = subscribe("interfaces/interface[name=1]/state", mode=gnmi.SubscriptionList.ONCE)
    assert call.values()["interfaces/interface[name=1]/state/oper-status"] == "UP"
    assert call.next().sync_response
    assert call.next() is None


def test_poll(subscribe: Subscribe, backend: FakeBackend) -> None:
    call = subscribe(STATUS, mode=gnmi.SubscriptionList.POLL)
    assert set(call.values().values()) == {"UP"}
    assert call.next().sync_response
    backend.up[2] = False
    call.push(gnmi.SubscribeRequest(poll=gnmi.Poll()))
    assert sorted(call.values().values()) == ["DOWN", "UP"]
    assert call.next().sync_response


def test_samples_repeat_as_one_notification_of_the_whole_tree(subscribe: Subscribe) -> None:
    call = _sampled(subscribe, 10_000_000)
    initial = call.values()
    assert len(initial) == 2 * 25 + 5
    assert call.next().sync_response
    for _ in range(3):
        assert call.values().keys() == initial.keys()


def _sampled(subscribe: Subscribe, interval: int, **more: Any) -> Subscription:
    return subscribe("interfaces", "qos", "system", "components", **_item(interval), **more)


def _item(interval: int) -> dict[str, Any]:
    return {"sample_interval": interval, "each": gnmi.SAMPLE}


def test_json_ietf_is_honoured(subscribe: Subscribe) -> None:
    call = subscribe(POWER, mode=gnmi.SubscriptionList.ONCE, encoding=gnmi.JSON_IETF)
    (update,) = call.next().update.update
    assert json.loads(update.val.json_ietf_val) == "-8.25"


def test_json_ietf_writes_numbers_as_rfc_7951_wants_them(raw: RawClient) -> None:
    """64 bits and decimals are strings, whatever their value; 32 bits and less are numbers."""
    interface, component = "interfaces/interface[name=1]/state", "components/component[name=1]/transceiver"
    wanted = {
        f"{interface}/ifindex": 1,
        f"{interface}/enabled": True,
        f"{interface}/oper-status": "UP",
        f"{interface}/counters/in-pkts": "10",
        f"{component}/physical-channels/channel[index=0]/state/input-power/instant": "-8.25",
        f"{component}/state/pre-fec-ber/instant": "0.00000001",
        f"{component}/state/fec-corrected-bits": "4",
        "system/cpus/cpu[index=ALL]/state/total/instant": 25.0,
        "system/memory/state/physical": str(1 << 30),
    }
    assert get(raw, *wanted, encoding=gnmi.JSON_IETF) == wanted
    plain = get(raw, f"{interface}/counters/in-pkts", POWER, encoding=gnmi.JSON)
    assert set(plain.values()) == {10, -8.25}


def test_on_change_tells_the_state_and_then_changes_only(subscribe: Subscribe, backend: FakeBackend) -> None:
    call = subscribe(STATUS, each=gnmi.ON_CHANGE)
    assert set(call.values().values()) == {"UP"}
    assert call.next().sync_response
    backend.up[1] = False
    backend.emit(PortStatus(1, False, 0))
    assert call.values() == {"interfaces/interface[name=1]/state/oper-status": "DOWN"}
    backend.emit(PortStatus(1, False, 0))  # nothing new: nothing sent
    backend.up[1] = True
    backend.emit(PortStatus(1, True, 0))
    assert call.values() == {"interfaces/interface[name=1]/state/oper-status": "UP"}


def test_refused_subscriptions(subscribe: Subscribe) -> None:
    for make in (
        lambda: subscribe(),
        lambda: subscribe("system", **_item(1_000_000)),
        lambda: subscribe("system", each=gnmi.ON_CHANGE),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            make().next()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_queue_maxima_are_reset_by_sampling_not_by_looking(
    raw: RawClient, subscribe: Subscribe, backend: FakeBackend
) -> None:
    leaf = "qos/interfaces/interface[interface-id=1]/output/queues/queue[name=0]/state/max-queue-len"
    assert get(raw, leaf) == {leaf: 5}
    assert get(raw, leaf) == {leaf: 5}
    call = _sampled(subscribe, 10_000_000)
    call.next(), call.next(), call.next(), call.next()
    assert backend.queue_max == 0


def test_subscriptions_are_bounded(raw: RawClient, subscribe: Subscribe) -> None:
    calls = [subscribe(STATUS, each=gnmi.ON_CHANGE) for _ in range(70)]
    refused = 0
    for call in calls:
        try:
            call.next()
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            refused += 1
    assert refused == 6
    assert get(raw, POWER)
