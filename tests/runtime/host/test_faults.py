"""Steps that go on, whatever goes wrong in one of them."""

import pytest

from runtime.host.faults import LASTING_S, Faults


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def fail(reason: str = "no room") -> None:
    raise OSError(reason)


def test_a_step_that_fails_is_said_and_the_next_one_is_taken(
    caplog: pytest.LogCaptureFixture,
) -> None:
    faults, done = Faults(Clock()), list[int]()
    faults.attempt(fail)
    faults.attempt(done.append, 1)
    assert done == [1]
    assert faults.count == 1
    assert "no room" in caplog.text


def test_many_faults_are_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults(Clock())
    for _ in range(1000):
        faults.attempt(fail)
    assert len(caplog.records) == 1
    assert faults.count == 1000


def test_a_fault_of_every_turn_is_the_end_and_one_that_passes_is_not() -> None:
    clock = Clock()
    faults = Faults(clock)
    for _ in range(3):
        faults.attempt(fail)
        assert faults.end_turn() is None
        clock.now_s += LASTING_S / 2
        faults.end_turn()  # nothing wrong
    faults.attempt(fail, "still no room")
    assert faults.end_turn() is None
    clock.now_s += LASTING_S
    faults.attempt(fail, "still no room")
    assert faults.end_turn() == "OSError: still no room"
