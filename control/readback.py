"""What a switch says that it holds: entries, failover bits and counters, read through finsy's client.

Nothing here is remembered; every function raises :class:`~control.errors.SwitchUnavailable` when the read fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from finsy import P4RegisterEntry, P4Schema, P4TableEntry, Switch

from control import entries as wire
from control.border import read
from control.plan import Entries, Table


async def entries(switch: Switch, schema: P4Schema, tables: Iterable[Table] = tuple(Table)) -> Entries:
    """Everything that the switch holds in these tables and that is the control plane's."""
    found: Entries = {}
    wildcard = [P4TableEntry(table.value) for table in tables]
    async for entity in read(switch, wildcard):
        if isinstance(entity, P4TableEntry):
            entry = wire.decode_entry(schema, entity)
            if entry is not None:
                found[entry.key] = entry
    return found


async def bits(switch: Switch, group_ids: Sequence[int]) -> dict[int, int]:
    """The failover bits of these groups."""
    found: dict[int, int] = {}
    async for entity in read(switch, wire.failover_reads(group_ids)):
        if isinstance(entity, P4RegisterEntry) and entity.index is not None:
            found[entity.index] = int(entity.data or 0)
    return found


async def group_totals(switch: Switch, group_ids: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Bytes and packets sent per group, both sides together, cumulative."""
    totals = dict.fromkeys(group_ids, (0, 0))
    async for entity in read(switch, wire.group_counter_reads(group_ids)):
        if entity.index is not None and entity.index // 2 in totals:
            sent, packets = totals[entity.index // 2]
            totals[entity.index // 2] = (sent + entity.byte_count, packets + entity.packet_count)
    return totals


async def orders_counted(switch: Switch) -> int:
    """How many orders the switch's packet generator has given."""
    async for entity in read(switch, [wire.generator_counter_read()]):
        return int(entity.packet_count)
    return 0
