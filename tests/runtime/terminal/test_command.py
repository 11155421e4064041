"""What every command does around its work."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
from runtime.terminal.command import guard, run_command
guard()
{imports}
def main() -> int:
{body}
run_command(main)
"""


def run(
    body: str, imports: str = "", *, within: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    program = PROGRAM.format(imports=imports, body=lines)
    command = [*within, sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_a_ctrl_c_in_the_midst_of_an_import_is_one_line() -> None:
    """Also where the import would have swallowed the exception."""
    done = run(
        "return 0",
        "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException:\n"
        "    pass",
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_a_containers_first_process_ends_at_sigterm_from_its_first_moment() -> None:
    """To process 1 the kernel delivers what is handled, and nothing else."""
    first = ("unshare", "--fork", "--pid")
    if subprocess.run([*first, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("making a namespace of processes needs unshare, and root")
    done = run(
        "return 0",
        "import os, signal\nassert os.getpid() == 1\nos.kill(1, signal.SIGTERM)",
        within=first,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_a_signal_during_the_work_lets_it_clean_up(name: str) -> None:
    done = run(
        f"import os, signal\ntry:\n    os.kill(os.getpid(), signal.{name})\n"
        "    return 0\nfinally:\n    print('clean')"
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "clean\n", "interrupted\n")


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_exit_code_is_that_of_main(code: int) -> None:
    assert run(f"return {code}").returncode == code
    assert run(f"raise SystemExit({code})").returncode == code


def test_a_signal_after_the_work_changes_nothing() -> None:
    done = run(
        "import atexit, os, signal\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "return 7"
    )
    assert (done.returncode, done.stderr) == (7, "")


def modules() -> list[str]:
    """Of all commands: those that can be started with `python -m`."""
    root = Path(__file__).parents[3]
    return [
        path.relative_to(root).with_suffix("").as_posix().replace("/", ".")
        for folder in ("runtime", "learner", "learner/sparse")
        for path in sorted((root / folder).glob("*.py"))
        if '\nif __name__ == "__main__":' in path.read_text()
    ]


@pytest.mark.parametrize("module", modules())
def test_every_command_is_guarded_before_it_imports_anything_else(module: str) -> None:
    """A Ctrl-C comes when the first import after the guard begins."""
    program = (
        "import os, runpy, signal, sys\n"
        "import runtime.terminal.command as command\n"
        "guard = command.guard\n"
        "def interrupted_guard():\n"
        "    guard(); seen = set(sys.modules)\n"
        "    assert not seen & {'numpy', 'torch', 'zmq', 'tyro', 'yaml'}, seen\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "command.guard = interrupted_guard\n"
        f"runpy.run_module({module!r}, run_name='__main__')\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_a_pipe_that_nobody_reads_leaves_no_traceback() -> None:
    """`python -m runtime.keys --help | head -0`"""
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "runtime.keys", "--help"]
    done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writes)
    assert done.stderr == b""
    assert done.returncode in (0, 128 + signal.SIGINT)
