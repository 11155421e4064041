"""Battle: two equal armies, each agent sees seven cells around it.

    deployment -> GridWorld -> views -> observations;  actions (red, blue) -> GridWorld -> rewards

Configuration, observations and rewards are those of ExpoComm (and so of the SOPS paper). Red, on
the left, is the learning team. Unlike in the published stack, an action always reaches the agent it
is meant for.

Dimension key: N = red agents, M = living blue agents, D = observation features, S = state.
"""

from types import MappingProxyType

import numpy as np

from envs.base import EnvSpec, FloatArray, IntArray, Snapshot, Transition
from envs.battle_map import Deployment
from envs.gridworld import OTHER_HP, OWN_HP, WALL, GridWorld

RED, BLUE = 0, 1

VIEW = 7
"""Cells along each side of the square around an agent; its corners are out of sight."""
OBSERVATION_DIM = 2 * VIEW * VIEW
NUM_ACTIONS = 21
NOOP = 6

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

_MINIMAP = 7
"""Cells along each side of the minimaps in the state."""


def battle_spec(num_agents: int, max_cycles: int) -> EnvSpec:
    """Spaces of a Battle; needs no engine."""
    return EnvSpec(
        name="battle",
        num_agents=num_agents,
        observation_dim=OBSERVATION_DIM,
        num_actions=NUM_ACTIONS,
        state_dim=2 * _MINIMAP * _MINIMAP,
        episode_limit=max_cycles,
        noop_action=NOOP,
    )


class Battle:
    """One battle at a time, seen from red.

    Actions: 0-12 move by up to two cells (6 stays), 13-20 hit one of the eight cells around;
    `envs.opponents` has the table. Rewards: -0.005 a step, +0.095 for a hit, -0.105 for hitting
    nobody or a team mate, +4.895 for a kill. In the step an agent falls it earns -0.1 and nothing
    else, or +0.1 if it had landed a hit before it was struck: the engine still pays the 0.2.

    It ends with terminated when a team is extinct, with truncated at the time limit. Red has won if
    it has more agents left than blue.
    """

    def __init__(self, deployment: Deployment, max_cycles: int = 200) -> None:
        """Build the engine.

        Args:
            deployment: map and starting places, of `deploy` or your own (teams of any size).
            max_cycles: steps until an episode is truncated.

        Raises:
            ImportError: magent2 is not installed.
        """
        self._deployment = deployment
        self._spec = battle_spec(len(deployment.left), max_cycles)
        self._world = GridWorld(
            map_size=deployment.map_size,
            character=CHARACTER,
            view_radius=3,
            attack_radius=1.5,
            hit_reward=0.2,
        )
        self._places = (deployment.left, deployment.right)
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
        return self._observe(BLUE)

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
        self._living = [living[world.survivors(team)] for team, living in enumerate(self._living)]
        world.bury()

        num_red, num_blue = (len(living) for living in self._living)
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

    def close(self) -> None:
        """Nothing outlives this object: the engine frees itself with it."""

    def _snapshot(self) -> Snapshot:
        living = self._living[RED]
        observations_ND = np.zeros((self._spec.num_agents, OBSERVATION_DIM), dtype=np.float32)
        observations_ND[living] = self._observe(RED)
        alive_N = np.zeros(self._spec.num_agents, dtype=np.bool_)
        alive_N[living] = True
        return Snapshot(observations_ND=observations_ND, state_S=self._state(), alive_N=alive_N)

    def _observe(self, team: int) -> FloatArray:
        """[L, D] health of team mates and of enemies side by side, with walls at -1 in both."""
        num_living = len(self._living[team])
        if num_living == 0:
            return np.zeros((0, OBSERVATION_DIM), dtype=np.float32)
        view = self._world.views(team)
        wall = view[..., WALL]
        both = np.concatenate([view[..., OWN_HP] - wall, view[..., OTHER_HP] - wall], axis=-1)
        # They travel and are stored as float16: rounding here shows agent and learner the same.
        return both.reshape(num_living, OBSERVATION_DIM).astype(np.float16).astype(np.float32)

    def _state(self) -> FloatArray:
        """[S] red's minimap and blue's, side by side: the share of the initial team in each square.

        From positions alone, so that no single agent's death blanks it, and over the initial size,
        so that losses show.
        """
        square = -(-self._deployment.map_size // _MINIMAP)
        minimaps: list[FloatArray] = []
        for team, cells in enumerate(self._places):
            x, y = self._world.positions(team).T // square
            counts = np.bincount(y * _MINIMAP + x, minlength=_MINIMAP * _MINIMAP)
            minimaps.append((counts / len(cells)).reshape(_MINIMAP, _MINIMAP).astype(np.float32))
        return np.concatenate(minimaps, axis=1).ravel()


def _check_actions(team: str, actions: IntArray, expected: int) -> None:
    """The engine would read beyond its tables."""
    if actions.shape != (expected,):
        raise ValueError(f"{team} has {expected} actions to play, got shape {actions.shape}")
    if expected and (actions.min() < 0 or actions.max() >= NUM_ACTIONS):
        raise ValueError(
            f"{team} plays actions of [0, {NUM_ACTIONS}), got {actions.min()} to {actions.max()}"
        )
