"""A program's description as JSON: what the command INFO replies, and what compiled programs carry."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from engine.api import (
    ActionInfo,
    ArrayInfo,
    DigestInfo,
    KeyField,
    MatchKind,
    ProfileInfo,
    ProgramError,
    ProgramInfo,
    TableInfo,
)


def program_to_json(program: ProgramInfo) -> str:
    """The program as JSON, as INFO replies it."""
    return json.dumps(asdict(program), separators=(",", ":"))


def program_from_json(text: str) -> ProgramInfo:
    """Inverse of :func:`program_to_json`; :class:`ProgramError` when it is not one."""
    try:
        data: dict[str, Any] = json.loads(text)

        def arrays(name: str) -> tuple[ArrayInfo, ...]:
            return tuple(ArrayInfo(**item) for item in data[name])

        def named_fields(name: str) -> tuple[DigestInfo, ...]:
            return tuple(
                DigestInfo(item["name"], tuple((f[0], f[1]) for f in item["fields"])) for item in data.get(name, ())
            )

        return ProgramInfo(
            name=data["name"],
            tables=tuple(
                TableInfo(
                    **{
                        **item,
                        "key": tuple(KeyField(f["name"], MatchKind(f["kind"]), f["width"]) for f in item["key"]),
                        "actions": tuple(item["actions"]),
                    }
                )
                for item in data["tables"]
            ),
            actions=tuple(
                ActionInfo(item["name"], tuple((p[0], p[1]) for p in item["params"])) for item in data["actions"]
            ),
            profiles=tuple(ProfileInfo(**item) for item in data["profiles"]),
            registers=arrays("registers"),
            counters=arrays("counters"),
            meters=arrays("meters"),
            digests=named_fields("digests"),
            packet_out_bytes=data["packet_out_bytes"],
            packet_in_bytes=data["packet_in_bytes"],
            value_sets=arrays("value_sets"),
            controller_headers=named_fields("controller_headers"),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ProgramError(f"not a description of a program: {error}") from error
