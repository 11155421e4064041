"""Gather: agents eat a field of food, each for itself, and may kill each other over it.

    layout -> GridWorld -> views -> observations;  actions -> GridWorld -> rewards

Units and rewards are MAgent2's (and so those of geek-ai's train_gather); the layouts are NVIF's.

Dimension key: N = agents, M = food, L = living agents, V = cells along the view, S = state.
"""

import numpy as np

from configs.arrays import HalfArray, IntArray
from envs.base import ActionArray, EnvSpec, Snapshot, Transition
from envs.gather.layout import Layout, Scattered
from envs.magent import OTHER_HP, OWN_HP, WALL, GridWorld, HitRule, Kind
from envs.minimaps import Minimaps
from envs.neighbours import neighbours
from envs.position import positioned, with_position
from envs.scene import Map, Sight, team_of
from envs.spaces import Discrete

AGENTS, FOOD = 0, 1

VIEW = 15
"""Cells along each side of the square around an agent; its corners are out of sight."""
PLANES = 3
"""Of an observation: walls, health of agents (the one that looks is in the middle) and of food."""
SIGHT = Sight((PLANES, VIEW, VIEW), 0, ("walls", "agents", "food"))
NUM_ACTIONS = 33
NOOP = 14

GATHERER = Kind(
    {
        "width": 1,
        "length": 1,
        "hp": 3,
        "speed": 3,
        "damage": 6,
        "step_recover": 0,
        "attack_in_group": 1,
        "step_reward": -0.01,
        "attack_penalty": -0.1,
        "dead_penalty": -1,
    },
    view_radius=7,
    attack_radius=1,
)
"""One blow of another agent kills it."""
FOOD_KIND = Kind(
    {"width": 1, "length": 1, "hp": 25, "speed": 0, "kill_reward": 5},
    view_radius=1,
    attack_radius=0,
)
"""Eaten with the fifth bite."""
BITES_PAY = (HitRule(AGENTS, FOOD, 0.5),)

WORTH = 6.45
"""What all rewards for a piece of food add up to: four bites at 0.39 and one at 4.89."""

MINIMAP = 12
"""Cells along each side of the minimaps in the state."""


def gather_spec(num_agents: int, max_cycles: int, *, position: bool = False) -> EnvSpec:
    """Spaces of a Gather; needs no engine."""
    spec = EnvSpec(
        name="gather",
        num_agents=num_agents,
        observation_shape=(PLANES, VIEW, VIEW),
        actions=Discrete(NUM_ACTIONS),
        state_dim=2 * MINIMAP * MINIMAP,
        episode_limit=max_cycles,
        noop_action=NOOP,
        has_neighbours=True,
        metrics=("food_eaten", "survivors", "return_share", "end_step"),
    )
    return positioned(spec) if position else spec


