"""Opponents: the action tables against the engine, and each opponent's behaviour."""

import json
import struct
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save

from configs.arrays import FloatArray, IntArray
from envs.battle.battle import HITS_PAY, NOOP, NUM_ACTIONS, OBSERVATION_DIM, SOLDIER, Battle
from envs.battle.map import Deployment, deploy
from envs.battle.opponents import (
    FIRST_HIT,
    HITS,
    MOVES,
    Opponent,
    PolicyFileOpponent,
    RandomOpponent,
    ScriptedOpponent,
    make_opponent,
)
from envs.magent import OWN_HP, GridWorld

Cell = tuple[int, int]
Tensors = dict[str, NDArray[np.float32]]


def cells(*places: Cell) -> IntArray:
    return np.array(places, dtype=np.int64)


# --- tables ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world() -> GridWorld:
    return GridWorld(map_size=21, kinds=(SOLDIER, SOLDIER), hits=HITS_PAY)


@pytest.mark.parametrize("action", range(FIRST_HIT))
def test_a_move_leads_where_the_table_says(world: GridWorld, action: int) -> None:
    world.reset(0, [cells((10, 10)), cells((2, 2))])
    world.order(0, np.array([action]))
    world.order(1, np.array([NOOP]))
    world.step()
    assert (world.positions(0)[0] - (10, 10)).tolist() == MOVES[action].tolist()


@pytest.mark.parametrize("action", range(FIRST_HIT, NUM_ACTIONS))
def test_a_hit_lands_where_the_table_says(world: GridWorld, action: int) -> None:
    around = [(10 + dx, 10 + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1) if (dx, dy) != (0, 0)]
    world.reset(0, [cells((10, 10)), cells(*around)])
    world.order(0, np.array([action]))
    world.order(1, np.full(8, NOOP))
    world.step()
    health = world.views(1)[:, 3, 3, OWN_HP]
    (hurt,) = np.flatnonzero(health < 1.0)
    assert (np.array(around[hurt]) - (10, 10)).tolist() == HITS[action - FIRST_HIT].tolist()


def test_the_tables_cover_all_actions_once() -> None:
    assert len(MOVES) + len(HITS) == NUM_ACTIONS
    assert len(np.unique(MOVES, axis=0)) == len(MOVES)
    assert len(np.unique(HITS, axis=0)) == len(HITS)
    assert MOVES[NOOP].tolist() == [0, 0]


# --- random ---------------------------------------------------------------------------------------


def test_random_plays_every_action_equally_often() -> None:
    observations = np.zeros((2100, OBSERVATION_DIM), dtype=np.float32)
    actions = RandomOpponent().act(observations, np.arange(2100) / 2100)
    assert np.bincount(actions).tolist() == [100] * NUM_ACTIONS


@pytest.mark.parametrize("opponent", [RandomOpponent(), ScriptedOpponent()])
def test_what_a_row_gets_depends_on_that_row_alone(opponent: Opponent) -> None:
    rng = np.random.default_rng(1)
    # Noise with walls and enemies everywhere, so that the script takes all its branches.
    observations = rng.choice([-1.0, 0.0, 0.0, 0.5], (300, OBSERVATION_DIM)).astype(np.float32)
    uniforms = rng.random(300)
    few = opponent.act(observations[100:200], uniforms[100:200])
    many = opponent.act(observations, uniforms)
    np.testing.assert_array_equal(many[100:200], few)


# --- scripted -------------------------------------------------------------------------------------


def picture(
    own: dict[Cell, float] | None = None, enemies: dict[Cell, float] | None = None
) -> FloatArray:
    """[1, D] an observation with health at these offsets; -1 is a wall."""
    view = np.zeros((7, 14), dtype=np.float32)
    view[3, 3] = 1.0
    for (dx, dy), value in (own or {}).items():
        view[3 + dy, 3 + dx] = value
        if value < 0:
            view[3 + dy, 10 + dx] = value
    for (dx, dy), value in (enemies or {}).items():
        view[3 + dy, 10 + dx] = value
    return view.reshape(1, OBSERVATION_DIM)


