"""AdversarialPursuit: sizes, rewards, observations, state, order and seeds."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from configs.arrays import IntArray
from envs.adversarial_pursuit.habitat import Habitat, settle
from envs.adversarial_pursuit.prey import PREY_MOVES, RandomPrey, ScriptedPrey, make_prey
from envs.adversarial_pursuit.pursuit import (
    MINIMAP,
    NOOP,
    NUM_ACTIONS,
    NUM_PREY_ACTIONS,
    OBSERVATION_DIM,
    PREDATOR,
    PREDATORS,
    PREY,
    PREY_KIND,
    PREY_NOOP,
    PREY_VIEW,
    TAGS_PAY,
    VIEW,
    Pursuit,
)
from envs.base import Transition
from envs.battle.opponents import Opponent
from envs.magent import GridWorld

MOVES = np.array([(0, -1), (-1, 0), (0, 0), (1, 0), (0, 1)])
"""dx and dy of a predator's actions 0 to 4."""
TAGS = np.array([(0, -1), (1, -1), (-1, 0), (2, 0), (-1, 1), (2, 1), (0, 2), (1, 2)])
"""dx and dy, from the corner of the body, of the cell that actions 5 to 12 tag."""


def play(pursuit: Pursuit, prey: Opponent, rng: np.random.Generator) -> Transition:
    """One step of random predators."""
    seen = pursuit.opponent_observations()
    pursuit.set_opponent_actions(prey.act(seen, rng.random(len(seen))))
    return pursuit.step(rng.integers(NUM_ACTIONS, size=pursuit.spec.num_agents))


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predators", "map_size", "prey"),
    [
        *[(25, 45, 50), (31, 50, 62), (37, 55, 75), (45, 60, 90), (52, 65, 105), (61, 70, 122)],
        (101, 90, 202),
    ],
)
def test_the_papers_numbers_of_predators_get_the_papers_maps(
    predators: int, map_size: int, prey: int
) -> None:
    # MAgent2 counts with floats; so do the papers' sizes.
    assert int(map_size * map_size * 0.0125) == predators
    assert settle(predators) == Habitat(
        map_size=map_size,
        predators=predators,
        prey=prey,
        walls=int(map_size * map_size * 0.03),
    )


@pytest.mark.parametrize("predators", [1, 1025])
def test_other_numbers_are_refused(predators: int) -> None:
    with pytest.raises(ValueError, match="between 2 and 1024 agents"):
        settle(predators)


# --- tables and rewards, on the engine ------------------------------------------------------------


@pytest.fixture(scope="module")
def world() -> GridWorld:
    return GridWorld(map_size=21, kinds=(PREDATOR, PREY_KIND), hits=TAGS_PAY)


@pytest.mark.parametrize("action", range(len(MOVES)))
def test_a_predators_move_leads_where_the_table_says(world: GridWorld, action: int) -> None:
    world.reset(0, [np.array([[10, 10]]), np.array([[2, 2]])])
    world.order(PREDATORS, np.array([action]))
    world.step()
    assert (world.positions(PREDATORS)[0] - 10).tolist() == MOVES[action].tolist()
    assert world.rewards(PREDATORS).tolist() == [0.0]
    assert MOVES[NOOP].tolist() == [0, 0]


@pytest.mark.parametrize("action", range(NUM_PREY_ACTIONS))
def test_a_preys_move_leads_where_the_table_says(world: GridWorld, action: int) -> None:
    world.reset(0, [np.array([[10, 10]]), np.array([[5, 5]])])
    world.order(PREY, np.array([action]))
    world.step()
    assert (world.positions(PREY)[0] - 5).tolist() == PREY_MOVES[action].tolist()
    assert PREY_MOVES[PREY_NOOP].tolist() == [0, 0]


@pytest.mark.parametrize("action", range(len(MOVES), NUM_ACTIONS))
def test_a_tag_pays_its_predator_costs_its_prey_and_hurts_nobody(
    world: GridWorld, action: int
) -> None:
    around = np.array(
        [
            (x, y)
            for x in range(8, 14)
            for y in range(8, 14)
            if x not in (10, 11) or y not in (10, 11)
        ]
    )
    world.reset(0, [np.array([[10, 10]]), around])
    for _ in range(20):
        world.order(PREDATORS, np.array([action]))
        world.step()
        np.testing.assert_allclose(world.rewards(PREDATORS), [0.8], rtol=1e-6)
        (tagged,) = np.nonzero(world.rewards(PREY))
        assert (around[tagged] - 10).tolist() == [TAGS[action - len(MOVES)].tolist()]
        assert world.rewards(PREY)[tagged].tolist() == [-1.0]
        assert world.survivors(PREY).all()
        world.bury()


