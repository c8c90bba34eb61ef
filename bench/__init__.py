"""Benchmarks: each module measures, prints a table with target and anchor, and writes ``bench/results/<name>.json``."""
