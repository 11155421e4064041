"""A rollout: each episode once an epoch, then forgotten; and a learner that works it off."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from configs.algorithms.base import OnPolicy, Traits
from configs.schema import LearnerConfig
from learner.algorithms import iql
from learner.algorithms.base import Algorithm, Loss, Setup
from learner.experience.episode import Episode
from learner.experience.part import Divisors, Part
from learner.experience.rollout import Rollout
from learner.learner import Learner
from tests.learner_helpers import DIMENSIONS, make_config, make_episode, make_flat, make_spec

TERMS = OnPolicy(episodes=5, epochs=3, minibatches=2)


class Reinforce(Algorithm):
    """The plainest of all on-policy algorithms (Williams, 1992)."""

    traits = Traits(acting="sample", experience=TERMS, fixes_agents=False)

    @classmethod
    def parts(cls, setup: Setup) -> dict[str, nn.Module]:
        return setup.auxiliary()

    def followed(self) -> list[str]:
        return []

    def loss(self, part: Part, divisors: Divisors) -> Loss:
        unrolled = self.unroll(part)
        log_probs = unrolled.q_TBNA[:-1].log_softmax(-1).gather(-1, part.actions.unsqueeze(-1))
        to_go_TBN = part.outcome.rewards_TBN.flip(0).cumsum(0).flip(0)
        gain = (log_probs.squeeze(-1) * to_go_TBN * part.agent_mask_TBN).sum()
        loss = -gain / divisors.agent_steps
        return Loss(loss, {"loss": loss}) + self.policy_terms(unrolled, part, divisors)


def test_each_episode_is_used_once_an_epoch_and_then_forgotten() -> None:
    rollout, rng = Rollout(TERMS), np.random.default_rng(0)
    for number in range(7):
        assert rollout.steps_left == (6 if number >= 5 else 0)
        rollout.add(make_episode(number))
    used: list[list[int]] = []
    for left in range(6, 0, -1):
        assert rollout.steps_left == left
        used.append([episode.number for episode in rollout.choose(rng, 99, 2).episodes])
        rollout.stepped()
    for epoch in range(3):
        first, second = used[2 * epoch : 2 * epoch + 2]
        assert Counter([*first, *second]) == Counter(range(5))
    assert used[:2] != used[2:4]
    assert (len(rollout), rollout.steps_left) == (2, 0), "the others are for the next"
    with pytest.raises(ValueError, match="a rollout has 5 episodes, so far there are 2"):
        rollout.choose(rng, 1)


def test_in_turns_it_is_worked_off_several_times_and_looked_at_before_each() -> None:
    rollout, rng = Rollout(TERMS, turns=3), np.random.default_rng(0)
    seen: list[tuple[int, int, list[int]]] = []

    def in_turn(
        episodes: Sequence[Episode], turn: int, rng: np.random.Generator
    ) -> Sequence[Episode]:
        seen.append((turn, rollout.steps_left, [episode.env_steps for episode in episodes]))
        return [replace(episode, env_steps=turn) for episode in episodes]

    rollout.in_turn = in_turn
    for number in range(6):
        rollout.add(make_episode(number))
    size_bytes = rollout.size_bytes
    for turn in range(3):
        for left in range(6, 0, -1):
            assert rollout.steps_left == (2 - turn) * 6 + left
            used = rollout.choose(rng, 99).episodes
            assert {episode.env_steps for episode in used} == {turn}
            # The next batch is another turn's: it waits for the parameters of this one.
            assert rollout.draws_ahead == (left > 1)
            rollout.stepped()
    turns = [18, 12, 6]
    assert [(turn, left) for turn, left, _ in seen] == list(enumerate(turns))
    assert [steps for _, _, steps in seen[1:]] == [[0] * 5, [1] * 5]
    assert len(rollout) == 1
    assert rollout.size_bytes < size_bytes


def test_what_a_checkpoint_has_counted_is_not_of_the_newest_policy() -> None:
    rollout = Rollout(TERMS)
    rollout.remember(make_episode(1))
    assert len(rollout) == 0


def test_a_learner_works_a_rollout_off_and_publishes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iql, "ALGORITHM", Reinforce)
    spec = make_spec()
    settings = LearnerConfig(device="cpu", algorithm="iql", publish_period=1, learning_rate=1e-2)
    learner = Learner(make_config(learner=settings), spec, DIMENSIONS, make_flat(spec, gain=1.0))
    assert list(learner.target) == []
    before = learner.parameters_flat()
    published: list[bool] = []
    for number in range(12):
        learner.add(make_episode(number))
        while learner.updates_owed:
            assert np.isfinite(learner.update()["loss"])
            published.append(learner.publishes)
    assert published == 2 * [*[False] * 5, True]
    assert learner.progress.gradient_steps == 12
    assert (learner.parameters_flat() != before).any()
    assert len(learner.replay) == 2
