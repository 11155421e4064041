"""Battle: two equal armies, each agent sees seven cells around it.

    deployment -> GridWorld -> views -> observations;  actions (red, blue) -> GridWorld -> rewards

Configuration, observations and rewards are those of ExpoComm (and so of the SOPS paper). Red, on
the left, is the learning team. Unlike in the published stack, an action always reaches the agent it
is meant for.

Dimension key: N = red agents, M = living blue agents, L = living agents of either team, V = cells
along the view, D = observation features, S = state.
"""

from types import MappingProxyType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from configs.arrays import BoolArray, FloatArray, HalfArray, IntArray
from envs.base import EnvSpec, Snapshot, Transition
from envs.battle.map import Deployment
from envs.magent import OTHER_HP, OWN_HP, WALL, GridWorld, HitRule, Kind
from envs.neighbours import neighbours as neighbours_of
from envs.position import positioned, with_position
from envs.scene import Map, Sight, team_of
from envs.spaces import Discrete

_Real = TypeVar("_Real", np.float16, np.float32)

RED, BLUE = 0, 1

VIEW = 7
"""Cells along each side of the square around an agent; its corners are out of sight."""
OBSERVATION_DIM = 2 * VIEW * VIEW
NUM_ACTIONS = 21
NOOP = 6
SIGHT = Sight((VIEW, 2, VIEW), 1, ("team mates", "enemies"))

CHARACTER = MappingProxyType(
    {
        "width": 1,
        "length": 1,
        "hp": 10,
        "speed": 2,
        "damage": 2,
        "step_recover": 0.1,
        "kill_reward": 5,
        "step_reward": -0.005,
        "dead_penalty": -0.1,
        "attack_penalty": -0.1,
    }
)
"""What every agent is; six hits in a row kill, because death needs less than 0 hp."""

SOLDIER = Kind(CHARACTER, view_radius=3, attack_radius=1.5)
HITS_PAY = (HitRule(RED, BLUE, 0.2), HitRule(BLUE, RED, 0.2))

_MINIMAP = 7
"""Cells along each side of the minimaps in the state."""
_TO_STATE = np.array([1, 2 * _MINIMAP])
"""Distance within the state between neighbouring squares, in x and in y."""


def battle_spec(
    num_agents: int, max_cycles: int, *, position: bool = False, neighbours: bool = False
) -> EnvSpec:
    """Spaces of a Battle; needs no engine."""
    spec = EnvSpec(
        name="battle",
        num_agents=num_agents,
        observation_shape=(OBSERVATION_DIM,),
        actions=Discrete(NUM_ACTIONS),
        state_dim=2 * _MINIMAP * _MINIMAP,
        episode_limit=max_cycles,
        noop_action=NOOP,
        has_neighbours=neighbours,
        headline="win_rate",
    )
    return positioned(spec) if position else spec


