"""Why a switch refused a write: the ``p4.v1.Error`` of each update, unpacked from the status of the call.

The outer status of a failed batch is UNKNOWN with an empty text; what went wrong is in ``grpc-status-details-bin``,
one error per update in their order (P4Runtime specification 1.4.1, section "Error Reporting Messages").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import grpc
from finsy import P4ClientError
from finsy.p4client import P4RpcStatus
from finsy.proto import p4r
from google.protobuf.message import DecodeError

from control.errors import ControlError, NotPrimary, SwitchUnavailable, WriteRejected

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Refusal:
    """One update that was not applied: its place in the request, the canonical code and the switch's words."""

    index: int
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.code} {self.message}".strip()


def of_call(error: grpc.RpcError) -> list[Refusal]:
    """The refusals that a failed call tells; empty when it tells none (or unreadable ones)."""
    metadata: Iterable[tuple[str, object]] = (error.trailing_metadata() or ()) if isinstance(error, grpc.Call) else ()
    for key, value in metadata:
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            try:
                return _of_status(P4RpcStatus.from_bytes(value))
            except (DecodeError, ValueError):
                return []
    return []


def of_client(error: P4ClientError) -> list[Refusal]:
    """The same for an error that comes from finsy."""
    return [Refusal(index, item.canonical_code.name, item.message) for index, item in error.details.items()]


def describe(refusals: list[Refusal], name: Callable[[int], str]) -> str:
    """The first few in one line; ``name`` turns the place of an update into what it was to write."""
    texts = [f"{name(refusal.index)}: {refusal}" for refusal in refusals[:_SHOWN]]
    more = len(refusals) - len(texts)
    return "; ".join(texts) + (f"; and {more} more" if more > 0 else "")


def plain(error: BaseException) -> str:
    """One line for people, with the refused entities where the switch named them."""
    if not isinstance(error, P4ClientError):
        return str(error) or type(error).__name__
    head = f"{error.code.name}: {error.message}".rstrip(": ")
    subvalues: Mapping[int, object] = {index: item.subvalue for index, item in error.details.items()}
    told = describe(of_client(error), lambda index: _entity(index, subvalues.get(index)))
    return f"{head}: {told}" if told else head


def translated(name: str, error: P4ClientError, what: Callable[[int], str]) -> ControlError:
    """What a failed write of the switch ``name`` is to the control plane; ``what`` tells of its updates by place."""
    code = error.code.name
    if code == "PERMISSION_DENIED":
        return NotPrimary(f"{name}: another controller is primary")
    if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"):
        return SwitchUnavailable(f"{name}: {error.message or code}")
    return WriteRejected(f"{name}: {describe(of_client(error), what) or plain(error)}")


def _entity(index: int, update: object) -> str:
    kind = update.entity.WhichOneof("entity") if isinstance(update, p4r.Update) else None
    return f"update {index} ({str(kind).replace('_', ' ')})" if kind else f"update {index}"


def _of_status(status: P4RpcStatus) -> list[Refusal]:
    return [Refusal(index, item.canonical_code.name, item.message) for index, item in status.details.items()]
