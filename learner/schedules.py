"""What changes over a run: step size, temperature, prices, and how far targets look.

    env_steps -> learning_rate, temperature, price, teacher_coef, looks_ahead

All of it follows the environment steps that the learner has heard of, so that a run that was
interrupted goes on where it was.
"""

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Literal

from configs.schedule import exponential, linear
from configs.schema import RunConfig
from learner.price import EdgePrice
from learner.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

Factor = Literal["temperature", "charge", "teacher_coef"]
FACTORS: tuple[Factor, ...] = ("temperature", "charge", "teacher_coef")
"""What a loss multiplies or divides by."""


class Schedules:
    """Values at this point of the training.

    Args:
        progress: read at every question, never changed.
    """

    def __init__(self, config: RunConfig, progress: Progress) -> None:
        self._run = config
        self._config = config.learner
        self._progress = progress
        self._price = EdgePrice(config.gate)
        self.stand_ins: Mapping[str, Tensor] | None = None
        """Scalars on the device in place of the factors, while an update is recorded
        (learner/captured.py): a number would be the same in every replay."""

    @property
    def learning_rate(self) -> float:
        """Adam's, of everything but what has a share of its own (FACMAC's critic)."""
        first, last = self._config.learning_rate, self._config.learning_rate_end
        return linear(first, last or first, self._run.steps)(self._progress.env_steps)

    @property
    def temperature(self) -> float:
        """Of the gates' surrogate."""
        gate = self._run.gate
        if gate.temperature_schedule == "constant":
            return gate.temperature_start
        falls = {"linear": linear, "exponential": exponential}[gate.temperature_schedule]
        anneal = falls(gate.temperature_start, gate.temperature_end, gate.temperature_steps)
        return anneal(self._progress.env_steps)

    @property
    def price(self) -> float:
        """Of an open edge, in units of reward."""
        return self._price.at(self._progress.env_steps)

    @property
    def charge(self) -> float:
        """The price in scaled reward, as the loss has it."""
        return self.price * self._config.reward_scale

    def factor(self, name: Factor) -> "float | Tensor":
        """A value as a loss takes it."""
        return getattr(self, name) if self.stand_ins is None else self.stand_ins[name]

    @property
    def ways(self) -> Hashable:
        """What decides which operations a loss consists of: whether edges are charged for, whether
        a teacher is imitated, how far targets look.
        """
        return self.price > 0.0, self.teacher_coef > 0.0, self.looks_ahead

    def hear(self, deployed_loss: float) -> None:
        """Take in an update's mean TD loss over the episodes without noise: the price heeds it."""
        self._price.hear(deployed_loss)

    @property
    def deployed_loss(self) -> float | None:
        """Running mean of what was heard; None: nothing was."""
        return self._price.deployed_loss

    @deployed_loss.setter
    def deployed_loss(self, loss: float | None) -> None:
        self._price.deployed_loss = loss

    @property
    def looks_ahead(self) -> bool:
        """Whether targets look further than one step (hybrid TD(λ) of MAST)."""
        return self._progress.env_steps >= self._config.td_lambda_start

    @property
    def teacher_coef(self) -> float:
        """Weight of the teacher's loss."""
        config = self._config
        falls = linear(config.teacher_coef, config.teacher_coef_end, config.teacher_steps)
        return falls(self._progress.env_steps)
