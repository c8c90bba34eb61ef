"""All errors of the control plane, one tree. Messages are for people: they name the element and the remedy."""

from __future__ import annotations


class ControlError(Exception):
    """Base of all errors of the control plane."""


class InputError(ControlError):
    """Something the operator gave cannot be used: a file, a name, an option. The CLI answers with exit code 2."""


class NoticeError(InputError):
    """A maintenance notice that cannot be read; names the file and the key."""


class PathError(ControlError):
    """No path, or a topology on which paths cannot be computed."""


class CapacityError(ControlError):
    """Identifiers (groups, labels) are used up."""


class SwitchUnavailable(ControlError):
    """A switch cannot be reached, or its session is not ready."""


class FlipTimeout(SwitchUnavailable):
    """A switch did not confirm a flip in time; whether it was carried out is unknown until it is read back."""


class NotPrimary(ControlError):
    """Another controller is primary for the switch; this one is a backup and does not write."""


class WriteRejected(ControlError):
    """A switch refused an update; the text names the entry and the switch's reason."""


class VerifyError(ControlError):
    """What was read back is not what was written."""


class FlipUnavailable(ControlError):
    """A switch supports none of the flip transports."""


class StoreError(ControlError):
    """The state database cannot be opened, migrated or written."""


class HistoryError(ControlError):
    """The telemetry history cannot be read or written; names the folder or file."""
