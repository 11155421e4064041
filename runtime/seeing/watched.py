"""A copy of an environment that remembers what happened in its episode.

    Copies.step -> what was seen, done and earned; a scene of each moment

Dimension key: N = agents, D = observation features.
"""

from typing import Any

from numpy.typing import NDArray

from configs.arrays import BoolArray, FloatArray, IntArray
from configs.schema import RunConfig
from envs import registry
from envs.base import ActionArray, Env, Snapshot, Transition
from envs.copies import Copies, CopyStep, EnvFailure
from envs.opponent import Opponent
from envs.scene import Pictured, Scene


class Watched(Copies):
    """One environment, played as `Copies` plays it."""

    def __init__(self, env: Env, seed: int, opponents: list[Opponent]) -> None:
        super().__init__([env], seed, opponents)
        self._env = env
        self.scenes: list[Scene | None] = []
        """Before each step, and at the end."""
        self.observations: list[NDArray[Any]] = []
        """[N, D] before each step."""
        self.alive: list[BoolArray] = []
        """[N] before each step."""
        self.actions: list[ActionArray] = []
        self.rewards: list[FloatArray] = []
        """[N]"""
        self.last: Transition | None = None
        """The end of the episode; None while it lasts."""
        self._seen: Snapshot | None = None

    def step(
        self,
        actions_EN: ActionArray,
        opponents_E: IntArray | None = None,
        rests_E: BoolArray | None = None,
    ) -> tuple[CopyStep, ...]:
        """Play one step, and remember it."""
        before = self._seen
        assert before is not None, "reset before the first step"
        steps = super().step(actions_EN, opponents_E, rests_E)
        transition = steps[0].transition
        self.observations.append(before.observations_ND)
        self.alive.append(before.alive_N)
        self.actions.append(actions_EN[0].copy())
        self.rewards.append(transition.rewards_N)
        if transition.terminated or transition.truncated:
            self.last = transition
        else:
            self._look()
        self._seen = steps[0].now
        return steps

    def _begin(self, copy: int) -> Snapshot:
        if self._seen is None:
            self._seen = super()._begin(copy)
            self._look()
            return self._seen
        self._look()  # the last moment, before the environment goes on to another episode
        return super()._begin(copy)

    def _look(self) -> None:
        if not isinstance(self._env, Pictured):
            self.scenes.append(None)
            return
        try:
            self.scenes.append(self._env.scene())
        except Exception as error:
            raise EnvFailure(self.spec.name, "scene", error) from error


def watched_copy(config: RunConfig) -> Watched:
    """The environment that a run is configured for, in one copy.

    Raises:
        ValueError: there is no such environment, not of this size, or without such an opponent.
    """
    family = registry.family_of(config.env.name)
    env = family.make_visible(family.read(config.env), config.num_agents)
    schedule = registry.opponents_of(config.env)
    names = () if schedule is None else schedule.names
    opponents = [registry.contested_family_of(config.env.name).opponent(name) for name in names]
    return Watched(env, config.seed, opponents)
