"""simple_switch_grpc in a network namespace of its own, driven over P4Runtime and raw sockets.

BMv2's clock is its own, and packets take their time: :meth:`Bmv2.send` ends when a heartbeat, sent last on a port
that no test uses, has been echoed, and each port has sent a last frame. BMv2 keeps the order of packets of one queue.
"""

from __future__ import annotations

import os
import queue
import select
import shutil
import socket
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from finsy.proto import p4r

from tests.p4 import frames
from tests.p4.program import JSON_PATH, by_name, load_p4info, match_values, octets
from tests.p4.target import Frames
from tests.simple_switch import SimpleSwitch, canonical, set_match

NAMESPACE_PREFIX = "pa"
SENTINEL_PORT = 200
PROBE_GROUP = 16383  # its bit stays 0
PROBE_COOKIE = 0xC0FFEE << 32
ETH_P_ALL = 0x0003
SO_RCVBUFFORCE = 33
MARKER_ETHERTYPE = 0x88B6  # IEEE 802 local experimental EtherType 2
ANSWER_S = 5.0


def missing() -> str | None:
    """Why BMv2 can't be used here; None if it can."""
    if shutil.which("simple_switch_grpc") is None:
        return "simple_switch_grpc is not on the PATH"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "ip (iproute2) is not on the PATH"
    probe = f"{NAMESPACE_PREFIX}-probe-{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return f"cannot make a network namespace: {done.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", probe], check=False)
    return None


class Bmv2(SimpleSwitch):
    """A running simple_switch_grpc; implements :class:`tests.p4.target.Target`."""

    name = "bmv2"

    def __init__(self, ports: Sequence[int] = (1, 2, 3, 4, frames.PKTGEN_PORT)) -> None:
        super().__init__("pa-bmv2-")
        self._namespace = f"{NAMESPACE_PREFIX}-{os.getpid()}-{id(self) & 0xFFFF:x}"
        self._sockets: dict[int, socket.socket] = {}
        self._packet_ins: queue.Queue[bytes] = queue.Queue()
        self._digests: dict[str, list[dict[str, int]]] = {}
        self._digest_lock = threading.Lock()
        self._sequence = 0
        self._members = 0
        self._markers: defaultdict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))  # by port: packets, bytes
        self.info = load_p4info()
        self._tables = by_name(self.info.tables)
        self._actions = by_name(self.info.actions)
        self._counters = by_name(self.info.counters)
        try:
            self._start((*ports, SENTINEL_PORT))
        except BaseException:
            self.close()
            raise

    # -- life ------------------------------------------------------------------------------------------------------

    def _start(self, ports: Sequence[int]) -> None:
        self._ip("netns", "add", self._namespace)
        self._ip("-n", self._namespace, "link", "set", "lo", "up")
        arguments: list[str] = []
        for port in ports:
            inner, outer = f"sw{port}", f"t{port}"
            self._ip("-n", self._namespace, "link", "add", inner, "type", "veth", "peer", "name", outer)
            for end in (inner, outer):
                self._run("sysctl", "-qw", f"net.ipv6.conf.{end}.disable_ipv6=1")
                self._ip("-n", self._namespace, "link", "set", end, "promisc", "on", "up")
            arguments += ["-i", f"{port}@{inner}"]
        self._open_sockets(ports)

        # With BMv2's default of one queue, packets whose priority is not 0 are dropped.
        target = ("--cpu-port", str(frames.CPU_PORT), "--priority-queues", "8")
        self.start(*arguments, target=target, wrapper=("ip", "netns", "exec", self._namespace))
        self._load()

    def _load(self) -> None:
        self.push(self.info, JSON_PATH.read_bytes())
        self.want_digests()

    def reset(self) -> None:
        """Empty tables, zero registers and counters: BMv2 starts anew with a pipeline config."""
        self._load()
        self._members = 0
        self._through_ingress()  # the new program takes over with the next packet
        self._markers.clear()
        self._through_egress()
        self._until_answer()
        self.digests()
        self.flow_reports()

    def close(self) -> None:
        super().close()
        for one in self._sockets.values():
            one.close()
        subprocess.run(["ip", "netns", "delete", self._namespace], capture_output=True, check=False)

    def _run(self, *command: str) -> None:
        subprocess.run(["ip", "netns", "exec", self._namespace, *command], check=True, capture_output=True)

    def _ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    def _open_sockets(self, ports: Sequence[int]) -> None:
        """Sockets belong to the namespace of the thread that opens them: open them in a thread that moves there."""
        from pyroute2 import netns

        failure: list[BaseException] = []

        def work() -> None:
            try:
                netns.setns(self._namespace)
                for port in ports:
                    one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                    one.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
                    one.bind((f"t{port}", ETH_P_ALL))
                    one.setblocking(False)
                    self._sockets[port] = one
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=work, name="bmv2-sockets")
        thread.start()
        thread.join()
        if failure:
            raise failure[0]

    # -- P4Runtime -------------------------------------------------------------------------------------------------

    def packet(self, message: p4r.PacketIn) -> None:
        metadata = {item.metadata_id: int.from_bytes(item.value, "big") for item in message.metadata}
        self._packet_ins.put(frames.packet_in(metadata[1], metadata[2]) + message.payload)

    def digest(self, message: p4r.DigestList) -> None:
        name = next(known.preamble.name for known in self.info.digests if known.preamble.id == message.digest_id)
        names = [member.name for member in self.info.type_info.structs[name].members]
        with self._digest_lock:
            known = self._digests.setdefault(name, [])
            for item in message.data:
                values = [int.from_bytes(member.bitstring, "big") for member in item.struct.members]
                known.append(dict(zip(names, values, strict=True)))

    def _key(self, entry: Any, table: str, match: Mapping[str, Any]) -> None:
        info = self._tables[table]
        entry.table_id = info.preamble.id
        fields = {field.name: field for field in info.match_fields}
        for name, spec in match.items():
            field = fields[name]
            kind = field.MatchType.Name(field.match_type)
            value, second = match_values(kind, field.bitwidth, spec)
            if kind in ("TERNARY", "LPM") and second == 0:
                continue
            one = entry.match.add()
            one.field_id = field.id
            set_match(one, kind.lower(), value, second)

    def _action(self, action: Any, name: str, params: Mapping[str, Any] | None) -> None:
        info = self._actions[name]
        action.action_id = info.preamble.id
        for param in info.params:
            one = action.params.add()
            one.param_id = param.id
            value = octets((params or {})[param.name], param.bitwidth)
            one.value = value.lstrip(b"\0") or b"\0"

    def insert(
        self,
        table: str,
        match: Mapping[str, Any],
        action: str,
        params: Mapping[str, Any] | None = None,
        *,
        priority: int = 0,
    ) -> None:
        self._entry(p4r.Update.INSERT, table, match, action, params, priority)

    def modify(self, table: str, match: Mapping[str, Any], action: str, params: Mapping[str, Any]) -> None:
        self._entry(p4r.Update.MODIFY, table, match, action, params, 0)

    def delete(self, table: str, match: Mapping[str, Any], *, priority: int = 0) -> None:
        self._entry(p4r.Update.DELETE, table, match, None, None, priority)

    def _entry(
        self,
        kind: Any,
        table: str,
        match: Mapping[str, Any],
        action: str | None,
        params: Mapping[str, Any] | None,
        priority: int,
    ) -> None:
        entity = p4r.Entity()
        self._key(entity.table_entry, table, match)
        entity.table_entry.priority = priority
        if action is not None:
            self._action(entity.table_entry.action.action, action, params)
        self.write(kind, entity)

    def balance(self, balance_id: int, groups: Mapping[int, int]) -> None:
        profile = self.info.action_profiles[0].preamble.id
        group = p4r.Entity()
        group.action_profile_group.action_profile_id = profile
        group.action_profile_group.group_id = balance_id
        group.action_profile_group.max_size = sum(groups.values())
        for steering_group, weight in groups.items():
            self._members += 1
            member = p4r.Entity()
            member.action_profile_member.action_profile_id = profile
            member.action_profile_member.member_id = self._members
            self._action(member.action_profile_member.action, "set_group", {"group_id": steering_group})
            self.write(p4r.Update.INSERT, member)
            one = group.action_profile_group.members.add()
            one.member_id, one.weight = self._members, weight
        self.write(p4r.Update.INSERT, group)
        entity = p4r.Entity()
        self._key(entity.table_entry, "balance", {"balance_id": balance_id})
        entity.table_entry.action.action_profile_group_id = balance_id
        self.write(p4r.Update.INSERT, entity)

    def counter(self, name: str, index: int) -> tuple[int, int]:
        entity = p4r.Entity()
        entity.counter_entry.counter_id = self._counters[name].preamble.id
        entity.counter_entry.index.index = index
        data = self.read(entity)[0].counter_entry.data
        own = self._markers[index] if name == "port_tx" else (0, 0)
        return data.packet_count - own[0], data.byte_count - own[1]

    def direct_counter(self, table: str, match: Mapping[str, Any], *, priority: int = 0) -> tuple[int, int]:
        entity = p4r.Entity()
        self._key(entity.direct_counter_entry.table_entry, table, match)
        entity.direct_counter_entry.table_entry.priority = priority
        wanted = entity.direct_counter_entry.table_entry
        # An entry without any match field reads as a wildcard: pick it from all.
        for found in (item.direct_counter_entry for item in self.read(entity)):
            if len(found.table_entry.match) == len(wanted.match) and found.table_entry.priority == priority:
                return found.data.packet_count, found.data.byte_count
        raise KeyError(f"{table} has no entry {dict(match)}")

    def digests(self) -> list[dict[str, int]]:
        return self._taken("port_report_t")

    def flow_reports(self) -> list[dict[str, int]]:
        return self._taken("flow_report_t")

    def _taken(self, name: str) -> list[dict[str, int]]:
        time.sleep(0.1)  # BMv2 hands digests over in a thread of its own
        with self._digest_lock:
            return self._digests.pop(name, [])

    # -- packets ---------------------------------------------------------------------------------------------------

    def send(self, port: int, frame: bytes) -> Frames:
        seen: Frames = []
        if port == frames.CPU_PORT:
            self._packet_out(frame)
        else:
            self._sockets[port].send(frame)
            seen += self._through_ingress()
        return sorted(seen + self._through_egress() + self._until_answer())

    def _packet_out(self, data: bytes) -> None:
        packet = p4r.PacketOut(payload=data[2:])
        head = int.from_bytes(data[:2], "big")
        for identifier, value in ((1, head >> 7), (2, head & 0x7F)):
            item = packet.metadata.add()
            item.metadata_id, item.value = identifier, canonical(value)
        self.send_message(packet=packet)

    def _until_answer(self) -> Frames:
        """Packet-ins up to the answer of a last packet-out: the stream keeps their order."""
        self._sequence += 1
        cookie = PROBE_COOKIE | self._sequence
        self._packet_out(frames.command(frames.GET_FAILOVER, PROBE_GROUP, 0, cookie))
        expected = frames.answer(frames.GET_FAILOVER, PROBE_GROUP, 0, cookie)
        seen: Frames = []
        while (data := self._packet_ins.get(timeout=ANSWER_S)) != expected:
            seen.append((frames.CPU_PORT, data))
        return seen

    def _through_ingress(self) -> Frames:
        """Wait until ingress has handled whatever was sent before."""
        self._sequence += 1
        sequence = self._sequence
        self._sockets[SENTINEL_PORT].send(frames.heartbeat(frames.REQUEST, port=SENTINEL_PORT, seq=sequence))

        def echo(port: int, data: bytes) -> bool:
            return port == SENTINEL_PORT and frames.parse_heartbeat(data)["seq"] == sequence

        return self._collect({SENTINEL_PORT}, echo)

    def _through_egress(self) -> Frames:
        """Push what waits in the ports' queues out with a frame of lowest priority behind it."""
        self._sequence += 1
        marker = frames.ethernet(MARKER_ETHERTYPE) + self._sequence.to_bytes(8, "big")
        ports = self._sockets.keys() - {SENTINEL_PORT}
        for port in ports:
            order = frames.packet_out(frames.PLAIN, port) + marker
            self._packet_out(order)
            packets, octets = self._markers[port]
            self._markers[port] = (packets + 1, octets + len(order))
        return self._collect(set(ports), lambda _port, data: data == marker)

    def _collect(self, ports: set[int], last: Callable[[int, bytes], bool]) -> Frames:
        """Frames of all ports until each of ``ports`` has sent its last one."""
        seen: Frames = []
        end = time.monotonic() + ANSWER_S
        while ports:
            ready, _, _ = select.select(list(self._sockets.values()), [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise RuntimeError(f"simple_switch_grpc has stopped sending on ports {sorted(ports)}")
            for port, one in self._sockets.items():
                for data in _drain(one):
                    if last(port, data):
                        ports.discard(port)
                    elif port != SENTINEL_PORT:
                        seen.append((port, data))
        return seen


def _drain(one: socket.socket) -> Iterator[bytes]:
    """Frames received on a packet socket, without those that it sent itself."""
    while True:
        try:
            data, address = one.recvfrom(65536)
        except BlockingIOError:
            return
        if address[2] != socket.PACKET_OUTGOING:  # type: ignore[attr-defined]
            yield data
