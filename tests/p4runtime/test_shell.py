"""p4runtime-shell 0.0.6 drives the switch unmodified, from a virtual environment of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.p4runtime.test_process import INFO, JSON, ROOT, Switch

CANDIDATES = (os.environ.get("P4RUNTIME_SHELL_PYTHON", ""), str(ROOT / ".venv-shell" / "bin" / "python"))
PYTHON = next((path for path in CANDIDATES if path and Path(path).exists()), None)

SCRIPT = """
import sys
import p4runtime_sh.shell as sh
from p4runtime_sh.p4runtime import P4RuntimeWriteException
sh.setup(device_id=1, grpc_addr=sys.argv[1], election_id=(0, 20), config=sh.FwdPipeConfig(sys.argv[2], sys.argv[3]))
try:
    route = sh.TableEntry("route_ipv4")(action="set_group")
    route.match["dst"] = "10.1.0.0/16"
    route.action["group_id"] = "5"
    route.insert()
    route.action["group_id"] = "6"
    route.modify()
    read = list(sh.TableEntry("route_ipv4").read())
    assert len(read) == 1 and 'x06"' in str(read[0]), str(read[0])
    acl = sh.TableEntry("acl")(action="acl_deny")
    acl.match["ip_proto"] = "6&&&0xff"
    acl.match["l4_dport"] = "80..90"
    acl.priority = 3
    acl.insert()
    member = sh.ActionProfileMember("balance_selector")(member_id=1, action="set_group")
    member.action["group_id"] = "1"
    member.insert()
    group = sh.ActionProfileGroup("balance_selector")(group_id=1)
    group.add(1)
    group.insert()
    balance = sh.TableEntry("balance")
    balance.match["balance_id"] = "1"
    balance.group_id = 1
    balance.insert()
    sh.MulticastGroupEntry(1).add(1, 1).add(2, 2).insert()
    sh.CloneSessionEntry(5).add(1, 1).insert()
    assert len(list(sh.DirectCounterEntry("acl_counter").read())) == 1
    try:
        route.insert()
    except P4RuntimeWriteException as error:
        assert "ALREADY_EXISTS" in str(error), error
    else:
        raise AssertionError("a duplicate was accepted")
finally:
    sh.teardown()  # its threads would outlive the script otherwise
print("DONE")
"""


@pytest.mark.skipif(PYTHON is None, reason="p4runtime-shell's environment is made by `make shell`")
def test_the_shell_works_unmodified(tmp_path: Path) -> None:
    switch = Switch(tmp_path)
    try:
        switch.start("--no-p4")
        command = [str(PYTHON), "-c", SCRIPT, switch.address, str(INFO), str(JSON)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout.strip().endswith("DONE"), done.stdout + done.stderr
    finally:
        switch.clean()
