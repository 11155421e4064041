"""Area under a learning curve: how much was reached, and how early.

    steps [P], figure [P] -> ∫ figure d(steps) / (last step - first step)

The trapezoid over environment steps, divided by the span, so that it has the unit of the figure: a
policy that always wins has an AUC of 1 (SOPS, tables 4 and 5; the paper does not write the
formula, its numbers are of this size).
"""

from collections.abc import Sequence

import numpy as np


def area_under_curve(steps: Sequence[float], figure: Sequence[float]) -> float | None:
    """Mean height of the straight lines between the points; None with fewer than two.

    Args:
        steps: in ascending order; two tests may fall on the same step.
        figure: what each test has reached.

        area_under_curve([0, 10, 30], [0.0, 1.0, 1.0]) == 25 / 30
    """
    if len(steps) != len(figure):
        raise ValueError(f"{len(steps)} steps for {len(figure)} figures")
    x_P, y_P = np.asarray(steps, dtype=np.float64), np.asarray(figure, dtype=np.float64)
    if len(x_P) < 2 or x_P[-1] == x_P[0]:
        return None
    if (np.diff(x_P) < 0.0).any():
        raise ValueError("steps: want ascending order")
    return float(np.trapezoid(y_P, x_P) / (x_P[-1] - x_P[0]))
