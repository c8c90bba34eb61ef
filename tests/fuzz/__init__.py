"""Damaged input of every kind against builds with the address and undefined-behaviour sanitizers.

``python -m tests.fuzz --minutes 10`` plays the packet path, the JSON loader and the P4Runtime server for ten minutes
each; a finding is written to ``build/fuzz/`` with what repeats it. ``tests/fuzz/test_fuzz.py`` plays a short, seeded
part of the same.
"""
