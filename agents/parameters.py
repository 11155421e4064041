"""Which policy version an agent or a node has, and how it gets to the next.

    DenseParameters | DeltaParameters -> ParameterStore.apply -> APPLIED | OLD | GAP

A delta is applied to its own base and to nothing else; a gap asks for a snapshot.
"""

from enum import Enum, auto

import numpy as np

from agents.policy import FloatArray, checksum
from runtime import wire


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

    def apply(self, packet: wire.DenseParameters | wire.DeltaParameters) -> Outcome:
        if packet.version <= self.version:
            return Outcome.OLD
        if isinstance(packet, wire.DenseParameters):
            flat = np.array(packet.values, dtype=np.float32)
            if flat.shape != self.flat.shape:
                return Outcome.GAP
        else:
            if packet.base_version != self.version or not self._fits(packet):
                return Outcome.GAP
            flat = self.flat.copy()
            flat[packet.indices] = packet.values
        if checksum(flat) != packet.crc32:
            return Outcome.GAP
        self.flat, self.version = flat, packet.version
        return Outcome.APPLIED

    def _fits(self, packet: wire.DeltaParameters) -> bool:
        same_length = packet.indices.shape == packet.values.shape
        return same_length and (
            packet.indices.size == 0 or int(packet.indices.max()) < self.flat.size
        )

    def snapshot(self) -> wire.DenseParameters:
        return wire.DenseParameters(self.version, checksum(self.flat), self.flat)
