"""Folders for the time that a process lives: of sockets, and of what an evaluation writes.

    Scratch() -> TMPDIR/murmuration-xxxxxxxx/ with a lock that its owner holds -> close

A process that is killed leaves its folder behind. The kernel drops its lock, which tells the next
one that starts to remove it.
"""

import fcntl
import multiprocessing
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from runtime.net.errors import SetupError

_PREFIX = "murmuration-"
_LOCK = "owner.lock"
_SOCKET_PATH_BYTES = 107
_PYTHONS = "p"
_LONGEST_NAME = len(f"{_PYTHONS}/listener-12345678")
"""Of a socket within: multiprocessing's, for its forkserver. Ours have up to 16 bytes."""
LONGEST_PARENT = _SOCKET_PATH_BYTES - len(f"/{_PREFIX}12345678/") - _LONGEST_NAME
"""Bytes of a temporary folder in which all of this fits."""


class Scratch:
    """A folder of this process, which nobody else can reach."""

    def __init__(self) -> None:
        """Make it; remove those whose owners have died.

        Raises:
            SetupError: it cannot be made.
        """
        try:
            _remove_stale()
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))  # 0700
            self._lock = _lock(self.path)
        except OSError as error:
            raise SetupError(
                f"no temporary folder can be made ({error.strerror}): set TMPDIR to one that can "
                "be written"
            ) from error

    def hold_our_sockets(self) -> None:
        """Have multiprocessing put its sockets here too, in this process and in its children.

        By itself it makes a folder pymp-xxxxxxxx, which a process that is killed leaves behind.
        """
        folder = self.path / _PYTHONS
        folder.mkdir(mode=0o700, exist_ok=True)
        _configuration()["tempdir"] = str(folder)

    def close(self) -> None:
        """Remove it with all that is in it."""
        if _configuration().get("tempdir") == str(self.path / _PYTHONS):
            del _configuration()["tempdir"]
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def require_temporary_folder() -> None:
    """Check that Unix sockets fit into a scratch folder; every run has some.

    Raises:
        SetupError: there is none, or the kernel would refuse their paths (107 bytes at most).
    """
    try:
        folder = tempfile.gettempdir()
    except OSError as error:
        raise SetupError(
            f"no temporary folder can be written ({error.strerror}): set TMPDIR to another"
        ) from error
    size = len(os.fsencode(folder))
    if size > LONGEST_PARENT:
        raise SetupError(
            f"folder {folder} is too long for Unix sockets ({size} bytes, at most "
            f"{LONGEST_PARENT}): set TMPDIR to a shorter one, such as TMPDIR=/tmp"
        )


def _configuration() -> dict[str, Any]:
    """multiprocessing's own notes about this process, which children inherit."""
    return cast("dict[str, Any]", cast("Any", multiprocessing.current_process())._config)


def _lock(folder: Path) -> int:
    """A lock that lives as long as this process; it is in its place only once it is held."""
    early = folder / f"{_LOCK}.new"
    descriptor = os.open(early, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    early.rename(folder / _LOCK)
    return descriptor


def _remove_stale() -> None:
    for folder in _ours():
        with suppress(OSError):
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _ours() -> Iterator[Path]:
    """Folders of this user's processes, alive or not."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            status = folder.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                yield folder
