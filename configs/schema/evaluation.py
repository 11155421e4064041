"""When and how often the policy is evaluated during training."""

from dataclasses import dataclass
from typing import Annotated

from configs.ranges import between, check_ranges, within
from configs.schema.limits import MAX_EPISODES, MAX_STEPS


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    interval_steps: Annotated[int, between(0, MAX_STEPS)] = 20_000
    """Environment steps between evaluations during training; 0 evaluates only at the end."""

    episodes: Annotated[int, between(0, MAX_EPISODES)] = 20
    """Greedy episodes of each evaluation; 0 switches evaluations off."""

    sampled: bool = False
    """Draw actions in evaluations as in training, from the policy's probabilities. For algorithms
    that learn such a policy; for a game in which one who is predicted loses."""

    stop_at: Annotated[float | None, within(-1e6, 1e6)] = None
    """Training ends as soon as an evaluation reaches this figure: the share won in Battle, else the
    mean return or the environment's own headline figure. None trains for all steps. The
    policy at that moment stays in policy-best.safetensors unless a later evaluation is as good."""

    def __post_init__(self) -> None:
        check_ranges(self, "evaluation")
