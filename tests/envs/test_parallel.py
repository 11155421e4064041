"""Our environments by PettingZoo's own measure, and against themselves."""

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from numpy.testing import assert_array_equal

from configs import streams
from configs.arrays import IntArray
from configs.schema import EnvConfig
from configs.streams import Role
from envs.base import Env, Transition
from envs.battle.battle import Battle
from envs.battle.map import deploy
from envs.battle.opponents import make_opponent
from envs.from_parallel import FromParallel
from envs.opponent import Opponent
from envs.parallel import Parallel, agent_index, agent_name
from envs.registry import family_of
from envs.relay import Relay
from tests.foreign_envs import Foreign
from tests.world_helpers import ScriptedEnv

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it loads environments of its own by names it has deprecated
    _theirs: Any = importlib.import_module("pettingzoo.test")
api_test: Callable[..., None] = _theirs.parallel_api_test
seed_test: Callable[..., None] = _theirs.parallel_seed_test

EPISODES = 3


FAMILIES = ("adversarial-pursuit", "gather")
FOREIGN = ("mpe2.simple_world_comm_v3", "mpe2.simple_spread_v3?continuous_actions=true")
"""With kinds and masks, and with real actions."""


def made(name: str, options: str = "") -> Env:
    """An environment of a family, at its smallest size."""
    family = family_of(name)
    asked = family.read(EnvConfig(name=name, options=options, max_cycles=40))
    return family.make(asked, family.population(asked) or 25)


def make(name: str) -> Env:
    if name in FAMILIES:
        return made(name)
    if name in FOREIGN:
        module, _, options = name.partition("?")
        return made(f"pettingzoo:{module}", options)
    if name == "relay":
        return Relay(8)
    if name == "battle":
        return Battle(deploy(8), max_cycles=40)
    return ScriptedEnv(6, 4, num_agents=4, deaths={1: [0], 3: [2]})


@pytest.mark.parametrize("name", ["relay", "battle", "scripted", *FAMILIES, *FOREIGN])
def test_pettingzoo_finds_nothing_wrong(name: str) -> None:
    with warnings.catch_warnings():
        # It wants observations to stay within finite bounds, and names to be its own.
        warnings.simplefilter("ignore")
        api_test(Parallel(make(name)), num_cycles=300)


