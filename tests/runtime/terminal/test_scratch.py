"""Folders that last as long as their process: found by the next one if it was killed."""

import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing import util
from pathlib import Path

import pytest

from runtime.net.errors import SetupError
from runtime.terminal import scratch
from runtime.terminal.scratch import Scratch

OWNER = "from runtime.terminal.scratch import Scratch; print(Scratch().path, flush=True); input()"


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of /tmp."""
    folder = tmp_path_factory.mktemp("t")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def owner() -> Iterator[subprocess.Popen[str]]:
    """Another process that has one."""
    command = [sys.executable, "-c", OWNER]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe) as process:
        yield process
        process.kill()


def path_of(owner: subprocess.Popen[str]) -> Path:
    assert owner.stdout is not None
    return Path(owner.stdout.readline().strip())


def test_the_folder_of_a_process_that_was_killed_is_removed_by_the_next(
    owner: subprocess.Popen[str],
) -> None:
    left = path_of(owner)
    (left / "sockets").mkdir()
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert left.exists()
    Scratch().close()
    assert not left.exists()


def test_the_folder_of_a_process_that_lives_stays(owner: subprocess.Popen[str]) -> None:
    alive = path_of(owner)
    Scratch().close()
    assert (alive / "owner.lock").exists()


def test_folders_of_others_stay(temporary: Path) -> None:
    """One without our lock is not ours, and what a link points to is none of our business."""
    (temporary / "murmuration-of-starlings").mkdir()
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "owner.lock").touch()
    (temporary / "murmuration-link").symlink_to(elsewhere)
    Scratch().close()
    assert sorted(path.name for path in temporary.iterdir()) == [
        "elsewhere",
        "murmuration-link",
        "murmuration-of-starlings",
    ]


def test_pythons_own_sockets_lie_in_it_until_it_is_closed(temporary: Path) -> None:
    ours = Scratch()
    ours.hold_our_sockets()
    folder = Path(util.get_temp_dir())
    assert folder.is_relative_to(ours.path)
    ours.close()
    assert list(temporary.iterdir()) == []


def test_a_temporary_folder_too_long_for_sockets_is_refused_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    most = scratch.LONGEST_PARENT
    monkeypatch.setattr(tempfile, "tempdir", "/" + "d" * (most - 1))
    scratch.require_temporary_folder()
    monkeypatch.setattr(tempfile, "tempdir", "/" + "d" * most)
    with pytest.raises(SetupError, match=rf"{most + 1} bytes, at most {most}\): set TMPDIR to"):
        scratch.require_temporary_folder()


def test_every_socket_fits_into_the_longest_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        parent = Path(short) / ("d" * (scratch.LONGEST_PARENT - len(short) - 1))
        parent.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(parent))
        ours = Scratch()
        ours.hold_our_sockets()
        pythons = Path(util.get_temp_dir())
        for path in (ours.path / ("n" * 16), pythons / "listener-12345678"):
            with socket.socket(socket.AF_UNIX) as unix:
                unix.bind(str(path))
        ours.close()
