"""Games so small that their optimum is known: `--env tests.tiny_games:TwoStep`, `…:Aim`.

    TwoStep   two agents choose twice; what pays at once leads to where nothing is to be gained
    Aim       every agent names two real numbers, one of which it sees

Dimension key: N = agents, n = numbers of an action.
"""

import numpy as np

from configs.arrays import FloatArray
from envs.base import ActionArray, Env, EnvSpec, Snapshot, Transition
from envs.family import EnvFamily, NoOptions
from envs.spaces import Box, Discrete

START, OPEN, SHUT = range(3)
AT_ONCE = np.array([[0.1, 0.0], [0.0, 0.0]], dtype=np.float32)
"""First rewards, by what agent 0 and agent 1 choose; only (1, 1) opens the door."""
BEHIND = {
    OPEN: np.array([[0.0, 2.0], [1.0, 0.0]], dtype=np.float32),
    SHUT: np.full((2, 2), 0.5, dtype=np.float32),
}
"""Second rewards: the agents must differ, and one way to differ is better."""
BEST = max(
    float(AT_ONCE[a, b] + BEHIND[OPEN if a == b == 1 else SHUT].max())
    for a in range(2)
    for b in range(2)
)


class TwoStepGame:
    """An agent sees which of the three states it is, and which of the two it is."""

    def __init__(self, spec: EnvSpec) -> None:
        self.spec = spec
        self._state = START

    def reset(self, seed: int) -> Snapshot:
        self._state = START
        return self._snapshot()

    def step(self, actions_N: ActionArray) -> Transition:
        first, second = (int(action) for action in actions_N)
        over = self._state != START
        reward = (BEHIND[self._state] if over else AT_ONCE)[first, second]
        if not over:
            self._state = OPEN if first == second == 1 else SHUT
        rewards_N = np.full(2, reward, dtype=np.float32)
        return Transition(self._snapshot(), rewards_N, over, False, False)

    def close(self) -> None:
        """Nothing to give back."""

    def _snapshot(self) -> Snapshot:
        state_S = np.eye(3, dtype=np.float32)[self._state]
        observations_ND = np.concatenate((np.tile(state_S, (2, 1)), np.eye(2)), axis=1)
        alive_N = np.ones(2, dtype=np.bool_)
        return Snapshot(observations_ND.astype(np.float16), state_S, alive_N)


class TwoStep(EnvFamily[NoOptions]):
    Options = NoOptions
    is_heavy = False

    def spec(self, options: NoOptions, num_agents: int) -> EnvSpec:
        if num_agents != 2:
            raise ValueError(f"two agents play it, got {num_agents}")
        return EnvSpec(
            name=self.name,
            num_agents=2,
            observation_shape=(5,),
            actions=Discrete(2),
            state_dim=3,
            episode_limit=2,
            shared_reward=True,
            can_be_won=False,
        )

    def make(self, options: NoOptions, num_agents: int) -> Env:
        return TwoStepGame(self.spec(options, num_agents))


class AimGame:
    """One step: an agent sees x in [-0.9, 0.9] and should answer (2 + 2 x, -0.5), in a box that is
    [0, 4] by [-1, 1]. The reward is 1 less what the squared distances are on average, each in
    halves of the box.
    """

    def __init__(self, spec: EnvSpec) -> None:
        self.spec = spec
        self._seen_N: FloatArray = np.zeros(spec.num_agents, dtype=np.float32)

    def reset(self, seed: int) -> Snapshot:
        drawn_N = np.random.default_rng(seed).uniform(-0.9, 0.9, self.spec.num_agents)
        self._seen_N = drawn_N.astype(np.float16).astype(np.float32)
        return self._snapshot()

    def step(self, actions_N: ActionArray) -> Transition:
        asked_Nn = np.stack((self._seen_N, np.full_like(self._seen_N, -0.5)), axis=1)
        done_Nn = np.stack((actions_N[:, 0] / 2.0 - 1.0, actions_N[:, 1]), axis=1)
        rewards_N = 1.0 - np.square(done_Nn - asked_Nn).sum(axis=1)
        return Transition(self._snapshot(), rewards_N.astype(np.float32), True, False, False)

    def close(self) -> None:
        """Nothing to give back."""

    def _snapshot(self) -> Snapshot:
        alive_N = np.ones(self.spec.num_agents, dtype=np.bool_)
        return Snapshot(self._seen_N[:, None].astype(np.float16), self._seen_N.copy(), alive_N)


class Aim(EnvFamily[NoOptions]):
    Options = NoOptions
    is_heavy = False

    def spec(self, options: NoOptions, num_agents: int) -> EnvSpec:
        return EnvSpec(
            name=self.name,
            num_agents=num_agents,
            observation_shape=(1,),
            actions=Box((0.0, -1.0), (4.0, 1.0)),
            state_dim=num_agents,
            episode_limit=1,
            can_be_won=False,
        )

    def make(self, options: NoOptions, num_agents: int) -> Env:
        return AimGame(self.spec(options, num_agents))
