"""The shipped models of deterioration, and those that a simulation gives anew."""

import numpy as np
import pytest

from envs.imp.crack_growth import K_OUT_OF_N, SEED, TURBINE, simulate, simulate_turbine
from envs.imp.deterioration import DATA, Deterioration, RealArray, shipped


def failures(model: Deterioration, level: int = 0) -> RealArray:
    """[R] failure probability of a new component after r steps, without repairs."""
    belief_F, after = model.initial_LF[level], list[float]()
    for transition_FF in model.transition_LRFF[level]:
        after.append(float(belief_F[-1]))
        belief_F = belief_F @ transition_FF
    return np.array(after)


@pytest.mark.parametrize("name", ["uncorrelated", "correlated", "owf"])
def test_rows_are_probabilities_and_damage_never_heals(name: str) -> None:
    model = shipped(name)
    np.testing.assert_allclose(model.initial_LF.sum(-1), 1.0, atol=1e-12)
    np.testing.assert_allclose(model.transition_LRFF.sum(-1), 1.0, atol=1e-12)
    assert not np.tril(model.transition_LRFF, k=-1).any()
    assert (model.transition_LRFF[..., -1, -1] == 1.0).all()
    assert (np.diff(model.detection_LF) > 0.0).all()


def test_the_factor_makes_the_same_components() -> None:
    model = shipped("correlated")
    assert model.correlation is not None
    prior_C = model.correlation.prior_C
    assert prior_C.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(
        prior_C @ model.correlation.initial_CF, model.initial_LF[0], atol=1e-12
    )


def test_failures_come_as_often_as_in_the_references() -> None:
    years = [5, 10, 20, 30]
    uncorrelated = failures(shipped("uncorrelated"))[years]
    # Four decimals of a simulation with 200,000 samples: rounding, and four standard errors.
    noise = 5e-5 + 4.0 * np.sqrt(uncorrelated / 200_000)
    assert (np.abs(uncorrelated - [0.0004, 0.0039, 0.0267, 0.0630]) < noise).all()
    correlated = failures(shipped("correlated"))[years]
    np.testing.assert_allclose(correlated, [0.0002, 0.0036, 0.0260, 0.0630], atol=5e-5)


def test_both_systems_are_inspected_in_the_same_way() -> None:
    ours, theirs = shipped("uncorrelated").detection_LF, shipped("correlated").detection_LF
    np.testing.assert_allclose(ours, theirs, atol=1e-14)


def test_a_smaller_simulation_gives_the_shipped_model_within_its_noise() -> None:
    samples = 200_000
    model = simulate(K_OUT_OF_N, samples, np.random.default_rng(1))
    expected = shipped("uncorrelated")
    for ours, theirs in (
        (model.initial_LF[0], expected.initial_LF[0]),
        (failures(model), failures(expected)),
    ):
        # Five standard errors of a share, and one sample for the rarest.
        noise = 5.0 * np.sqrt(theirs * (1.0 - theirs) / samples) + 1.0 / samples
        assert (np.abs(ours - theirs) < noise).all()


def test_a_smaller_simulation_gives_the_shipped_turbine_within_its_noise() -> None:
    samples = 100_000
    model = simulate_turbine(samples, SEED + 1)
    for level in range(len(TURBINE)):
        theirs = failures(shipped("owf"), level)
        noise = 5.0 * np.sqrt(theirs * (1.0 - theirs) / samples) + 1.0 / samples
        assert (np.abs(failures(model, level) - theirs) < noise).all()


def test_equal_seeds_give_equal_models() -> None:
    first, second = (simulate(K_OUT_OF_N, 1000, np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(first.transition_LRFF, second.transition_LRFF)


def test_the_data_say_where_they_come_from() -> None:
    notice = (DATA / "NOTICE").read_text(encoding="utf-8")
    assert "moratodpg/imp_marl" in notice
    assert "Apache License" in notice
    for path in DATA.glob("*.npz"):
        assert path.name in notice