def scripted(observation: FloatArray, seed: int = 0) -> int:
    return int(ScriptedOpponent().act(observation, np.random.default_rng(seed).random(1))[0])


@pytest.mark.parametrize("k", range(8))
def test_scripted_hits_an_enemy_in_reach(k: int) -> None:
    dx, dy = HITS[k].tolist()
    assert scripted(picture(enemies={(dx, dy): 0.5, (3, 0): 1.0})) == FIRST_HIT + k


def test_scripted_hits_the_weakest_of_equally_near_enemies() -> None:
    enemies = {(-1, 0): 0.9, (1, 0): 0.3, (0, 1): 0.6}
    assert HITS[scripted(picture(enemies=enemies)) - FIRST_HIT].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("enemy", "move"), [((3, 0), (2, 0)), ((0, -3), (0, -2)), ((-2, 2), (-1, 1)), ((0, 2), (0, 1))]
)
def test_scripted_advances_on_an_enemy_in_view(enemy: Cell, move: Cell) -> None:
    assert tuple(MOVES[scripted(picture(enemies={enemy: 1.0}))].tolist()) == move


def test_scripted_walks_round_a_team_mate() -> None:
    blocked = picture(own={(2, 0): 1.0}, enemies={(3, 0): 1.0})
    assert MOVES[scripted(blocked)].tolist() in ([1, 0], [1, 1], [1, -1])


def test_scripted_walks_left_while_nobody_is_in_view() -> None:
    assert MOVES[scripted(picture())].tolist() == [-2, 0]


@pytest.mark.parametrize(
    ("walls", "move"),
    [
        (["left"], (0, -2)),
        (["left", "up"], (2, 0)),
        (["up"], (2, 0)),
        (["up", "right"], (0, 2)),
        (["right"], (0, 2)),
        (["right", "down"], (-2, 0)),
        (["down"], (-2, 0)),
        (["down", "left"], (0, -2)),
    ],
)
def test_scripted_follows_the_walls_round(walls: list[str], move: Cell) -> None:
    ahead: dict[str, Cell] = {"left": (-1, 0), "up": (0, -1), "right": (1, 0), "down": (0, 1)}
    observation = picture(own={ahead[wall]: -1.0 for wall in walls})
    # Seed 0 does not draw the turn back from the right wall.
    assert tuple(MOVES[scripted(observation)].tolist()) == move


def test_scripted_leaves_the_right_wall_at_random_heights() -> None:
    at_the_wall = np.repeat(picture(own={(1, 0): -1.0}), 1000, axis=0)
    actions = ScriptedOpponent().act(at_the_wall, np.random.default_rng(0).random(1000))
    leaves = (MOVES[actions] == (-2, 0)).all(axis=1).mean()
    assert 0.05 < leaves < 0.15


def fight(battle: Battle, seed: int, red: Literal["random", "idle"]) -> tuple[int, int]:
    """Reds and blues left after an episode of scripted blues."""
    rng = np.random.default_rng(seed)
    battle.reset(seed)
    num_agents = battle.spec.num_agents
    while True:
        seen = battle.opponent_observations()
        blue = ScriptedOpponent().act(seen, rng.random(len(seen)))
        battle.set_opponent_actions(blue)
        idle = np.full(num_agents, NOOP)
        end = battle.step(rng.integers(NUM_ACTIONS, size=num_agents) if red == "random" else idle)
        if end.terminated or end.truncated:
            return int(end.after.alive_N.sum()), len(battle.opponent_observations())


@pytest.mark.parametrize("seed", range(3))
def test_scripted_destroys_random_reds(seed: int) -> None:
    reds, blues = fight(Battle(deploy(20)), seed, red="random")
    assert reds <= 2
    assert blues >= 18


@pytest.mark.parametrize("hidden", [(13, 12), (22, 22), (12, 3)])
def test_scripted_finds_an_enemy_behind_its_back(hidden: Cell) -> None:
    # Blue starts at the left wall, and nobody is there.
    deployment = Deployment(map_size=25, left=cells(hidden), right=cells((1, 12), (1, 13)))
    battle = Battle(deployment, max_cycles=2000)
    assert fight(battle, seed=0, red="idle") == (0, 2)


