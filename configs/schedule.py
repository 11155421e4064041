"""Quantities that change with training: exploration rate, gate temperature."""

from collections.abc import Callable


def linear(start: float, end: float, steps: int) -> Callable[[int], float]:
    """A straight line from `start` at step 0 to `end` at `steps`, constant from there on."""

    def value(step: int) -> float:
        return end + (start - end) * max(1.0 - step / steps, 0.0)

    return value
