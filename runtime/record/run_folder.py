"""The folder of a run that is to be resumed: nobody else's, and all of its parts in order.

    held(folder)         one launcher at a time, for as long as its process lives
    learner_held(folder) one learner at a time
    check(folder)        files are files, folders are folders, and all of it can be written

The locks are the kernel's (flock): they end with the process that holds them, however it ends, and
no child inherits them. A learner whose launcher was killed saves once more before it leaves, and
has a lock of its own so that a resume waits for that checkpoint.
"""

import errno
import fcntl
import logging
import os
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from configs.run_files import (
    BEST_POLICY,
    CHECKPOINT,
    EPISODES,
    JOURNAL,
    METRICS,
    POLICY,
    RESOLVED,
    SUMMARY,
)
from runtime.net.errors import SetupError
from runtime.terminal.places import probe

logger = logging.getLogger(__name__)

LOCK, LEARNER_LOCK = "lock", "lock.learner"
"""Files that are locked; their content is the number of the process that has locked them."""
LEARNER_LEAVES_S = 15.0
"""A learner whose launcher has died is gone after ten seconds at most."""

_FOLDERS = ("logs", JOURNAL, "masks", "tensorboard")
_FILES = (RESOLVED, CHECKPOINT, POLICY, BEST_POLICY, EPISODES, METRICS, SUMMARY)
_LOOK_S = 0.1
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems answer that have none."""


def take_lock(path: Path) -> int | None:
    """Lock a file, which is made if need be, until the descriptor is closed or its process ends.

    Returns:
        the descriptor, which no child inherits; None: somebody else has the lock.

    Raises:
        OSError: the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            os.close(descriptor)
            raise
        logger.warning("%s: this file system has no locks: see to it that one run uses it", path)
    return descriptor


@contextmanager
def held(folder: Path) -> Generator[None]:
    """Have a run's folder to oneself.

    Raises:
        SetupError: another launcher has it, or a learner that does not leave.
        OSError: the lock's file cannot be made.
    """
    descriptor = take_lock(folder / LOCK)
    if descriptor is None:
        raise SetupError(
            f"{folder} is in use by another run{_holder(folder / LOCK)}: wait until it has ended, "
            "or stop it"
        )
    try:
        _sign(descriptor)
        with learner_held(folder):
            pass  # nobody but our own learner writes from now on
        yield
    finally:
        os.close(descriptor)


@contextmanager
def learner_held(folder: Path) -> Generator[None]:
    """Be the only learner of a run; waits for one that is about to leave.

    Raises:
        SetupError: it has not left in time.
        OSError: the lock's file cannot be made.
    """
    path, until_s, told = folder / LEARNER_LOCK, time.monotonic() + LEARNER_LEAVES_S, False
    while (descriptor := take_lock(path)) is None:
        if time.monotonic() >= until_s:
            raise SetupError(
                f"{folder} is in use by a learner{_holder(path)} that outlives its run: stop it"
            )
        if not told:
            told = True
            print(f"waiting for the last checkpoint of the learner{_holder(path)}", file=sys.stderr)
        time.sleep(_LOOK_S)
    try:
        _sign(descriptor)
        yield
    finally:
        os.close(descriptor)


def check(folder: Path) -> None:
    """Check that a run can go on in its folder.

    Raises:
        SetupError: names the part that stands in the way.
    """
    for name in _FOLDERS:
        path = folder / name
        if path.exists() and not path.is_dir():
            raise SetupError(f"{path} is not a folder: move it away to go on with this run")
    for name in _FILES:
        path = folder / name
        if path.exists() and not path.is_file():
            raise SetupError(f"{path} is not a file: move it away to go on with this run")
        if path.exists() and not os.access(path, os.W_OK, effective_ids=True):
            raise SetupError(f"{path} cannot be written: a resumed run goes on in its own folder")
    for place in (folder, *(folder / name for name in _FOLDERS)):
        if place.exists():
            _require_room(place)


def _require_room(folder: Path) -> None:
    try:
        probe(folder)
    except OSError as error:
        raise SetupError(
            f"{folder} cannot be written ({error.strerror}): a resumed run goes on in its own "
            "folder"
        ) from error


def _sign(descriptor: int) -> None:
    with suppress(OSError):  # for a message; a full disk does without
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def _holder(path: Path) -> str:
    try:
        return f", process {int(path.read_text())}"
    except (OSError, ValueError):
        return ""
