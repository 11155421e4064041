"""How sure a mean is: over seeds, and over scenarios and seeds together.

    values of R seeds               -> mean, 95 % interval of Student's t
    scores [R seeds, M scenarios]   -> interquartile mean, 95 % interval of a stratified bootstrap

The second is rliable's (Agarwal et al., 2021): seeds are drawn anew within each scenario.
"""

import importlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from configs.errors import UserError

CONFIDENCE = 0.95
_REPETITIONS = 2_000


class Interval(NamedTuple):
    """A mean and its limits, which a single value has not."""

    mean: float
    low: float | None = None
    high: float | None = None
    number: int = 1

    @property
    def half(self) -> float | None:
        """Half of its width; None if it has none."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2.0


def over_seeds(values: Sequence[float]) -> Interval | None:
    """Mean with its 95 % interval by Student's t; None without any value."""
    if not values:
        return None
    mean, number = float(np.mean(values)), len(values)
    if number == 1:
        return Interval(mean)
    error = float(np.std(values, ddof=1)) / number**0.5
    half = student(number - 1) * error
    return Interval(mean, mean - half, mean + half, number)


def student(freedom: int) -> float:
    """The quantile of Student's t that 95 % of it lie within.

    student(2) == 4.303, which makes three seeds so unsure.
    """
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    # Cornish and Fisher's expansion around the normal quantile: four digits from here on.
    z = 1.959963984540054
    g1 = (z**3 + z) / 4.0
    g2 = (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0
    g3 = (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0
    g4 = (79.0 * z**9 + 776.0 * z**7 + 1482.0 * z**5 - 1920.0 * z**3 - 945.0 * z) / 92160.0
    return z + g1 / freedom + g2 / freedom**2 + g3 / freedom**3 + g4 / freedom**4


_STUDENT = (
    12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157,
)  # fmt: skip
"""By degrees of freedom, from 1: a study runs without scipy."""


def over_scenarios(scores: Mapping[str, NDArray[np.float64]], seed: int = 0) -> dict[str, Interval]:
    """Interquartile means with their intervals.

    Args:
        scores: [R, M] by arm: a row for each seed, a column for each scenario.
        seed: of the bootstrap.

    Raises:
        UserError: rliable is not installed.
    """
    library, metrics = _rliable()

    def interquartile(scores_RM: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([metrics.aggregate_iqm(scores_RM)])

    with _drawing(seed):
        means, limits = library.get_interval_estimates(
            dict(scores), interquartile, reps=_REPETITIONS, confidence_interval_size=CONFIDENCE
        )
    found: dict[str, Interval] = {}
    for arm, scores_RM in scores.items():
        low, high = limits[arm][:, 0]
        found[arm] = Interval(float(means[arm][0]), float(low), float(high), len(scores_RM))
    return found


Profile = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""[P] each: share, and the limits of its interval."""


def profiles(
    scores: Mapping[str, NDArray[np.float64]], taus_P: NDArray[np.float64], seed: int = 0
) -> dict[str, Profile]:
    """Share of all runs whose score is above each tau, by arm.

    Args:
        scores: [R, M] by arm, as `over_scenarios` takes them.

    Raises:
        UserError: rliable is not installed.
    """
    library, _ = _rliable()
    with _drawing(seed):
        shares, limits = library.create_performance_profile(
            dict(scores), taus_P, reps=_REPETITIONS, confidence_interval_size=CONFIDENCE
        )
    return {arm: (shares[arm], *limits[arm]) for arm in scores}


@contextmanager
def _drawing(seed: int) -> Generator[None]:
    """Whatever state it is handed, rliable draws from numpy's global stream."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def _rliable() -> tuple[Any, Any]:
    try:
        return importlib.import_module("rliable.library"), importlib.import_module(
            "rliable.metrics"
        )
    except (ImportError, TypeError) as error:  # TypeError: arch 7 with a pandas that is too new
        raise UserError(
            f"means over scenarios need rliable ({error}): install it with "
            'pip install -e ".[studies]"'
        ) from error
