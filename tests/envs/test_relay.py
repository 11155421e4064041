"""Relay: what is seen, when it is paid, how long it lasts."""

import numpy as np
import pytest

from envs.base import Snapshot, Transition
from envs.relay import NUM_COLOURS, Relay
from runtime.net.topology import diameter


def colour_of(snapshot: Snapshot) -> int:
    return int(snapshot.state_S[:NUM_COLOURS].argmax())


def finish(relay: Relay, first: list[int], last: list[int]) -> list[Transition]:
    """Play `first` on every step but the last one."""
    limit = relay.spec.episode_limit
    return [relay.step(np.array(first if t < limit - 1 else last)) for t in range(limit)]


@pytest.mark.parametrize("num_agents", [2, 3, 16, 100, 4096])
def test_an_episode_lasts_the_diameter_and_two_steps(num_agents: int) -> None:
    relay = Relay(num_agents)
    relay.reset(seed=0)
    steps = finish(relay, [0] * num_agents, [0] * num_agents)
    assert len(steps) == diameter(num_agents) + 2
    assert [step.terminated for step in steps] == [False] * (len(steps) - 1) + [True]
    assert not any(step.truncated for step in steps)


def test_only_the_last_step_pays_and_only_those_who_are_right() -> None:
    relay = Relay(4)
    colour = colour_of(relay.reset(seed=0))
    other = (colour + 1) % NUM_COLOURS
    steps = finish(relay, [colour] * 4, [colour, other, colour, other])
    assert not any(step.rewards_N.any() for step in steps[:-1])
    assert steps[-1].rewards_N.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert not any(step.won for step in steps)


def test_all_right_wins() -> None:
    relay = Relay(5)
    colour = colour_of(relay.reset(seed=3))
    steps = finish(relay, [0] * 5, [colour] * 5)
    assert steps[-1].won
    assert not any(step.won for step in steps[:-1])


def test_only_the_source_sees_the_colour_at_every_step() -> None:
    relay = Relay(7)
    first = relay.reset(seed=1)
    limit = relay.spec.episode_limit
    snapshots = [first, *(step.after for step in finish(relay, [0] * 7, [0] * 7))]
    (source,) = np.flatnonzero(first.observations_ND[:, 0])
    for t, snapshot in enumerate(snapshots):
        expected = np.zeros((7, 6))
        expected[source, 0] = expected[source, 1 + colour_of(first)] = 1.0
        expected[:, 5] = np.float16(t / limit)
        np.testing.assert_array_equal(snapshot.observations_ND, expected)
        assert snapshot.alive_N.all()
        assert snapshot.state_S[-1] == pytest.approx(t / limit)


def test_observations_are_rounded_to_float16() -> None:
    relay = Relay(100)
    relay.reset(seed=0)
    seen = relay.step(np.zeros(100, dtype=np.int64)).after.observations_ND
    assert seen.dtype == np.float16
    assert seen[0, -1] == np.float16(1 / relay.spec.episode_limit)


def test_seeds_decide_source_and_colour() -> None:
    relay = Relay(10)
    firsts = [relay.reset(seed) for seed in range(60)]
    assert {int(first.observations_ND[:, 0].argmax()) for first in firsts} == set(range(10))
    assert {colour_of(first) for first in firsts} == set(range(NUM_COLOURS))
    again = Relay(10).reset(17)
    np.testing.assert_array_equal(again.observations_ND, firsts[17].observations_ND)


@pytest.mark.parametrize("num_agents", [1, 4097])
def test_an_impossible_population_is_refused_with_its_range(num_agents: int) -> None:
    with pytest.raises(ValueError, match=f"between 2 and 4096 agents, got {num_agents}"):
        Relay(num_agents)


def test_misuse_is_refused() -> None:
    relay = Relay(2)
    with pytest.raises(AssertionError, match="reset"):
        relay.step(np.array([0, 0]))
    relay.reset(seed=0)
    with pytest.raises(ValueError, match="2 actions"):
        relay.step(np.array([0, 0, 0]))
