"""Benchmarks: each module measures, prints a table with target and anchor, and writes ``bench/results/<name>.json``."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line does, before numpy is loaded
