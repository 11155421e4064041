"""Level-based foraging: agents lift food together (Albrecht and Ramamoorthy, 2013).

    --env lbforaging -> ForagingFamily -> Foraging -> lbforaging.foraging.ForagingEnv

The package's own environment, of which reset and step are left as they are. Its constructor is
called directly: `gymnasium.make` would check every observation once more.

Dimension key: N = agents, A = actions, D = observation features, F = foods, S = state.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from configs.arrays import BoolArray, FloatArray
from configs.ranges import between, check_ranges, within
from configs.schema.limits import MAX_AGENTS, MAX_CYCLES
from envs.base import EnvSpec, Snapshot
from envs.family import OPTIONS_FLAG, EnvFamily
from envs.gymnasium_team import GymnasiumTeam
from envs.installed import check_installed
from envs.scene import Map, team_of
from envs.spaces import Discrete

NUM_ACTIONS = 6
"""Nothing, north, south, west, east, load."""
_OF_EACH = 3
"""Numbers that tell of a food or an agent: row, column, level."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForagingOptions:
    size: Annotated[int, between(5, 100)] = 8
    """Cells along each side of the field."""
    foods: Annotated[int, between(1, 100)] = 2
    """Foods at the beginning, or as many as find room: no two are close to each other."""
    sight: Annotated[int, between(0, 100)] = 0
    """Cells that an agent sees in each direction; 0: the whole field."""
    cooperative: bool = False
    """Whether every food takes the three weakest agents together (both, of two)."""
    max_player_level: Annotated[int, between(1, 100)] = 2
    """Levels of agents are drawn from 1 to this."""
    max_food_level: Annotated[int, between(0, 100)] = 0
    """Levels of foods are drawn from 1 to this, or are all this if cooperative; 0: as much as the
    three weakest agents lift together."""
    penalty: Annotated[float, within(0.0, 100.0)] = 0.0
    """What loading in vain costs an agent."""
    reward: Literal["team", "individual"] = "team"
    """team: everybody gets the sum of all rewards, so that an episode returns at most 1;
    individual: agents get what the package gives each, and the team's mean is at most 1/N."""
    action_masks: bool = True
    """Whether agents are told which actions have an effect: moves onto free cells, and loading
    beside a food. Without, the package plays nothing for the others."""
    max_cycles: Annotated[int, between(1, MAX_CYCLES)] = 50
    """Steps after which an episode is truncated; the package's 50, MAGPO's tables have 100."""

    def __post_init__(self) -> None:
        check_ranges(self, OPTIONS_FLAG)


def foraging_spec(options: ForagingOptions, num_agents: int) -> EnvSpec:
    """Spaces of level-based foraging; needs no package.

    Raises:
        ValueError: no agents, or more than half of the field's cells.
    """
    most = min(options.size**2 // 2, MAX_AGENTS)
    if not 1 <= num_agents <= most:
        raise ValueError(
            f"lbforaging takes between 1 and {most} agents on a field of {options.size} x "
            f"{options.size}, got {num_agents}: give {OPTIONS_FLAG} size=…"
        )
    numbers = _OF_EACH * (options.foods + num_agents)
    return EnvSpec(
        name="lbforaging",
        num_agents=num_agents,
        observation_shape=(numbers,),
        actions=Discrete(NUM_ACTIONS),
        state_dim=numbers,
        episode_limit=options.max_cycles,
        noop_action=0,
        has_action_masks=options.action_masks,
        shared_reward=options.reward == "team",
    )


class Foraging(GymnasiumTeam):
    """A field at a time.

    An observation is [row, column, level] of each food in sight and of each agent in sight, itself
    first, counted from the corner of what it sees; -1, -1, 0 stands for one out of sight. The state
    is the same with all foods and agents, counted from the corner of the field.

    Food pays its level to the agents that lift it, in proportion to their own levels and as a share
    of all food. An episode is terminated, and won, when all food is gone.
    """

    def __init__(self, options: ForagingOptions, num_agents: int) -> None:
        from lbforaging.foraging import ForagingEnv  # registers 1920 names: only where it is played

        self._options = options
        self._foods = np.zeros((0, 2), dtype=np.int64)
        """Row and column of each food at the episode's beginning."""
        env: Any = ForagingEnv(
            players=num_agents,
            min_player_level=1,
            max_player_level=options.max_player_level,
            min_food_level=1,
            max_food_level=options.max_food_level or None,
            field_size=(options.size, options.size),
            max_num_food=options.foods,
            sight=options.sight or options.size,
            max_episode_steps=options.max_cycles,
            force_coop=options.cooperative,
            penalty=options.penalty,
        )
        super().__init__(env, foraging_spec(options, num_agents))

    def reset(self, seed: int) -> Snapshot:
        """Begin an episode: the seed draws places and levels."""
        for player in self._env.players:
            # The package keeps a new agent off cells where others stood when the last episode
            # ended, so that an episode would not follow from its seed alone.
            player.position = None
        snapshot = super().reset(seed)
        self._foods = np.argwhere(self._env.field)
        return snapshot

    def is_finished(self) -> bool:
        return not self._env.field.any()

    def rewards(self, own_N: FloatArray) -> FloatArray:
        return np.full_like(own_N, own_N.sum()) if self._options.reward == "team" else own_N

    def masks(self) -> BoolArray | None:
        if not self._options.action_masks:
            return None
        masks_NA = np.zeros((self._spec.num_agents, NUM_ACTIONS), dtype=np.bool_)
        allowed: dict[Any, list[Any]] = self._env._valid_actions  # the public list is of all pairs
        for mask_A, player in zip(masks_NA, self._env.players, strict=True):
            mask_A[[action.value for action in allowed[player]]] = True
        return masks_NA

    def state(self, observations_ND: NDArray[Any]) -> FloatArray:
        del observations_ND
        field = self._env.field
        things = np.zeros((self._options.foods + self._spec.num_agents, _OF_EACH), np.float32)
        things[:, :2] = -1.0
        places = np.argwhere(field)
        things[: len(places), :2] = places
        things[: len(places), 2] = field[tuple(places.T)]
        for row, player in zip(things[self._options.foods :], self._env.players, strict=True):
            row[:] = (*player.position, player.level)
        return things.reshape(-1)

    def scene(self) -> Map:
        """Agents, and the food that is left; as full as their level is high."""
        options, env = self._options, self._env
        levels = np.array([player.level for player in env.players])
        stand = np.array([player.position for player in env.players])
        weights = env.field[tuple(self._foods.T)]
        left = np.flatnonzero(weights)
        shares = weights[left] / max(int(weights.max(initial=0)), 1)
        teams = (
            team_of(
                "agents", len(stand), np.arange(len(stand)), stand[:, ::-1], levels / levels.max()
            ),
            team_of("food", len(weights), left, self._foods[left, ::-1], shares),
        )
        return Map(options.size, options.size, teams, np.zeros((0, 2), dtype=np.int64))


class ForagingFamily(EnvFamily[ForagingOptions]):
    """Level-based foraging in all its sizes."""

    Options = ForagingOptions

    def spec(self, options: ForagingOptions, num_agents: int) -> EnvSpec:
        return foraging_spec(options, num_agents)

    def check(self, options: ForagingOptions, num_agents: int) -> None:
        self.spec(options, num_agents)
        check_installed(self.name, "lbforaging", "lbforaging")

    def make(self, options: ForagingOptions, num_agents: int) -> Foraging:
        return Foraging(options, num_agents)


ENVIRONMENT = ForagingFamily
