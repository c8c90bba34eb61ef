"""gNMI Set: what operators set on this target, which is whether a port is enabled.

Writable: ``/interfaces/interface[name=N]/config/enabled``, alone or in a JSON value of the ``config`` or ``interface``
above it (whose other members must be what they are: ``name``, and ``loopback-mode`` ``NONE``). Deleting it, or
replacing its container without it, gives its default, true. A request is applied as a whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from engine.gnmi_paths import Elem, elements
from engine.p4rt.errors import P4Error, Rpc, invalid, not_found, unimplemented
from engine.p4rt.stubs import gnmi

_NONE = ("NONE", "openconfig-transport-types:NONE", False)


def wanted(request: gnmi.SetRequest, ports: Sequence[int]) -> dict[int, bool]:
    """Administrative states that a request asks for; :class:`P4Error` for anything that it cannot."""
    if len(request.union_replace):
        raise unimplemented("gNMI Set: union_replace is not supported")
    states: dict[int, bool] = {}
    for path in request.delete:
        port, rest = _port(elements(request.prefix, path), ports)
        if rest not in (("config",), ("config", "enabled")):
            raise invalid(f"gNMI Set: {'/'.join(rest) or 'an interface'} cannot be deleted here")
        states[port] = True
    for replace, updates in ((True, request.replace), (False, request.update)):
        for update in updates:
            port, rest = _port(elements(request.prefix, update.path), ports)
            value = _value(update.val)
            for name in reversed(rest):
                value = {name: value}
            enabled = _enabled(value, port)
            if enabled is not None or (replace and rest != ("config", "enabled")):
                states[port] = True if enabled is None else enabled
    return states


def _port(path: tuple[Elem, ...], ports: Sequence[int]) -> tuple[int, tuple[str, ...]]:
    """(port, names below the interface) of a path."""
    names = tuple(name for name, _keys in path)
    if names[:2] != ("interfaces", "interface"):
        raise unimplemented(f"gNMI Set: /{'/'.join(names)} cannot be set on this target; an interface's config can")
    keys = dict(path[1][1])
    if set(keys) != {"name"}:
        raise invalid("gNMI Set: the path needs interface[name=N]")
    if not keys["name"].isdecimal() or int(keys["name"]) not in ports:
        raise not_found(f"gNMI Set: there is no interface {keys['name']!r}")
    return int(keys["name"]), names[2:]


def _value(value: gnmi.TypedValue) -> Any:
    kind = value.WhichOneof("value")
    if kind in ("json_val", "json_ietf_val"):
        try:
            return json.loads(getattr(value, kind))
        except (ValueError, RecursionError) as error:
            raise invalid(f"gNMI Set: the value is not JSON: {error}") from None
    if kind in ("bool_val", "string_val", "uint_val"):
        return getattr(value, kind)
    raise invalid(f"gNMI Set: a value of kind {kind or 'none'} is not supported")


def _enabled(value: Any, port: int) -> bool | None:
    """The ``config/enabled`` in an interface's value; None when it is not there."""
    if not isinstance(value, dict):
        raise invalid("gNMI Set: an interface's value is a JSON object")
    found: bool | None = None
    for key, item in value.items():
        name = key.rpartition(":")[2]
        if name == "name" and item == str(port):
            continue
        if name != "config" or not isinstance(item, dict):
            raise _refused(name)
        for inner, setting in item.items():
            leaf = inner.rpartition(":")[2]
            if leaf == "enabled":
                if not isinstance(setting, bool):
                    raise invalid(f"gNMI Set: enabled is true or false, not {setting!r}")
                found = setting
            elif not ((leaf == "name" and setting == str(port)) or (leaf == "loopback-mode" and setting in _NONE)):
                raise _refused(leaf)
    return found


def _refused(name: str) -> P4Error:
    return P4Error(Rpc.UNIMPLEMENTED, f"gNMI Set: {name} cannot be set to that on this target")
