"""Systems of components: what fails together, and what it costs.

    actions -> beliefs -> failure probabilities before and after -> risk
            -> costs of inspections, repairs and the campaign          (IMP-MARL, eq. of rewards)

A system plays E episodes at once: one for an environment, many for a heuristic's evaluation.

Dimension key: E = episodes, N = components, A = agents, U = units that fail for themselves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from configs.arrays import BoolArray, IntArray
from envs.imp.actions import INSPECT, NOTHING, REPAIR
from envs.imp.beliefs import Beliefs, IndependentBeliefs
from envs.imp.correlated_beliefs import CorrelatedBeliefs
from envs.imp.deterioration import RealArray, shipped
from envs.imp.k_out_of_n import failure_probability
from envs.imp.options import ImpOptions
from envs.imp.wind_farm import LEVELS, REACHABLE, turbine_failure

DISCOUNT = 0.95
"""Of every system: a return is the discounted sum of its costs."""


@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """What is paid, by agent or for the whole system."""

    inspection_A: RealArray
    repair_A: RealArray
    campaign: float
    """For a step with any inspection or repair."""
    failure: float
    """Of one unit."""


class Costs(NamedTuple):
    """What a step cost, each [E] and positive."""

    risk_E: RealArray
    """Probability of new failures, at the price of a failure."""
    inspections_E: RealArray
    repairs_E: RealArray
    campaign_E: RealArray

    @property
    def total_E(self) -> RealArray:
        return self.risk_E + self.inspections_E + self.repairs_E + self.campaign_E


class System:
    """Components, how they fail together, and who looks after them."""

    def __init__(
        self,
        beliefs: Beliefs,
        prices: Prices,
        units_failure: Callable[[RealArray], RealArray],
        agent_components: IntArray,
        horizon: int,
    ) -> None:
        """Put a system together.

        Args:
            units_failure: components' failure probabilities [E, N] -> units' [E, U].
            agent_components: [A] component of each agent; the others nobody can reach.
            horizon: steps of an episode.
        """
        self.beliefs = beliefs
        self.horizon = horizon
        self._prices = prices
        self._units_failure = units_failure
        self._components_A = agent_components

    @property
    def num_agents(self) -> int:
        return len(self._components_A)

    def begin(self, episodes: int) -> None:
        """Start so many episodes."""
        self.beliefs.begin(episodes)

    def agents_beliefs(self) -> RealArray:
        """[E, A, F] about the agents' own components."""
        return self.beliefs.belief_ENF[:, self._components_A]

    def agents_rates(self) -> IntArray:
        """[E, A] steps since the agents' components were new or repaired."""
        return self.beliefs.rate_EN[:, self._components_A]

    def step(self, actions_EA: IntArray, uniforms_EA: RealArray) -> tuple[Costs, BoolArray]:
        """Let a year pass.

        Args:
            uniforms_EA: chance of each agent's inspection, in [0, 1).

        Returns:
            What it cost, and [E, A] which agents' inspections found damage.
        """
        shape = self.beliefs.rate_EN.shape
        actions_EN: IntArray = np.full(shape, NOTHING, dtype=np.int64)
        uniforms_EN: RealArray = np.ones(shape)
        actions_EN[:, self._components_A] = actions_EA
        uniforms_EN[:, self._components_A] = uniforms_EA
        step = self.beliefs.step(actions_EN, uniforms_EN)
        costs = self._costs(actions_EA, step.before_EN, step.after_EN)
        return costs, step.found_EN[:, self._components_A]

    def _costs(self, actions_EA: IntArray, before_EN: RealArray, after_EN: RealArray) -> Costs:
        prices = self._prices
        both = self._units_failure(np.stack((before_EN, after_EN)).reshape(-1, before_EN.shape[-1]))
        before_EU, after_EU = both.reshape(2, len(before_EN), -1)
        # A unit whose failure probability has fallen was renewed: all of its risk is new.
        new_EU = np.where(after_EU < before_EU, after_EU, after_EU - before_EU)
        inspected_EA, repaired_EA = actions_EA == INSPECT, actions_EA == REPAIR
        return Costs(
            risk_E=prices.failure * new_EU.sum(-1),
            inspections_E=inspected_EA @ prices.inspection_A,
            repairs_E=repaired_EA @ prices.repair_A,
            campaign_E=prices.campaign * (inspected_EA | repaired_EA).any(-1),
        )


def build(options: ImpOptions, num_agents: int) -> System:
    """The system that the options describe.

    Raises:
        ValueError: not with so many agents.
    """
    options.check_size(num_agents)
    campaign = 5.0 if options.campaign_cost else 0.0
    if options.kind == "owf":
        return _wind_farm(num_agents, options.campaign_cost, campaign)
    k = options.k_of(num_agents)
    model = shipped(options.kind)
    everyone: IntArray = np.arange(num_agents)
    if options.kind == "correlated":
        beliefs = CorrelatedBeliefs(model, num_agents)
    else:
        beliefs = IndependentBeliefs(model, np.zeros_like(everyone))
    prices = Prices(
        inspection_A=np.full(num_agents, 0.2 if options.campaign_cost else 1.0),
        repair_A=np.full(num_agents, 20.0),
        campaign=campaign,
        failure=10_000.0,
    )

    def system_failure(failures_EN: RealArray) -> RealArray:
        return failure_probability(failures_EN, k)[:, None]

    return System(beliefs, prices, system_failure, everyone, model.num_rates - 1)


def _wind_farm(num_agents: int, has_campaigns: bool, campaign: float) -> System:
    turbines = num_agents // REACHABLE
    model = shipped("owf")
    level_N = np.tile(np.arange(LEVELS), turbines)
    inspections = (0.2, 1.0) if has_campaigns else (1.0, 4.0)
    prices = Prices(
        inspection_A=np.tile(inspections, turbines),
        repair_A=np.tile((10.0, 30.0), turbines),
        campaign=campaign,
        failure=1_000.0,
    )
    agents = np.flatnonzero(level_N < REACHABLE)
    beliefs = IndependentBeliefs(model, level_N)
    return System(beliefs, prices, turbine_failure, agents, model.num_rates - 1)
