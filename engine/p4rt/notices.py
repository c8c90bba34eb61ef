"""Events of the data plane as messages to streams."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from engine.api import DatapathError, Digest, Event, IdleTimeout, PacketIn
from engine.codec import Codec
from engine.p4rt.errors import P4Error
from engine.p4rt.pipeline import Pipeline
from engine.p4rt.streams import Notice
from engine.p4rt.stubs import p4r

log = logging.getLogger(__name__)


def notices(running: Pipeline, codec: Codec, events: Sequence[Event], now_ns: int) -> list[Notice]:
    """What ``events`` make streams hear at once; digests may also begin to wait in ``running``'s buffer.

    Port states are left to others. An event that does not fit the pipeline, which may just have been replaced, is
    logged and dropped.
    """
    out: list[Notice] = []
    for event in events:
        try:
            if isinstance(event, Digest):
                schema = running.schema.digests_by_index.get(event.digest)
                complete = running.digests.add(schema.id, event.values, now_ns) if schema is not None else None
                if complete is not None:
                    out += digest_notices((complete,))
            elif isinstance(event, PacketIn):
                out.append((_packet(running, event), 0))
            elif isinstance(event, IdleTimeout) and event.entry.table in running.schema.tables_by_index:
                out.append(_idle(running, codec, event, now_ns))
        except (P4Error, DatapathError, IndexError) as error:
            log.warning("event %s dropped: %s", type(event).__name__, error)
    return out


def digest_notices(lists: Iterable[p4r.DigestList]) -> list[Notice]:
    """Digest lists, as messages and what these are about."""
    return [(p4r.StreamMessageResponse(digest=ready), ready.digest_id) for ready in lists]


def _packet(running: Pipeline, event: PacketIn) -> p4r.StreamMessageResponse:
    header = running.schema.packet_in
    if header is None:
        return p4r.StreamMessageResponse(packet=p4r.PacketIn(payload=event.data))
    packet = p4r.PacketIn(payload=event.data[header.size :], metadata=header.unpack(event.data))
    return p4r.StreamMessageResponse(packet=packet)


def _idle(running: Pipeline, codec: Codec, event: IdleTimeout, now_ns: int) -> Notice:
    table = running.schema.tables_by_index[event.entry.table]
    key = codec.key(event.entry.table, event.entry.key)
    entry = p4r.TableEntry.FromString(table.match_wire(key, event.entry.priority))
    entry.idle_timeout_ns = event.entry.idle_timeout_ns
    extra = running.extras.metadata.get((table.index, key, event.entry.priority))
    if extra is not None:
        entry.metadata, entry.controller_metadata = extra
    notice = p4r.IdleTimeoutNotification(table_entry=[entry], timestamp=now_ns)
    return p4r.StreamMessageResponse(idle_timeout_notification=notice), table.id
