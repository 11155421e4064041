"""Which policy version an agent or a node has, and how it gets to the next.

    wire.Parameters (dense, sparse or a delta) -> ParameterStore.apply -> APPLIED | OLD | GAP

A delta is applied to its own base and to nothing else; a gap asks for a snapshot.
"""

from enum import Enum, auto

import numpy as np

from agents import sparse_parameters
from agents.policy import PolicySpec, checksum
from agents.sparse_parameters import Masked, narrowest
from agents.version import PolicyVersion
from configs.arrays import BoolArray, FloatArray
from runtime.net import wire


class Outcome(Enum):
    APPLIED = auto()
    OLD = auto()
    """The version is not newer than ours."""
    GAP = auto()
    """Its base is not what we have, or the result is not what was sent: ask for a snapshot."""


class ParameterStore:
    """The newest version known. A version is a fresh array, so a running step keeps the old one."""

    def __init__(self, flat: FloatArray, version: int) -> None:
        self.flat: FloatArray = flat
        self.version: int = version
        self._mask: BoolArray | None = None
        """[P] which weights exist; None if the newest version came dense and nobody has said."""

    def apply(self, packet: wire.AgentParameters) -> Outcome:
        if packet.version <= self.version:
            return Outcome.OLD
        masked: Masked | None = None
        flat: FloatArray | None
        match packet:
            case wire.DenseParameters():
                flat = np.array(packet.values, dtype=np.float32)
            case wire.DeltaParameters():
                flat = self._with_changes(packet)
            case wire.SparseParameters():
                masked = sparse_parameters.from_whole(packet, self.flat.size)
                flat = None if masked is None else masked.flat
            case wire.SparseDelta():
                masked = self._with_difference(packet)
                flat = None if masked is None else masked.flat
            case wire.SharedVersion():  # it lies where we cannot look
                flat = None
        if flat is None or flat.shape != self.flat.shape or checksum(flat) != packet.crc32:
            return Outcome.GAP
        self.flat, self.version = flat, packet.version
        self._mask = None if masked is None else masked.mask
        return Outcome.APPLIED

    def replace(self, flat: FloatArray, version: int) -> None:
        """Have this version from now on, also if it is older than ours."""
        self.flat, self.version, self._mask = flat, version, None

    def expect(self, version: int) -> None:
        """Take this version when it comes, also if it is older than ours: a deployed policy may be
        taken back.
        """
        self.version = min(self.version, version - 1)

    def policy(self, spec: PolicySpec, num_agents: int, agent: int = 0) -> PolicyVersion:
        """The newest version, ready to be run by an agent."""
        return PolicyVersion(spec.one, spec.own(self.flat, agent), num_agents)

    def _with_changes(self, packet: wire.DeltaParameters) -> FloatArray | None:
        if packet.base_version != self.version or not self._fits(packet):
            return None
        flat = self.flat.copy()
        flat[packet.indices] = packet.values
        return flat

    def _fits(self, packet: wire.DeltaParameters) -> bool:
        same_length = packet.indices.shape == packet.values.shape
        return same_length and (
            packet.indices.size == 0 or int(packet.indices.max()) < self.flat.size
        )

    def _with_difference(self, packet: wire.SparseDelta) -> Masked | None:
        if packet.base_version != self.version or self._mask is None:
            return None
        return sparse_parameters.from_delta(packet, Masked(self.flat, self._mask))

    def snapshot(self) -> wire.DenseParameters | wire.SparseParameters:
        """The whole version: sparse if it came so."""
        if self._mask is not None:
            return sparse_parameters.whole(self.version, Masked(self.flat, self._mask))
        return wire.DenseParameters(self.version, checksum(self.flat), narrowest(self.flat))
