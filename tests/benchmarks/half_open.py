"""A policy whose learned gate keeps half of the edges open, whatever it sees.

    any policy -> the scorer reads the edge type alone -> offsets below the middle are open

What gates cost depends on the share that is open and not on who has learned what, so a benchmark
wants a share that it can state before anybody has trained.
"""

from dataclasses import replace

import numpy as np

from agents.comm.gate import edge_features
from agents.policy import PolicyFile, views
from runtime.net import topology

_STEEP = 100.0
"""Makes a step of the edge embedding's tanh: neighbouring offsets differ by 1/8 in what it sees."""


def half_open_policy(policy: PolicyFile, num_agents: int) -> PolicyFile:
    """The same policy with another scorer: of K offsets the shortest (K + 1) // 2 are open."""
    num_offsets = len(topology.offsets(num_agents))
    index_K = edge_features(num_agents)[:, 0]
    below = (num_offsets + 1) // 2 - 1
    # A network of two agents has one offset, which is open.
    middle = (index_K[below] + index_K[min(below + 1, num_offsets - 1)] + 1e-3) / 2.0
    flat = policy.flat.copy()
    tensors = views(policy.spec, flat)
    for name in ("edge.weight", "edge.bias", "scorer_hidden.weight", "scorer_hidden.bias"):
        tensors[name][...] = 0.0
    tensors["edge.weight"][0, 0] = _STEEP
    tensors["edge.bias"][0] = -_STEEP * middle
    tensors["scorer_hidden.weight"][0, 2 * policy.spec.beacon] = 1.0  # reads that embedding
    tensors["scorer_out.weight"][...] = np.float32(-1.0)  # +1 beyond the middle closes
    tensors["scorer_out.bias"][...] = np.float32(0.5)
    return replace(policy, flat=flat)
