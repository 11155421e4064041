"""Which edges carry a message, and what that costs in training."""

from dataclasses import dataclass
from typing import Annotated

from configs.ranges import between, check_ranges, within
from configs.schema.choices import GateEstimator, GateMode, GateTiming, TemperatureSchedule
from configs.schema.fields import require
from configs.schema.limits import MAX_OFFSETS, MAX_STEPS


@dataclass(frozen=True, kw_only=True, slots=True)
class GateConfig:
    timing: GateTiming = "causal"
    """causal: score with the newest beacon heard (one exchange a step); paper: equation 2 (two)."""

    mode: GateMode = "learned"
    """learned: the scorer decides; open or closed: every edge always or never."""

    estimator: GateEstimator = "straight-through"
    """Gradient of drawn gates. straight-through: of the Gumbel-sigmoid, the paper's;
    score-function: REINFORCE, with the loss as deployed for a baseline (two unrolls an update);
    arm: augment-REINFORCE-merge (three)."""

    temperature_schedule: TemperatureSchedule = "linear"
    """linear: falls by equal steps, the paper's; exponential: by equal factors; constant: stays at
    temperature_start."""

    temperature_start: Annotated[float, within(0.01, 100.0)] = 1.0
    """Gumbel-sigmoid temperature at the beginning of training."""

    temperature_end: Annotated[float, within(0.01, 100.0)] = 0.3
    """Temperature after the annealing."""

    temperature_steps: Annotated[int, between(1, MAX_STEPS)] = 500_000
    """Environment steps over which the temperature falls."""

    budget: Annotated[int, between(0, MAX_OFFSETS)] = 0
    """Edges that an agent may open in one step, those with its highest scores; 0 sets no limit."""

    noise_share: Annotated[float, within(0.0, 1.0)] = 1.0
    """Share of a batch's episodes that the learner unrolls with noisy gates, the others as they
    will be played; 1 is the paper's. With a price, 0.5 keeps a policy from relying on edges that
    only chance opens."""

    price: Annotated[float, within(0.0, 1000.0)] = 0.0
    """What an open edge costs an agent in one step, charged in the learner's loss; 0 is free."""

    price_start: Annotated[int, between(0, MAX_STEPS)] = 0
    """Environment steps before anything is charged: what no message has taught yet is worth
    nothing, and an early price shuts the gate for good."""

    price_steps: Annotated[int, between(0, MAX_STEPS)] = 0
    """Environment steps over which the price rises linearly from 0 to its full height."""

    price_loss: Annotated[float, within(0.0, 1e6)] = 0.0
    """Mean squared TD error of the episodes without noise up to which the price is charged; from
    there it falls, to nothing at twice as much. 0 charges whatever the loss."""

    def __post_init__(self) -> None:
        check_ranges(self, "gate")
        require(
            self.temperature_schedule == "constant"
            or self.temperature_end <= self.temperature_start,
            "gate.temperature_end must not be above gate.temperature_start, got "
            f"{self.temperature_end} with start {self.temperature_start}",
        )
        require(
            self.price_loss == 0.0 or self.noise_share < 1.0,
            "gate.price_loss looks at episodes without noise: give gate.noise_share less than 1",
        )
        require(
            self.estimator == "straight-through" or self.noise_share > 0.0,
            f"gate.estimator {self.estimator} learns from gates that noise has drawn: give "
            "gate.noise_share more than 0",
        )
