"""Training of prey: both teams learn, the file plays what was learnt, and equal seeds agree."""

import json
from pathlib import Path

import numpy as np
import pytest

from envs.adversarial_pursuit.prey import make_prey
from envs.adversarial_pursuit.pursuit import NUM_PREY_ACTIONS, OBSERVATION_DIM
from learner.opponents.prey import GreedyPrey, PreyTraining, layers_to_play, train
from learner.opponents.prey_options import PreyOptions


def options(out: Path, **given: float) -> PreyOptions:
    few = {"agents": 4, "pursuits": 4, "batch_size": 32, "evaluate_pursuits": 1, **given}
    return PreyOptions(out=str(out / "prey.safetensors"), **few)  # type: ignore[arg-type]  # numbers


def test_the_file_of_prey_plays_as_they_did_when_it_was_written(tmp_path: Path) -> None:
    given = options(tmp_path, steps=400, evaluate_steps=400)
    train(given)
    rows = [json.loads(line) for line in (tmp_path / "prey.jsonl").read_text().splitlines()]
    assert [row["env_steps"] for row in rows] == [0, 400]
    assert all(np.isfinite(row["trained/return"]) for row in rows)
    training = PreyTraining(given)
    while training.env_steps < 400:
        training.step()
    seen = np.random.default_rng(0).integers(-1, 2, size=(200, OBSERVATION_DIM))
    seen, uniforms = seen.astype(np.float32), np.zeros(200)
    wanted = GreedyPrey(training.prey).act(seen, uniforms)
    assert len(np.unique(wanted)) > 1
    assert make_prey(given.out).act(seen, uniforms).tolist() == wanted.tolist()


def test_actions_that_prey_do_not_have_are_valued_as_their_first(tmp_path: Path) -> None:
    tensors = layers_to_play(PreyTraining(options(tmp_path)).prey.online)
    for part in ("weight", "bias"):
        values = tensors[f"layer3.{part}"].numpy()
        np.testing.assert_array_equal(values[NUM_PREY_ACTIONS:] - values[0], 0.0)


def test_prey_learn_to_leave_the_cell_in_which_they_are_tagged(tmp_path: Path) -> None:
    training = PreyTraining(options(tmp_path, learning_rate=0.01, gamma=0.5))
    rng = np.random.default_rng(0)
    seen = rng.integers(-1, 2, size=(400, OBSERVATION_DIM)).astype(np.float32)
    actions = np.arange(400) % NUM_PREY_ACTIONS
    # Whoever does anything but the fifth action is tagged.
    rewards = np.where(actions == 5, 0.0, -1.0).astype(np.float32)
    training.prey.remember(seen, actions, rewards, seen)
    for _ in range(150):
        training.prey.update(rng, 0)
    assert (training.prey.act(seen, np.zeros(400), 0.0) == 5).mean() > 0.9


def test_options_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="between 2 and 1024"):
        options(tmp_path, agents=1)
