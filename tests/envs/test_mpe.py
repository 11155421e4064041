"""MPE by task against its package: spaces, episodes, actions of real numbers."""

import importlib
from typing import Any, get_args

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from configs.schema import EnvConfig
from envs import registry
from envs.mpe import Task
from envs.spaces import Box, Discrete
from tests.envs.serial_runs import run_serially


def config(options: str = "", **others: int) -> EnvConfig:
    return EnvConfig(name="mpe", options=options, **others)  # type: ignore[arg-type]


@pytest.mark.parametrize("continuous", [False, True])
def test_an_episode_is_that_of_the_package(continuous: bool) -> None:
    options = f"continuous={str(continuous).lower()},local_ratio=0.25,max_cycles=7"
    family = registry.family_of("mpe")
    env = family.make(family.read(config(options)), 4)
    module: Any = importlib.import_module("mpe2.simple_spread_v3")
    theirs = module.parallel_env(N=4, local_ratio=0.25, max_cycles=7, continuous_actions=continuous)
    rng = np.random.default_rng(0)
    for seed in (3, 4):
        seen, _ = theirs.reset(seed=seed)
        snapshot = env.reset(seed)
        assert_array_equal(snapshot.observations_ND, np.stack(list(seen.values())))
        assert_array_equal(snapshot.state_S, np.concatenate(list(seen.values())))
        for cycle in range(7):
            actions_N: Any = rng.integers(5, size=4)
            if continuous:
                actions_N = rng.random((4, 5), dtype=np.float32)
            told = dict(zip(theirs.possible_agents, actions_N, strict=True))
            seen, rewards, _, truncated, _ = theirs.step(told)
            step = env.step(actions_N)
            assert_array_equal(step.after.observations_ND, np.stack(list(seen.values())))
            assert_allclose(step.rewards_N, list(rewards.values()), rtol=1e-6)
            assert (step.terminated, step.truncated) == (False, all(truncated.values()))
            assert step.truncated == (cycle == 6)
    env.close()


@pytest.mark.parametrize("task", get_args(Task))
@pytest.mark.parametrize("continuous", [False, True])
def test_every_task_is_played_with_choices_and_with_real_numbers(
    task: Task, continuous: bool
) -> None:
    asked = config(f"task={task},continuous={str(continuous).lower()}", copies=2)
    agents = registry.population_of(asked) or 5
    spec = registry.spec_of(asked, agents)
    assert (spec.name, spec.num_agents, spec.episode_limit) == ("mpe", agents, 25)
    assert isinstance(spec.actions, Box if continuous else Discrete)
    copies = registry.make_copies(asked, agents, seed=1)
    now = copies.reset()
    assert now[0].state_S.tolist() != now[1].state_S.tolist()
    rng = np.random.default_rng(0)
    rewards, ends = [np.zeros(agents)], [False]
    for _ in range(25):
        if isinstance(spec.actions, Box):
            low, high = spec.actions.low, spec.actions.high
            actions_EN = rng.uniform(low, high, (2, agents, len(low))).astype(np.float32)
        else:
            masks = [snapshot.action_masks_NA for snapshot in now]
            actions_EN = np.array(
                [
                    rng.integers(spec.num_actions, size=agents)
                    if mask_NA is None
                    else [rng.choice(np.flatnonzero(mask_A)) for mask_A in mask_NA]
                    for mask_NA in masks
                ]
            )
        steps = copies.step(actions_EN)
        now = tuple(step.now for step in steps)
        rewards = [step.transition.rewards_N for step in steps]
        ends = [step.transition.truncated for step in steps]
    assert np.any(rewards, axis=1).all()
    assert ends == [True, True]
    copies.close()


def test_pushing_right_goes_right() -> None:
    """Of real numbers the third is the push to the right, and the second the one to the left."""
    family = registry.family_of("mpe")
    env = family.make(family.read(config("continuous=true")), 3)
    env.reset(0)
    right = env.step(np.array([[0, 0, 1, 0, 0]] * 3, np.float32)).after
    env.reset(0)
    left = env.step(np.array([[0, 1, 0, 0, 0]] * 3, np.float32)).after
    assert (right.observations_ND[:, 0] > 0).all()
    assert (left.observations_ND[:, 0] < 0).all()
    env.close()


@pytest.mark.parametrize(
    ("options", "agents", "says"),
    [
        ("task=simple_reference", 3, "mpe with task=simple_reference has 2 agents, not 3"),
        ("task=simple_tag", 4, "task"),
        ("local_ratio=2", 3, "local_ratio must be in"),
        ("wings=2", 3, "has no wings"),
    ],
)
def test_what_cannot_be_played_is_refused_in_one_line(options: str, agents: int, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        registry.check(config(options), agents)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("continuous", ["false", "true"])
def test_mappo_learns_on_it_serially(continuous: str, tmp_path: Any) -> None:
    options = f"continuous={continuous}"
    summary = run_serially("mpe", tmp_path, "--comm", "none", "--env.options", options)
    assert summary["return_mean"] < 0.0
