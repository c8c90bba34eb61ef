"""A lab without root: an unprivileged user, network and mount namespace, where the system allows one.

:func:`ensure` is called first thing by everything that needs a lab. With the needed capabilities it returns at
once; otherwise it runs the same command again inside namespaces of its own, in which the caller is root over
interfaces that nobody else sees. ``python -m topo.userns -- COMMAND`` runs any command that way (as root too: then
without the user namespace), so that labs can run side by side.

Inside, 127.0.0.1 is another one. Sockets that must be reachable from outside (the dashboard) are opened before
the change and inherited: ``ensure(listen=[("127.0.0.1", 8080)])``, then :func:`inherited_socket`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

# sched.h, sys/mount.h, linux/capability.h
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 2, 4, 8, 0x4000, 1 << 18
_CAP_NET_ADMIN, _CAP_NET_RAW, _CAP_SYS_ADMIN = 12, 13, 21

ENTERED = "SHADOWPLANE_NAMESPACE"  # environment: set inside
LISTEN = "SHADOWPLANE_LISTEN"  # environment: "127.0.0.1:8080=5 ..."


class PrivilegeError(RuntimeError):
    """The lab can neither run as this user nor in a namespace; the text says what to do."""


def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def privileged() -> bool:
    """Whether this process may create namespaces, interfaces and raw sockets (effective capabilities)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            mask = int(line.split()[1], 16)
            return all(mask >> bit & 1 for bit in (_CAP_NET_ADMIN, _CAP_NET_RAW, _CAP_SYS_ADMIN))
    return False


def outer_uid() -> int:
    """The user's id outside of any namespace that :func:`enter` made."""
    uid = os.getuid()
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/uid_map").read_text().splitlines():
            inside, outside, count = map(int, line.split())
            if inside <= uid < inside + count:
                return outside + uid - inside
    return uid


def ensure(listen: Sequence[tuple[str, int]] = ()) -> None:
    """Return when privileged; else re-run this process inside a namespace (does not return).

    ``listen``: TCP addresses to open in the outer network and hand on; one that is taken raises ``OSError``.
    Raises :class:`PrivilegeError` where neither is possible. Python only: the command line is ``sys.orig_argv``.
    """
    if privileged():
        return
    if os.environ.get(ENTERED):
        raise PrivilegeError("the user namespace grants no capabilities; " + advice())
    reason = probe()
    if reason:
        raise PrivilegeError(reason)
    environment = dict(os.environ)
    inherited = [_listener(host, port) for host, port in listen]
    if inherited:
        environment[LISTEN] = " ".join(
            f"{host}:{port}={item.detach()}" for (host, port), item in zip(listen, inherited, strict=True)
        )
    environment["PYTHONPATH"] = os.pathsep.join([str(_root()), *filter(None, [environment.get("PYTHONPATH")])])
    sys.stdout.flush()
    sys.stderr.flush()
    # A fresh interpreter, because a process with threads may not change its user namespace.
    command = [sys.executable, "-m", "topo.userns", "--", sys.executable, *sys.orig_argv[1:]]
    os.execve(sys.executable, command, environment)


def _root() -> Path:
    return Path(__file__).resolve().parent.parent


