"""Multicast groups and clone sessions (PacketReplicationEngineEntry)."""

from __future__ import annotations

from typing import Any

from engine.api import DatapathError, Op
from engine.commands import Commands
from engine.p4rt.errors import P4Error, Rpc, invalid, unimplemented
from engine.p4rt.profiles import Undo
from engine.p4rt.state import Extras
from engine.p4rt.stubs import p4r
from engine.p4rt.values import decode

_INVERSE = {Op.INSERT: Op.DELETE, Op.DELETE: Op.INSERT, Op.MODIFY: Op.MODIFY}


def _replicas(entry: Any, what: str) -> list[tuple[int, int]]:
    out = []
    for replica in entry.replicas:
        if len(replica.backup_replicas):
            raise unimplemented(f"{what}: backup replicas are not supported")
        kind = replica.WhichOneof("port_kind")
        if kind is None:
            raise invalid(f"{what}: a replica has no port")
        port = decode(replica.port, 32, f"{what}: port") if kind == "port" else replica.egress_port
        pair = (port, replica.instance)
        if pair in out:
            raise invalid(f"{what}: port {port}, instance {replica.instance} is listed twice")
        out.append(pair)
    return out


class Replication:
    """Writes and reads; what the client wrote is kept verbatim, so that it reads the same."""

    def __init__(self, commands: Commands, extras: Extras) -> None:
        self._commands = commands
        self._extras = extras

    def write(self, op: Op, entry: p4r.PacketReplicationEngineEntry, undo: Undo | None) -> None:
        kind = entry.WhichOneof("type")
        if kind == "multicast_group_entry":
            self._multicast(op, entry.multicast_group_entry, undo)
        elif kind == "clone_session_entry":
            self._clone(op, entry.clone_session_entry, undo)
        else:
            raise invalid("PacketReplicationEngineEntry: neither multicast group nor clone session")

    def _multicast(self, op: Op, entry: p4r.MulticastGroupEntry, undo: Undo | None) -> None:
        number = entry.multicast_group_id
        what = f"multicast group {number}"
        kept = self._extras.multicast
        _check(op, number, number in kept, what)
        pairs = [] if op is Op.DELETE else _replicas(entry, what)
        self._send(what, lambda: self._commands.multicast_write(op, number, pairs))
        before = kept.get(number)
        self._keep(kept, op, number, entry)
        if undo is not None:
            undo.append(lambda: self._multicast(_INVERSE[op], before or entry, None))

    def _clone(self, op: Op, entry: p4r.CloneSessionEntry, undo: Undo | None) -> None:
        number = entry.session_id
        what = f"clone session {number}"
        kept = self._extras.clones
        _check(op, number, number in kept, what)
        if entry.class_of_service:
            raise unimplemented(f"{what}: class_of_service is not supported")
        if entry.packet_length_bytes < 0:
            raise invalid(f"{what}: packet_length_bytes cannot be negative")
        pairs = [] if op is Op.DELETE else _replicas(entry, what)
        length = entry.packet_length_bytes
        self._send(what, lambda: self._commands.clone_write(op, number, pairs, length))
        before = kept.get(number)
        self._keep(kept, op, number, entry)
        if undo is not None:
            undo.append(lambda: self._clone(_INVERSE[op], before or entry, None))

    @staticmethod
    def _send(what: str, command: Any) -> None:
        try:
            command()
        except DatapathError as error:
            raise P4Error(int(error.code), f"{what}: {error}") from None

    def _keep(self, kept: dict[int, Any], op: Op, number: int, entry: Any) -> None:
        if op is Op.DELETE:
            kept.pop(number, None)
        else:
            copy = type(entry)()
            copy.CopyFrom(entry)
            kept[number] = copy
        self._extras.dirty = True

    def read(self, entry: p4r.PacketReplicationEngineEntry) -> list[p4r.PacketReplicationEngineEntry]:
        """Groups and sessions that a read asked for; id 0 is a wildcard."""
        kind = entry.WhichOneof("type")
        out = []
        if kind != "clone_session_entry":
            wanted = entry.multicast_group_entry.multicast_group_id
            for number, group in sorted(self._extras.multicast.items()):
                if wanted in (0, number):
                    out.append(p4r.PacketReplicationEngineEntry(multicast_group_entry=group))
        if kind != "multicast_group_entry":
            wanted = entry.clone_session_entry.session_id
            for number, session in sorted(self._extras.clones.items()):
                if wanted in (0, number):
                    out.append(p4r.PacketReplicationEngineEntry(clone_session_entry=session))
        return out


def _check(op: Op, number: int, present: bool, what: str) -> None:
    if number == 0:
        raise invalid(f"{what}: id 0 is reserved")
    if op is Op.INSERT and present:
        raise P4Error(Rpc.ALREADY_EXISTS, f"{what} exists already")
    if op is not Op.INSERT and not present:
        raise P4Error(Rpc.NOT_FOUND, f"{what} does not exist")