class Battle:
    """One battle at a time, seen from red.

    Actions: 0-12 move by up to two cells (6 stays), 13-20 hit one of the eight cells around;
    `envs.battle.opponents` has the table. Rewards: -0.005 a step, +0.095 for a hit, -0.105 for
    hitting nobody or a team mate, +4.895 for a kill. In the step an agent falls it earns -0.1 and
    nothing else, or +0.1 if it had landed a hit before it was struck: the engine still pays the
    0.2.

    It ends with terminated when a team is extinct, with truncated at the time limit. Red has won if
    it has more agents left than blue.
    """

    def __init__(
        self,
        deployment: Deployment,
        max_cycles: int = 200,
        *,
        position: bool = False,
        neighbours: bool = False,
    ) -> None:
        """Build the engine.

        Args:
            deployment: map and starting places, of `deploy` or your own (teams of any size).
            max_cycles: steps until an episode is truncated.
            position: red's observations end with their own positions.
            neighbours: snapshots say who is whose neighbour.

        Raises:
            ImportError: magent2 is not installed.
        """
        self._deployment = deployment
        self._spec = battle_spec(
            len(deployment.left), max_cycles, position=position, neighbours=neighbours
        )
        self._world = GridWorld(
            map_size=deployment.map_size,
            kinds=(SOLDIER, SOLDIER),
            hits=HITS_PAY,
        )
        self._places = (deployment.left, deployment.right)
        self._square = -(-deployment.map_size // _MINIMAP)
        """Cells along each side of what is one cell of a minimap."""
        sizes_2 = np.array([len(cells) for cells in self._places])
        self._team_sizes_S = np.tile(np.repeat(sizes_2, _MINIMAP), _MINIMAP)
        self._living: list[IntArray] = []
        self._opponent_actions: IntArray | None = None
        self._cycle = 0
        self._over = True

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    def reset(self, seed: int) -> Snapshot:
        """Begin an episode: the places are always the same, the seed decides who strikes first."""
        self._world.reset(seed, self._places)
        self._living = [self._world.living(team) for team in (RED, BLUE)]
        self._opponent_actions = None
        self._cycle = 0
        self._over = False
        return self._snapshot()

    def opponent_observations(self) -> FloatArray:
        """[M, D] what the living blue agents see, in the order their actions are expected."""
        if len(self._living[BLUE]) == 0:
            return np.zeros((0, OBSERVATION_DIM), dtype=np.float32)
        seen = self._see(BLUE)
        _round_to_half(seen)
        return _side_by_side(seen)

    def set_opponent_actions(self, actions_M: IntArray) -> None:
        """Say what the living blue agents do in the next step; unsaid, they do nothing.

        Raises:
            ValueError: not one action in [0, 21) for each living blue agent.
        """
        _check_actions("blue", actions_M, len(self._living[BLUE]))
        self._opponent_actions = actions_M

    def step(self, actions_N: IntArray) -> Transition:
        """Play one action per red agent, and what was set for blue.

        Raises:
            ValueError: not one action in [0, 21) for each red agent.
        """
        assert not self._over, "the episode is over: reset before the next step"
        _check_actions("red", actions_N, self._spec.num_agents)
        world = self._world
        blue_actions_M = self._opponent_actions
        if blue_actions_M is None:
            blue_actions_M = np.full(len(self._living[BLUE]), NOOP)
        self._opponent_actions = None
        # The engine's list has closed its ranks over the dead: pick by agent, not by row.
        world.order(RED, actions_N[self._living[RED]])
        world.order(BLUE, blue_actions_M)
        world.step()
        self._cycle += 1

        # The fallen are still listed here, and their last reward is theirs.
        rewards_N = np.zeros(self._spec.num_agents, dtype=np.float32)
        rewards_N[self._living[RED]] = world.rewards(RED)
        for team, living in enumerate(self._living):
            survivors = world.survivors(team)
            if not survivors.all():
                self._living[team] = living[survivors]
        world.bury()

        num_red, num_blue = len(self._living[RED]), len(self._living[BLUE])
        terminated = num_red == 0 or num_blue == 0
        truncated = not terminated and self._cycle >= self._spec.episode_limit
        self._over = terminated or truncated
        return Transition(
            after=self._snapshot(),
            rewards_N=rewards_N,
            terminated=terminated,
            truncated=truncated,
            won=num_red > num_blue,
        )

    def scene(self) -> Map:
        """Both armies where they stand."""
        world = self._world
        teams = [
            team_of(name, len(cells), living, world.positions(team), world.health(team))
            for team, (name, cells, living) in enumerate(
                zip(("red", "blue"), self._places, self._living, strict=True)
            )
        ]
        size = self._deployment.map_size
        return Map(size, size, tuple(teams), world.walls(), SIGHT)

    def close(self) -> None:
        """Nothing outlives this object: the engine frees itself with it."""

    def _snapshot(self) -> Snapshot:
        num_agents, living = self._spec.num_agents, self._living[RED]
        alive_N = np.zeros(num_agents, dtype=np.bool_)
        alive_N[living] = True
        observations_ND: HalfArray
        if len(living) == num_agents:
            observations_ND = _side_by_side(self._see(RED).astype(np.float16))
        else:
            observations_ND = np.zeros((num_agents, OBSERVATION_DIM), dtype=np.float16)
            if len(living):
                observations_ND[living] = _side_by_side(self._see(RED).astype(np.float16))
        if self._spec.has_position:
            positions, map_size = self._world.positions(RED), self._deployment.map_size
            observations_ND = with_position(observations_ND, living, positions, map_size)
        pairs_NN: BoolArray | None = None
        if self._spec.has_neighbours:
            pairs_NN = neighbours_of(num_agents, living, self._world.positions(RED))
        return Snapshot(
            observations_ND=observations_ND,
            state_S=self._state(),
            alive_N=alive_N,
            neighbours_NN=pairs_NN,
        )

    def _see(self, team: int) -> FloatArray:
        """[2, L, V, V] health of team mates and of enemies, both with walls at -1."""
        views = self._world.views(team)
        # Long strides are quicker than short rows: one loop over all cells of all agents.
        channels = views.reshape(-1, views.shape[-1])
        seen = np.empty((2, *views.shape[:3]), dtype=np.float32)
        for half, channel in zip(seen, (OWN_HP, OTHER_HP), strict=True):
            np.subtract(channels[:, channel], channels[:, WALL], out=half.reshape(-1))
        return seen

    def _state(self) -> FloatArray:
        """[S] red's minimap and blue's, side by side: the share of the initial team in each square.

        From positions alone, so that no single agent's death blanks it, and over the initial size,
        so that losses show.
        """
        positions = [self._world.positions(team) for team in (RED, BLUE)]
        squares_L2 = np.concatenate(positions) // self._square
        squares_L2[len(positions[RED]) :, 0] += _MINIMAP
        counts_S = np.bincount(squares_L2 @ _TO_STATE, minlength=self._spec.state_dim)
        return (counts_S / self._team_sizes_S).astype(np.float32)


def _side_by_side(halves: NDArray[_Real]) -> NDArray[_Real]:
    """[2, L, V, V] -> [L, D]: a row of what is seen of one's own, then the same row of enemies."""
    return halves.transpose(1, 2, 0, 3).reshape(-1, OBSERVATION_DIM)


def _round_to_half(values: FloatArray) -> None:
    """Round to the nearest float16 in place, ties to even: 7 µs for a hundred agents, and not 60
    as numpy takes to convert there and back.

    Only for zeros and magnitudes of [2^-14, 2): what an agent sees of others is their health after
    recovery, of (0.009, 1], and walls.
    """
    bits = values.view(np.uint32)
    last_kept = bits >> 13
    last_kept &= 1
    last_kept += 0xFFF
    bits += last_kept
    bits &= 0xFFFFE000


def _check_actions(team: str, actions: IntArray, expected: int) -> None:
    """The engine would read beyond its tables."""
    if actions.shape != (expected,):
        raise ValueError(f"{team} has {expected} actions to play, got shape {actions.shape}")
    if expected and (actions.min() < 0 or actions.max() >= NUM_ACTIONS):
        raise ValueError(
            f"{team} plays actions of [0, {NUM_ACTIONS}), got {actions.min()} to {actions.max()}"
        )
