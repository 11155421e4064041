"""Whether a policy uses the same edges in another population: table 7 of the SOPS paper.

    evaluations at two sizes -> activation frequency of every edge -> edges of one vector each
                             -> Pearson's correlation, Jaccard overlap of the most used

Two choices the paper leaves open. Which edges of N agents are those of M > N?

    by sender   sender i < N and an offset that both graphs have: the same agent speaks as far to
                its right. Where the ring of N closes, the receiver is another one
    by pair     entries (i, j) of the two frequency matrices with i, j < N, zeros where the graph
                has no edge. Sparse matrices agree about most of these zeros by construction

And what is a frequency a share of: of all steps of the evaluation, in which an agent that dies
early opens little, or of the steps in which the edge could have been used?

Dimension key: T = steps, N = agents of the smaller population, M = of the larger, K = out-edges.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from configs import streams
from configs.arrays import IntArray
from configs.streams import Role
from learner.studies.diagnostics.realised import RealisedEpisode

SHARES = (0.05, 0.10, 0.20)
"""Of all edges, that are taken for the most used."""

Matching = Literal["sender", "pair"]
Frequency = Literal["steps", "chances"]
READINGS: tuple[tuple[Matching, Frequency], ...] = tuple(
    (matching, frequency) for matching in get_args(Matching) for frequency in get_args(Frequency)
)
"""The first is the one that stands beside the paper's figures."""

_TIE_BREAKS = 32


@dataclass(frozen=True, slots=True, eq=False)
class Activation:
    """How often each edge was used in an evaluation."""

    offsets: tuple[int, ...]
    opened_NK: IntArray
    """Steps in which the edge was open."""
    allowed_NK: IntArray
    """Steps in which it could have been."""
    steps: int
    """All that were played."""

    @classmethod
    def of(cls, episodes: Iterable[RealisedEpisode], offsets: Sequence[int]) -> "Activation":
        """Count over episodes; at least one."""
        opened, allowed, steps = zip(
            *((e.open_TNK.sum(0), e.allowed_TNK.sum(0), len(e.open_TNK)) for e in episodes),
            strict=True,
        )
        return cls(tuple(offsets), np.sum(opened, axis=0), np.sum(allowed, axis=0), sum(steps))

    def frequency(self, of: Frequency) -> NDArray[np.float64]:
        """[N, K] of all steps or of those in which the edge could be used; NaN where it never
        could.
        """
        if of == "steps":
            return self.opened_NK / self.steps
        never_NK = self.allowed_NK == 0
        return np.where(never_NK, np.nan, self.opened_NK / np.where(never_NK, 1, self.allowed_NK))

    def shuffled(self, rng: np.random.Generator) -> "Activation":
        """The same numbers on other edges, drawn at random: what is left of a likeness then comes
        from where edges exist at all.
        """
        order = rng.permutation(self.opened_NK.size)
        opened_NK, allowed_NK = (
            counts.ravel()[order].reshape(counts.shape)
            for counts in (self.opened_NK, self.allowed_NK)
        )
        return Activation(self.offsets, opened_NK, allowed_NK, self.steps)


def matched(
    smaller: Activation, larger: Activation, matching: Matching, of: Frequency
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies of the same edges in both populations, without those that one never could use."""
    agents = len(smaller.opened_NK)
    if matching == "sender":
        both = [offset for offset in smaller.offsets if offset in larger.offsets]
        x, y = (
            a.frequency(of)[:agents, [a.offsets.index(o) for o in both]].ravel()
            for a in (smaller, larger)
        )
    else:
        elsewhere_NN = ~np.eye(agents, dtype=np.bool_)
        x, y = (_matrix(a, of)[:agents, :agents][elsewhere_NN] for a in (smaller, larger))
    known = ~(np.isnan(x) | np.isnan(y))
    return x[known], y[known]


def _matrix(activation: Activation, of: Frequency) -> NDArray[np.float64]:
    """[N, N] frequencies from sender to receiver, zeros where there is no edge."""
    agents = len(activation.opened_NK)
    matrix_NN = np.zeros((agents, agents))
    senders_N, frequency_NK = np.arange(agents), activation.frequency(of)
    for k, offset in enumerate(activation.offsets):
        matrix_NN[senders_N, (senders_N + offset) % agents] = frequency_NK[:, k]
    return matrix_NN


def pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Correlation; NaN where one of the two does not vary."""
    if len(x) < 2 or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def jaccard(x: NDArray[np.float64], y: NDArray[np.float64], share: float, seed: int = 0) -> float:
    """Overlap of the most frequent: edges in both sets over edges in either.

    Each set has round(share × edges) edges, at least one. Chance decides between equal frequencies,
    for each of the two on its own; the result is the mean over 32 such decisions.
    """
    size, rng = max(round(share * len(x)), 1), streams.generator(seed, Role.EQUAL_EDGES)
    overlaps = [
        len(both := _top(x, size, rng) & _top(y, size, rng)) / (2 * size - len(both))
        for _ in range(_TIE_BREAKS)
    ]
    return float(np.mean(overlaps))


def _top(x: NDArray[np.float64], size: int, rng: np.random.Generator) -> set[int]:
    return set(np.lexsort((rng.random(len(x)), -x))[:size].tolist())
