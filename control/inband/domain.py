"""What a flow report may say: the topology's nodes, ports and links as arrays, and bounds of physics. Pure.

One report must not poison what is believed of the network. It is left out as absurd if it names nodes or ports that
are not there, a way that no link makes, a sink that is not its sender, or times and queues beyond all reason.
"""

from __future__ import annotations

from math import nan

import numpy as np
from numpy.typing import NDArray

from control.inband.columns import Flags, FlowColumns, Ints
from control.inband.report import FlowFlag
from control.telemetry import line_rates, port_ends
from topo.spec import Link, Topology

MOST_LATENCY_US = 60e6
MOST_QUEUE = 1e6  # packets
GAPS = FlowFlag.HOPS_EXCEEDED | FlowFlag.MTU_EXCEEDED  # neighbours in such reports need not be neighbours
_PORTS = 1 << 16


class Domain:
    """Rows of ports (as ``elements`` lists them) and of switches (as the topology lists them)."""

    def __init__(self, topology: Topology) -> None:
        self.switches = [switch.name for switch in topology.switches]
        self.number = {name: row for row, name in enumerate(self.switches)}
        ends = [(self.number[name], port) for name, port in port_ends(topology)]
        self.elements = [f"{self.switches[switch]}:{port}" for switch, port in ends]
        self.row = {element: row for row, element in enumerate(self.elements)}
        self.switch_of = np.array([switch for switch, _ in ends], dtype=np.intp)
        ids = np.array([switch.device_id for switch in topology.switches], dtype=np.int64)
        self._order = np.argsort(ids)
        self._ids = ids[self._order]
        self._codes = np.array([switch * _PORTS + port for switch, port in ends], dtype=np.int64)  # rising
        self.rate_bps = np.full(len(ends), nan)
        self.peer = np.full(len(ends), -1, dtype=np.intp)  # the row at the link's other end; -1: a host's port
        for row, (switch, port) in enumerate(ends):
            far = topology.ports(self.switches[switch])[port]
            if isinstance(far, Link):
                self.peer[row] = self.row[str(far.other(self.switches[switch]))]
        for switch_row, switch_item in enumerate(topology.switches):
            for port, rate in line_rates(topology, switch_item).items():
                self.rate_bps[self.row[f"{self.switches[switch_row]}:{port}"]] = rate

    def switch_rows(self, node: Ints) -> NDArray[np.intp]:
        """Rows of switches by node id; -1: unknown."""
        if not len(self._ids):
            return np.full(node.shape, -1, dtype=np.intp)
        at = np.minimum(np.searchsorted(self._ids, node), len(self._ids) - 1)
        return np.where(self._ids[at] == node, self._order[at], -1)

    def port_rows(self, switch: NDArray[np.intp], port: Ints) -> NDArray[np.intp]:
        """Rows of ports by the row of their switch and their number; -1: unknown."""
        if not len(self._codes):
            return np.full(switch.shape, -1, dtype=np.intp)
        code = np.where((switch >= 0) & (port >= 0), switch * _PORTS + port, -1)
        at = np.minimum(np.searchsorted(self._codes, code), len(self._codes) - 1)
        return np.where(self._codes[at] == code, at, -1)

    def places(self, columns: FlowColumns) -> tuple[NDArray[np.intp], NDArray[np.intp], Flags]:
        """(rows of the switches, rows of the ports that packets left by, whether the report can be true) of every
        report, shapes (reports, places) and (reports,)."""
        switch = self.switch_rows(columns.node)
        out = self.port_rows(switch, columns.egress)
        came = self.port_rows(switch, columns.ingress)
        told = columns.node >= 0
        bad = (told & ((out < 0) | (came < 0))).any(axis=1) | (switch[:, 0] != columns.sender)
        # The next node nearer to the sink has to be at the other end of the link, at the port that it names.
        linked = self.peer[np.maximum(out[:, 1:], 0)] == came[:, :-1]
        gaps = columns.number["flags"] & int(GAPS) != 0
        bad |= (told[:, 1:] & ~linked).any(axis=1) & ~gaps
        with np.errstate(invalid="ignore"):
            bad |= (columns.latency_us > MOST_LATENCY_US).any(axis=1) | (columns.queue_packets > MOST_QUEUE).any(axis=1)
            stayed = columns.left_us - columns.arrived_us
            bad |= ((stayed < 0) | (stayed > MOST_LATENCY_US)).any(axis=1)
        return switch, out, ~bad
