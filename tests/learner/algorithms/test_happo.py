"""HAPPO: its factor by hand, whose turn changes what, and in which order turns come."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from torch import Tensor

from configs.columns import LOG_PROB
from configs.schema import LearnerConfig
from learner.algorithms.happo import FACTOR, Happo, compound
from learner.algorithms.policy_gradient import ADVANTAGE
from learner.experience.episode import Episode
from learner.experience.part import Divisors
from learner.learner import Learner
from learner.network import PolicyNetwork
from tests.learner_helpers import (
    DIMENSIONS,
    make_config,
    make_episode,
    make_flat,
    make_spec,
)

AGENTS = DIMENSIONS.num_agents
OPTIONS = "episodes=2,epochs=2,minibatches=1"
RATIOS = np.array([1.6, 0.8, 0.8, 0.8])
"""Ratios where four actions had 1/4 each, and the first now has 2/5 and the others 1/5."""
LIFETIMES = (6, 2, 6, 0, 6, 6)
"""Moments; agent 1 plays two steps, agent 3 none."""


def make_learner(options: str = OPTIONS, **given: Any) -> Learner:
    """A learner whose agents say nothing to each other."""
    spec = make_spec()
    settings = LearnerConfig(device="cpu", algorithm="happo", options=options, **given)
    config = make_config(comm="none", learner=settings)
    return Learner(config, spec, DIMENSIONS, make_flat(spec, gain=1.0))


def recorded(number: int) -> Episode:
    """An episode in which each action had the same chance."""
    episode = make_episode(number, lifetimes=LIFETIMES if number else None)
    chances = np.full(episode.actions.shape, np.log(0.25), dtype=np.float32)
    return episode.with_column(LOG_PROB, chances)


def prefer_the_first_action(network: PolicyNetwork) -> None:
    with torch.no_grad():
        network.q_out.weight.zero_()
        network.q_out.bias.copy_(torch.tensor([2.0, 1.0, 1.0, 1.0]).log())


def happo_of(learner: Learner) -> Happo:
    assert isinstance(learner.algorithm, Happo)
    return learner.algorithm


def agent_of(episodes: list[Episode]) -> int:
    """Whose turn it is; -1 is the critic's."""
    agents = {int(n) for e in episodes for n in np.flatnonzero(e.columns[FACTOR.name].any(axis=0))}
    assert len(agents) <= 1
    return agents.pop() if agents else -1


def test_the_factor_is_the_product_of_the_ratios_of_those_before() -> None:
    ratios = torch.tensor([[[1.5, 0.5, 2.0]], [[1.25, 1.0, 0.8]]])
    assert_allclose(compound(ratios.log(), []), [[1.0], [1.0]])
    assert_allclose(compound(ratios.log(), [2]), [[2.0], [0.8]], rtol=1e-6)
    assert_allclose(compound(ratios.log(), [2, 0]), [[3.0], [1.0]], rtol=1e-6)
    assert torch.isfinite(compound(torch.full((1, 1, 2), 1e4), [0, 1])).all()


def test_each_agent_learns_with_the_factor_of_those_before_it_by_hand() -> None:
    learner = make_learner()
    algorithm, rng = happo_of(learner), np.random.default_rng(3)
    episodes = algorithm.prepared([recorded(0), recorded(1)])
    prefer_the_first_action(learner.network)
    order: list[int] = []
    by_hand_T = np.ones(0)
    for turn in range(AGENTS):
        episodes = algorithm.in_turn(episodes, turn, rng)
        agent = agent_of(episodes)
        for episode in episodes:
            by_hand_T = np.ones(episode.length)
            for step in range(episode.length):
                for earlier in order:
                    if episode.alive[step, earlier]:
                        by_hand_T[step] *= RATIOS[episode.actions[step, earlier]]
            assert_allclose(episode.columns[FACTOR.name][:, agent], by_hand_T, rtol=1e-5)
        order.append(agent)
    assert sorted(order) == list(range(AGENTS))
    assert agent_of(algorithm.in_turn(episodes, AGENTS, rng)) == -1
    # 1.6 × 0.8, say: the numbers above are not all one.
    assert by_hand_T.std() > 0.1


