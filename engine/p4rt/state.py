"""What the server knows beyond the data plane's own state, and how it survives the server's death.

Table entries, members, groups, counters, registers and replication lists live in the data plane. The pipeline config
and what the data plane has no place for (cookies, metadata, replica encodings, digest configs, group limits) are kept
there as opaque blobs, so a restarted server finds them: the key ``p4rt/config`` (deflated ForwardingPipelineConfig),
``p4rt/saved`` (the same, not yet committed), ``p4rt/extras`` (a ReadResponse of entities) and ``p4rt/names`` (numbers
of translated strings, JSON).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

from engine.p4rt.backend import Backend
from engine.p4rt.schema import Schema
from engine.p4rt.stubs import p4r
from engine.p4rt.tables import Metadata

CONFIG, SAVED, EXTRAS, NAMES = "p4rt/config", "p4rt/saved", "p4rt/extras", "p4rt/names"
EAGER = 256  # entries with metadata up to which every change is kept at once


@dataclass(slots=True)
class Extras:
    """See the module's text. Replication entries and value sets are kept as the client wrote them."""

    multicast: dict[int, p4r.MulticastGroupEntry] = field(default_factory=dict)
    clones: dict[int, p4r.CloneSessionEntry] = field(default_factory=dict)
    value_sets: dict[int, p4r.ValueSetEntry] = field(default_factory=dict)
    group_limits: dict[tuple[int, int], int] = field(default_factory=dict)  # (profile id, group) -> max_size
    digests: list[p4r.DigestEntry] = field(default_factory=list)
    metadata: Metadata = field(default_factory=dict)
    dirty: bool = False

    def snapshot(self) -> Extras:
        """A copy; entries are never changed in place, so they are shared."""
        return Extras(
            dict(self.multicast),
            dict(self.clones),
            dict(self.value_sets),
            dict(self.group_limits),
            list(self.digests),
            dict(self.metadata),
            self.dirty,
        )

    def restore(self, kept: Extras) -> None:
        """Become what :meth:`snapshot` gave; other objects hold references to this one."""
        self.multicast, self.clones, self.value_sets = kept.multicast, kept.clones, kept.value_sets
        self.group_limits, self.digests, self.metadata = kept.group_limits, kept.digests, kept.metadata
        self.dirty = kept.dirty

    def pack(self, schema: Schema) -> bytes:
        """Serialize as a ReadResponse."""
        out = p4r.ReadResponse()
        for group in self.multicast.values():
            out.entities.add().packet_replication_engine_entry.multicast_group_entry.CopyFrom(group)
        for session in self.clones.values():
            out.entities.add().packet_replication_engine_entry.clone_session_entry.CopyFrom(session)
        for value_set in self.value_sets.values():
            out.entities.add().value_set_entry.CopyFrom(value_set)
        for (profile, group_id), limit in self.group_limits.items():
            entry = out.entities.add().action_profile_group
            entry.action_profile_id, entry.group_id, entry.max_size = profile, group_id, limit
        for digest in self.digests:
            out.entities.add().digest_entry.CopyFrom(digest)
        for (table, key, priority), (metadata, number) in self.metadata.items():
            row = out.entities.add().table_entry
            row.ParseFromString(schema.tables_by_index[table].match_wire(key, priority))
            row.metadata, row.controller_metadata = metadata, number
        return out.SerializeToString()

    @staticmethod
    def unpack(data: bytes, schema: Schema) -> Extras:
        """Inverse of :meth:`pack`; what no longer fits ``schema`` is left out."""
        extras = Extras()
        for entity in p4r.ReadResponse.FromString(data).entities:
            kind = entity.WhichOneof("entity")
            if kind == "packet_replication_engine_entry":
                engine = entity.packet_replication_engine_entry
                if engine.HasField("multicast_group_entry"):
                    extras.multicast[engine.multicast_group_entry.multicast_group_id] = engine.multicast_group_entry
                else:
                    extras.clones[engine.clone_session_entry.session_id] = engine.clone_session_entry
            elif kind == "value_set_entry" and entity.value_set_entry.value_set_id in schema.value_sets:
                extras.value_sets[entity.value_set_entry.value_set_id] = entity.value_set_entry
            elif kind == "action_profile_group":
                group = entity.action_profile_group
                extras.group_limits[group.action_profile_id, group.group_id] = group.max_size
            elif kind == "digest_entry" and entity.digest_entry.digest_id in schema.digests:
                extras.digests.append(entity.digest_entry)
            elif kind == "table_entry" and entity.table_entry.table_id in schema.tables:
                row = entity.table_entry
                table = schema.tables[row.table_id]
                key = (table.index, b"" if row.is_default_action else table.key(row.match), row.priority)
                extras.metadata[key] = (row.metadata, row.controller_metadata)
        return extras


def keep_config(backend: Backend, key: str, config: p4r.ForwardingPipelineConfig | None) -> None:
    """Store (or, with None, forget) a pipeline config."""
    backend.state_put(key, b"" if config is None else zlib.compress(config.SerializeToString(), 1))


def kept_config(backend: Backend, key: str) -> p4r.ForwardingPipelineConfig | None:
    """The stored pipeline config, None when there is none."""
    data = backend.state_get(key)
    return p4r.ForwardingPipelineConfig.FromString(zlib.decompress(data)) if data else None
