"""Desired entries as P4Runtime messages, and back.

Names come from :mod:`control.plan` (they are the P4 program's); numbers come from the P4Info in use. Keys are
matched to match fields by position, so the program may name a field as it likes; action parameters go by name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any

from finsy import P4CounterEntry, P4DigestEntry, P4RegisterEntry, P4Schema, P4TableAction, P4TableEntry, P4TableMatch
from finsy.proto import p4r

from control.errors import InputError
from control.plan import Entries, Entry, EntryKey, Op, Table, Update

FAILOVER = "failover"
GROUP_COUNTER = "group_tx"
PORT_RX_COUNTER = "port_rx"
PKTGEN_PORT = 509
PORT_REPORT = "port_report_t"
_ACTIONS: dict[Table, tuple[str, ...]] = {
    Table.LIVENESS: ("monitor", "observe"),
    Table.LABEL: ("label_forward", "label_pop"),
    Table.SHADOW: ("set_nexthop", "set_nexthop_label"),
    Table.PRIMARY: ("set_nexthop",),
    Table.ROUTE4: ("set_group",),
    Table.ROUTE6: ("set_group",),
}
_TYPES = {Op.INSERT: p4r.Update.INSERT, Op.MODIFY: p4r.Update.MODIFY, Op.DELETE: p4r.Update.DELETE}
_PREFIXES = frozenset({Table.ROUTE4, Table.ROUTE6})


def check_schema(schema: P4Schema) -> None:
    """Raise :class:`InputError` naming the first table, action, register or digest that the P4Info lacks."""
    try:
        for table, actions in _ACTIONS.items():
            known = schema.tables[table.value]
            for action in actions:
                known.actions[action]
        schema.registers[FAILOVER]
        schema.digests[PORT_REPORT]
    except (ValueError, KeyError) as error:
        raise InputError(f"the P4Info does not fit the control plane: {error}") from error


def encode_entry(schema: P4Schema, entry: Entry) -> P4TableEntry:
    """A finsy entry for a desired one."""
    fields = [field.alias for field in schema.tables[entry.table.value].match_fields]
    if len(fields) != 1:
        raise InputError(f"table {entry.table}: one match field expected, the P4Info has {len(fields)}")
    value: Any = entry.match
    if entry.table in _PREFIXES:
        network = ipaddress.ip_network(str(entry.match))
        value = (int(network.network_address), network.prefixlen)
    return P4TableEntry(
        entry.table.value,
        match=P4TableMatch({fields[0]: value}),
        action=P4TableAction(entry.action, **{name: _number(item) for name, item in entry.params}),
    )


def encode_update(schema: P4Schema, update: Update) -> p4r.Update:
    """One update of a WriteRequest."""
    return p4r.Update(type=_TYPES[update.op], entity=encode_entry(schema, update.entry).encode(schema))


def encode_updates(schema: P4Schema, updates: Iterable[Update]) -> list[p4r.Update]:
    return [encode_update(schema, update) for update in updates]


def decode_entry(schema: P4Schema, read: P4TableEntry) -> Entry | None:
    """A desired entry for what a switch returned; None for tables and actions that are not the control plane's."""
    try:
        table = Table(read.table_id)
    except ValueError:
        return None
    if read.is_default_action or not isinstance(read.action, P4TableAction) or not read.match:
        return None
    if read.action.name not in _ACTIONS[table]:
        return None
    value = next(iter(read.match.values()))
    match: int | str
    if table in _PREFIXES:
        address, length = value if isinstance(value, tuple) else (value, 32 if table is Table.ROUTE4 else 128)
        size = ipaddress.IPv4Network if table is Table.ROUTE4 else ipaddress.IPv6Network
        match = str(size((int(address), int(length))))
    else:
        match = int(value)
    order = [param.name for param in schema.actions[read.action.name].params]
    args = sorted(read.action.args.items(), key=lambda item: order.index(item[0]))
    params = tuple((name, _mac(item) if name.endswith("_mac") else int(item)) for name, item in args)
    return Entry(table, match, read.action.name, params)


def canonical(schema: P4Schema, entry: Entry) -> Entry:
    """The entry with its parameters in the P4Info's order, so that it compares equal to one read back."""
    order = [param.name for param in schema.actions[entry.action].params]
    return Entry(
        entry.table, entry.match, entry.action, tuple(sorted(entry.params, key=lambda item: order.index(item[0])))
    )


def wildcards() -> list[P4TableEntry]:
    """One wildcard read per table of ours."""
    return [P4TableEntry(table.value) for table in Table]


def difference(schema: P4Schema, found: Entries, wanted: Entries) -> list[str]:
    """Readable differences between what a switch holds and what it should hold; empty when equal."""
    texts = []
    for key in sorted(found.keys() | wanted.keys(), key=_sort_key):
        have, want = found.get(key), wanted.get(key)
        if want is not None:
            want = canonical(schema, want)
        if have != want:
            texts.append(f"wanted {want or 'nothing'}, found {have or 'nothing'}")
    return texts


def failover_update(schema: P4Schema, group_id: int, bit: int) -> p4r.Update:
    """MODIFY of one failover bit."""
    entity = P4RegisterEntry(FAILOVER, index=group_id, data=bit).encode(schema)
    return p4r.Update(type=p4r.Update.MODIFY, entity=entity)


def failover_reads(group_ids: Sequence[int]) -> list[P4RegisterEntry]:
    return [P4RegisterEntry(FAILOVER, index=group_id) for group_id in group_ids]


def group_counter_reads(group_ids: Sequence[int]) -> list[P4CounterEntry]:
    """Both cells of each group: packets on the primary, packets on the shadow."""
    return [P4CounterEntry(GROUP_COUNTER, index=group_id * 2 + side) for group_id in group_ids for side in (0, 1)]


def generator_counter_read() -> P4CounterEntry:
    """Orders that a packet generator has given: what the pipeline received on its port."""
    return P4CounterEntry(PORT_RX_COUNTER, index=PKTGEN_PORT)


def digest_entry(max_list: int = 16, max_wait_ns: int = 1_000_000) -> P4DigestEntry:
    """Subscription to port reports. Short lists and waits: they carry liveness events.

    Without acknowledgements (an acknowledgement time-out of 0): these only tell a switch to hold equal messages back,
    and no two reports are equal, because they are numbered.
    """
    return P4DigestEntry(PORT_REPORT, max_list_size=max_list, max_timeout_ns=max_wait_ns, ack_timeout_ns=0)


def _number(value: int | str) -> int:
    """MAC addresses as numbers; numbers as they are."""
    return value if isinstance(value, int) else int(value.replace(":", ""), 16)


def _mac(value: Any) -> str:
    if isinstance(value, int):
        raw = f"{value:012x}"
        return ":".join(raw[i : i + 2] for i in range(0, 12, 2))
    return str(value)


def _sort_key(key: EntryKey) -> tuple[str, str]:
    return key[0].value, str(key[1])
