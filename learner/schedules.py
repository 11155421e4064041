"""What changes over a run: step size, temperature, prices, and how far targets look.

    env_steps -> learning_rate, temperature, price, teacher_coef, looks_ahead

All of it follows the environment steps that the learner has heard of, so that a run that was
interrupted goes on where it was.
"""

from configs.schedule import linear
from configs.schema import RunConfig
from learner.price import EdgePrice
from learner.progress import Progress


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

    @property
    def learning_rate(self) -> float:
        """Adam's, of everything but what has a share of its own (FACMAC's critic)."""
        first, last = self._config.learning_rate, self._config.learning_rate_end
        return linear(first, last or first, self._run.steps)(self._progress.env_steps)

    @property
    def temperature(self) -> float:
        """Of the gates' surrogate."""
        gate = self._run.gate
        anneal = linear(gate.temperature_start, gate.temperature_end, gate.temperature_steps)
        return anneal(self._progress.env_steps)

    @property
    def price(self) -> float:
        """Of an open edge, in units of reward."""
        return self._price.at(self._progress.env_steps)

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
        falls = linear(self._config.teacher_coef, 0.0, self._config.teacher_steps)
        return falls(self._progress.env_steps)
