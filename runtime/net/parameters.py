"""Packets of a policy version, whole or as what differs from an older one."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from runtime.net.codecs import Tensor
from runtime.net.packet import KIB, MIB, U8, U32, Count, PackedMask, Packet, Weights, packet


@packet(12, 64 * MIB)
@dataclass(frozen=True, slots=True, eq=False)
class DenseParameters(Packet):
    """A whole policy version: the flat vector of agents/policy.py and its CRC-32."""

    version: U32
    crc32: U32
    values: Weights


@packet(13, 64 * MIB)
@dataclass(frozen=True, slots=True, eq=False)
class DeltaParameters(Packet):
    """The entries of a version that differ from its base; the CRC-32 is that of the result."""

    version: U32
    base_version: U32
    crc32: U32
    indices: Annotated[NDArray[np.uint32], Tensor(("uint32",), 1, 16 * MIB)]
    values: Weights


@packet(16, 64 * MIB)
@dataclass(frozen=True, slots=True, eq=False)
class SparseParameters(Packet):
    """A whole policy version of which only some weights exist; the others are zero."""

    version: U32
    crc32: U32
    """Of the flat vector, zeros included."""
    size: U32
    """Numbers in that vector."""
    mask: PackedMask
    """Which of them exist."""
    values: Weights
    """Of those that exist, in their order."""


@packet(17, 64 * MIB)
@dataclass(frozen=True, slots=True, eq=False)
class SparseDelta(Packet):
    """How the weights that exist differ from those of the base (agents/sparse_parameters.py)."""

    version: U32
    base_version: U32
    crc32: U32
    mask: PackedMask
    """Which exist now; empty if it is those of the base."""
    width: U8
    """Octets of a number: 4 for float32; 2 where base and result are float16 to the bit."""
    difference: Annotated[NDArray[np.uint8], Tensor(("uint8",), 1, 64 * MIB)]
    """Bits of the new values xor the old ones, octets by their place, deflated."""


@packet(18, KIB)
@dataclass(frozen=True, slots=True)
class SharedVersion(Packet):
    """Node to its agents: a policy version lies in the host's memory (agents/segment.py)."""

    version: U32
    slot: U8
    """Which of the segment's slots holds it."""
    size: Count
    """Octets of it."""
    crc32: U32
    """Of these."""


Parameters = DenseParameters | DeltaParameters | SparseParameters | SparseDelta
PARAMETERS = (DenseParameters, DeltaParameters, SparseParameters, SparseDelta)
"""From the learner to nodes."""
AgentParameters = Parameters | SharedVersion
AGENT_PARAMETERS = (*PARAMETERS, SharedVersion)
"""From a node to its agents."""


@packet(14, KIB)
@dataclass(frozen=True, slots=True)
class SnapshotRequest(Packet):
    """Somebody has version `have` and needs a whole one (0: nothing yet)."""

    have: U32