def test_a_tag_of_nothing_costs_a_fifth() -> None:
    pursuit = Pursuit(Habitat(map_size=21, predators=2, prey=1, walls=0))
    before = pursuit.reset(seed=1)
    assert not (before.observations_ND.reshape(2, VIEW, 2, VIEW)[0, :, 1] > 0).any(), "no prey"
    np.testing.assert_allclose(pursuit.step(np.array([5, NOOP])).rewards_N, [-0.2, 0.0], rtol=1e-6)
    # What was earned before is not paid again.
    assert pursuit.step(np.array([NOOP, NOOP])).rewards_N.tolist() == [0.0, 0.0]


# --- observations and state -----------------------------------------------------------------------


def test_predators_and_prey_see_bodies_and_walls_row_by_row(world: GridWorld) -> None:
    pursuit = Pursuit(Habitat(map_size=21, predators=2, prey=2, walls=0))
    pursuit.reset(seed=0)
    # The same engine with everybody at known places: a prey right of a predator, both near a wall.
    inner = pursuit._world  # pyright: ignore[reportPrivateUsage]  # places are drawn, save here
    inner.reset(0, [np.array([[2, 10], [15, 15]]), np.array([[5, 10], [18, 4]])])
    snapshot = pursuit._snapshot()  # pyright: ignore[reportPrivateUsage]  # as above
    seen = snapshot.observations_ND.reshape(2, VIEW, 2, VIEW)
    own = np.zeros((VIEW, VIEW))
    own[3:5, 3:5] = 1
    # The wall at x = 0 is two cells left of the body, in view where the circle reaches it.
    walls = np.zeros((VIEW, VIEW))
    walls[:, 1] = seen[0, :, 0, 1] < 0
    assert walls[2:6, 1].all()
    np.testing.assert_array_equal(seen[0, :, 0], own - walls)
    prey = np.zeros((VIEW, VIEW))
    prey[3, 6] = 1
    np.testing.assert_array_equal(seen[0, :, 1], prey - walls)

    of_prey = pursuit.opponent_observations()
    assert of_prey.shape == (2, OBSERVATION_DIM)
    seen = of_prey.reshape(2, VIEW, 2, VIEW)
    assert not seen[:, PREY_VIEW:].any()
    assert not seen[..., PREY_VIEW:].any()
    itself = np.zeros((PREY_VIEW, PREY_VIEW))
    itself[3, 3] = 1
    np.testing.assert_array_equal(seen[0, :PREY_VIEW, 0, :PREY_VIEW], itself)
    # The predator's right column is two cells to the left of the prey.
    predator = np.zeros((PREY_VIEW, PREY_VIEW))
    predator[3:5, 0:2] = 1
    predator[4, 0] = 0  # beyond the circle
    np.testing.assert_array_equal(seen[0, :PREY_VIEW, 1, :PREY_VIEW], predator)


