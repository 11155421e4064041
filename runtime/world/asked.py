"""A guide that lives in the learner's process, as the world sees it: asked once in every step.

    what all agents see -> GuideQuestion -> learner -> GuideAnswer -> actions that are played

It plays in the copies that train, or everywhere (configs/algorithms/base.py). The tick ends when
all agents and the guide have answered. Agents choose beside it and are not followed: they keep
their memory of what they have seen and heard, and when they are evaluated they play themselves.

Dimension key: E = copies, N = agents, A = actions.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from configs.arrays import BoolArray, FloatArray
from runtime.net import wire


class AskedGuide:
    """What the guide was asked in this tick, and what it has answered.

    Args:
        plays: whether it plays in copies that train, or in evaluations as well.
    """

    def __init__(self, plays: Literal["training", "always"], num_actions: int) -> None:
        self._everywhere = plays == "always"
        self._num_actions = num_actions
        self._question: wire.GuideQuestion | None = None
        self._answer: wire.GuideAnswer | None = None

    def plays_E(self, flags_E: NDArray[np.uint8]) -> BoolArray:
        """[E] copies in which it plays, by their EXPLORE and REST bits."""
        if self._everywhere:
            return (flags_E & wire.REST) == 0
        return (flags_E & wire.EXPLORE) != 0

    def ask(self, question: wire.GuideQuestion) -> None:
        """Begin a tick; where the guide plays nowhere, nothing is asked."""
        self._question = question if self.plays_E(question.flags).any() else None
        self._answer = None

    @property
    def unanswered(self) -> list[wire.GuideQuestion]:
        """The question that the tick waits for, or nothing."""
        return [self._question] if self._question is not None and self._answer is None else []

    def fault_of(self, answer: wire.GuideAnswer) -> Literal["shape", "range", "stale"] | None:
        """Why an answer changes nothing; None if it counts."""
        question = self._question
        if question is None or self._answer is not None or answer.tick != question.tick:
            return "stale"
        if not answer.actions.shape == answer.log_probs.shape == question.alive.shape:
            return "shape"
        return "range" if int(answer.actions.max(initial=0)) >= self._num_actions else None

    def answered(self, answer: wire.GuideAnswer) -> None:
        """Take an answer that has no fault."""
        self._answer = answer

    def lead(
        self, actions_EN: NDArray[Any], may_EN: BoolArray
    ) -> tuple[BoolArray, FloatArray | None]:
        """[E, N] where the guide plays, which is where its actions take the place of the agents',
        and the log-probabilities of what it plays; None in a tick in which it was not asked.

        Args:
            may_EN: agents that live and have acted.
        """
        question, answer = self._question, self._answer
        self._question = self._answer = None
        if question is None or answer is None:
            return np.zeros_like(may_EN), None
        led_EN = may_EN & self.plays_E(question.flags)[:, None]
        actions_EN[led_EN] = answer.actions[led_EN]
        return led_EN, answer.log_probs
