"""The examples in the docstrings are executed."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import ml

MODULES = sorted(item.name for item in pkgutil.walk_packages(ml.__path__, "ml."))


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder()
    with_examples = [n for n in MODULES for d in finder.find(importlib.import_module(n)) if d.examples]
    assert len(with_examples) >= 8