def _listener(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        raise OSError(exc.errno, f"{host}:{port}: {exc.strerror}") from exc
    listener.listen(128)
    listener.set_inheritable(True)
    return listener


def inherited_socket(host: str, port: int) -> socket.socket | None:
    """The listening socket that :func:`ensure` opened for this address, or None. Only the first call gets it."""
    wanted, rest, found = f"{host}:{port}", [], None
    for item in os.environ.get(LISTEN, "").split():
        address, _, number = item.rpartition("=")
        if address == wanted and found is None:
            found = socket.socket(fileno=int(number))
        else:
            rest.append(item)
    if found is not None:
        os.environ[LISTEN] = " ".join(rest)
    return found


def inherited_fds() -> tuple[int, ...]:
    """Descriptors of sockets opened by :func:`ensure` that nobody took yet: what to pass on to a child process."""
    return tuple(int(item.rpartition("=")[2]) for item in os.environ.get(LISTEN, "").split())


def probe() -> str:
    """Why an unprivileged namespace cannot be had, with advice; empty when it can. Tries it in a child."""
    done = subprocess.run(
        [sys.executable, "-m", "topo.userns", "--probe"],
        cwd=_root(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines()
    return f"the lab needs root or an unprivileged user namespace ({lines[-1] if lines else 'failed'}); {advice()}"


def advice() -> str:
    """What would help on this system."""
    settings = {
        "/proc/sys/kernel/unprivileged_userns_clone": ("0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
            "1",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        "/proc/sys/user/max_user_namespaces": ("0", "sysctl -w user.max_user_namespaces=1000"),
        "/proc/sys/user/max_net_namespaces": ("0", "sysctl -w user.max_net_namespaces=1000"),
    }
    for file, (bad, remedy) in settings.items():
        with contextlib.suppress(OSError):
            if Path(file).read_text().strip() == bad:
                return f"{file} is {bad}: let root run `{remedy}`, or run this as root (sudo)"
    return "run it as root (sudo); in a container, grant CAP_SYS_ADMIN and CAP_NET_ADMIN (docker run --privileged)"


def enter(*, user: bool) -> None:
    """Move this single-threaded process into new network and mount (and ``user``) namespaces, loopback up.

    Raises ``OSError``. /sys is mounted anew, so that it shows the namespace's interfaces; where that is
    forbidden (containers that mask /sys) the old one stays.
    """
    uid, gid = os.geteuid(), os.getegid()
    flags = CLONE_NEWNET | CLONE_NEWNS | (CLONE_NEWUSER if user else 0)
    _check(libc().unshare(flags), "unshare")
    if user:
        with contextlib.suppress(FileNotFoundError):
            Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    _check(libc().mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "making mounts private")
    if not privileged():
        raise PermissionError(errno.EPERM, "the namespace grants no capabilities")
    libc().mount(b"sysfs", b"/sys", b"sysfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, None)
    loopback_up()


def loopback_up() -> None:
    """Set ``lo`` up in the current network namespace."""
    import fcntl
    import struct

    siocgifflags, siocsifflags, iff_up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(control, siocgifflags, request), 16)
        fcntl.ioctl(control, siocsifflags, struct.pack("16sh14x", b"lo", flags | iff_up))


def join_command(pid: int) -> list[str]:
    """The ``nsenter`` prefix that runs a command beside a lab which lives in a namespace (process ``pid``)."""
    same_user = Path(f"/proc/{pid}/ns/user").readlink() == Path("/proc/self/ns/user").readlink()
    user = [] if same_user else ["--user", "--preserve-credentials"]
    return ["nsenter", "--target", str(pid), *user, "--net", "--mount", "--"]


def _main(arguments: list[str]) -> NoReturn:
    if arguments == ["--probe"]:
        try:
            enter(user=True)
            _check(libc().unshare(CLONE_NEWNET), "a nested network namespace")  # as every host of the lab does
        except OSError as exc:
            sys.exit(f"{exc.strerror or exc}")
        sys.exit(0)
    if len(arguments) < 2 or arguments[0] != "--":
        sys.exit("usage: python -m topo.userns -- COMMAND [ARGUMENT ...]")
    home = Path(os.environ.get("HOME") or "/nonexistent")
    if "XDG_CACHE_HOME" not in os.environ and not os.access(home, os.W_OK):
        os.environ["XDG_CACHE_HOME"] = f"/tmp/shadowplane-{outer_uid()}/cache"
    try:
        enter(user=not privileged())
    except OSError as exc:
        sys.exit(f"shadowplane: no namespace: {exc.strerror or exc}; {advice()}")
    os.environ[ENTERED] = "1"
    try:
        os.execvp(arguments[1], arguments[1:])
    except OSError as exc:
        sys.exit(f"shadowplane: {arguments[1]}: {exc.strerror}")


if __name__ == "__main__":
    _main(sys.argv[1:])
