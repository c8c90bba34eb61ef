"""Telemetry history: what was measured, when nothing was, and what happened, in Parquet files that DuckDB reads.

One writer (a thread of the control plane, or an import), any number of readers at any time: see
``docs/decisions/0018-history.md``.
"""
