"""AdversarialPursuit: slow, large predators tag quick, small prey among walls.

    habitat -> GridWorld -> views -> observations;  actions of both -> GridWorld -> rewards

Configuration, observations and rewards are those of ExpoComm (and so of the SOPS paper); the state
is both teams' minimaps. A prey outruns a predator, so that it has to be cornered: by walls, by the
border or by several predators. Nobody dies, and every episode lasts to the time limit.

Dimension key: N = predators, M = prey, V = cells along a predator's view, D = observation features,
S = state.
"""

import numpy as np

from configs.arrays import FloatArray, IntArray
from envs.adversarial_pursuit.habitat import Habitat
from envs.base import EnvSpec, Snapshot, Transition
from envs.magent import OTHER_HP, OWN_HP, WALL, GridWorld, HitRule, Kind
from envs.minimaps import Minimaps
from envs.position import positioned, with_position
from envs.scene import Map, Sight, team_of
from envs.spaces import Discrete

PREDATORS, PREY = 0, 1

VIEW = 8
"""Cells along each side of the square that a predator sees, its own body of 2×2 in the middle; the
corners are out of sight."""
PREY_VIEW = 7
OBSERVATION_DIM = 2 * VIEW * VIEW
"""Of predators, and of prey, whose smaller view is padded with zeros on the right and below."""
SIGHT = Sight((VIEW, 2, VIEW), 1, ("predators", "prey"))
NUM_ACTIONS = 13
NOOP = 2
NUM_PREY_ACTIONS = 9
PREY_NOOP = 4

PREDATOR = Kind(
    {"width": 2, "length": 2, "hp": 1, "speed": 1, "attack_penalty": -0.2},
    view_radius=4,
    attack_radius=2,
)
PREY_KIND = Kind(
    {"width": 1, "length": 1, "hp": 1, "speed": 1.5},
    view_radius=3,
    attack_radius=0,
)
TAGS_PAY = (HitRule(PREDATORS, PREY, 1.0, victim_reward=-1.0),)

MINIMAP = 8
"""Cells along each side of the minimaps in the state."""


def pursuit_spec(num_agents: int, max_cycles: int, *, position: bool = False) -> EnvSpec:
    """Spaces of an AdversarialPursuit; needs no engine."""
    spec = EnvSpec(
        name="adversarial-pursuit",
        num_agents=num_agents,
        observation_shape=(OBSERVATION_DIM,),
        actions=Discrete(NUM_ACTIONS),
        state_dim=2 * MINIMAP * MINIMAP,
        episode_limit=max_cycles,
        noop_action=NOOP,
        can_be_won=False,
        metrics=("tags",),
    )
    return positioned(spec) if position else spec


