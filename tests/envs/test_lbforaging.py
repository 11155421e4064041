"""Level-based foraging against its package, and where it differs from it on purpose."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from configs.schema import EnvConfig
from envs import registry
from envs.lbforaging import NUM_ACTIONS, Foraging, ForagingOptions
from envs.scene import Map
from envs.spaces import Discrete
from tests.envs.serial_runs import run_serially

AGENTS = 3


def foraging(**options: Any) -> Foraging:
    return Foraging(ForagingOptions(**options), AGENTS)


def package(**options: Any) -> Any:
    from lbforaging.foraging import ForagingEnv

    usual: dict[str, Any] = {
        "players": AGENTS,
        "min_player_level": 1,
        "max_player_level": 2,
        "min_food_level": 1,
        "max_food_level": None,
        "field_size": (8, 8),
        "max_num_food": 2,
        "sight": 8,
        "max_episode_steps": 50,
        "force_coop": False,
    }
    return ForagingEnv(**usual | options)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"sight": 2, "foods": 3}, {"sight": 2, "max_num_food": 3}),
        (
            {"size": 6, "cooperative": True, "max_food_level": 2, "penalty": 0.25},
            {
                "field_size": (6, 6),
                "sight": 6,
                "force_coop": True,
                "max_food_level": 2,
                "penalty": 0.25,
            },
        ),
    ],
)
def test_an_episode_is_that_of_the_package(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    own, all_together = foraging(reward="individual", **ours), foraging(**ours)
    earned = 0.0
    for seed in range(8):
        env, rng = package(**theirs), np.random.default_rng(seed)
        seen, _ = env.reset(seed=seed)
        for snapshot in (own.reset(seed), all_together.reset(seed)):
            assert_array_equal(snapshot.observations_ND, np.stack(seen))
        over = False
        while not over:
            # Loading is what earns: chance alone hardly ever tries it at the right time.
            masks_NA = own.masks()
            assert masks_NA is not None
            actions_N = np.where(masks_NA[:, 5], 5, rng.integers(NUM_ACTIONS, size=AGENTS))
            seen, rewards, over, _, _ = env.step(actions_N.tolist())
            alone, together = own.step(actions_N), all_together.step(actions_N)
            assert_array_equal(alone.after.observations_ND, np.stack(seen))
            assert_array_equal(alone.rewards_N, np.float32(rewards))
            assert_array_equal(together.rewards_N, [np.float32(rewards).sum()] * AGENTS)
            earned += sum(np.abs(rewards))
            assert (alone.terminated or alone.truncated) == over
    assert earned > 0.0


def test_an_episode_follows_from_its_seed_alone() -> None:
    """The package's does not: agents keep off the cells where the last episode left others."""
    seeds = range(40)
    fresh = [Foraging(ForagingOptions(), AGENTS).reset(seed).state_S for seed in seeds]
    env, theirs = foraging(), package()
    env.reset(0)
    theirs.reset(seed=0)
    differ = 0
    for seed, expected in zip(seeds, fresh, strict=True):
        assert_array_equal(env.reset(seed).state_S, expected)
        seen, _ = theirs.reset(seed=seed)
        # The first agent sees the whole field and itself first, which is how the state lists all.
        differ += not np.array_equal(seen[0], expected)
    assert differ


def test_masks_are_the_actions_that_have_an_effect() -> None:
    env, tried = foraging(), np.zeros(2, dtype=np.int64)
    for seed in range(5):
        snapshot = env.reset(seed)
        for step in range(10):
            masks_NA = snapshot.action_masks_NA
            assert masks_NA is not None
            assert masks_NA[:, 0].all()
            for agent in range(AGENTS):
                row, column, _ = snapshot.state_S.reshape(-1, 3)[2 + agent]
                foods = snapshot.state_S.reshape(-1, 3)[:2]
                near = np.abs(foods[:, :2] - (row, column)).sum(axis=1) == 1
                assert masks_NA[agent, 5] == (near & (foods[:, 2] > 0)).any()
                assert masks_NA[agent, 1] == (
                    row > 0 and [row - 1, column] not in foods[:, :2].tolist()
                )
            tried += np.bincount(masks_NA.reshape(-1), minlength=2)
            rng = np.random.default_rng((seed, step))
            choices = [rng.choice(np.flatnonzero(mask_A)) for mask_A in masks_NA]
            snapshot = env.step(np.array(choices)).after
    assert tried.min() > 0
    assert foraging(action_masks=False).reset(0).action_masks_NA is None


