"""IMP: what is seen, what a step costs, how an episode ends."""

import numpy as np
import pytest

from configs.schema import EnvConfig
from envs.base import Snapshot, Transition
from envs.imp import ImpOptions
from envs.imp.actions import INSPECT, NOTHING, NUM_ACTIONS, REPAIR
from envs.imp.deterioration import shipped
from envs.imp.episode import Imp, imp_spec
from envs.imp.options import Kind
from envs.registry import make_copies, spec_of


def play(env: Imp, seed: int, probabilities: tuple[float, float, float]) -> list[Transition]:
    """An episode of actions that are drawn with these probabilities, the same for each call."""
    rng = np.random.default_rng(11)
    env.reset(seed)
    size = env.spec.num_agents
    return [
        env.step(rng.choice(NUM_ACTIONS, p=probabilities, size=size))
        for _ in range(env.spec.episode_limit)
    ]


def discounted(steps: list[Transition]) -> float:
    return sum(0.95**t * float(step.rewards_N[0]) for t, step in enumerate(steps))


@pytest.mark.parametrize(
    ("kind", "agents", "state", "observation"),
    [
        ("uncorrelated", 50, 1600, 31),
        ("correlated", 50, 1680, 111),
        ("uncorrelated", 100, 3200, 31),
        ("correlated", 100, 3280, 111),
        ("owf", 50, 3050, 61),
        ("owf", 100, 6100, 61),
    ],
)
def test_sizes_are_imp_marls(kind: Kind, agents: int, state: int, observation: int) -> None:
    options = ImpOptions(kind=kind, agent_id=False, last_action=False)
    spec = imp_spec(options, agents)
    assert (spec.state_dim, spec.observation_dim) == (state, observation)
    assert spec.episode_limit == (20 if kind == "owf" else 30)
    snapshot = Imp(options, agents).reset(0)
    assert snapshot.state_S.shape == (state,)
    assert snapshot.observations_ND.shape == (agents, observation)
    with_both = imp_spec(ImpOptions(kind=kind), agents)
    assert with_both.observation_dim == observation + 3 + agents
    assert with_both.state_dim == state


@pytest.mark.parametrize("kind", ["uncorrelated", "correlated", "owf"])
def test_doing_nothing_is_deterministic_and_costs_the_growing_risk(kind: Kind) -> None:
    env = Imp(ImpOptions(kind=kind), 6)
    first, second = play(env, 1, (1, 0, 0)), play(env, 2, (1, 0, 0))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.after.observations_ND, other.after.observations_ND)
        np.testing.assert_array_equal(one.after.state_S, other.after.state_S)
        assert one.rewards_N.tolist() == other.rewards_N.tolist()
    figures = first[-1].metrics
    assert figures["risk"] == pytest.approx(-figures["discounted_return"])
    assert figures["inspections"] == figures["repairs"] == figures["campaigns"] == 0.0


def test_doing_nothing_pays_for_the_failure_of_six_equal_components() -> None:
    model = shipped("uncorrelated")
    belief_F, failed, rewards = model.initial_LF[0], [0.0], list[float]()
    for transition_FF in model.transition_LRFF[0, :30]:
        belief_F = belief_F @ transition_FF
        p = belief_F[-1]
        failed.append(1.0 - (1 - p) ** 6 - 6 * p * (1 - p) ** 5)  # five of six must work
        rewards.append(-10_000.0 * (failed[-1] - failed[-2]))
    steps = play(Imp(ImpOptions(kind="uncorrelated"), 6), 0, (1, 0, 0))
    np.testing.assert_allclose([step.rewards_N[0] for step in steps], rewards, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("campaign_cost", "actions", "cost"),
    [
        (True, [INSPECT, NOTHING, NOTHING, NOTHING], 0.2 + 5.0),
        (True, [INSPECT, INSPECT, REPAIR, NOTHING], 0.4 + 20.0 + 5.0),
        (False, [INSPECT, INSPECT, NOTHING, NOTHING], 2.0),
        (False, [REPAIR, REPAIR, NOTHING, INSPECT], 41.0),
    ],
)
def test_costs_of_a_k_out_of_n_system(campaign_cost: bool, actions: list[int], cost: float) -> None:
    env = Imp(ImpOptions(kind="uncorrelated", campaign_cost=campaign_cost), 4)
    env.reset(0)
    # Nothing fails in the first year.
    assert env.step(np.array(actions)).rewards_N.tolist() == pytest.approx([-cost] * 4, abs=1e-3)


@pytest.mark.parametrize(
    ("campaign_cost", "actions", "cost"),
    [
        (True, [INSPECT, INSPECT], 0.2 + 1.0 + 5.0),
        (False, [INSPECT, INSPECT], 1.0 + 4.0),
        (True, [REPAIR, NOTHING], 10.0 + 5.0),
        (False, [NOTHING, REPAIR], 30.0),
    ],
)
def test_costs_of_a_wind_turbine(campaign_cost: bool, actions: list[int], cost: float) -> None:
    options = ImpOptions(kind="owf", campaign_cost=campaign_cost)
    idle, busy = Imp(options, 2), Imp(options, 2)
    risk = float(play(idle, 0, (1, 0, 0))[0].rewards_N[0])
    busy.reset(0)
    paid = float(busy.step(np.array(actions)).rewards_N[0])
    # A repair takes away the first year's risk of its component, which is less than 0.1.
    assert paid == pytest.approx(risk - cost, abs=0.1)