@pytest.mark.parametrize("name", ["relay", *FAMILIES, *FOREIGN])
def test_pettingzoo_finds_equal_seeds_equal(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seed_test(lambda: Parallel(make(name)), num_cycles=50)


def test_what_we_took_in_goes_out_again_as_it_was() -> None:
    """Through both adapters an environment is itself: several choices, masks, images."""
    names = ("agent_0", "agent_1")
    image = spaces.Box(0, 255, (3, 2, 1), np.uint8)
    mask = np.array([1, 0, 1, 1, 1, 1], np.int8)
    foreign = Foreign(
        names,
        seen=dict.fromkeys(names, image),
        acts=dict.fromkeys(names, spaces.MultiDiscrete([3, 2])),
        look=lambda name, step: np.full((3, 2, 1), 10 * names.index(name) + step, np.uint8),
        infos=lambda _: {"action_mask": mask},
        terminated={2: ("agent_0",)},
        returns={3: ("agent_0",)},
    )
    env = Parallel(FromParallel(foreign, "foreign", 10))
    observations, infos = env.reset(3)
    assert env.observation_space("agent_0") == image
    assert env.action_space("agent_0") == spaces.MultiDiscrete([3, 2])
    assert_array_equal(infos["agent_1"]["action_mask"], mask)
    assert_array_equal(observations["agent_1"], np.full((3, 2, 1), 10))
    env.step({"agent_0": np.array([2, 1]), "agent_1": np.array([1, 0])})
    assert [foreign.played[-1][name].tolist() for name in names] == [[2, 1], [1, 0]]
    there: list[list[str]] = []
    for _ in range(3):
        env.step({name: np.array([1, 0]) for name in env.agents})
        there.append(sorted(env.agents))
    assert there == [["agent_1"], ["agent_0", "agent_1"], ["agent_0", "agent_1"]]


def played(env: Parallel, seed: int) -> list[Any]:
    """All that comes out of whole episodes, the first begun with a seed and the others without."""
    rng = np.random.default_rng(7)
    seen: list[Any] = []
    for episode in range(EPISODES):
        observations, infos = env.reset(seed if episode == 0 else None)
        seen.append((_as_bytes(observations), infos))
        while env.agents:
            actions = {name: int(rng.integers(env.num_actions)) for name in env.agents}
            observations, *outcome = env.step(actions)
            seen.append((_as_bytes(observations), *outcome, tuple(env.agents)))
    env.close()
    return seen


def _as_bytes(observations: dict[str, Any]) -> dict[str, bytes]:
    return {name: observation.tobytes() for name, observation in observations.items()}


@pytest.mark.parametrize(
    ("name", "opponent"), [("relay", None), ("battle", "random"), ("battle", "scripted")]
)
def test_equal_seeds_give_equal_episodes(name: str, opponent: str | None) -> None:
    """Whole ones, to the last step; PettingZoo's own seed test looks at the first step only."""

    def play(seed: int) -> list[Any]:
        return played(
            Parallel(make(name), None if opponent is None else make_opponent(opponent)), seed
        )

    first = play(5)
    assert len(first) > EPISODES * 5, "episodes must be whole for this test to mean something"
    assert play(5) == first
    assert play(6) != first


class _Drifting(ScriptedEnv):
    """Its third step gives away something that no seed decides."""

    num_made = 0

    def __init__(self) -> None:
        super().__init__(5, num_agents=2)
        _Drifting.num_made += 1
        self._drift = _Drifting.num_made

    def step(self, actions_N: IntArray) -> Transition:
        transition = super().step(actions_N)
        if len(self.played) % 5 == 3:
            return transition._replace(rewards_N=transition.rewards_N + self._drift)
        return transition


def test_a_difference_in_the_middle_of_an_episode_is_seen() -> None:
    assert played(Parallel(_Drifting()), 5) != played(Parallel(_Drifting()), 5)


def test_what_comes_out_is_what_the_environment_gave() -> None:
    ours, theirs = Relay(6), Parallel(Relay(6))
    rng = np.random.default_rng(0)
    seed = int(streams.generator(5, Role.PARALLEL).integers(1 << 31))
    snapshot, terminated_by_us = ours.reset(seed), False
    observations, _ = theirs.reset(5)
    while theirs.agents:
        for name, observation in observations.items():
            assert_array_equal(observation, snapshot.observations_ND[agent_index(name)])
        actions_N = rng.integers(4, size=6)
        transition = ours.step(actions_N)
        snapshot, terminated_by_us = transition.after, transition.terminated
        played = {agent_name(agent): int(action) for agent, action in enumerate(actions_N)}
        observations, rewards, terminated, truncated, infos = theirs.step(played)
        assert list(rewards.values()) == transition.rewards_N.tolist()
        assert set(terminated.values()) == {transition.terminated}
        assert set(truncated.values()) == {transition.truncated}
        assert infos["agent_0"] == {"won": transition.won}
    assert terminated_by_us


def test_an_agent_that_has_died_is_told_so_once_and_leaves() -> None:
    env = Parallel(ScriptedEnv(4, num_agents=3, deaths={0: [1]}))
    env.reset(0)
    _, _, terminated, _, _ = env.step({"agent_0": 0, "agent_1": 0, "agent_2": 0})
    assert terminated == {"agent_0": False, "agent_1": True, "agent_2": False}
    assert env.agents == ["agent_0", "agent_2"]
    observations, _, terminated, _, _ = env.step({"agent_0": 1, "agent_2": 1})
    assert observations.keys() == terminated.keys() == {"agent_0", "agent_2"}


def test_an_opponent_strikes_and_without_one_nobody_does() -> None:
    def losses(opponent: Opponent | None) -> int:
        env = Parallel(Battle(deploy(8), max_cycles=150), opponent)
        env.reset(0)
        lost = 0
        while env.agents:
            lost = 8 - len(env.agents)
            env.step(dict.fromkeys(env.agents, env.noop_action))
        env.close()
        return lost

    assert losses(None) == 0
    assert losses(make_opponent("scripted")) > 0


def test_an_agent_that_is_there_must_act() -> None:
    env = Parallel(Relay(3))
    env.reset(0)
    with pytest.raises(KeyError, match="agent_1"):
        env.step({"agent_0": 0, "agent_2": 0})
