"""The passes of an estimator over one part, all with the same stream of noise."""

from collections.abc import Callable
from dataclasses import replace

import torch

from learner.algorithms.policy_terms import Loss
from learner.estimators.draw import Draw
from learner.experience.part import Divisors, Part

LossOf = Callable[[Part, Divisors], Loss]


class Passes:
    """A loss, run as often as asked.

    The first pass settles what all have in common, so it should be the one as deployed.
    """

    def __init__(self, loss_of: LossOf, part: Part, divisors: Divisors) -> None:
        self._loss_of = loss_of
        self._part, self._divisors = part, divisors
        self._before = part.generator.get_state()
        self._first = Draw(0.0)

    def with_gradient(self) -> tuple[Loss, Draw]:
        """The loss of the gates as they were drawn."""
        return self._run(1.0)

    @torch.no_grad()
    def without(self, sign: float) -> Draw:
        """What the same would have cost with other gates."""
        _, draw = self._run(sign)
        return draw

    def _run(self, sign: float) -> tuple[Loss, Draw]:
        draw = Draw(sign, self._first.settled)
        self._part.generator.set_state(self._before)
        return self._loss_of(replace(self._part, draw=draw), self._divisors), draw
