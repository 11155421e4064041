"""Planned failures: who dies, and the figures of what is left."""

import numpy as np
import pytest

from runtime.net.failures import Aftermath, Failures, standard_error


@pytest.mark.parametrize(
    ("fraction", "num_agents", "count"),
    [
        (0.0, 100, 0),
        (0.1, 16, 2),
        (0.1, 20, 2),
        (0.07, 100, 7),
        (0.29, 100, 29),
        (0.5, 5, 3),
        (0.001, 8, 1),
        (0.99, 8, 7),
    ],
)
def test_the_share_is_rounded_up_to_whole_agents_and_one_is_left(
    fraction: float, num_agents: int, count: int
) -> None:
    victims = Failures(kill_fraction=fraction).victims(num_agents, seed=3)
    assert len(victims) == len(set(victims)) == count
    assert list(victims) == sorted(victims)
    assert set(victims) <= set(range(num_agents))


def test_victims_follow_from_the_seed_and_from_nothing_else() -> None:
    early, late = Failures(kill_fraction=0.25, kill_at=1), Failures(kill_fraction=0.25, kill_at=9)
    assert early.victims(16, seed=5) == late.victims(16, seed=5)
    drawn = {early.victims(16, seed) for seed in range(20)}
    assert len(drawn) > 10


def test_every_agent_is_as_likely_to_die_as_another() -> None:
    failures = Failures(kill_fraction=0.25)
    deaths_N = np.zeros(8)
    for seed in range(2000):
        deaths_N[list(failures.victims(8, seed))] += 1
    # 500 each are expected, with a standard deviation of 19.4.
    assert np.abs(deaths_N - 500).max() < 5 * 19.4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kill_fraction": 1.0}, r"^kill-fraction must be in \[0, 1\), got 1.0$"),
        ({"kill_fraction": -0.1}, r"^kill-fraction must be in \[0, 1\), got -0.1$"),
        ({"kill_fraction": float("nan")}, r"^kill-fraction must be in \[0, 1\), got nan$"),
        ({"kill_at": -1}, r"^kill-at must be between 0 and 60000, got -1$"),
        ({"drop_edges": 1.1}, r"^drop-edges must be in \[0, 1\], got 1.1$"),
        ({"drop_edges": float("nan")}, r"^drop-edges must be in \[0, 1\], got nan$"),
    ],
)
def test_numbers_out_of_range_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Failures(**values)  # type: ignore[arg-type]  # from the parameters above


def test_the_standard_error_is_that_of_the_mean() -> None:
    numbers = np.random.default_rng(0).normal(3.0, 2.0, size=40)
    error = standard_error(float(numbers.sum()), float((numbers**2).sum()), len(numbers))
    assert error == pytest.approx(float(numbers.std(ddof=1) / np.sqrt(40)))


def test_a_single_number_has_no_standard_error_and_equal_ones_have_none_to_speak_of() -> None:
    assert standard_error(1.0, 1.0, 1) is None
    assert standard_error(0.3, 0.03, 3) == pytest.approx(0.0, abs=1e-8)


def test_edges_are_counted_before_and_after_for_those_who_acted() -> None:
    aftermath = Aftermath(3, victims=(1,))
    acting_EN = np.array([[True, True, True], [True, True, False]])
    masks_EN = np.array([[0b111, 0b1, 0b0], [0b10, 0b11, 0b111]], dtype=np.uint16)
    aftermath.count_step(acting_EN, masks_EN, is_after=False)
    aftermath.count_step(acting_EN & [True, False, True], masks_EN, is_after=True)
    figures = aftermath.figures()
    assert figures["evaluated_agent_steps"] == 5 + 3
    assert figures["evaluated_edges_open"] == 7 + 4
    assert figures["agent_steps_after_kill"] == 3
    assert figures["edges_open_after_kill"] == 3 + 0 + 1


def test_the_spared_have_a_return_of_their_own() -> None:
    aftermath = Aftermath(3, victims=(1,))
    aftermath.count_episode(np.array([[1.0, 9.0, 2.0], [0.0, 9.0, 1.0]]))
    aftermath.count_episode(np.array([[4.0, 9.0, 4.0]]))
    figures = aftermath.figures()
    assert figures["spared_return_sum"] == 2.0 + 4.0
    assert figures["spared_return_squares"] == 4.0 + 16.0
