"""The configuration file: what is wrong in it is named; addresses that are not loopback are spoken to by TLS."""

from __future__ import annotations

from pathlib import Path

import pytest

from control.errors import InputError
from control.inventory import Config, Target, is_loopback, load, targets

USUAL = {"s1": Target("127.0.0.1:9559", 1), "s2": Target("127.0.0.1:9560", 2)}


def config(tmp_path: Path, text: str) -> tuple[Config, Path]:
    path = tmp_path / "serve.yaml"
    path.write_text(text)
    return load(path), path


def test_an_inventory_names_addresses_ids_and_certificates(tmp_path: Path) -> None:
    for name in ("ca.pem", "c.pem", "c.key"):
        (tmp_path / name).write_text(name)
    found, path = config(
        tmp_path,
        "tls: {ca: ca.pem, cert: c.pem, key: c.key}\n"
        "switches:\n"
        "  s1: {address: 10.0.0.1:9559, device_id: 7, gnmi: 10.0.0.1:6030}\n"
        "  s2: {address: 127.0.0.1:9999, device_id: 2, tls: off}\n"
        "history: {age_days: 1}\npriorities: {h4: 7}\ncontrol_share: {share: 0.1, seed: 5}\n",
    )
    one, two = (targets(found, path, USUAL)[name] for name in ("s1", "s2"))
    assert (one.address, one.device_id, one.gnmi) == ("10.0.0.1:9559", 7, "10.0.0.1:6030")
    assert (
        one.credentials is not None and one.credentials.cacert == b"ca.pem" and one.credentials.private_key == b"c.key"
    )
    assert two.credentials is None and two.address == "127.0.0.1:9999"
    assert found.share.share == 0.1 and found.history.age_days == 1


def test_tls_is_the_rule_off_this_machine_and_can_be_turned_off_only_by_saying_so(tmp_path: Path) -> None:
    found, path = config(tmp_path, "switches:\n  s1: {address: sw.example.net:9559, device_id: 1}\n")
    usual = targets(found, path, USUAL)
    assert usual["s1"].credentials is not None and usual["s2"].credentials is None
    found, path = config(tmp_path, "tls: off\nswitches:\n  s1: {address: 10.0.0.1:9559, device_id: 1}\n")
    assert targets(found, path, USUAL)["s1"].credentials is None
    assert [is_loopback(text) for text in ("localhost:1", "127.3.0.1:1", "[::1]:1", "0.0.0.0:1", "s1:1")] == [
        True, True, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("switchs: {}", "unknown key 'switchs'"),
        ("switches: {s1: {address: '1.2.3.4:5'}}", "missing key 'switches.s1.device_id'"),
        ("switches: {s1: {address: '1.2.3.4:5', device_id: one}}", "switches.s1.device_id"),
        ("switches: {s1: {address: '1.2.3.4:5', device_id: 1, port: 3}}", "unknown key 'switches.s1.port'"),
        ("tls: {cert: a.pem}", "cert and key belong together"),
        ("priorities: {h4: 9}", "priorities.h4"),
        ("control_share: {share: 1.5}", "control_share.share"),
        ("- a\n- b", "a mapping is expected"),
        ("a: [", "line 1: not YAML"),
        ("sources: {node_exporter: [{url: x}]}", "missing key 'sources.node_exporter.0.element'"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        config(tmp_path, text)
    assert words in str(error.value) and "serve.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("switches: {s9: {address: '127.0.0.1:1', device_id: 1}}", "no such switch"),
        ("switches: {s1: {address: nowhere, device_id: 1}}", "HOST:PORT"),
        ("switches: {s1: {address: '127.0.0.1:9560', device_id: 2}}", "same address and device id"),
        ("switches: {s1: {address: '127.0.0.1:1', device_id: 1, tls: {ca: none.pem}}}", "none.pem"),
    ],
)
def test_an_inventory_that_does_not_fit_is_refused(text: str, words: str, tmp_path: Path) -> None:
    found, path = config(tmp_path, text)
    with pytest.raises(InputError, match=words):
        targets(found, path, USUAL)


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml"):
        load(tmp_path / "none.yaml")
