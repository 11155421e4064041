"""The gate: which edges of the backbone carry a message at this step (SOPS, equations 2 to 4).

    z_i, z_j, e_k -> scorer -> score -> open iff score > 0 (training: score + noise > 0)
                                        and, with a budget b, among the agent's b highest scores

Dimension key: E = copies, K = offsets, Z = beacon, S = scorer units, F = edge features.
"""

from collections.abc import Mapping

import numpy as np

from configs.arrays import BoolArray, FloatArray
from runtime.net import topology

EDGE_FEATURES = 4
"""Numbers that describe an offset before they are embedded (`edge_features`)."""

_ZERO = np.float32(0.0)


def edge_features(num_agents: int) -> FloatArray:
    """[K, 4] what describes offset 2^k on a ring of N: k/8, x, sin 2πx and cos 2πx with x = 2^k/N.

    A function of k and N and not a table, so that it means something for offsets that training
    never saw (20 agents know five, 100 use seven).
    """
    offsets = np.array(topology.offsets(num_agents), dtype=np.float64)
    share = offsets / num_agents
    index = np.arange(len(offsets)) / 8.0
    features = (index, share, np.sin(2.0 * np.pi * share), np.cos(2.0 * np.pi * share))
    return np.stack(features, axis=1).astype(np.float32)


class Scorer:
    """The pairwise scorer f(z_i, z_j, e_k) for one sender and its K out-neighbours.

    The first layer acts on a concatenation, so it splits into W_i z_i + W_j z_j + W_e e_k; the last
    term depends on the policy and N only and is computed once per policy version.
    """

    def __init__(self, tensors: Mapping[str, FloatArray], features_KF: FloatArray) -> None:
        weight = tensors["scorer_hidden.weight"]
        beacon = tensors["beacon.bias"].shape[0]
        embedding_KG = np.tanh(features_KF @ tensors["edge.weight"].T + tensors["edge.bias"])
        self._own_ZS = np.ascontiguousarray(weight[:, :beacon].T)
        self._peer_ZS = np.ascontiguousarray(weight[:, beacon : 2 * beacon].T)
        self._edge_KS = embedding_KG @ weight[:, 2 * beacon :].T + tensors["scorer_hidden.bias"]
        self._out_S = tensors["scorer_out.weight"][0]
        self._out_bias = tensors["scorer_out.bias"][0]

    def __call__(self, own_EZ: FloatArray, peers_EKZ: FloatArray) -> FloatArray:
        """[E, K] scores of the edges to the K out-neighbours whose beacons these are."""
        copies, peers, beacon = peers_EKZ.shape
        own_ES = own_EZ.dot(self._own_ZS)
        # All peers of all copies in one product: a stack of small ones costs more to start.
        rows = np.dot(peers_EKZ.reshape(copies * peers, beacon), self._peer_ZS)
        hidden_EKS: FloatArray = rows.reshape(copies, peers, -1)
        hidden_EKS += own_ES[:, None]
        hidden_EKS += self._edge_KS
        np.maximum(rows, _ZERO, out=rows)
        scores: FloatArray = rows.dot(self._out_S)
        scores += self._out_bias
        return scores.reshape(copies, peers)


def within_budget(scores_EK: FloatArray, candidates_EK: BoolArray, budget: int) -> BoolArray:
    """[E, K] the candidates that an agent opens: its `budget` highest scores, of equal ones the
    lower offset; all of them where the budget is 0 (none) or not smaller than K.

    `learner.comm.gates` ranks in the same way.
    """
    if not 0 < budget < candidates_EK.shape[1]:
        return candidates_EK
    ranked_EK = np.where(candidates_EK, -scores_EK, np.inf)
    best_EB = np.argsort(ranked_EK, axis=1, kind="stable")[:, :budget]
    chosen_EK = np.zeros_like(candidates_EK)
    np.put_along_axis(chosen_EK, best_EB, np.True_, axis=1)
    return chosen_EK & candidates_EK


def logistic_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    """Difference of two Gumbel variables, Logistic(0, 1) (equation 3)."""
    return rng.logistic(size=shape).astype(np.float32)
