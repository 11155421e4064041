"""CoordSum: name numbers that add up to the target, and do not be predictable (MAGPO, appendix B).

    target of the step -> every agent names a number -> do they add up? was the first one guessed?

All agents see the same target. One that decides for all can share the sum out at will; agents that
act alone have to agree on a split beforehand, and an opponent that has seen the first one's earlier
answers punishes a split that never changes.

Dimension key: N = agents, A = actions, D = observation features, S = state.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from configs import streams
from configs.arrays import FloatArray, IntArray
from configs.ranges import between, check_ranges
from configs.schema import MAX_AGENTS
from configs.streams import Role
from envs.base import EnvSpec, Snapshot, Transition
from envs.family import EnvFamily
from envs.spaces import Discrete

STEPS = 100
MOST_ACTIONS = 1000
MOST_TARGETS = 2048
"""float16 has the integers up to here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CoordSumOptions:
    actions: Annotated[int, between(2, MOST_ACTIONS)] = 10
    """Numbers that an agent may name: 0 to actions - 1."""
    targets: Annotated[int, between(2, MOST_TARGETS)] = 30
    """Targets are drawn from 0 to targets - 1, uniformly."""
    sees: Literal["one-hot", "scaled", "number"] = "one-hot"
    """How a target is told: one-hot; divided by the largest; or as released, the number itself,
    which a norm of the observation hides (neighbouring targets are hardly told apart)."""
    record: Literal["target", "released"] = "target"
    """What the opponent remembers: answers to each target, as the paper says; or as the released
    code does, which keeps as many rows as there are actions, so that all larger targets share the
    last one."""

    def __post_init__(self) -> None:
        check_ranges(self, "--env.options")


def coord_sum_spec(options: CoordSumOptions, num_agents: int) -> EnvSpec:
    """Spaces of CoordSum-N x A-max.

    Raises:
        ValueError: not between 1 and 4096 agents.
    """
    if not 1 <= num_agents <= MAX_AGENTS:
        raise ValueError(f"coord-sum takes between 1 and {MAX_AGENTS} agents, got {num_agents}")
    told = options.targets if options.sees == "one-hot" else 1
    return EnvSpec(
        name="coord-sum",
        num_agents=num_agents,
        observation_shape=(num_agents + told,),
        actions=Discrete(options.actions),
        state_dim=told,
        episode_limit=STEPS,
        shared_reward=True,
        can_be_won=False,
        metrics=("sums", "guessed"),
    )


class CoordSum:
    """An episode of 100 targets.

    An observation is [agent one-hot, target]. The reward, the same for all: 2 if the numbers add up
    to the target and the opponent has not guessed the first agent's, 1 if it has, else 0. The guess
    is the first agent's most frequent earlier answer to this target in the episode, the smallest of
    several, and 0 before there is one. The episode is terminated after its last step.

    `sums` is the share of steps in which the numbers added up, `guessed` the share of all steps in
    which the opponent was right.
    """

    def __init__(self, options: CoordSumOptions, num_agents: int) -> None:
        self._options = options
        self._spec = coord_sum_spec(options, num_agents)
        self._targets = np.zeros(STEPS + 1, dtype=np.int64)
        rows = options.targets if options.record == "target" else options.actions
        self._answers = np.zeros((rows, options.actions), dtype=np.int64)
        """[rows, A] how often the first agent has named a number."""
        self._cycle = STEPS
        self._sums = self._guessed = 0

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    def reset(self, seed: int) -> Snapshot:
        """Begin an episode: the seed draws all of its targets."""
        rng = streams.generator(seed, Role.COORD_SUM)
        return self.begin(rng.integers(self._options.targets, size=STEPS + 1))

    def begin(self, targets: IntArray) -> Snapshot:
        """Begin an episode with these targets, [101] of which the last is only seen."""
        self._targets = targets
        self._answers[:] = 0
        self._cycle = self._sums = self._guessed = 0
        return self._snapshot()

    def step(self, actions_N: IntArray) -> Transition:
        """Name one number per agent.

        Raises:
            ValueError: not one action for each agent.
        """
        assert self._cycle < STEPS, "the episode is over: reset before the next step"
        if actions_N.shape != (self._spec.num_agents,):
            raise ValueError(
                f"coord-sum has {self._spec.num_agents} actions to play, got shape "
                f"{actions_N.shape}"
            )
        target, first = int(self._targets[self._cycle]), int(actions_N[0])
        answers_A = self._answers[min(target, len(self._answers) - 1)]
        is_sum = int(actions_N.sum()) == target
        is_guessed = int(answers_A.argmax()) == first
        answers_A[first] += 1
        self._cycle += 1
        self._sums += is_sum
        self._guessed += is_guessed
        reward = (1.0 if is_guessed else 2.0) if is_sum else 0.0
        over = self._cycle == STEPS
        metrics = {"sums": self._sums / STEPS, "guessed": self._guessed / STEPS} if over else {}
        return Transition(
            after=self._snapshot(),
            rewards_N=np.full(self._spec.num_agents, reward, dtype=np.float32),
            terminated=over,
            truncated=False,
            won=False,
            metrics=metrics,
        )

    def close(self) -> None:
        """Nothing to give back."""

    def _snapshot(self) -> Snapshot:
        agents = self._spec.num_agents
        told = self._told(int(self._targets[self._cycle]))
        observations_ND = np.zeros((agents, self._spec.observation_dim), dtype=np.float16)
        observations_ND[:, :agents] = np.eye(agents)
        observations_ND[:, agents:] = told
        return Snapshot(observations_ND, told, np.ones(agents, dtype=np.bool_))

    def _told(self, target: int) -> FloatArray:
        """[S] the target as agents see it."""
        targets = self._options.targets
        if self._options.sees == "one-hot":
            return np.eye(targets, dtype=np.float32)[target]
        number = target / (targets - 1) if self._options.sees == "scaled" else target
        return np.array([number], dtype=np.float32)


class CoordSumFamily(EnvFamily[CoordSumOptions]):
    """CoordSum in all its sizes."""

    Options = CoordSumOptions
    is_heavy: ClassVar[bool] = False

    def spec(self, options: CoordSumOptions, num_agents: int) -> EnvSpec:
        return coord_sum_spec(options, num_agents)

    def make(self, options: CoordSumOptions, num_agents: int) -> CoordSum:
        return CoordSum(options, num_agents)


ENVIRONMENT = CoordSumFamily
