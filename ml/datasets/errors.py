"""What loaders raise."""

from __future__ import annotations


class DataError(ValueError):
    """A data file that cannot be used; the text names it."""
