"""`--help` fits a screen; `--help-all` has everything; neither waits for torch."""

import re
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest

from configs.load import load_run_config
from configs.short_help import EVALUATE, LAUNCH, Line
from runtime import evaluate

HelpOf = Callable[[str], str]


@pytest.fixture(params=["launch", "evaluate"])
def command(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def lines(command: str) -> Sequence[Line]:
    return {"launch": LAUNCH, "evaluate": EVALUATE}[command]


@pytest.fixture
def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> HelpOf:
    def text(flag: str) -> str:
        with pytest.raises(SystemExit) as left:
            load_run_config([flag]) if command == "launch" else evaluate.main([flag])
        assert left.value.code == 0
        return capsys.readouterr().out

    return text


def test_help_is_a_line_for_each_option_that_matters(
    help_of: HelpOf, lines: Sequence[Line]
) -> None:
    text = help_of("--help")
    rows = text.splitlines()
    assert len(rows) <= 40
    assert max(map(len, rows)) < 80
    assert "--help-all explains every option" in rows[-1]
    assert [row.split()[0] for row in rows if row.startswith("  --")] == [ln.flag for ln in lines]
    assert "<" not in text, "defaults are values"


def test_short_help_speaks_of_options_that_exist(help_of: HelpOf, lines: Sequence[Line]) -> None:
    every = re.findall(r"^[│|] (--[\w.-]+)", help_of("--help-all"), re.MULTILINE)
    assert {line.flag for line in lines} <= set(every)
    assert len(every) > len(lines)


def test_short_help_shows_the_defaults_of_this_command_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        load_run_config(["--env", "relay", "--help"])
    assert re.search(r"--evaluation.episodes N .*\(100\)$", capsys.readouterr().out, re.MULTILINE)
    with pytest.raises(SystemExit):
        evaluate.main(["--help"])
    assert re.search(r"--seed N .*\(1000000\)$", capsys.readouterr().out, re.MULTILINE)


def test_no_help_waits_for_torch() -> None:
    code = """
import sys
from runtime.command_line import SUBCOMMANDS, main
for name in SUBCOMMANDS:
    try:
        main([name, "--help"])
    except SystemExit as stop:
        assert not stop.code, name
assert "torch" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr


def test_help_for_a_terminal_of_ascii_has_no_other_characters() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runtime.launch", "--help-all"],
        env={"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin"},
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"--learner.gamma" in done.stdout
    assert done.stdout.isascii()