# --- policy files ---------------------------------------------------------------------------------


def make_tensors(hidden: int = 8) -> Tensors:
    rng = np.random.default_rng(0)
    sizes = [OBSERVATION_DIM, hidden, hidden, NUM_ACTIONS]
    tensors: Tensors = {}
    for i in (1, 2, 3):
        tensors[f"layer{i}.weight"] = rng.normal(size=(sizes[i], sizes[i - 1])).astype(np.float32)
        tensors[f"layer{i}.bias"] = rng.normal(size=sizes[i]).astype(np.float32)
    return tensors


def test_a_policy_file_plays_its_greedy_action(tmp_path: Path) -> None:
    tensors = make_tensors()
    (tmp_path / "policy.safetensors").write_bytes(save(tensors))
    opponent = make_opponent(str(tmp_path / "policy.safetensors"))
    assert isinstance(opponent, PolicyFileOpponent)
    observations = np.random.default_rng(1).normal(size=(50, OBSERVATION_DIM)).astype(np.float32)
    expected: list[int] = []
    for row in observations.astype(np.float64):
        first = np.maximum(tensors["layer1.weight"] @ row + tensors["layer1.bias"], 0.0)
        second = np.maximum(tensors["layer2.weight"] @ first + tensors["layer2.bias"], 0.0)
        values = tensors["layer3.weight"] @ second + tensors["layer3.bias"]
        expected.append(int(values.argmax()))
    actions = opponent.act(observations, np.zeros(50))
    assert actions.tolist() == expected
    assert len(set(expected)) > 3
    assert opponent.act(observations[:0], np.zeros(0)).shape == (0,)


def without(name: str) -> Tensors:
    return {key: value for key, value in make_tensors().items() if key != name}


@pytest.mark.parametrize(
    ("tensors", "complaint"),
    [
        (without("layer2.bias"), r"has no tensor layer2\.bias"),
        ({}, r"has no tensor layer1\.weight, layer1\.bias"),
        (make_tensors() | {"layer3.bias": np.zeros(13, np.float32)}, r"layer3\.bias \[13\]"),
        (make_tensors() | {"layer1.weight": np.zeros((8, 128), np.float32)}, r"\[8, 128\]"),
        (make_tensors() | {"layer2.weight": np.zeros((8, 9), np.float32)}, r"\[8, 9\]"),
        (make_tensors() | {"layer2.weight": np.zeros(8, np.float32)}, r"layer2\.weight \[8\]"),
        (make_tensors() | {"layer1.bias": np.full(8, np.nan, np.float32)}, "not finite"),
    ],
)
def test_a_policy_file_that_does_not_fit_is_refused(
    tmp_path: Path, tensors: Tensors, complaint: str
) -> None:
    path = tmp_path / "odd.safetensors"
    path.write_bytes(save(tensors))
    with pytest.raises(ValueError, match=complaint) as caught:
        make_opponent(str(path))
    assert str(path) in str(caught.value)


def bfloat16_file() -> bytes:
    """A dtype that safetensors knows and numpy does not."""
    header = json.dumps(
        {"layer1.bias": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}
    ).encode()
    return struct.pack("<Q", len(header)) + header + b"\0\0"


@pytest.mark.parametrize("content", [b"", b"not a tensor file", bfloat16_file()])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.safetensors cannot be read"):
        make_opponent(str(path))


def test_an_unknown_opponent_is_refused_with_the_choices(tmp_path: Path) -> None:
    for name in ("scritped", str(tmp_path), str(tmp_path / "absent.safetensors")):
        with pytest.raises(ValueError, match="choose random, scripted, idqn or the path"):
            make_opponent(name)


def test_the_named_opponents_exist() -> None:
    assert isinstance(make_opponent("random"), RandomOpponent)
    assert isinstance(make_opponent("scripted"), ScriptedOpponent)
