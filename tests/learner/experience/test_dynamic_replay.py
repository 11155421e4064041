"""Which episodes the dynamic replay forgets, and when."""

import numpy as np
import pytest
import torch

from configs.schema import GateConfig, LearnerConfig
from learner.comm.unroll import UnrollInput, unroll
from learner.experience.dynamic import forget, policy_distance
from learner.experience.replay import Replay
from learner.learner import Learner
from tests.learner_helpers import (
    DIMENSIONS,
    make_config,
    make_episode,
    make_flat,
    make_spec,
    tensor,
)


def test_distance_is_the_share_of_actions_that_would_be_others_now() -> None:
    q = torch.tensor([[[[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]]])
    actions = torch.tensor([[[1, 1, 0, 1]]])
    living = torch.tensor([[[True, True, False, True]]])
    assert policy_distance(q, actions, living) == pytest.approx(1 / 3)
    assert policy_distance(q, actions, torch.zeros_like(living)) == 0.0


@pytest.mark.parametrize(
    ("held", "least", "left"),
    [
        (40, 1, 36),  # a tenth
        (40, 38, 38),  # never below `least`
        (40, 50, 40),
        (10, 1, 10),  # nor below a tenth of the capacity
        (9, 1, 9),  # there is no tenth
    ],
)
def test_the_oldest_tenth_leaves_unless_too_few_would_stay(
    held: int, least: int, left: int
) -> None:
    replay = Replay(100)
    for number in range(held):
        replay.add(make_episode(number))
    forget(replay, least)
    numbers = [e.number for e in replay.oldest(100).episodes]
    assert numbers == list(range(held - left, held))
    assert replay.size_bytes == sum(e.size_bytes for e in replay.oldest(100).episodes)


def make_learner(bound: float) -> Learner:
    settings = LearnerConfig(
        device="cpu",
        batch_size=4,
        learning_starts=1,
        replay_episodes=50,
        replay_distance=bound,
        replay_check_period=2,
        learning_rate=1e-9,  # the policy is to stay what it is
    )
    spec = make_spec()
    run = make_config(gate=GateConfig(mode="open"), learner=settings)
    return Learner(run, spec, DIMENSIONS, make_flat(spec, gain=1.0))


@pytest.mark.parametrize("own", [False, True])
def test_what_the_policy_would_still_do_is_kept(own: bool) -> None:
    learner = make_learner(bound=0.2)
    for number in range(20):
        learner.add(make_episode(number))
    if own:  # as if the present policy had played them
        for episode in learner.replay.oldest(20).episodes:
            seen = tensor(episode.observations[:, None], np.float32)
            window = UnrollInput(seen, tensor(episode.alive[:, None], np.bool_))
            played = (
                unroll(learner.network, window, learner.algorithm.rule()).q_TBNA[:-1, 0].argmax(-1)
            )
            episode.actions[:] = played.numpy()
    held: list[int] = []
    for _ in range(6):
        learner.update()
        held.append(len(learner.replay))
    # Looked at before updates 3 and 5.
    assert held == ([20] * 6 if own else [20, 20, 18, 18, 17, 17])


def test_nothing_is_forgotten_unless_asked_for() -> None:
    learner = make_learner(bound=0.0)
    for number in range(20):
        learner.add(make_episode(number))
    for _ in range(4):
        learner.update()
    assert len(learner.replay) == 20
