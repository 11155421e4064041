import pytest

from learner.gate_watch import PATIENCE, GateWatch


def lines(watch: GateWatch, share: float, updates: int) -> list[str]:
    return [line for line in (watch.look(share) for _ in range(updates)) if line is not None]


@pytest.mark.parametrize(("share", "word"), [(1.0, "stood open"), (0.0, "stood shut")])
def test_a_gate_that_decides_nothing_is_said_once(share: float, word: str) -> None:
    watch = GateWatch()
    assert lines(watch, share, PATIENCE - 1) == []
    (line,) = lines(watch, share, 5 * PATIENCE)
    assert word in line
    assert "gate.price" in line


def test_a_gate_that_moves_is_not_spoken_of() -> None:
    watch = GateWatch()
    for _ in range(10):
        assert lines(watch, 1.0, PATIENCE - 1) == []
        assert lines(watch, 0.5, 1) == []
    assert lines(watch, 0.98, 3 * PATIENCE) == []
    assert lines(watch, 0.02, 3 * PATIENCE) == []


def test_from_open_to_shut_is_two_findings() -> None:
    watch = GateWatch()
    assert len(lines(watch, 1.0, PATIENCE)) == 1
    (line,) = lines(watch, 0.0, PATIENCE)
    assert "shut" in line
