"""The compiled P4 program that all switches of a network run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from finsy import P4Schema
from finsy.p4schema import P4SchemaCache

from control import entries as wire
from control.errors import InputError


@dataclass(frozen=True, slots=True)
class Program:
    """The compiled P4 program, and its P4Info parsed once.

    Who makes another schema of it inside ``with program.shared:`` (finsy does, for each switch) gets the tables,
    actions and types of this one, instead of working them out anew.
    """

    p4info: Path
    p4blob: Path
    schema: P4Schema
    blob: bytes
    shared: P4SchemaCache = field(repr=False, compare=False)

    @classmethod
    def load(cls, build: Path) -> Program:
        """From a build folder; raises :class:`InputError` for a missing or unsuitable file."""
        p4info, p4blob = build / "shadowplane.p4info.txtpb", build / "shadowplane.json"
        for path in (p4info, p4blob):
            if not path.is_file():
                raise InputError(f"{path} is missing; `make p4` compiles the P4 program")
        blob = p4blob.read_bytes()
        # finsy's class is typed but for its constructor
        shared = P4SchemaCache()  # type: ignore[no-untyped-call]
        with shared:
            schema = P4Schema(p4info, blob)
        wire.check_schema(schema)
        return cls(p4info, p4blob, schema, blob, shared)
