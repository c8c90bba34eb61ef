"""The switches under comparison: those of the packet tests."""

from tests.p4.conftest import engine, running_bmv2, switch

__all__ = ["engine", "running_bmv2", "switch"]