class Gather:
    """One field at a time.

    Actions: 0 to 28 move by up to three cells (14 stays), row by row of the circle around the
    agent; 29 to 32 hit the cell above, left, right and below. Rewards: -0.01 a step, +0.39 for a
    bite of food, +4.89 for the bite that finishes it, -0.11 for hitting nothing or another agent.
    Who is hit by an agent dies, at -1.

    It ends with terminated when all food is eaten, which is what winning means here, or when
    nobody is left; with truncated at the time limit. An episode's metrics are `food_eaten` and
    `survivors`, both as shares of what there was; `end_step`, its number of steps; and
    `return_share`, all agents' rewards over what all the food is worth. NVIF's table has returns of
    1.2 times that, which these rewards do not allow, so shares are what can be compared with it.
    """

    def __init__(
        self, layout: Layout | Scattered, max_cycles: int = 100, *, position: bool = False
    ) -> None:
        """Build the engine.

        Args:
            layout: of `lay_out` or your own; of `scatter`, which has other places in each episode.
            max_cycles: steps until an episode is truncated.
            position: observations end with the agents' own positions.

        Raises:
            ImportError: magent2 is not installed.
        """
        self._scattered = layout if isinstance(layout, Scattered) else None
        if isinstance(layout, Scattered):
            layout = layout.at(0)
        self._map_size = layout.map_size
        self._places = (layout.agents, layout.food)
        self._spec = gather_spec(len(layout.agents), max_cycles, position=position)
        self._world = GridWorld(
            map_size=layout.map_size, kinds=(GATHERER, FOOD_KIND), hits=BITES_PAY
        )
        self._minimaps = Minimaps(layout.map_size, MINIMAP, [len(cells) for cells in self._places])
        self._living: IntArray = np.arange(0)
        self._food_left = 0
        self._earned = 0.0
        self._cycle = 0
        self._over = True

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    def reset(self, seed: int) -> Snapshot:
        """Begin an episode: the seed decides who strikes first, and in a random layout where agents
        and food are.
        """
        if self._scattered is not None:
            layout = self._scattered.at(seed)
            self._places = (layout.agents, layout.food)
        self._world.reset(seed, self._places)
        self._living = self._world.living(AGENTS)
        self._food_left = len(self._places[FOOD])
        self._earned = 0.0
        self._cycle = 0
        self._over = False
        return self._snapshot()

    def step(self, actions_N: ActionArray) -> Transition:
        """Play one action per agent.

        Raises:
            ValueError: not one action in [0, 33) for each agent.
        """
        assert not self._over, "the episode is over: reset before the next step"
        self._check(actions_N)
        world = self._world
        # The engine's list has closed its ranks over the dead: pick by agent, not by row.
        world.order(AGENTS, actions_N[self._living])
        world.step()
        self._cycle += 1

        # The fallen are still listed here, and their last reward is theirs.
        rewards_N = np.zeros(self._spec.num_agents, dtype=np.float32)
        rewards_N[self._living] = world.rewards(AGENTS)
        self._earned += float(rewards_N.sum(dtype=np.float64))
        self._living = self._living[world.survivors(AGENTS)]
        self._food_left = int(world.survivors(FOOD).sum())
        world.bury()

        terminated = self._food_left == 0 or len(self._living) == 0
        truncated = not terminated and self._cycle >= self._spec.episode_limit
        self._over = terminated or truncated
        num_food = len(self._places[FOOD])
        metrics = {
            "food_eaten": 1.0 - self._food_left / num_food,
            "survivors": len(self._living) / self._spec.num_agents,
            "return_share": self._earned / (WORTH * num_food),
            "end_step": float(self._cycle),
        }
        return Transition(
            after=self._snapshot(),
            rewards_N=rewards_N,
            terminated=terminated,
            truncated=truncated,
            won=self._food_left == 0,
            metrics=metrics if self._over else {},
        )

    def scene(self) -> Map:
        """Agents, and the food that is left."""
        world = self._world
        teams = [
            team_of(name, len(cells), world.living(team), world.positions(team), world.health(team))
            for team, (name, cells) in enumerate(zip(("agents", "food"), self._places, strict=True))
        ]
        return Map(self._map_size, self._map_size, tuple(teams), world.walls(), SIGHT)

    def close(self) -> None:
        """Nothing outlives this object: the engine frees itself with it."""

    def _snapshot(self) -> Snapshot:
        num_agents, living, world = self._spec.num_agents, self._living, self._world
        planes: HalfArray = np.zeros((num_agents, PLANES, VIEW, VIEW), dtype=np.float16)
        if len(living):
            views = world.views(AGENTS)
            for plane, channel in enumerate((WALL, OWN_HP, OTHER_HP)):
                planes[living, plane] = views[..., channel]
        observations_ND = planes.reshape(num_agents, -1)
        places = [world.positions(team) for team in (AGENTS, FOOD)]
        if self._spec.has_position:
            own = places[AGENTS]
            observations_ND = with_position(observations_ND, living, own, self._map_size)
        alive_N = np.zeros(num_agents, dtype=np.bool_)
        alive_N[living] = True
        return Snapshot(
            observations_ND=observations_ND,
            state_S=self._minimaps.of(places),
            alive_N=alive_N,
            neighbours_NN=neighbours(num_agents, living, places[AGENTS]),
        )

    def _check(self, actions_N: ActionArray) -> None:
        """The engine would read beyond its tables."""
        num_agents = self._spec.num_agents
        if actions_N.shape != (num_agents,):
            raise ValueError(f"{num_agents} agents act, got actions of {actions_N.shape}")
        if actions_N.min() < 0 or actions_N.max() >= NUM_ACTIONS:
            raise ValueError(
                f"actions are of [0, {NUM_ACTIONS}), got {actions_N.min()} to {actions_N.max()}"
            )
