"""The errors of feeds. Whatever bytes come in, the parsers raise nothing else."""

from __future__ import annotations

from control.errors import InputError


class FeedError(InputError):
    """Something a feed brought cannot be used; the text names the source, the line where it is known, and why."""


class NotUnderstood(FeedError):
    """Well-formed, but not a form that any parser knows: a message about something else, perhaps."""
