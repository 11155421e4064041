"""IMP: agents that inspect and repair the components of a system, one each.

    seed -> chance of every inspection;  actions -> System (envs/imp/systems.py) -> costs, beliefs

Dimension key: N = agents, F = bins of damage, C = bins of the shared factor, T = steps.
"""

import numpy as np

from configs import streams
from configs.arrays import FloatArray, IntArray
from configs.streams import Role
from envs.base import ActionArray, EnvSpec, Snapshot, Transition
from envs.imp.actions import INSPECT, NOTHING, NUM_ACTIONS, REPAIR
from envs.imp.deterioration import RealArray, shipped
from envs.imp.options import ImpOptions
from envs.imp.score import heuristic_return, normalised
from envs.imp.systems import DISCOUNT, build
from envs.spaces import Discrete

_FIGURES = ("discounted_return", "risk", "inspections", "repairs", "campaigns")


def imp_spec(options: ImpOptions, num_agents: int) -> EnvSpec:
    """Spaces of an IMP environment.

    Raises:
        ValueError: not with so many agents, or not with these options.
    """
    options.check_size(num_agents)
    model = shipped(options.kind)
    factor = 0 if model.correlation is None else len(model.correlation.prior_C)
    observed = model.num_bins + 1
    rates = 0 if options.kind == "owf" else num_agents
    extras = NUM_ACTIONS * options.last_action + num_agents * options.agent_id
    is_scored = heuristic_return(options, num_agents) is not None
    return EnvSpec(
        name="imp",
        num_agents=num_agents,
        observation_shape=(observed + factor + extras,),
        actions=Discrete(NUM_ACTIONS),
        state_dim=num_agents * observed + rates + factor,
        episode_limit=model.num_rates - 1,
        noop_action=NOTHING,
        shared_reward=True,
        can_be_won=False,
        metrics=(*_FIGURES, *("normalised_score" for _ in range(is_scored))),
        headline="normalised_score" if is_scored else "discounted_return",
    )


class Imp:
    """One system, from new to the end of its planned life.

    An agent sees the belief about its own component's damage, the share of the episode gone, in the
    correlated system the belief about the factor that components share, its last action and its
    number, one-hot. An action does nothing (0), inspects (1) or repairs (2). All agents get the
    same reward, which is minus what the step cost. The state is what all agents see of beliefs and
    time, their deterioration rates (not in a wind farm) and the belief about the factor.

    Nobody dies. An episode is terminated at its horizon: the system's life ends there, and there is
    no value beyond. Its metrics are
        discounted_return: minus all costs, a step's discounted by 0.95^t;
        normalised_score: by how many percent that exceeds what the expert's heuristic reaches;
        risk: the failures' part of the discounted costs;
        inspections, repairs: how many there were;
        campaigns: steps with any of them.
    """

    def __init__(self, options: ImpOptions, num_agents: int) -> None:
        self._spec = imp_spec(options, num_agents)
        self._options = options
        self._system = build(options, num_agents)
        self._reference = heuristic_return(options, num_agents)
        self._step = self._spec.episode_limit
        self._uniforms_TN: RealArray = np.zeros((self._step, num_agents))
        self._last_N: IntArray | None = None
        self._figures: dict[str, float] = {}

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    def reset(self, seed: int) -> Snapshot:
        """Begin an episode: the seed draws what inspections will find, whatever is done."""
        rng = streams.generator(seed, Role.IMP)
        self._uniforms_TN = rng.random((self._spec.episode_limit, self._spec.num_agents))
        self._system.begin(1)
        self._step = 0
        self._last_N = None
        self._figures = dict.fromkeys(_FIGURES, 0.0)
        return self._snapshot()

    def step(self, actions_N: ActionArray) -> Transition:
        """Play one action per agent.

        Raises:
            ValueError: not one action in [0, 3) for each agent.
        """
        spec = self._spec
        assert self._step < spec.episode_limit, "the episode is over: reset before the next step"
        if actions_N.shape != (spec.num_agents,):
            raise ValueError(f"{spec.num_agents} agents act, got actions of {actions_N.shape}")
        if actions_N.min() < 0 or actions_N.max() >= NUM_ACTIONS:
            raise ValueError(
                f"actions are of [0, {NUM_ACTIONS}), got {actions_N.min()} to {actions_N.max()}"
            )
        costs, _ = self._system.step(actions_N[None], self._uniforms_TN[self._step][None])
        discount = DISCOUNT**self._step
        cost, risk = float(costs.total_E[0]), float(costs.risk_E[0])
        self._count(actions_N, discount * cost, discount * risk)
        self._step += 1
        self._last_N = actions_N
        over = self._step == spec.episode_limit
        reward = -cost * (discount if self._options.discounted_rewards else 1.0)
        return Transition(
            after=self._snapshot(),
            rewards_N=np.full(spec.num_agents, reward, dtype=np.float32),
            terminated=over,
            truncated=False,
            won=False,
            metrics=self._metrics() if over else {},
        )

    def close(self) -> None:
        """Nothing to give back."""

    def _count(self, actions_N: ActionArray, cost: float, risk: float) -> None:
        figures, done_N = self._figures, actions_N != NOTHING
        figures["discounted_return"] -= cost
        figures["risk"] += risk
        figures["inspections"] += float((actions_N == INSPECT).sum())
        figures["repairs"] += float((actions_N == REPAIR).sum())
        figures["campaigns"] += float(done_N.any())

    def _metrics(self) -> dict[str, float]:
        if self._reference is None:
            return dict(self._figures)
        score = normalised(self._figures["discounted_return"], self._reference)
        return {**self._figures, "normalised_score": score}

    def _snapshot(self) -> Snapshot:
        spec, system = self._spec, self._system
        belief_NF, factor_C = system.agents_beliefs()[0], system.beliefs.factor_EC[0]
        seen_NF: FloatArray = np.empty((spec.num_agents, belief_NF.shape[1] + 1), dtype=np.float32)
        seen_NF[:, :-1] = belief_NF
        seen_NF[:, -1] = self._step / spec.episode_limit
        state = [seen_NF.ravel(), factor_C]
        if self._options.kind != "owf":
            state.insert(1, system.agents_rates()[0] / spec.episode_limit)
        return Snapshot(
            observations_ND=np.concatenate([seen_NF, *self._extras(factor_C)], axis=1).astype(
                spec.observation_dtype
            ),
            state_S=np.concatenate(state).astype(np.float32),
            alive_N=np.ones(spec.num_agents, dtype=np.bool_),
        )

    def _extras(self, factor_C: RealArray) -> list[RealArray]:
        """[N, …] what an observation has beside belief and time."""
        num_agents = self._spec.num_agents
        extras = [np.broadcast_to(factor_C, (num_agents, len(factor_C)))]
        if self._options.last_action:
            one_hot_NA = np.zeros((num_agents, NUM_ACTIONS))
            if self._last_N is not None:
                one_hot_NA[np.arange(num_agents), self._last_N] = 1.0
            extras.append(one_hot_NA)
        if self._options.agent_id:
            extras.append(np.eye(num_agents))
        return extras
