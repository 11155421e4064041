"""A rollout: each episode once an epoch, then forgotten; and a learner that works it off."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from configs.algorithms.base import OnPolicy, Traits
from configs.columns import PIECE
from configs.schema import LearnerConfig
from learner.algorithms import iql
from learner.algorithms.base import Algorithm, Loss, Setup
from learner.experience.episode import Episode
from learner.experience.part import Divisors, Part
from learner.experience.rollout import Rollout
from learner.intake import Intake
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


# --- rollouts of fixed length ---------------------------------------------------------------------

FIXED = OnPolicy(episodes=1, epochs=2, minibatches=2, steps=6)
COPIES = 3


def make_piece(
    number: int, rollout: int, copy: int, length: int, *, start: int = 0, version: int = 1
) -> Episode:
    episode = make_episode(number, length=length)
    piece = np.array([rollout, copy, start, True], dtype=np.uint32)
    versions_N = np.full(6, version, dtype=np.uint32)
    found = episode.with_column(PIECE, np.tile(piece, (1, 6, 1)))
    return replace(found, first_versions=versions_N, last_versions=versions_N)


def rollout_of(number: int, first: int, **given: int) -> list[Episode]:
    """Three copies; the first one's steps are two pieces. They come in another order."""
    lengths = [(0, 4), (1, 6), (2, 6), (0, 2)]
    pieces = [
        make_piece(first + k, number, copy, length, **given)
        for k, (copy, length) in enumerate(lengths)
    ]
    return [pieces[k] for k in (3, 1, 0, 2)]


def test_a_rollout_of_fixed_length_is_full_when_all_steps_of_all_copies_are_here() -> None:
    rollout, rng = Rollout(FIXED, copies=COPIES), np.random.default_rng(0)
    for piece in rollout_of(5, first=5):
        assert (rollout.steps_left, rollout.owed) == (0, 0)
        with pytest.raises(ValueError, match="a rollout has 18 steps"):
            rollout.choose(rng, 1)
        rollout.add(piece)
    assert (rollout.steps_left, rollout.owed) == (4, 1)


def test_every_step_is_used_once_an_epoch_and_a_copy_is_never_divided() -> None:
    rollout, rng = Rollout(FIXED, copies=COPIES), np.random.default_rng(0)
    for piece in rollout_of(5, first=5):
        rollout.add(piece)
    used: list[list[int]] = []
    while rollout.steps_left:
        episodes = rollout.choose(rng, 1).episodes
        used.append([episode.number for episode in episodes])
        assert (5 in used[-1]) == (8 in used[-1]), "both are of the first copy"
        assert not rollout.ends
        rollout.stepped()
    assert rollout.ends
    for first, second in (used[:2], used[2:]):
        assert Counter([*first, *second]) == Counter(range(5, 9))
    assert (len(rollout), rollout.size_bytes, rollout.done) == (0, 0, 5)


def test_what_comes_while_a_rollout_is_worked_off_waits_and_each_ends_by_itself() -> None:
    rollout, rng = Rollout(FIXED, copies=COPIES), np.random.default_rng(0)
    for piece in rollout_of(5, first=5):
        rollout.add(piece)
    rollout.choose(rng, 1)
    for piece in rollout_of(9, first=9, version=2):
        rollout.add(piece)
    assert rollout.owed == 2
    ends: list[bool] = []
    versions = [rollout.policy_version]
    rollout.stepped()
    while rollout.steps_left:
        numbers = {episode.piece.rollout for episode in rollout.choose(rng, 1).episodes}
        assert numbers == ({5} if len(ends) < 3 else {9})
        versions.append(rollout.policy_version)
        rollout.stepped()
        ends.append(rollout.ends)
    assert ends == [False, False, True, False, False, False, True]
    assert versions == 4 * [1] + 4 * [2]


def test_a_rollout_goes_without_pieces_that_are_lost() -> None:
    rollout, rng = Rollout(FIXED, copies=COPIES), np.random.default_rng(0)
    late, *others = rollout_of(5, first=5)
    for piece in others:
        rollout.add(piece)
    assert rollout.steps_left == 0
    rollout.lost(late.piece, late.length)
    assert rollout.steps_left == 4
    assert {e.number for _ in range(2) for e in rollout.choose(rng, 1).episodes} == {5, 6, 7}


def test_with_one_copy_left_there_is_one_minibatch() -> None:
    rollout, rng = Rollout(FIXED, copies=COPIES), np.random.default_rng(0)
    rollout.add(make_piece(5, 5, 1, 6))
    for copy in (0, 2):
        rollout.lost(make_piece(9, 5, copy, 6).piece, 6)
    steps = 0
    while rollout.steps_left:
        assert [e.number for e in rollout.choose(rng, 1).episodes] == [5]
        rollout.stepped()
        steps += 1
    assert steps == FIXED.epochs


def test_what_is_left_of_a_rollout_goes_when_a_newer_one_is_full() -> None:
    rollout, rng = Rollout(FIXED, copies=COPIES), np.random.default_rng(0)
    for piece in rollout_of(5, first=5)[:2]:
        rollout.add(piece)
    for piece in rollout_of(9, first=9):
        rollout.add(piece)
    assert rollout.owed == 1
    assert {e.piece.rollout for e in rollout.choose(rng, 1).episodes} == {9}
    assert len(rollout) == 4


def test_of_a_rollout_that_was_not_worked_off_pieces_are_taken_up_again() -> None:
    rollout = Rollout(FIXED, copies=COPIES)
    rollout.done = 5
    for number in (5, 9):
        for piece in rollout_of(number, first=number):
            rollout.remember(piece)
    assert {e.piece.rollout for e in rollout.oldest(99).episodes} == {9}
    assert rollout.steps_left == 4


def test_a_resumed_learner_on_policy_does_not_wait_for_a_replay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(iql, "ALGORITHM", Reinforce)
    spec = make_spec()
    settings = LearnerConfig(device="cpu", algorithm="iql", learning_starts=64)
    learner = Learner(make_config(learner=settings), spec, DIMENSIONS, make_flat(spec))
    learner.progress.episodes = 100
    Intake(learner, settings, DIMENSIONS, tmp_path, lambda part: None, resume=True)
    assert "learning_starts" not in caplog.text
