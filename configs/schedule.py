"""Quantities that change with training: exploration rate, gate temperature."""

from collections.abc import Callable


def linear(start: float, end: float, steps: int) -> Callable[[int], float]:
    """A straight line from `start` at step 0 to `end` at `steps`, constant from there on."""

    def value(step: int) -> float:
        return end + (start - end) * max(1.0 - step / steps, 0.0)

    return value


def exponential(start: float, end: float, steps: int) -> Callable[[int], float]:
    """Equal factors from `start` at step 0 to `end` at `steps`, constant from there on; both are
    above 0. From 1.0 to 0.25 over 100 steps it is 0.5 at step 50.
    """

    def value(step: int) -> float:
        return end * (start / end) ** max(1.0 - step / steps, 0.0)

    return value