class Pursuit:
    """One pursuit at a time, seen from the predators.

    Actions: 0 up, 1 left, 2 stay, 3 right, 4 down, each by a cell; 5 to 12 tag one of the eight
    cells that share an edge with the body, row by row from the top left. Rewards: +0.8 for tagging
    a prey, -0.2 for tagging anything else, nothing for moving. So 160 per predator is the most that
    an episode of 200 steps can bring.

    Nobody wins: what counts is the return. An episode's metric is `tags`, those of all predators.
    """

    def __init__(self, habitat: Habitat, max_cycles: int = 200, *, position: bool = False) -> None:
        """Build the engine.

        Args:
            habitat: of `settle` or your own.
            max_cycles: steps until an episode is truncated.
            position: predators' observations end with the positions of their own bodies' corners.

        Raises:
            ImportError: magent2 is not installed.
        """
        self._habitat = habitat
        self._spec = pursuit_spec(habitat.predators, max_cycles, position=position)
        self._world = GridWorld(
            map_size=habitat.map_size, kinds=(PREDATOR, PREY_KIND), hits=TAGS_PAY
        )
        team_sizes = (habitat.predators, habitat.prey)
        self._minimaps = Minimaps(habitat.map_size, MINIMAP, team_sizes)
        self._prey_views = np.zeros((habitat.prey, VIEW, 2, VIEW), dtype=np.float32)
        self._prey_actions: IntArray | None = None
        self._cycle = 0
        self._tags = 0
        self._over = True

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    def reset(self, seed: int) -> Snapshot:
        """Begin an episode: the seed decides where walls, predators and prey are."""
        habitat = self._habitat
        self._world.reset(seed, (habitat.predators, habitat.prey), walls=habitat.walls)
        self._prey_actions = None
        self._cycle = self._tags = 0
        self._over = False
        return self._snapshot()

    def opponent_observations(self) -> FloatArray:
        """[M, D] what the prey see, in the order their actions are expected."""
        views = self._world.views(PREY)
        for half, channel in enumerate((OWN_HP, OTHER_HP)):
            self._prey_views[:, :PREY_VIEW, half, :PREY_VIEW] = views[..., channel]
            self._prey_views[:, :PREY_VIEW, half, :PREY_VIEW] -= views[..., WALL]
        return self._prey_views.reshape(-1, OBSERVATION_DIM).copy()

    def set_opponent_actions(self, actions_M: IntArray) -> None:
        """Say what the prey do in the next step; unsaid, they stay where they are.

        Raises:
            ValueError: not one action in [0, 9) for each prey.
        """
        _check_actions("prey", actions_M, self._habitat.prey, NUM_PREY_ACTIONS)
        self._prey_actions = actions_M

    def opponent_rewards(self) -> FloatArray:
        """[M] of the last step: -1 for every predator that tagged the prey."""
        return self._world.rewards(PREY).copy()

    def step(self, actions_N: IntArray) -> Transition:
        """Play one action per predator, and what was set for the prey.

        Raises:
            ValueError: not one action in [0, 13) for each predator.
        """
        assert not self._over, "the episode is over: reset before the next step"
        _check_actions("predators", actions_N, self._habitat.predators, NUM_ACTIONS)
        world = self._world
        # Nobody dies, so that the engine's lists are always in our order. But what it paid for one
        # step adds up with the next one's until it is told to forget.
        world.bury()
        world.order(PREDATORS, actions_N)
        if self._prey_actions is not None:
            world.order(PREY, self._prey_actions)
            self._prey_actions = None
        world.step()
        rewards_N = world.rewards(PREDATORS).copy()
        self._cycle += 1
        self._tags += int(np.count_nonzero(rewards_N > 0.0))
        self._over = self._cycle >= self._spec.episode_limit
        return Transition(
            after=self._snapshot(),
            rewards_N=rewards_N,
            terminated=False,
            truncated=self._over,
            won=False,
            metrics={"tags": float(self._tags)} if self._over else {},
        )

    def scene(self) -> Map:
        """Predators, prey and walls."""
        habitat, world = self._habitat, self._world
        teams = [
            team_of(name, size, np.arange(size), world.positions(team), body=body)
            for team, (name, size, body) in enumerate(
                (("predators", habitat.predators, 2), ("prey", habitat.prey, 1))
            )
        ]
        return Map(habitat.map_size, habitat.map_size, tuple(teams), world.walls(), SIGHT)

    def close(self) -> None:
        """Nothing outlives this object: the engine frees itself with it."""

    def _snapshot(self) -> Snapshot:
        world = self._world
        views = world.views(PREDATORS)
        # Health is 1 or nothing and a wall is -1: float16 has them all.
        seen = np.empty((*views.shape[:2], 2, VIEW), dtype=np.float16)
        np.subtract(views[..., OWN_HP], views[..., WALL], out=seen[:, :, 0], casting="same_kind")
        np.subtract(views[..., OTHER_HP], views[..., WALL], out=seen[:, :, 1], casting="same_kind")
        observations_ND = seen.reshape(-1, OBSERVATION_DIM)
        places = [world.positions(team) for team in (PREDATORS, PREY)]
        if self._spec.has_position:
            everybody, map_size = np.arange(self._habitat.predators), self._habitat.map_size
            observations_ND = with_position(observations_ND, everybody, places[PREDATORS], map_size)
        return Snapshot(
            observations_ND=observations_ND,
            state_S=self._minimaps.of(places),
            alive_N=np.ones(self._habitat.predators, dtype=np.bool_),
        )


def _check_actions(team: str, actions: IntArray, expected: int, num_actions: int) -> None:
    """The engine would read beyond its tables."""
    if actions.shape != (expected,):
        raise ValueError(f"there are {expected} {team} to act, got actions of {actions.shape}")
    if actions.min() < 0 or actions.max() >= num_actions:
        raise ValueError(
            f"{team} play actions of [0, {num_actions}), got {actions.min()} to {actions.max()}"
        )
