"""When and how often the policy is evaluated during training."""

from dataclasses import dataclass
from typing import Annotated

from configs.ranges import between, check_ranges
from configs.schema.limits import MAX_EPISODES, MAX_STEPS


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    interval_steps: Annotated[int, between(0, MAX_STEPS)] = 20_000
    """Environment steps between evaluations during training; 0 evaluates only at the end."""

    episodes: Annotated[int, between(0, MAX_EPISODES)] = 20
    """Greedy episodes of each evaluation; 0 switches evaluations off."""

    def __post_init__(self) -> None:
        check_ranges(self, "evaluation")
