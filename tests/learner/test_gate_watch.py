import pytest

from configs.load import preset_for
from configs.schema import GateConfig
from learner.gate_watch import PATIENCE, GateWatch

STEPS = 1000


def watch_over(gate: GateConfig | None = None) -> GateWatch:
    return GateWatch(gate or GateConfig(), STEPS)


def lines(watch: GateWatch, share: float, updates: int, env_steps: int = 0) -> list[str]:
    said = (watch.look(share, env_steps) for _ in range(updates))
    return [line for line in said if line is not None]


@pytest.mark.parametrize(("share", "word"), [(1.0, "stood open"), (0.0, "stood shut")])
def test_a_gate_that_decides_nothing_is_said_once(share: float, word: str) -> None:
    watch = watch_over()
    assert lines(watch, share, PATIENCE - 1) == []
    (line,) = lines(watch, share, 5 * PATIENCE)
    assert word in line
    assert "gate.price" in line


def test_a_gate_that_moves_is_not_spoken_of() -> None:
    watch = watch_over()
    for _ in range(10):
        assert lines(watch, 1.0, PATIENCE - 1) == []
        assert lines(watch, 0.5, 1) == []
    assert lines(watch, 0.98, 3 * PATIENCE) == []
    assert lines(watch, 0.02, 3 * PATIENCE) == []


def test_from_open_to_shut_is_two_findings() -> None:
    watch = watch_over()
    assert len(lines(watch, 1.0, PATIENCE)) == 1
    (line,) = lines(watch, 0.0, PATIENCE)
    assert "shut" in line


def test_nothing_is_said_of_an_open_gate_before_its_price_has_risen() -> None:
    watch = watch_over(GateConfig(price=0.001, price_start=600, price_steps=300))
    for env_steps in (0, 599, 600, 899):
        assert lines(watch, 1.0, 2 * PATIENCE, env_steps) == []
    assert lines(watch, 1.0, PATIENCE - 1, 900) == []
    (line,) = lines(watch, 1.0, PATIENCE, 900)
    assert "gate.price: 0.001 has not closed an edge" in line
    assert "without one" not in line


def test_the_default_battle_run_is_not_told_that_it_has_no_price() -> None:
    preset = preset_for("battle")
    watch = GateWatch(preset.gate, preset.steps)
    assert lines(watch, 1.0, 5 * PATIENCE, preset.gate.price_start - 1) == []


def test_a_gate_that_shuts_before_its_price_begins_is_a_finding() -> None:
    watch = watch_over(GateConfig(price=0.001, price_start=600))
    (line,) = lines(watch, 0.0, PATIENCE)
    assert "stood shut" in line


def test_a_price_that_begins_after_the_run_is_named() -> None:
    watch = watch_over(GateConfig(price=0.001, price_start=STEPS))
    (line,) = lines(watch, 1.0, PATIENCE)
    assert "gate.price_start: the run ends before 1,000 steps" in line
