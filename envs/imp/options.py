"""What an IMP environment can be asked to be.

--env imp --agents 50 --env.options kind=correlated,campaign_cost=true
"""

from dataclasses import dataclass
from typing import Literal

from configs.schema.limits import MAX_AGENTS
from envs.imp.k_out_of_n import usual_k

Kind = Literal["uncorrelated", "correlated", "owf"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImpOptions:
    kind: Kind = "correlated"
    """uncorrelated, correlated: a k-out-of-n system; owf: an offshore wind farm whose parameters
    are synthetic, with two agents for each turbine."""

    campaign_cost: bool = True
    """Whether a step with any inspection or repair costs 5 more, and a single inspection less."""

    k: int = 0
    """Components that must work, of a k-out-of-n system; 0 takes 48 of 50, 95 of 100, all but one
    of a few."""

    discounted_rewards: bool = False
    """Whether rewards are multiplied by 0.95^t, as IMP-MARL's environment does: then the return is
    the discounted one, and a learner discounts twice unless its gamma is 1."""

    agent_id: bool = True
    """Whether an observation ends with the agent's number, one-hot: components look alike at first,
    and agents that see the same do the same."""

    last_action: bool = True
    """Whether an observation has the agent's last action, one-hot; zeros at first."""

    heuristic_return: float | None = None
    """What the expert heuristic reaches, for the normalised score; None takes the known figure.
    python -m runtime.imp_heuristic finds it for other sizes."""

    def __post_init__(self) -> None:
        if self.k < 0:
            raise ValueError(f"k must be 0 or more, got {self.k}")
        if self.kind == "owf" and self.k:
            raise ValueError("k is of k-out-of-n systems: leave it out with kind=owf")
        if self.heuristic_return is not None and not self.heuristic_return < 0.0:
            raise ValueError(
                f"heuristic_return must be less than 0, as all returns, got {self.heuristic_return}"
            )

    def k_of(self, num_agents: int) -> int:
        """Components that must work; 0 for a wind farm.

        Raises:
            ValueError: more than there are.
        """
        if self.kind == "owf":
            return 0
        if self.k > num_agents:
            raise ValueError(
                f"k must be at most the number of agents, got {self.k} of {num_agents}"
            )
        return self.k or usual_k(num_agents)

    def check_size(self, num_agents: int) -> None:
        """Refuse a population.

        Raises:
            ValueError: not with so many agents.
        """
        if not 2 <= num_agents <= MAX_AGENTS:
            raise ValueError(f"imp takes between 2 and {MAX_AGENTS} agents, got {num_agents}")
        if self.kind == "owf" and num_agents % 2:
            raise ValueError(
                f"imp with kind=owf has two agents for each turbine: give an even number, got "
                f"{num_agents}"
            )
        self.k_of(num_agents)
