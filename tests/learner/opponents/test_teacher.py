from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from configs.columns import GATES, LOG_PROB
from configs.schema import LearnerConfig
from configs.shipped import idqn_path
from envs.battle.battle import NUM_ACTIONS, OBSERVATION_DIM
from envs.battle.opponents import make_opponent
from learner.learner import Learner
from learner.opponents.teacher import Teacher
from tests.learner_helpers import DIMENSIONS, array, make_config, make_episode, make_flat, make_spec

SHAPE = (3, 2, 5)


def seen() -> torch.Tensor:
    drawn = np.random.default_rng(0).normal(size=(*SHAPE, OBSERVATION_DIM)).astype(np.float32)
    return torch.tensor(drawn)


def test_the_teacher_is_the_opponent_of_the_file() -> None:
    teacher = Teacher("idqn", 0.5, torch.device("cpu"))
    expected = make_opponent("idqn").act(seen().reshape(-1, OBSERVATION_DIM).numpy(), np.zeros(30))
    actions = array(teacher.actions(seen())).ravel()
    assert actions.tolist() == expected.tolist()
    assert len(set(expected.tolist())) > 3


def test_a_position_behind_what_it_knows_does_not_disturb_it() -> None:
    teacher = Teacher("idqn", 0.5, torch.device("cpu"))
    episode = make_episode(5)
    seen_TND = seen()[:, 0].numpy().astype(np.float16)
    placed_TND = np.concatenate((seen_TND, np.ones((*seen_TND.shape[:2], 2), np.float16)), axis=-1)
    plain, placed = (
        teacher.annotated(replace(episode, observations=rows)).columns["example"]
        for rows in (seen_TND, placed_TND)
    )
    np.testing.assert_array_equal(placed, plain)


def test_the_margin_is_what_is_missing_of_it() -> None:
    teacher = Teacher(str(idqn_path()), 0.5, torch.device("cpu"))
    example = teacher.actions(seen())
    wanted = example.unsqueeze(-1)
    level = torch.zeros(*SHAPE, NUM_ACTIONS)
    everybody = torch.ones(SHAPE, dtype=torch.bool)
    assert float(teacher.losses(level, example, everybody).sum()) == pytest.approx(30 * 0.5)
    above = level.scatter(-1, wanted, 0.3)
    assert float(teacher.losses(above, example, everybody).sum()) == pytest.approx(30 * 0.2)
    assert float(teacher.losses(level.scatter(-1, wanted, 0.6), example, everybody).sum()) == 0.0
    nobody_but_one = torch.zeros(SHAPE, dtype=torch.bool)
    nobody_but_one[1, 1, 4] = True
    assert float(teacher.losses(above, example, nobody_but_one).sum()) == pytest.approx(0.2)


def test_its_gradient_lifts_the_wanted_action_and_presses_the_best_other_one() -> None:
    teacher = Teacher("idqn", 0.5, torch.device("cpu"))
    example = teacher.actions(seen())
    wanted = example.unsqueeze(-1)
    q = torch.zeros(*SHAPE, NUM_ACTIONS)
    rival = (wanted + 1) % NUM_ACTIONS
    q.scatter_(-1, rival, 1.0).requires_grad_()
    everybody = torch.ones(SHAPE, dtype=torch.bool)
    torch.autograd.backward(teacher.losses(q, example, everybody).sum())
    assert q.grad is not None
    assert (q.grad.gather(-1, wanted) == -1.0).all()
    assert (q.grad.gather(-1, rival) == 1.0).all()
    assert q.grad.abs().sum() == 60.0


def test_a_teacher_without_a_file_is_refused(tmp_path: Path) -> None:
    for name in ("scripted", str(tmp_path / "absent.safetensors")):
        with pytest.raises(ValueError, match="no opponent with a file"):
            Teacher(name, 0.5, torch.device("cpu"))


@pytest.mark.parametrize(
    ("end", "expected"), [(0.0, [2.0, 1.0, 0.0, 0.0]), (0.5, [2.0, 1.25, 0.5, 0.5])]
)
def test_its_weight_falls_to_nothing_or_to_what_stays(end: float, expected: list[float]) -> None:
    settings = LearnerConfig(teacher_coef=2.0, teacher_coef_end=end, teacher_steps=100)
    config = make_config(learner=settings)
    spec = make_spec()
    learner = Learner(config, spec, DIMENSIONS, make_flat(spec))
    weights: list[float] = []
    for steps in (0, 50, 100, 1000):
        learner.progress.env_steps = steps
        weights.append(learner.schedules.teacher_coef)
    assert weights == expected


def test_episodes_in_the_replay_have_the_actions_that_their_teacher_would_choose() -> None:
    sizes = replace(DIMENSIONS, observation_dim=OBSERVATION_DIM, num_actions=NUM_ACTIONS)
    spec = replace(make_spec(), observation_dim=OBSERVATION_DIM, num_actions=NUM_ACTIONS)
    settings = LearnerConfig(
        device="cpu", batch_size=3, window=4, learning_starts=1, teacher="idqn", teacher_steps=100
    )
    learner = Learner(make_config(learner=settings), spec, sizes, make_flat(spec, gain=1.0))
    rng = np.random.default_rng(3)
    for number in range(3):
        episode = make_episode(number, length=6)
        seen_TND = rng.normal(size=(7, 6, OBSERVATION_DIM)).astype(np.float16)
        learner.add(replace(episode, dimensions=sizes, observations=seen_TND))
    batch = learner.replay.sample(rng, 3, 4)
    teacher = Teacher("idqn", 0.5, torch.device("cpu"))
    expected = teacher.actions(torch.tensor(batch.observations[:-1]).float())
    assert_array_equal(batch.columns["example"], array(expected))
    assert learner.update()["teacher_loss"] > 0.0


def test_a_policy_with_probabilities_learns_what_the_teacher_does_by_its_log_probability() -> None:
    sizes = replace(
        DIMENSIONS,
        observation_dim=OBSERVATION_DIM,
        num_actions=NUM_ACTIONS,
        columns=(GATES, LOG_PROB),
    )
    spec = replace(make_spec(), observation_dim=OBSERVATION_DIM, num_actions=NUM_ACTIONS)
    settings = LearnerConfig(
        device="cpu",
        algorithm="ippo",
        options="episodes=3,epochs=2,minibatches=1",
        teacher="idqn",
        teacher_margin=50.0,
        learning_rate=1e-2,
    )
    level = make_flat(spec, gain=0.0)
    learner = Learner(make_config(comm="none", learner=settings), spec, sizes, level)
    rng = np.random.default_rng(3)
    for number in range(3):
        episode = make_episode(number, length=6)
        seen_TND = rng.normal(size=(7, 6, OBSERVATION_DIM)).astype(np.float16)
        log_prob_TN = np.full(episode.actions.shape, -np.log(NUM_ACTIONS), np.float32)
        learner.add(
            replace(
                episode,
                dimensions=sizes,
                observations=seen_TND,
                columns={**episode.columns, "log_prob": log_prob_TN},
            )
        )
    assert learner.update()["teacher_loss"] == pytest.approx(np.log(NUM_ACTIONS), rel=1e-5)
    assert learner.update()["teacher_loss"] < np.log(NUM_ACTIONS)
