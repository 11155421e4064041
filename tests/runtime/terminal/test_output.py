"""Output that cannot be written costs lines and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROLOGUE = (
    "import sys; from runtime.terminal import output; output.install(ends_with_reader=True)\n"
)


def run(program: str, **how: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROLOGUE + program]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
    return subprocess.run(command, text=True, timeout=30, check=False, **options)  # type: ignore[call-overload]  # options are those of a test


def test_a_full_device_costs_lines_and_not_the_process() -> None:
    with Path("/dev/full").open("w") as full:
        done = run(
            "for i in range(10000): print(i)\n"
            "print('lost', file=sys.stderr, flush=True)\n"
            "raise SystemExit(7)",
            stdout=full,
            stderr=full,
        )
    assert done.returncode == 7


def test_after_a_line_that_was_cut_off_the_next_begins_anew(tmp_path: Path) -> None:
    """The limit stands for a disk that has room again after a while."""
    path = tmp_path / "out"
    with path.open("w") as file:
        done = run(
            "import resource, signal\n"
            "unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (10, unlimited[1]))\n"
            "print('whole'); sys.stdout.flush()\n"
            "print('does not fit'); sys.stdout.flush()\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)\n"
            "print('whole again')",
            stdout=file,
        )
    assert done.returncode == 0, done.stderr
    assert path.read_text().splitlines() == ["whole", "does", "whole again"]


def test_a_closed_stdout_takes_nothing_and_no_file_takes_its_number(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    program = f"print('hello'); f = open({str(path)!r}, 'w'); print('again', flush=True)"
    command = [sys.executable, "-c", PROLOGUE + program]
    done = subprocess.run(
        command, timeout=30, check=False, stderr=subprocess.PIPE, preexec_fn=lambda: os.close(1)
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert path.read_text() == ""


def test_what_ascii_cannot_say_is_written_as_what_resembles_it() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = run("print('return – … é'); print('a – b', file=sys.stderr)", env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "return - ... ?\n", "a - b\n")


@pytest.mark.parametrize("ends", [True, False])
def test_a_reader_that_has_gone_sends_a_ctrl_c_if_that_is_wanted(ends: bool) -> None:
    program = (
        "import os, signal; from runtime.terminal import output\n"
        "signal.signal(signal.SIGINT, lambda *_: os._exit(99))\n"
        f"output.install(ends_with_reader={ends})\n"
        "for i in range(3): print(i, flush=True)\n"
        "raise SystemExit(5)"
    )
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=writes,
        stderr=subprocess.PIPE,
        timeout=30,
        check=False,
    )
    os.close(writes)
    assert (done.returncode, done.stderr) == (99 if ends else 5, b"")
