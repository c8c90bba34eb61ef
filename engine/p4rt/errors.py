"""Errors of the P4Runtime server, and how the specification packs them into a gRPC status.

Section "Error Reporting Messages" of P4Runtime 1.4: an error of a whole request is a plain gRPC status. When single
updates of a Write or single entities of a Read fail, the status is UNKNOWN and its details, a serialized
``google.rpc.Status`` in the trailer ``grpc-status-details-bin``, hold one ``p4.v1.Error`` per update, in order, with
code OK for those that succeeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from engine.p4rt.stubs import any_pb2, p4r, rpc_status

DETAILS_KEY = "grpc-status-details-bin"
METADATA_DEFAULT = 5 << 10  # bytes; base64 makes a third more of them
METADATA_MOST = 44 << 10
_TEXTS_KEPT = 8


class Rpc(IntEnum):
    """``google.rpc.Code``: the codes that this server uses."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class P4Error(Exception):
    """One refused request, update or stream message: a code and a text that names what is wrong."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = Rpc(code)
        self.message = message


class BatchError(Exception):
    """A Write or Read of which at least one part failed; ``errors`` has one item per part, None for success."""

    def __init__(self, errors: Sequence[P4Error | None]) -> None:
        super().__init__(f"{sum(error is not None for error in errors)} of {len(errors)} failed")
        self.errors = list(errors)

    def summary(self) -> str:
        """One line for the gRPC status message."""
        failed = [(at, error) for at, error in enumerate(self.errors) if error is not None]
        if not failed:
            return str(self)
        at, error = failed[0]
        return f"{self}; first is #{at}: {error.code.name}: {error.message}"

    def status(self) -> bytes | None:
        """The serialized ``google.rpc.Status`` for the trailer; None when no client would accept its size.

        gRPC clients refuse more than 8 KiB of metadata unless told otherwise (finsy: 64 KiB). So a long list keeps
        the texts of its first errors only, and beyond what any known client takes there is just the summary.
        """
        packed = self._pack(len(self.errors))
        if len(packed) > METADATA_DEFAULT:
            packed = self._pack(_TEXTS_KEPT)
        return packed if len(packed) <= METADATA_MOST else None

    def _pack(self, texts: int) -> bytes:
        status = rpc_status.Status(code=Rpc.UNKNOWN, message=self.summary())
        for error in self.errors:
            detail = p4r.Error()
            if error is not None:
                detail.canonical_code = error.code
                if texts > 0:
                    detail.message = error.message
                    texts -= 1
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)
        return status.SerializeToString()


def invalid(message: str) -> P4Error:
    return P4Error(Rpc.INVALID_ARGUMENT, message)


def not_found(message: str) -> P4Error:
    return P4Error(Rpc.NOT_FOUND, message)


def unimplemented(message: str) -> P4Error:
    return P4Error(Rpc.UNIMPLEMENTED, message)
