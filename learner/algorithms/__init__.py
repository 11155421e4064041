"""Algorithms by name, one file each; learner/algorithms/base.py says what one is."""

from importlib import import_module
from typing import Any

from learner.algorithms.base import Algorithm, Setup


def find_algorithm(name: str) -> type[Algorithm]:
    """The class of a registered name."""
    module: Any = import_module(f"learner.algorithms.{name}")
    return module.ALGORITHM


def make_algorithm(setup: Setup, *rest: Any) -> Algorithm:
    """The algorithm of a run; arguments as of `Algorithm`."""
    return find_algorithm(setup.config.algorithm)(setup, *rest)
