import os

import pytest

from runtime.terminal.child_output import ChildOutput, beside_the_view


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if stderr were one."""

    def is_terminal(descriptor: int) -> bool:  # pytest has taken ours
        return descriptor == 2

    monkeypatch.setattr(os, "isatty", is_terminal)


def say(line: bytes) -> None:
    with beside_the_view():
        os.write(2, line)


def say_forever() -> None:
    while True:
        say(b"x" * 65536 + b"\n")


@pytest.mark.usefixtures("terminal")
def test_lines_come_whole_and_in_order() -> None:
    output = ChildOutput()
    output.open()
    try:
        say(b"one\ntw")
        assert output.take_lines() == ["one"]
        say("o\nthr\N{LATIN SMALL LETTER E WITH ACUTE}".encode()[:-1])
        assert output.take_lines() == ["two"]
        say("\N{LATIN SMALL LETTER E WITH ACUTE}".encode()[-1:])
        assert output.take_lines() == []
        assert output.take_lines(to_the_end=True) == ["thr\N{LATIN SMALL LETTER E WITH ACUTE}"]
    finally:
        output.close()


@pytest.mark.usefixtures("terminal")
def test_control_characters_do_not_reach_the_terminal() -> None:
    output = ChildOutput()
    output.open()
    try:
        say(b"a\x1b[2Jb\r\n\tc\x07\xff\n")
        assert output.take_lines() == ["a\ufffd[2Jb", "        c\ufffd\ufffd"]
    finally:
        output.close()


@pytest.mark.usefixtures("terminal")
def test_a_child_does_not_wait_for_a_launcher_that_does_not_read() -> None:
    output = ChildOutput()
    output.open()
    try:
        with pytest.raises(BlockingIOError):
            say_forever()
        assert output.take_lines()[0] == "x" * 65536
    finally:
        output.close()


@pytest.mark.usefixtures("terminal")
def test_only_the_terminal_of_a_view_is_exchanged_and_only_for_a_moment() -> None:
    stdout, stderr = os.fstat(1), os.fstat(2)
    with beside_the_view():
        assert os.fstat(2) == stderr, "no view draws"
    output = ChildOutput()
    output.open()
    try:
        with beside_the_view():
            assert os.fstat(1) == stdout, "a file stays what it is"
            assert os.fstat(2) != stderr
        assert os.fstat(2) == stderr
    finally:
        output.close()