def test_time_that_runs_out_truncates_and_the_last_food_terminates() -> None:
    env = foraging(max_cycles=3)
    env.reset(0)
    ends = [env.step(np.zeros(AGENTS, dtype=np.int64)) for _ in range(3)]
    assert [(end.terminated, end.truncated, end.won) for end in ends] == [
        (False, False, False),
        (False, False, False),
        (False, True, False),
    ]
    with pytest.raises(AssertionError, match="reset"):
        env.step(np.zeros(AGENTS, dtype=np.int64))
    last, total = eaten(foraging(foods=1, max_food_level=1, max_cycles=500), seed=0)
    assert (last.terminated, last.truncated, last.won) == (True, False, True)
    assert total == pytest.approx(1.0)


def eaten(env: Foraging, seed: int) -> tuple[Any, float]:
    """The last transition of an episode in which agents load where they can, and its return."""
    snapshot, total = env.reset(seed), 0.0
    rng = np.random.default_rng(seed)
    while True:
        masks_NA = snapshot.action_masks_NA
        assert masks_NA is not None
        actions_N = np.where(masks_NA[:, 5], 5, rng.integers(5, size=AGENTS))
        step = env.step(actions_N)
        total += float(step.rewards_N.mean())
        if step.terminated or step.truncated:
            return step, total
        snapshot = step.after


def test_what_was_promised_is_what_there_is() -> None:
    config = EnvConfig(name="lbforaging", options="size=10,foods=4,sight=2,max_cycles=9", copies=2)
    spec = registry.spec_of(config, 5)
    assert (spec.observation_dim, spec.state_dim, spec.actions) == (27, 27, Discrete(6))
    assert (spec.episode_limit, spec.shared_reward, spec.has_action_masks) == (9, True, True)
    copies = registry.make_copies(config, 5, seed=3)
    first, second = copies.reset()
    assert first.state_S.shape == (27,)
    assert first.observations_ND.shape == (5, 27)
    assert first.state_S.tolist() != second.state_S.tolist()
    (again, _) = registry.make_copies(config, 5, seed=3).reset()
    assert_array_equal(first.state_S, again.state_S)
    copies.close()


@pytest.mark.parametrize(
    ("options", "agents", "says"),
    [
        ("", 33, r"between 1 and 32 agents on a field of 8 x 8, got 33: give --env.options size="),
        ("size=4", 2, "size must be between 5 and 100, got 4"),
        ("grid=true", 2, "has no grid"),
        ("reward=mean", 2, "reward"),
    ],
)
def test_what_cannot_be_played_is_refused_in_one_line(options: str, agents: int, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        registry.check(EnvConfig(name="lbforaging", options=options), agents)
    assert "\n" not in str(refused.value)
    env = foraging()
    env.reset(0)
    with pytest.raises(ValueError, match=r"3 actions to play, got shape \(2,\)"):
        env.step(np.zeros(2, dtype=np.int64))


def test_it_is_drawn_without_a_display() -> None:
    env = foraging(max_food_level=1, max_cycles=500)
    things = env.reset(1).state_S.reshape(-1, 3)
    scene = env.scene()
    assert isinstance(scene, Map)
    agents, foods = scene.teams
    assert_array_equal(agents.positions_U2, things[2:, 1::-1])
    assert_array_equal(foods.positions_U2, things[:2, 1::-1])
    last, _ = eaten(env, seed=1)
    assert last.won
    assert not env.scene().teams[1].alive_U.any()


def test_mappo_learns_on_it_serially(tmp_path: Any) -> None:
    summary = run_serially("lbforaging", tmp_path, "--agents", "2", "--comm", "none")
    assert summary["return_mean"] <= 1.0
