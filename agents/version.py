"""A policy version in numpy, ready to run: network, scheme and Q head on one product.

    observation, hidden, parts -> recur -> hidden -> parts -> message, context -> q-values

Whatever is linear in h is one product, and its columns are called the parts: an agent of one copy
spends more on calls than on arithmetic. For the same reason matrices that follow each other without
anything between them are merged when a version arrives. `learner.network` is the same in torch.

Dimension key: E = copies, H = hidden, P = parts.
"""

from itertools import accumulate, pairwise

import numpy as np

from agents.comm.base import Scheme
from agents.dead_units import without_dead_units
from agents.found import network_of, scheme_of
from agents.head import QHead
from agents.policy import PolicySpec, views
from configs.arrays import FloatArray


class PolicyVersion:
    """All that an agent computes with a version's parameters."""

    def __init__(self, spec: PolicySpec, flat: FloatArray, num_agents: int) -> None:
        network, scheme = network_of(spec.network), scheme_of(spec.scheme)
        tensors, self._living_H = without_dead_units(spec, views(spec, flat))
        self.spec = spec
        self.network = network(spec, tensors)
        self.scheme = scheme(spec, tensors, num_agents)
        head = QHead(tensors, self._living_H.size)

        reads = (*self.network.reads, *self.scheme.reads, *head.reads)
        self._parts_HP = np.concatenate([weight for weight, _ in reads], axis=1)
        self._parts_P = np.concatenate([bias for _, bias in reads])
        ends = accumulate((bias.size for _, bias in reads), initial=0)
        seats = iter([slice(start, stop) for start, stop in pairwise(ends)])
        for part in (self.network, self.scheme, head):
            part.seat([next(seats) for _ in part.reads])

        # Decided once and not in every step: these are called directly.
        self.recur = self.network.recur
        self.message = self.scheme.message
        self.context = self.scheme.context
        self.reads_message = scheme.context is Scheme.context
        """Whether the Q head reads the message itself."""
        self.q_values = head.q_values

    def begin(self, copies: int) -> FloatArray:
        """[E, H] the hidden state before the first step; H counts units that have an effect."""
        return np.zeros((copies, self._living_H.size), dtype=np.float32)

    def adopt(self, hidden_EH: FloatArray, previous: "PolicyVersion") -> FloatArray:
        """[E, H] the hidden state of another version as this one's; units that had no effect there
        begin at zero.
        """
        if np.array_equal(self._living_H, previous._living_H):
            return hidden_EH
        return previous.whole(hidden_EH)[:, self._living_H]

    def whole(self, hidden_EH: FloatArray) -> FloatArray:
        """[E, H] the hidden state with all units, zeros for those that have no effect."""
        if self._living_H.size == self.spec.hidden:
            return hidden_EH
        whole_EH = np.zeros((len(hidden_EH), self.spec.hidden), dtype=np.float32)
        whole_EH[:, self._living_H] = hidden_EH
        return whole_EH

    def parts(self, hidden_EH: FloatArray) -> FloatArray:
        """[E, P] what the next stages need of a hidden state, and the network in the next step."""
        parts_EP: FloatArray = hidden_EH.dot(self._parts_HP)
        parts_EP += self._parts_P
        return parts_EP
