"""The live view on a terminal, while children and launcher have something to say."""

import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.process.screen import Screen, run_in_terminal

pytestmark = pytest.mark.process

LABELS = ("steps/s", "return", "win rate", "agents up", "restarts")


def program(tmp_path: Path) -> list[str]:
    return [sys.executable, "-m", "tests.process.live_program", str(tmp_path)]


def test_what_children_say_stands_above_one_whole_table(tmp_path: Path) -> None:
    code, rows = run_in_terminal(program(tmp_path), {}, 60.0)
    assert code == 0
    words = Counter(row.split("  ")[0] for row in rows)
    assert {label: words[label] for label in LABELS} == dict.fromkeys(LABELS, 1), rows
    warning = "learner-0: WARNING: a warning of the child"
    assert (words[warning], words["native words"]) == (2, 2)
    assert sum(row.endswith("on stdout") for row in rows) == 2
    assert words["launcher-0: WARNING: a warning of the launcher"] == 1
    said = max(index for index, row in enumerate(rows) if row.endswith("on stdout"))
    assert said < rows.index(next(row for row in rows if row.startswith("steps/s")))


def test_a_file_for_stderr_gets_what_children_and_launcher_say(tmp_path: Path) -> None:
    errors = tmp_path / "errors.log"
    with errors.open("wb") as file:
        code, rows = run_in_terminal(program(tmp_path), {}, 60.0, stderr=file)
    assert code == 0
    said = errors.read_text().splitlines()
    assert said == [
        "learner-0: WARNING: a warning of the child",
        "native words",
        "launcher-0: WARNING: a warning of the launcher",
        "learner-0: WARNING: a warning of the child",
        "native words",
    ]
    assert not any("warning" in row for row in rows)
    assert sum(row.startswith("steps/s") for row in rows) == 1


def test_the_screen_keeps_what_is_not_painted_over() -> None:
    screen = Screen()
    screen.write("one\r\ntwo\r\x1b[2K\x1b[1Alone\r\n")
    assert screen.rows == ["lone"]