def test_the_state_is_where_both_teams_are_whatever_a_single_agent_sees() -> None:
    pursuit = Pursuit(Habitat(map_size=2 * MINIMAP, predators=2, prey=4, walls=0))
    snapshot = pursuit.reset(seed=3)
    world = pursuit._world  # pyright: ignore[reportPrivateUsage]  # where everybody is
    maps = np.zeros((MINIMAP, 2, MINIMAP))
    for team, size in ((PREDATORS, 2), (PREY, 4)):
        for x, y in world.positions(team):
            maps[y // 2, team, x // 2] += 1 / size
    np.testing.assert_allclose(snapshot.state_S, maps.ravel(), rtol=1e-6)
    assert snapshot.state_S.sum() == pytest.approx(2.0)


# --- episodes -------------------------------------------------------------------------------------


def test_an_episode_lasts_to_its_limit_with_everybody_alive() -> None:
    pursuit = Pursuit(settle(9), max_cycles=30)
    pursuit.reset(seed=1)
    rng = np.random.default_rng(0)
    steps = [play(pursuit, RandomPrey(), rng) for _ in range(30)]
    assert [step.truncated for step in steps] == [False] * 29 + [True]
    assert not any(step.terminated or step.won for step in steps)
    assert all(step.after.alive_N.all() for step in steps)
    tags = sum(int((step.rewards_N > 0).sum()) for step in steps)
    assert tags > 0
    assert [step.metrics for step in steps] == [{}] * 29 + [{"tags": tags}]


def test_equal_seeds_give_equal_episodes_and_others_another_map() -> None:
    def episode(seed: int) -> list[bytes]:
        pursuit = Pursuit(settle(25))
        told = [pursuit.reset(seed).observations_ND.tobytes()]
        rng = np.random.default_rng(7)
        for _ in range(40):
            transition = play(pursuit, ScriptedPrey(), rng)
            told += [transition.after.state_S.tobytes(), transition.rewards_N.tobytes()]
        return told

    assert episode(11) == episode(11)
    assert episode(11)[0] != episode(12)[0]


def test_every_action_reaches_the_predator_and_the_prey_it_is_meant_for() -> None:
    pursuit = Pursuit(Habitat(map_size=60, predators=6, prey=8, walls=0))
    world = pursuit._world  # pyright: ignore[reportPrivateUsage]  # where everybody is
    rng = np.random.default_rng(2)
    moved = 0
    pursuit.reset(seed=5)
    for _ in range(50):
        predators, prey = rng.integers(len(MOVES), size=6), rng.integers(NUM_PREY_ACTIONS, size=8)
        before = [world.positions(team) for team in (PREDATORS, PREY)]
        pursuit.set_opponent_actions(prey)
        pursuit.step(predators)
        for team, wanted in ((PREDATORS, MOVES[predators]), (PREY, PREY_MOVES[prey])):
            gone = world.positions(team) - before[team]
            went = (gone == wanted).all(axis=1)
            # Who is in somebody's way stays where they are.
            assert (went | (gone == 0).all(axis=1)).all()
            moved += int(went.sum())
    assert moved > 0.9 * 50 * 14


@pytest.mark.parametrize("actions", [[0] * 3, [0] * 3 + [NUM_ACTIONS], [0] * 3 + [-1]])
def test_actions_that_do_not_fit_are_refused(actions: list[int]) -> None:
    pursuit = Pursuit(settle(4))
    pursuit.reset(seed=0)
    with pytest.raises(ValueError, match="predators"):
        pursuit.step(np.array(actions))
    with pytest.raises(ValueError, match="prey"):
        pursuit.set_opponent_actions(np.full(8, NUM_PREY_ACTIONS))


# --- prey -----------------------------------------------------------------------------------------


def tags(prey: Opponent, seed: int) -> int:
    """Tags of predators that stand still and tag what they can reach, in an episode."""
    pursuit = Pursuit(settle(25))
    snapshot = pursuit.reset(seed)
    rng, landed = np.random.default_rng(seed), 0
    for _ in range(200):
        seen = snapshot.observations_ND.reshape(25, VIEW, 2, VIEW)[:, :, 1]
        actions: IntArray = np.full(25, NOOP)
        for action, (dx, dy) in enumerate(TAGS, start=len(MOVES)):
            actions[seen[:, 3 + dy, 3 + dx] > 0] = action
        observations = pursuit.opponent_observations()
        pursuit.set_opponent_actions(prey.act(observations, rng.random(len(observations))))
        transition = pursuit.step(actions)
        snapshot = transition.after
        landed += int((transition.rewards_N > 0).sum())
    return landed


@pytest.mark.parametrize("name", ["scripted", "idqn"])
def test_scripted_and_trained_prey_get_away_where_random_ones_are_tagged(name: str) -> None:
    assert 5 * tags(make_prey(name), 0) < tags(RandomPrey(), 0)


def test_what_a_prey_does_depends_on_its_row_alone() -> None:
    pursuit = Pursuit(settle(25))
    pursuit.reset(seed=0)
    seen, uniforms = pursuit.opponent_observations(), np.random.default_rng(0).random(50)
    for prey in (RandomPrey(), ScriptedPrey()):
        together = prey.act(seen, uniforms)
        alone = [prey.act(seen[i : i + 1], uniforms[i : i + 1])[0] for i in range(50)]
        assert together.tolist() == alone


def test_a_policy_file_plays_prey_and_what_they_cannot_do_is_their_first_action(
    tmp_path: Path,
) -> None:
    shapes = {1: (8, OBSERVATION_DIM), 2: (8, 8), 3: (NUM_ACTIONS, 8)}
    tensors = {f"layer{i}.weight": np.zeros(shape, np.float32) for i, shape in shapes.items()}
    tensors |= {f"layer{i}.bias": np.zeros(shape[0], np.float32) for i, shape in shapes.items()}
    seen, uniforms = np.zeros((3, OBSERVATION_DIM), np.float32), np.zeros(3)
    for wanted, played in ((7, 7), (12, 0)):
        tensors["layer3.bias"] = np.eye(NUM_ACTIONS, dtype=np.float32)[wanted]
        (tmp_path / "prey.safetensors").write_bytes(save(tensors))
        prey = make_prey(str(tmp_path / "prey.safetensors"))
        assert prey.act(seen, uniforms).tolist() == [played] * 3


def test_unknown_prey_and_files_for_another_game_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose random, scripted, idqn or"):
        make_prey("nobody")
    tensors = {f"layer{i}.weight": np.zeros((4, 4), np.float32) for i in (1, 2, 3)}
    tensors |= {f"layer{i}.bias": np.zeros(4, np.float32) for i in (1, 2, 3)}
    (tmp_path / "small.safetensors").write_bytes(save(tensors))
    with pytest.raises(ValueError, match="from 128 features to 13 actions"):
        make_prey(str(tmp_path / "small.safetensors"))
