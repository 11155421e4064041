"""The trainer of opponents: transitions, reflections, and that it learns what it can."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load

from envs.battle.battle import NUM_ACTIONS, OBSERVATION_DIM
from envs.battle.mirror import LEFT_RIGHT_A, UP_DOWN_A, reflect
from envs.battle.opponents import PolicyFileOpponent, RandomOpponent
from learner.initialisation import initialise_linear_layers
from learner.opponent import main
from learner.opponents.selfplay import (
    GreedyLayers,
    Layers,
    TeamMemory,
    TransitionReplay,
    contest,
    save_layers,
)


def rows(*values: float) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """[L, D] observations that can be told apart."""
    return np.repeat(np.array(values, dtype=np.float32)[:, None], OBSERVATION_DIM, axis=1)


def make_layers() -> Layers:
    layers = Layers(16)
    initialise_linear_layers(layers, torch.Generator().manual_seed(0))
    return layers


def test_rewards_of_n_steps_are_summed_and_the_dead_have_nothing_beyond() -> None:
    replay = TransitionReplay(10)
    memory = TeamMemory(3, n_step=2, gamma=0.5)
    everybody = np.arange(3)
    memory.push(everybody, rows(1, 2, 3), np.array([4, 5, 6]), np.array([1.0, 2.0, 3.0]))
    memory.pop_into(replay, np.array([0, 2]), rows(11, 13), over=False)
    assert replay.count == 0
    memory.push(np.array([0, 2]), rows(11, 13), np.array([7, 8]), np.array([10.0, 30.0]))
    memory.pop_into(replay, np.array([2]), rows(23), over=False)
    assert replay.count == 3
    stored = replay.stored()
    assert stored.observations[:, 0].tolist() == [1, 2, 3]
    assert stored.actions.tolist() == [4, 5, 6]
    assert stored.returns.tolist() == [1 + 5, 2, 3 + 15]
    assert stored.discounts.tolist() == [0.0, 0.0, 0.25]
    assert stored.later[2, 0] == 23


@pytest.mark.parametrize("decided", [True, False])
def test_an_ending_stores_what_is_left(decided: bool) -> None:
    replay = TransitionReplay(10)
    memory = TeamMemory(1, n_step=3, gamma=0.5)
    memory.push(np.array([0]), rows(1), np.array([0]), np.array([1.0]))
    memory.push(np.array([0]), rows(2), np.array([0]), np.array([2.0]))
    left = np.zeros(0, np.int64) if decided else np.array([0])
    memory.pop_into(replay, left, rows() if decided else rows(3), over=True)
    stored = replay.stored()
    assert stored.returns.tolist() == [2.0, 2.0]
    assert stored.discounts.tolist() == ([0.0, 0.0] if decided else [0.25, 0.5])


def test_the_replay_keeps_the_newest() -> None:
    replay = TransitionReplay(3)
    for value in range(5):
        one = np.ones(1, np.float32)
        replay.add(rows(value), np.array([value]), one, rows(0), one)
    assert sorted(replay.stored().actions.tolist()) == [2, 3, 4]


def test_a_sample_holds_all_four_reflections() -> None:
    replay = TransitionReplay(1)
    rng = np.random.default_rng(0)
    seen = rng.integers(0, 9, (1, OBSERVATION_DIM)).astype(np.float32)
    replay.add(seen, np.array([1]), np.ones(1, np.float32), 2 * seen, np.ones(1, np.float32))
    observations, actions, _, later, _ = replay.sample(rng, 4)
    np.testing.assert_array_equal(later, 2 * observations)
    for row, (left_right, up_down) in enumerate(
        [(False, False), (True, False), (False, True), (True, True)]
    ):
        expected = reflect(seen, left_right=left_right, up_down=up_down)
        np.testing.assert_array_equal(observations[row], expected[0])
    left_right, up_down = int(LEFT_RIGHT_A[1]), int(UP_DOWN_A[1])
    assert actions.tolist() == [1, left_right, up_down, int(UP_DOWN_A[left_right])]


def test_the_file_plays_what_was_trained(tmp_path: Path) -> None:
    layers = make_layers()
    save_layers(layers, tmp_path / "opponent.safetensors", {"seed": "0"})
    seen = np.random.default_rng(0).normal(size=(200, OBSERVATION_DIM)).astype(np.float32)
    expected = GreedyLayers(layers).act(seen, np.zeros(200))
    played = PolicyFileOpponent(tmp_path / "opponent.safetensors").act(seen, np.zeros(200))
    np.testing.assert_array_equal(played, expected)
    assert len(set(expected.tolist())) > 3


def test_exploring_rows_are_those_below_epsilon() -> None:
    player = GreedyLayers(make_layers(), epsilon=0.5)
    seen = np.zeros((1000, OBSERVATION_DIM), dtype=np.float32)
    actions = player.act(seen, np.linspace(0.0, 1.0, 1000, endpoint=False))
    assert set(actions[:500].tolist()) == set(range(NUM_ACTIONS))
    assert len(set(actions[500:].tolist())) == 1


@pytest.mark.timeout(120)
def test_a_short_training_writes_file_and_curve_and_repeats_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--steps", "300", "--agents", "6", "--battles", "4", "--batch-size", "32"]
    command += ["--evaluate-steps", "150", "--evaluate-battles", "1", "--snapshot-steps", "100"]
    written: list[dict[str, np.ndarray[Any, np.dtype[np.float32]]]] = []
    for name in ("a", "b"):
        assert main([*command, "--out", str(tmp_path / f"{name}.safetensors")]) == 0
        written.append(load((tmp_path / f"{name}.safetensors").read_bytes()))
    for name, tensor in written[0].items():
        np.testing.assert_array_equal(tensor, written[1][name])
    curve = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["env_steps"] for row in curve] == [0, 152, 300]
    assert curve[-1]["updates"] > 0
    assert '"scripted/wins_left"' in capsys.readouterr().out
    player = PolicyFileOpponent(tmp_path / "a.safetensors")
    wins, losses, _ = contest(player, RandomOpponent(), agents=6, battles=2, seed=0)
    assert 0.0 <= wins + losses <= 1.0


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--steps", "0"], "steps must be between 1 and 10^12, got 0"),
        (["--scripted", "0.9", "--past", "0.2"], "must not exceed 1"),
        (["--agents", "3"], "between 4 and"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    option: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*option, "--out", str(tmp_path / "x.safetensors")])
    assert exit_.value.code not in (0, None)
    assert message in capsys.readouterr().err