def test_turns_come_in_another_order_in_each_rollout_and_in_the_same_for_a_seed() -> None:
    def orders(seed: int) -> list[list[int]]:
        algorithm, rng = happo_of(make_learner()), np.random.default_rng(seed)
        episodes = [recorded(0)]
        return [
            [agent_of(algorithm.in_turn(episodes, turn, rng)) for turn in range(AGENTS + 1)]
            for _ in range(3)
        ]

    first, second, third = orders(0)
    assert first != second != third
    assert orders(0) == [first, second, third]
    assert first[-1] == -1


def test_an_agents_turn_changes_the_policy_and_the_last_turn_the_critic() -> None:
    learner = make_learner(learning_rate=1e-2)
    for number in range(2):
        learner.add(recorded(number))
    assert learner.updates_owed == 2 * (AGENTS + 1)

    def numbers(part: str) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in learner.online[part].parameters()]

    def change(part: str, before: list[Tensor]) -> float:
        return sum(float((a - b).abs().sum()) for a, b in zip(numbers(part), before, strict=True))

    published: list[bool] = []
    for turn in range(AGENTS + 1):
        for _ in range(2):
            policy, critic = numbers("policy"), numbers("critic")
            metrics = learner.update()
            assert metrics.keys() >= {"loss", "policy_loss", "value_loss", "entropy"}
            assert (change("policy", policy) > 0.0) == (turn < AGENTS)
            assert (change("critic", critic) > 0.0) == (turn == AGENTS)
            published.append(learner.publishes)
    assert published == [*[False] * (2 * AGENTS + 1), True]
    assert len(learner.replay) == 0


def test_in_its_turn_only_an_agents_own_steps_count() -> None:
    learner = make_learner()
    algorithm, rng = happo_of(learner), np.random.default_rng(0)
    (episode,) = algorithm.in_turn(algorithm.prepared([recorded(0)]), 0, rng)
    own_N = np.arange(AGENTS) == agent_of([episode])

    def policy_loss(changed_N: NDArray[np.bool_]) -> float:
        advantages_TN = episode.columns[ADVANTAGE.name] + 3.0 * changed_N.astype(np.float32)
        ((part, _),) = algorithm.parts_of([episode.with_column(ADVANTAGE, advantages_TN)])
        learns = part.learns_TB.sum()
        loss = algorithm.loss(part, Divisors(learns, learns * AGENTS))
        return loss.sums["policy_loss"].item()

    assert policy_loss(~own_N) == policy_loss(own_N & False)
    assert abs(policy_loss(own_N) - policy_loss(~own_N)) > 1.0


def test_the_loss_of_a_turn_is_the_clipped_one_times_the_factor() -> None:
    learner = make_learner(f"{OPTIONS},clip=0.5,entropy=0")
    algorithm, rng = happo_of(learner), np.random.default_rng(0)
    episodes = algorithm.prepared([recorded(1)])
    prefer_the_first_action(learner.network)
    order: list[int] = []
    for turn in range(3):
        episodes = algorithm.in_turn(episodes, turn, rng)
        order.append(agent_of(episodes))
    ((part, _),) = algorithm.parts_of(episodes)
    learns = part.learns_TB.sum()
    found = algorithm.loss(part, Divisors(learns, learns * AGENTS)).sums["policy_loss"].item()
    (episode,) = episodes
    first, second, agent = order
    total = 0.0
    for step in range(episode.length):
        ratios_N = np.where(episode.alive[step], RATIOS[episode.actions[step]], 1.0)
        gain = ratios_N[first] * ratios_N[second] * episode.columns[ADVANTAGE.name][step, agent]
        if episode.alive[step, agent]:
            total -= min(ratios_N[agent] * gain, np.clip(ratios_N[agent], 0.5, 1.5) * gain)
    assert found == pytest.approx(total / episode.length, rel=1e-5)
