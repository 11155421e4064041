"""Log files that cannot be opened or written cost lines, and nobody who logs hears of it."""

import contextlib
import logging
import shutil
from pathlib import Path

import pytest

from runtime.net.logs import lines_lost, setup_logging


def test_a_file_that_cannot_be_opened_costs_lines_which_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "logs"
    setup_logging("agent", 3, directory)
    shutil.rmtree(directory)
    directory.write_text("in the way")
    logger = logging.getLogger("agents.process")
    for number in range(3):
        logger.warning("line %d", number)
    assert lines_lost() == 3
    assert capsys.readouterr().err == ""
    directory.unlink()
    directory.mkdir()
    logger.warning("there is room again")
    assert "there is room again" in (directory / "agent-3.log").read_text()
    assert lines_lost() == 3


def test_lines_that_the_disk_does_not_take_are_counted(tmp_path: Path) -> None:
    setup_logging("agent", 4, tmp_path)
    (tmp_path / "agent-4.log").symlink_to("/dev/full")
    logging.getLogger("agents.process").warning("into a full disk")
    assert lines_lost() == 1
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            with contextlib.suppress(OSError):  # what is in its buffer does not fit either
                handler.close()
