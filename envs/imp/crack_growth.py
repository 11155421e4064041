"""Models from the physics: cracks grow by Paris' law in a Monte Carlo simulation.

    d' = [(1 - m/2) C (√π S)^m n + d^(1 - m/2)]^(1 / (1 - m/2))      a year of n cycles of stress S
    samples of (d, C, S) -> counts of bin -> bin by year -> transition probabilities

The parameters of `K_OUT_OF_N` and the bins are IMP-MARL's (Leroy et al., 2023, appendix; its
generate_models.ipynb): they give its uncorrelated model anew. Those of `TURBINE` are ours, because
IMP-MARL's are not public: results with them are not comparable with published ones.

    write(folder) -> uncorrelated.npz, owf.npz

Dimension key: R = deterioration rates, F = bins of damage.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from configs import streams
from configs.streams import Role
from envs.imp.deterioration import Deterioration, RealArray

CRITICAL_MM = 20.0
"""Crack size of a failed component."""
_SMALLEST_MM = 1e-4
"""Upper end of the first bin."""
_CHUNK = 250_000
"""Samples at a time, for the sake of memory."""


@dataclass(frozen=True, slots=True)
class Crack:
    """A component's physics."""

    years: int
    """Steps of an episode, and one less than there are deterioration rates."""
    bins: int
    """F"""
    stress_mpa: float
    """Mean of the normal stress range."""
    stress_std_mpa: float
    detection_mm: float
    """Crack size that an inspection finds with probability 1 - 1/e."""
    first_mm: float = 1.0
    """Mean of the exponential first crack."""
    cycles: float = 1e6
    """Load cycles in a year."""
    exponent: float = 3.5
    """Paris' m."""
    log_c: float = -35.2
    """Mean of the normal ln C."""
    log_c_std: float = 0.5


K_OUT_OF_N = Crack(years=30, bins=30, stress_mpa=70.0, stress_std_mpa=10.0, detection_mm=8.0)
TURBINE = (
    Crack(years=20, bins=60, stress_mpa=78.0, stress_std_mpa=10.0, detection_mm=8.0),
    Crack(years=20, bins=60, stress_mpa=82.0, stress_std_mpa=10.0, detection_mm=10.0),
    Crack(years=20, bins=60, stress_mpa=62.0, stress_std_mpa=10.0, detection_mm=10.0),
)
"""Above the water, below it, and at the mudline, which nobody can reach. SYNTHETIC."""

SAMPLES = 10_000_000
"""Behind the shipped models; IMP-MARL takes a tenth of it."""
SEED = 2023


def edges(bins: int) -> RealArray:
    """[F + 1] ends of the bins: those between the first and the last are equal in logarithm."""
    inner = np.geomspace(_SMALLEST_MM, CRITICAL_MM, bins - 1)
    return np.concatenate(([1e-100], inner, [1e20]))


def simulate(crack: Crack, samples: int, rng: np.random.Generator) -> Deterioration:
    """Let so many cracks grow and count.

    Returns:
        A model with one level.
    """
    counts_RFF = np.zeros((crack.years, crack.bins, crack.bins))
    first_F = np.zeros(crack.bins)
    ends = edges(crack.bins)
    for begin in range(0, samples, _CHUNK):
        size = min(_CHUNK, samples - begin)
        sizes = rng.exponential(crack.first_mm, size)
        c = rng.lognormal(crack.log_c, crack.log_c_std, size)
        stress = rng.normal(crack.stress_mpa, crack.stress_std_mpa, size)
        power = 1.0 - crack.exponent / 2.0
        growth = power * c * (np.sqrt(np.pi) * stress) ** crack.exponent * crack.cycles
        now = _bins(sizes, ends)
        first_F += np.bincount(now, minlength=crack.bins)
        for year in range(crack.years):
            sizes = _grown(sizes, growth, power)
            then = _bins(sizes, ends)
            pairs = np.bincount(now * crack.bins + then, minlength=crack.bins**2)
            counts_RFF[year] += pairs.reshape(crack.bins, crack.bins)
            now = then
    return Deterioration(
        initial_LF=(first_F / samples)[None],
        transition_LRFF=_probabilities(counts_RFF)[None],
        detection_LF=detection(crack)[None],
    )


def detection(crack: Crack) -> RealArray:
    """[F] chance of being found: exponential in the middle of a crack's bin."""
    ends = edges(crack.bins)
    middles = (ends[:-1] + ends[1:]) / 2.0
    middles[-1] = CRITICAL_MM + 1.0
    return 1.0 - np.exp(-middles / crack.detection_mm)


def _bins(sizes: RealArray, ends: RealArray) -> "np.ndarray[tuple[int], np.dtype[np.intp]]":
    return np.searchsorted(ends, sizes, side="right") - 1


def _grown(sizes: RealArray, growth: RealArray, power: float) -> RealArray:
    """A year later; a crack that would be infinite within the year has failed."""
    base = growth + sizes**power
    larger = np.maximum(base, 1e-12) ** (1.0 / power)
    return np.where((base <= 0.0) | (larger > CRITICAL_MM), CRITICAL_MM + 0.1, larger)


def _probabilities(counts_RFF: RealArray) -> RealArray:
    """[R + 1, F, F] shares of each row. A bin that no sample was in stays as it is; the rate after
    the last year is that of the last year.
    """
    totals_RF1 = counts_RFF.sum(-1, keepdims=True)
    stays_FF = np.eye(counts_RFF.shape[-1])
    shares_RFF = np.where(totals_RF1 > 0.0, counts_RFF / np.maximum(totals_RF1, 1.0), stays_FF)
    return np.concatenate((shares_RFF, shares_RFF[-1:]))


def simulate_turbine(samples: int, seed: int) -> Deterioration:
    """The three levels of a wind turbine as one model."""
    levels = [
        simulate(crack, samples, streams.generator(seed, Role.CRACK_GROWTH, level=level))
        for level, crack in enumerate(TURBINE, 1)
    ]
    return Deterioration(
        initial_LF=np.concatenate([level.initial_LF for level in levels]),
        transition_LRFF=np.concatenate([level.transition_LRFF for level in levels]),
        detection_LF=np.concatenate([level.detection_LF for level in levels]),
    )


def write(folder: Path) -> None:
    """Write the models that the package ships: uncorrelated.npz and owf.npz."""
    rng = streams.generator(SEED, Role.CRACK_GROWTH, level=0)
    simulate(K_OUT_OF_N, SAMPLES, rng).save(folder / "uncorrelated.npz")
    simulate_turbine(SAMPLES, SEED).save(folder / "owf.npz")
