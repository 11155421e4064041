"""Forked processes for the loops beside ours: the cheapest way to have a hundred of them."""

import multiprocessing
import resource
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any


@contextmanager
def forked(
    target: Callable[..., None], arguments: Sequence[tuple[Any, ...]]
) -> Generator[list[BaseProcess]]:
    """One process for each of the arguments; they are gone afterwards, whatever happens.

    Fork before there are threads: a fork copies only the one that calls it.
    """
    fork = multiprocessing.get_context("fork")
    processes: list[BaseProcess] = []
    try:
        for values in arguments:
            process = fork.Process(target=target, args=values, daemon=True)
            process.start()
            processes.append(process)
        yield processes
        for process in processes:
            process.join(10.0)
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.join()


def raise_open_files(needed: int) -> None:
    """Raise the soft limit, which children inherit, as far as the hard one lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
