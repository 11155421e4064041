"""How far information gets in h hops over the edges that are open: table 6 of the SOPS paper.

    open edges of every step -> ordered pairs of living agents that h hops join / all such pairs

The paper does not say whether hops are taken within the graph of one step or over successive
steps. Both are here:

    within a step   a pair (i, j) counts at step t if the graph of step t has a path of at most h
                    edges from i to j: what the graph would join if it stood still
    over time       hop number r takes an edge that is open at step t + r - 1; an agent may also
                    keep what it knows, as its own last message is always among those it reads.
                    This is what messages do in a run

Dimension key: T = steps, N = agents, K = out-edges, L = numbers of hops.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from configs.arrays import BoolArray
from learner.studies.diagnostics.realised import RealisedEpisode

HOPS = (2, 3, 4)


def adjacency(edges_TNK: BoolArray, offsets: Sequence[int]) -> BoolArray:
    """[T, N, N] whom an edge leads from row to column; agent i's edge k leads to i + offset k."""
    steps, agents, _ = edges_TNK.shape
    adjacency_TNN = np.zeros((steps, agents, agents), dtype=np.bool_)
    for k, offset in enumerate(offsets):
        for sender in range(agents):
            adjacency_TNN[:, sender, (sender + offset) % agents] |= edges_TNK[:, sender, k]
    return adjacency_TNN


def open_graph(episode: RealisedEpisode, offsets: Sequence[int]) -> BoolArray:
    """[T, N, N] edges that were used; those to agents that do not take part lead nowhere."""
    adjacency_TNN = adjacency(episode.open_TNK, offsets)
    return adjacency_TNN & episode.takes_part_TN[:, None, :]


def whole_graph(episode: RealisedEpisode, offsets: Sequence[int]) -> BoolArray:
    """[T, N, N] all edges between agents that take part: what no gate can exceed."""
    taking_TN = episode.takes_part_TN
    everything_TNK = np.repeat(taking_TN[:, :, None], len(offsets), axis=2)
    return adjacency(everything_TNK, offsets) & taking_TN[:, None, :]


def random_graph(
    open_TNN: BoolArray, takes_part_TN: BoolArray, rng: np.random.Generator
) -> BoolArray:
    """[T, N, N] as many edges as are open, but between pairs drawn from all who take part."""
    drawn_TNN = np.zeros_like(open_TNN)
    for open_NN, taking_N, drawn_NN in zip(open_TNN, takes_part_TN, drawn_TNN, strict=True):
        pairs_NN = taking_N[:, None] & taking_N
        np.fill_diagonal(pairs_NN, False)
        pairs = np.flatnonzero(pairs_NN)
        chosen = rng.choice(pairs, size=int(open_NN.sum()), replace=False)
        drawn_NN.flat[chosen] = True
    return drawn_TNN


def out_degree(episode: RealisedEpisode) -> float:
    """Open out-edges of a living agent, mean over its steps."""
    open_TN = episode.open_TNK.sum(axis=2) * episode.alive_TN
    return float(open_TN.sum() / max(int(episode.alive_TN.sum()), 1))


def coverage(
    graph_TNN: BoolArray, alive_TN: BoolArray, hops: Sequence[int] = HOPS
) -> NDArray[np.float64]:
    """[L] share of ordered pairs of living agents joined within one step's graph.

    The mean over all steps with at least two living agents; NaN if there is none.
    """
    reach_TNN = np.broadcast_to(np.eye(alive_TN.shape[1], dtype=np.bool_), graph_TNN.shape)
    shares: dict[int, float] = {}
    for hop in range(1, max(hops) + 1):
        reach_TNN = _further(reach_TNN, graph_TNN)
        shares[hop] = _share(reach_TNN, alive_TN)
    return np.array([shares[hop] for hop in hops])


def coverage_over_time(
    graph_TNN: BoolArray, alive_TN: BoolArray, hops: Sequence[int] = HOPS
) -> NDArray[np.float64]:
    """[L] share of ordered pairs of living agents joined by hops over successive steps.

    The mean over all first steps t for which the episode has a step t + h - 1; the pairs are those
    of agents that live at both. NaN if there are none.
    """
    steps, agents = alive_TN.shape
    reach_TNN = np.broadcast_to(np.eye(agents, dtype=np.bool_), graph_TNN.shape)
    shares = dict.fromkeys(hops, float("nan"))
    for hop in range(1, min(max(hops), steps) + 1):
        starts = steps - hop + 1
        reach_TNN = _further(reach_TNN[:starts], graph_TNN[hop - 1 :])
        shares[hop] = _share(reach_TNN, alive_TN[:starts] & alive_TN[hop - 1 :])
    return np.array([shares[hop] for hop in hops])


def _further(reach_TNN: BoolArray, graph_TNN: BoolArray) -> BoolArray:
    """[T, N, N] one hop more; the product is in float32, for which there is a fast library."""
    paths_TNN = reach_TNN.astype(np.float32) @ graph_TNN.astype(np.float32)
    return reach_TNN | (paths_TNN > 0.0)


def _share(reach_TNN: BoolArray, alive_TN: BoolArray) -> float:
    """Of ordered pairs of living agents, mean over the steps that have any."""
    living_T = alive_TN.sum(axis=1, dtype=np.int64)
    pairs_T = living_T * (living_T - 1)
    # An agent always reaches itself, and that is no pair.
    joined_TNN = reach_TNN & alive_TN[:, :, None] & alive_TN[:, None, :]
    joined_T = joined_TNN.sum(axis=(1, 2), dtype=np.int64) - living_T
    counts = pairs_T > 0
    return float((joined_T[counts] / pairs_T[counts]).mean()) if counts.any() else float("nan")