def test_the_return_of_discounted_rewards_is_the_discounted_return() -> None:
    plain = play(Imp(ImpOptions(), 50), 3, (0.9, 0.07, 0.03))
    paid = play(Imp(ImpOptions(discounted_rewards=True), 50), 3, (0.9, 0.07, 0.03))
    total = sum(float(step.rewards_N[0]) for step in paid)
    assert total == pytest.approx(plain[-1].metrics["discounted_return"], rel=1e-5)
    assert discounted(plain) == pytest.approx(total, rel=1e-5)
    assert paid[-1].metrics == plain[-1].metrics


def test_metrics_count_what_was_done() -> None:
    env = Imp(ImpOptions(kind="uncorrelated"), 5)
    env.reset(0)
    steps = [env.step(np.array([INSPECT, INSPECT, REPAIR, 0, 0])) for _ in range(2)]
    steps += [env.step(np.zeros(5, dtype=np.int64)) for _ in range(28)]
    figures = steps[-1].metrics
    assert (figures["inspections"], figures["repairs"], figures["campaigns"]) == (4, 2, 2)
    assert not steps[-2].metrics


def test_the_score_is_the_gain_over_the_heuristic_in_percent() -> None:
    env = Imp(ImpOptions(heuristic_return=-200.0), 3)
    assert env.spec.headline == "normalised_score"
    figures = play(env, 0, (1, 0, 0))[-1].metrics
    gain = figures["discounted_return"] + 200.0
    assert figures["normalised_score"] == pytest.approx(gain / 2.0)


def test_without_a_known_heuristic_the_discounted_return_is_the_headline() -> None:
    spec = imp_spec(ImpOptions(), 3)
    assert spec.headline == "discounted_return"
    assert "normalised_score" not in spec.metrics


@pytest.mark.parametrize("kind", ["uncorrelated", "correlated", "owf"])
def test_equal_seeds_give_equal_episodes_and_others_do_not(kind: Kind) -> None:
    env = Imp(ImpOptions(kind=kind), 10)
    first, again, other = (play(env, seed, (0.5, 0.4, 0.1)) for seed in (7, 7, 8))
    assert [step.rewards_N[0] for step in first] == [step.rewards_N[0] for step in again]
    np.testing.assert_array_equal(first[-1].after.state_S, again[-1].after.state_S)
    assert [step.rewards_N[0] for step in first] != [step.rewards_N[0] for step in other]


def test_an_observation_ends_with_last_action_and_number() -> None:
    env = Imp(ImpOptions(kind="correlated"), 3)
    first = env.reset(0)
    np.testing.assert_array_equal(first.observations_ND[:, 111:114], np.zeros((3, 3)))
    after = env.step(np.array([2, 0, 1])).after.observations_ND
    np.testing.assert_array_equal(after[:, 111:114], np.eye(3)[[2, 0, 1]])
    np.testing.assert_array_equal(after[:, 114:], np.eye(3))
    assert after.dtype == np.float16
    assert after[0, 30] == np.float16(1 / 30)


def test_the_state_has_beliefs_rates_and_the_factor() -> None:
    env = Imp(ImpOptions(kind="correlated"), 2)
    snapshot = Snapshot(*env.reset(0))
    for actions in ([NOTHING, NOTHING], [REPAIR, INSPECT]):
        snapshot = env.step(np.array(actions)).after
    beliefs, rates, factor = np.split(snapshot.state_S, [62, 64])
    seen = snapshot.observations_ND[:, :31].astype(np.float32)
    np.testing.assert_allclose(beliefs.reshape(2, 31), seen, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(rates, [0.0, 2 / 30])
    np.testing.assert_allclose(factor, snapshot.observations_ND[0, 31:111], rtol=1e-3)
    assert factor.sum() == pytest.approx(1.0)


def test_an_episode_is_terminated_at_its_horizon() -> None:
    env = Imp(ImpOptions(kind="owf"), 4)
    steps = play(env, 0, (1, 0, 0))
    assert [step.terminated for step in steps] == [False] * 19 + [True]
    assert not any(step.truncated or step.won for step in steps)
    with pytest.raises(AssertionError, match="reset"):
        env.step(np.zeros(4, dtype=np.int64))


@pytest.mark.parametrize("actions", [[0, 0], [0, 0, 3], [-1, 0, 0]])
def test_misuse_is_refused(actions: list[int]) -> None:
    env = Imp(ImpOptions(), 3)
    env.reset(0)
    with pytest.raises(ValueError, match=r"agents act|actions are"):
        env.step(np.array(actions))


@pytest.mark.parametrize(
    ("options", "agents", "refusal"),
    [
        ("", 1, "between 2 and 4096 agents, got 1"),
        ("kind=owf", 5, "give an even number, got 5"),
        ("k=9", 8, "k must be at most the number of agents, got 9 of 8"),
        ("kind=owf,k=3", 6, "leave it out with kind=owf"),
        ("kind=bridge", 6, "kind must be"),
        ("heuristic_return=5.0", 6, "heuristic_return must be less than 0"),
    ],
)
def test_an_impossible_system_is_refused(options: str, agents: int, refusal: str) -> None:
    with pytest.raises(ValueError, match=refusal):
        spec_of(EnvConfig(name="imp", options=options), agents)


def test_copies_keep_the_promised_spec() -> None:
    config = EnvConfig(name="imp", options="kind=correlated,k=4,campaign_cost=false", copies=2)
    copies = make_copies(config, 6, seed=0)
    assert copies.spec == spec_of(config, 6)
    copies.reset()
    *_, steps = (copies.step(np.zeros((2, 6), dtype=np.int64)) for _ in range(30))
    for step in steps:
        assert step.transition.terminated
        assert set(step.transition.metrics) == set(copies.spec.metrics)
        assert step.now.state_S.shape == (copies.spec.state_dim,)
    copies.close()
