"""Starting processes that know nothing of the one that starts them."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, Protocol, cast

from runtime.child_output import beside_the_view


class _Context(Protocol):
    def Process(
        self, *, target: Callable[..., None], args: tuple[Any, ...], name: str
    ) -> BaseProcess: ...


@contextmanager
def _environment(variables: dict[str, str]) -> Generator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def bare_main() -> Generator[None]:
    """Hide __main__: multiprocessing would import it again in every child."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


ONE_THREAD: dict[str, str] = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
"""Environment of processes that are many: one BLAS thread each."""


def start_process(
    context: BaseContext,
    target: Callable[..., None],
    setup: object,
    name: str,
    environment: dict[str, str] | None = None,
) -> BaseProcess:
    """Start `target(setup)` as a process of its own; `setup` must be plain data."""
    with _environment(environment or {}), bare_main():
        return start_bare(context, target, setup, name)


def start_bare(
    context: BaseContext, target: Callable[..., None], setup: object, name: str
) -> BaseProcess:
    """`start_process` for whoever has hidden __main__ and may be starting others in threads."""
    process = cast("_Context", context).Process(target=target, args=(setup,), name=name)
    with beside_the_view():
        process.start()
    return process


def spawn(
    target: Callable[..., None], setup: object, name: str, environment: dict[str, str] | None = None
) -> BaseProcess:
    """Start `target(setup)` in a fresh interpreter, for processes that are few."""
    context = multiprocessing.get_context("spawn")
    return start_process(context, target, setup, name, environment)
