"""Interfaces, addresses and settings of a lab, in few and large steps (a shell command per setting is too slow)."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from topo.userns import CLONE_NEWNET, libc

T = TypeVar("T")

_SIOCETHTOOL = 0x8946  # linux/sockios.h
#: linux/ethtool.h: receive and send checksums, scatter-gather, segmentation and receive offloads. All off: the
#: switch must see the frames that were on the wire.
_OFFLOADS = {"rx": 0x15, "tx": 0x17, "sg": 0x19, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}


class NetworkError(RuntimeError):
    """A step of building the network failed; the text is the system's."""


def ip_batch(lines: Iterable[str], *, force: bool = False) -> None:
    """Run many ``ip`` commands in one process. With ``force``, errors are passed over."""
    text = "".join(line + "\n" for line in lines)
    if not text:
        return
    command = ["ip", *(["-force"] if force else []), "-batch", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode and not force:
        said = [line for line in done.stderr.strip().splitlines() if not line.startswith("Command failed")]
        failed = [line for line in done.stderr.splitlines() if line.startswith("Command failed")]
        number = failed[0].rsplit(":", 1)[-1] if failed else ""
        what = text.splitlines()[int(number) - 1] if number.isdigit() else "ip -batch"
        raise NetworkError(f"ip {what}: {'; '.join(said) or 'failed'}")


def in_namespace(pid: int, work: Callable[[], T]) -> T:
    """Run ``work`` in the network namespace of process ``pid``: in a thread, because namespaces belong to threads."""
    result: list[T] = []
    error: list[BaseException] = []

    def run() -> None:
        try:
            descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if libc().setns(descriptor, CLONE_NEWNET):
                    raise NetworkError(f"setns: {os.strerror(ctypes.get_errno())}")
            finally:
                os.close(descriptor)
            result.append(work())
        except BaseException as exc:
            error.append(exc)

    thread = threading.Thread(target=run, name=f"netns-{pid}")
    thread.start()
    thread.join()
    if error:
        raise error[0]
    return result[0]


def offloads_off(interfaces: Iterable[str]) -> None:
    """Switch every offload off that the driver lets go of."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for name in interfaces:
            for code in _OFFLOADS.values():
                value = ctypes.create_string_buffer(struct.pack("II", code, 0))
                request = struct.pack("16sP16x", name.encode(), ctypes.addressof(value))
                with contextlib.suppress(OSError):  # not every driver has every offload
                    fcntl.ioctl(control, _SIOCETHTOOL, request)


def sysctl(key: str, value: str) -> bool:
    """Write ``/proc/sys/<key>`` of the current namespace; False where it is read-only or unknown."""
    try:
        Path("/proc/sys", key).write_text(value)
    except OSError:
        return False
    return True


def quiet_ipv6(interfaces: Iterable[str]) -> None:
    """Keep the kernel's own IPv6 chatter (router solicitations, MLD) off switch ports."""
    for name in interfaces:
        sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "1")


def host_settings(interface: str) -> None:
    """No duplicate address detection, no router solicitations: addresses work at once and nothing is sent unasked."""
    for key, value in (("accept_dad", "0"), ("accept_ra", "0"), ("router_solicitations", "0"), ("autoconf", "0")):
        sysctl(f"net/ipv6/conf/{interface}/{key}", value)


def interfaces_with_alias(prefix: str) -> dict[str, str]:
    """Name to alias of the current namespace's interfaces whose alias begins with ``prefix``."""
    done = subprocess.run(["ip", "-json", "link", "show"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NetworkError(f"ip link show: {done.stderr.strip()}")
    return {
        item["ifname"]: item["ifalias"]
        for item in json.loads(done.stdout or "[]")
        if str(item.get("ifalias", "")).startswith(prefix)
    }


def existing(names: Sequence[str]) -> list[str]:
    """Those of ``names`` that exist in the current namespace."""
    present = {name for _, name in socket.if_nameindex()}
    return [name for name in names if name in present]


def delete_interfaces(names: Iterable[str]) -> None:
    """Delete interfaces; those that went already (with their peer) are passed over."""
    ip_batch([f"link del dev {name}" for name in names], force=True)
