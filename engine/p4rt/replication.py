"""Multicast groups and clone sessions (PacketReplicationEngineEntry)."""

from __future__ import annotations

from typing import Any

from engine.api import DatapathError, Op
from engine.codec import BACKUP
from engine.commands import Commands
from engine.p4rt.errors import P4Error, Rpc, invalid
from engine.p4rt.state import Extras
from engine.p4rt.stubs import p4r
from engine.p4rt.values import port_number

MAX_CLASS = 7  # priority queues
MAX_NUMBER = 0xFFFF  # of a multicast group and of a replica's instance: bit<16> mcast_grp, egress_rid


def _port(replica: Any, what: str) -> int:
    kind = replica.WhichOneof("port_kind")
    if kind is None:
        raise invalid(f"{what}: a replica has no port")
    return port_number(replica.port if kind == "port" else replica.egress_port, what)


def _replicas(entry: Any, what: str) -> list[tuple[int, int]]:
    """(port, instance) of the replicas, each followed by its backups, which are marked."""
    out: list[tuple[int, int]] = []
    seen: set[tuple[int, int]] = set()

    def add(port: int, instance: int, mark: int) -> None:
        if (port, instance) in seen:
            raise invalid(f"{what}: port {port}, instance {instance} is listed twice")
        if instance > MAX_NUMBER:
            raise invalid(f"{what}: instance {instance} is above {MAX_NUMBER}")
        seen.add((port, instance))
        out.append((port | mark, instance))

    for replica in entry.replicas:
        port = _port(replica, what)
        add(port, replica.instance, 0)
        for backup in replica.backup_replicas:
            number = port_number(backup.port, f"{what}: backup")
            if number == port:
                raise invalid(f"{what}: a replica and its backup have the same port {port}")
            add(number, backup.instance, BACKUP)
    return out


class Replication:
    """Writes and reads; what the client wrote is kept verbatim, so that it reads the same."""

    def __init__(self, commands: Commands, extras: Extras) -> None:
        self._commands = commands
        self._extras = extras

    def write(self, op: Op, entry: p4r.PacketReplicationEngineEntry) -> None:
        kind = entry.WhichOneof("type")
        if kind == "multicast_group_entry":
            self._multicast(op, entry.multicast_group_entry)
        elif kind == "clone_session_entry":
            self._clone(op, entry.clone_session_entry)
        else:
            raise invalid("PacketReplicationEngineEntry: neither multicast group nor clone session")

    def _multicast(self, op: Op, entry: p4r.MulticastGroupEntry) -> None:
        number = entry.multicast_group_id
        what = f"multicast group {number}"
        kept = self._extras.multicast
        _check(op, number, number in kept, what)
        if number > MAX_NUMBER:
            raise invalid(f"{what}: its id is above {MAX_NUMBER}")
        pairs = [] if op is Op.DELETE else _replicas(entry, what)
        self._send(what, lambda: self._commands.multicast_write(op, number, pairs))
        self._keep(kept, op, number, entry)

    def _clone(self, op: Op, entry: p4r.CloneSessionEntry) -> None:
        number = entry.session_id
        what = f"clone session {number}"
        kept = self._extras.clones
        _check(op, number, number in kept, what)
        pairs: list[tuple[int, int]] = []
        length = class_ = 0
        if op is not Op.DELETE:  # which needs the id only
            length, class_ = entry.packet_length_bytes, entry.class_of_service
            if not 0 <= class_ <= MAX_CLASS:
                raise invalid(f"{what}: class_of_service {class_} is not within 0..{MAX_CLASS}")
            if length < 0:
                raise invalid(f"{what}: packet_length_bytes cannot be negative")
            pairs = _replicas(entry, what)
        self._send(what, lambda: self._commands.clone_write(op, number, pairs, length, class_))
        self._keep(kept, op, number, entry)

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
