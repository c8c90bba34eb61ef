"""What a test may ask of a switch that runs the program, whichever switch it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

Frames = list[tuple[int, bytes]]  # (port, frame); the CPU port's include the packet_in header


class Target(Protocol):
    """A switch with the program loaded and empty tables.

    ``match`` maps key field names to a value, or a pair: (address, prefix length) for LPM, (value, mask) for
    TERNARY, (low, high) for RANGE. Fields left out match everything.
    """

    name: str

    def insert(
        self,
        table: str,
        match: Mapping[str, Any],
        action: str,
        params: Mapping[str, Any] | None = None,
        *,
        priority: int = 0,
    ) -> None: ...

    def modify(self, table: str, match: Mapping[str, Any], action: str, params: Mapping[str, Any]) -> None: ...

    def delete(self, table: str, match: Mapping[str, Any], *, priority: int = 0) -> None: ...

    def balance(self, balance_id: int, groups: Mapping[int, int]) -> None:
        """Entry of table ``balance``: steering groups with weights."""
        ...

    def send(self, port: int, frame: bytes) -> Frames:
        """Everything that leaves because of ``frame``, in order of ports."""
        ...

    def counter(self, name: str, index: int) -> tuple[int, int]:
        """(packets, bytes)."""
        ...

    def direct_counter(self, table: str, match: Mapping[str, Any], *, priority: int = 0) -> tuple[int, int]: ...

    def digests(self) -> Sequence[Mapping[str, int]]:
        """Port reports since the last call."""
        ...

    def flow_reports(self) -> Sequence[Mapping[str, int]]:
        """Flow reports of the telemetry sink since the last call."""
        ...

    def close(self) -> None: ...


def nexthop(port: int, index: int = 0) -> dict[str, Any]:
    """Parameters of set_nexthop and label_forward with MACs that tell ports apart."""
    return {"port": port, "src_mac": src_mac(port, index), "dst_mac": dst_mac(port, index)}


def src_mac(port: int, index: int = 0) -> str:
    return f"02:00:0a:00:{index:02x}:{port:02x}"


def dst_mac(port: int, index: int = 0) -> str:
    return f"02:00:0b:00:{index:02x}:{port:02x}"
