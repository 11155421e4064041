"""The folder of a pre-training: one call at a time trains there.

alone_in(folder) -> lock, held by the process   is_taken(folder) -> whether somebody holds it

No torch: a study looks before it begins.
"""

import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from configs.errors import UserError
from runtime.record.run_folder import take_lock

_LOCK = "lock"
_LOOK_S = 0.5


class PretrainingError(UserError, ValueError):
    """A folder cannot be used for a pre-training."""


def is_taken(folder: Path) -> bool:
    """Whether a call trains in this folder now."""
    if not (folder / _LOCK).exists():
        return False
    lock = take_lock(folder / _LOCK)
    if lock is None:
        return True
    os.close(lock)
    return False


@contextmanager
def alone_in(folder: Path) -> Generator[None]:
    """Have a folder to oneself, which is made if need be.

    Raises:
        PretrainingError: another call trains there, or the lock's file cannot be made.
    """
    with one_line(folder):
        folder.mkdir(parents=True, exist_ok=True)
        until_s = time.monotonic() + _LOOK_S
        while (lock := take_lock(folder / _LOCK)) is None and time.monotonic() < until_s:
            time.sleep(0.05)  # somebody may only have looked whether it is taken
    if lock is None:
        raise PretrainingError(f"--out {folder}: another call trains there, wait for its end")
    try:
        yield
    finally:
        os.close(lock)


@contextmanager
def one_line(path: Path) -> Generator[None]:
    """Say why something cannot be written, and no more.

    Raises:
        PretrainingError: in place of an OSError within.
    """
    try:
        yield
    except OSError as error:
        raise PretrainingError(f"{path} cannot be written: {error.strerror or error}") from error
