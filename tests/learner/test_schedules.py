"""The gate's temperature over a run (SOPS, equation 3 and figure 5a)."""

from pathlib import Path

import pytest

from configs.load import load_run_config
from configs.schema import GateConfig
from learner.progress import Progress
from learner.schedules import Schedules
from tests.learner_helpers import make_config


def temperatures(gate: GateConfig, *env_steps: int) -> list[float]:
    run = make_config(gate=gate)
    return [Schedules(run, Progress(env_steps=at)).temperature for at in env_steps]


def test_a_linear_temperature_falls_by_equal_steps() -> None:
    gate = GateConfig(temperature_start=1.0, temperature_end=0.2, temperature_steps=100)
    assert temperatures(gate, 0, 25, 50, 100, 10**9) == pytest.approx([1.0, 0.8, 0.6, 0.2, 0.2])


def test_an_exponential_temperature_falls_by_equal_factors() -> None:
    gate = GateConfig(
        temperature_schedule="exponential",
        temperature_start=1.6,
        temperature_end=0.1,
        temperature_steps=100,
    )
    expected = [1.6, 0.8, 0.4, 0.2, 0.1, 0.1]
    assert temperatures(gate, 0, 25, 50, 75, 100, 10**9) == pytest.approx(expected)


@pytest.mark.parametrize("start", [0.1, 0.5, 1.0, 2.0])
def test_a_constant_temperature_stays_also_below_the_usual_end(start: float) -> None:
    config = load_run_config(
        ["--gate.temperature-schedule", "constant", "--gate.temperature-start", f"{start}"]
    )
    assert temperatures(config.gate, 0, 1, 10**9) == [start] * 3


def test_a_temperature_does_not_rise() -> None:
    for schedule in ("linear", "exponential"):
        with pytest.raises(ValueError, match=r"^gate\.temperature_end must not be above"):
            GateConfig(temperature_schedule=schedule, temperature_start=0.1)


def test_a_run_that_begins_with_a_policy_keeps_a_constant_temperature(tmp_path: Path) -> None:
    path = tmp_path / "constant.yaml"
    path.write_text("gate: {temperature_schedule: constant, temperature_start: 2.0}")
    config = load_run_config(["--config", f"{path}", "--policy", "shipped"])
    assert temperatures(config.gate, 0) == [2.0]
