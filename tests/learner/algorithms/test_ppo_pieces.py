"""Actors and critics learn from pieces: on policy, and with the right values across cuts."""

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from configs.columns import PRESENT, VALUE
from configs.schema import LearnerConfig
from learner.algorithms.policy_gradient import TARGET, PolicyGradient
from learner.experience.episode import Episode
from learner.learner import Learner
from learner.policy_gradient.critic_memory import CRITIC_MEMORY, CriticMemory
from runtime.run.serial import SerialRun
from tests.learner_helpers import make_config
from tests.piece_run import dimensions_of, make_piece_run, played_pieces
from tests.uneven_env import UnevenEnv

STEPS, ROLLOUTS, COPIES = 5, 5, 3
GAMMA, LAMBDA = 0.9, 0.7


@pytest.fixture(scope="module")
def played() -> tuple[SerialRun, list[Episode]]:
    """A run of SOPS whose gates have noise, and its pieces in the order in which they began."""
    run = make_piece_run([UnevenEnv() for _ in range(COPIES)], STEPS, ROLLOUTS)
    return run, sorted(played_pieces(run), key=lambda piece: piece.number)


def by_rollout(pieces: list[Episode]) -> list[list[Episode]]:
    found: dict[int, list[Episode]] = defaultdict(list)
    for piece in pieces:
        found[piece.piece.rollout].append(piece)
    return [found[number] for number in sorted(found)]


def learner_of(run: SerialRun, algorithm: str, options: str = "", **given: Any) -> Learner:
    options = f"rollout_steps={STEPS},epochs=1,minibatches=1,gae_lambda={LAMBDA}{options}"
    settings = LearnerConfig(
        device="cpu", algorithm=algorithm, options=options, gamma=GAMMA, **given
    )
    spec = run.rules.spec
    config = make_config(learner=settings)
    config = replace(
        config,
        num_agents=run.rules.num_agents,
        env=replace(config.env, copies=COPIES),
        network=replace(config.network, hidden=spec.hidden, message=spec.message),
    )
    return Learner(config, spec, dimensions_of(run), run.parameters.flat)


@pytest.mark.parametrize("algorithm", ["ippo", "mappo", "happo"])
def test_every_rollout_is_on_policy_to_rounding_in_its_first_minibatch(
    played: tuple[SerialRun, list[Episode]], algorithm: str
) -> None:
    run, pieces = played
    assert any(piece.piece.start for piece in pieces)
    for rollout in by_rollout(pieces):
        learner = learner_of(run, algorithm)
        for piece in rollout:
            assert learner.updates_owed == 0
            learner.add(piece)
        assert learner.updates_owed > 0
        metrics = learner.update()
        assert metrics["policy_moved"] < 1e-7
        assert metrics["ratios_clipped"] == 0.0


def test_without_what_agents_remembered_it_would_not_be(
    played: tuple[SerialRun, list[Episode]],
) -> None:
    run, pieces = played
    moved: list[float] = []
    for rollout in by_rollout(pieces)[1:]:
        learner = learner_of(run, "mappo")
        for piece in rollout:
            forgotten = {"carry": np.zeros_like(piece.columns["carry"])}
            learner.add(replace(piece, columns={**piece.columns, **forgotten}))
        moved.append(learner.update()["policy_moved"])
    assert max(moved) > 1e-4


@pytest.mark.parametrize("timeout_is_terminal", [False, True])
@pytest.mark.parametrize("critic", ["mlp", "gru"])
def test_a_cut_has_the_value_of_what_is_seen_behind_it(
    played: tuple[SerialRun, list[Episode]], critic: str, timeout_is_terminal: bool
) -> None:
    run, pieces = played
    learner = learner_of(run, "ippo", f",critic={critic}", timeout_is_terminal=timeout_is_terminal)
    algorithm = learner.algorithm
    assert isinstance(algorithm, PolicyGradient)
    found = [piece for rollout in by_rollout(pieces) for piece in algorithm.prepared(rollout)]
    in_copy: dict[int, list[Episode]] = defaultdict(list)
    for piece in found:
        in_copy[piece.piece.copy].append(piece)
    cuts = 0
    for piece, following in (pair for ordered in in_copy.values() for pair in pairwise(ordered)):
        if not piece.piece.goes_on:
            continue
        cuts += 1
        values_TN, targets_TN = piece.columns[VALUE.name], piece.columns[TARGET.name]
        # A GRU remembers the episode: the value of a moment is the same on both sides of the cut.
        beyond_N = following.columns[VALUE.name][0] * piece.alive[-1]
        later_N = np.zeros_like(beyond_N)
        for t in range(piece.length - 1, -1, -1):
            next_N = beyond_N if t == piece.length - 1 else values_TN[t + 1] * piece.alive[t + 1]
            delta_N = piece.rewards[t] + GAMMA * next_N - values_TN[t]
            later_N = delta_N + GAMMA * LAMBDA * piece.alive[t + 1] * later_N
            lives_N = piece.alive[t]
            assert_allclose((targets_TN - values_TN)[t][lives_N], later_N[lives_N], atol=1e-5)
    assert cuts > 4


@pytest.mark.parametrize("timeout_is_terminal", [False, True])
def test_a_time_out_within_a_rollout_has_a_value_and_an_end_has_none(
    played: tuple[SerialRun, list[Episode]], timeout_is_terminal: bool
) -> None:
    run, pieces = played
    learner = learner_of(run, "mappo", timeout_is_terminal=timeout_is_terminal)
    algorithm = learner.algorithm
    assert isinstance(algorithm, PolicyGradient)
    over = [piece for piece in pieces if not piece.piece.goes_on]
    kinds: set[bool] = set()
    for piece in over:
        ((part, _),) = algorithm.parts_of([piece])
        beyond_N = algorithm.values(part)[-1, 0].detach().numpy()
        (prepared,) = algorithm.prepared([piece])
        last_N = prepared.columns[TARGET.name][-1]
        counts = not (piece.terminated or timeout_is_terminal)
        expected_N = piece.rewards[-1] + GAMMA * counts * beyond_N * piece.alive[-1]
        lives_N = piece.alive[-2]
        assert_allclose(last_N[lives_N], expected_N[lives_N], atol=1e-5)
        kinds.add(piece.terminated)
    assert kinds == {False, True}


def test_a_critic_remembers_nothing_of_an_episode_of_which_a_piece_is_lost(
    played: tuple[SerialRun, list[Episode]],
) -> None:
    _, pieces = played
    memory = CriticMemory(hidden=2)
    first = next(p for p in pieces if p.piece.goes_on and p.piece.start == 0)
    state_NH = np.ones((6, 2), dtype=np.float32)
    memory.end(first, state_NH)
    where, name = first.piece, CRITIC_MEMORY.name

    def remembered(start: int, copy: int) -> np.ndarray:
        piece = np.tile(np.array([9, copy, start, 1], dtype=np.uint32), (1, 6, 1))
        other = replace(first, columns={**first.columns, "piece": piece})
        return memory.begin([other])[0].columns[name][0]

    assert_array_equal(remembered(first.length, where.copy), state_NH)
    assert not remembered(first.length, where.copy + 1).any(), "of another copy"
    assert not remembered(first.length + STEPS, where.copy).any(), "a piece is missing"
    assert not remembered(0, where.copy).any(), "an episode begins"
    assert first.columns[PRESENT.name].shape == (1, 6)
