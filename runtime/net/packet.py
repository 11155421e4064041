"""What all packets have in common: their base, their kinds, and the types of their fields.

@packet(kind, largest) -> a kind of packet, known to runtime/net/wire.py by its number
"""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from runtime.net.codecs import Real, Tensor, Text, Uint

VERSION = 3
BODY_VERSION = 1
"""Of the packets between a body and its agent, which others implement too (docs/body.md)."""

KIB = 1024
MIB = 1024 * KIB

Flag = Annotated[int, Uint(1)]
U8 = Annotated[int, Uint(8)]
U16 = Annotated[int, Uint(16)]
U32 = Annotated[int, Uint(32)]
Count = Annotated[int, Uint(53)]
"""A number that others add up or convert: exact as a float, and far from what an int64 holds."""
U64 = Annotated[int, Uint(64)]
F64 = Annotated[float, Real()]
Label = Annotated[str, Text()]

# Largest numbers of things in one packet: copies and agents (configs/schema/).
MOST_COPIES = 1024
MOST_AGENTS = 4096
MOST_HOSTS = 256
MOST_WORDS = 4
"""W, of a mask of edges: 64 bits each (MOST_EDGES in configs/schema/limits.py)."""

PerCopyU8 = Annotated[NDArray[np.uint8], Tensor(("uint8",), 1, MOST_COPIES)]
PerCopyU16 = Annotated[NDArray[np.uint16], Tensor(("uint16",), 1, MOST_COPIES)]
EdgeMasks = Annotated[NDArray[Any], Tensor(("uint16", "uint64"), 1, MOST_WORDS * MOST_COPIES, 2)]
"""[E] or [E, W] a bit for each edge, as in runtime/net/edge_bits.py."""
PerCopyU32 = Annotated[NDArray[np.uint32], Tensor(("uint32",), 1, MOST_COPIES)]
Rows = Annotated[NDArray[Any], Tensor(("float32", "float16", "int8", "uint8"), 2, 4 * MIB)]
PackedRows = Annotated[NDArray[np.uint8], Tensor(("uint8",), 2, 4 * MIB)]
Actions = Annotated[NDArray[Any], Tensor(("uint8", "uint16", "float32"), 1, MIB, 2)]
Counts = Annotated[NDArray[np.uint64], Tensor(("uint64",), 1, 4096)]
# float16 where every number is one to the bit.
Weights = Annotated[NDArray[Any], Tensor(("float32", "float16"), 1, 16 * MIB)]
PackedMask = Annotated[NDArray[np.uint8], Tensor(("uint8",), 1, 2 * MIB + 1)]
CountsByHost = Annotated[NDArray[np.uint64], Tensor(("uint64",), 2, 64 * KIB)]


class Packet:
    """Base of all packet types. FORMAT and KIND are the first two elements on the wire, LARGEST is
    the size limit."""

    FORMAT: ClassVar[int]
    KIND: ClassVar[int]
    LARGEST: ClassVar[int]
    __slots__ = ()


_P = TypeVar("_P", bound=type[Packet])
KINDS: dict[int, type[Packet]] = {}
"""Every kind of packet by its number."""


def packet(kind: int, largest: int, version: int = VERSION) -> Callable[[_P], _P]:
    """Make a dataclass of annotated fields a kind of packet.

    Args:
        kind: its number, which no other has.
        largest: bytes of a frame at most.
        version: of the format that it belongs to.
    """

    def register(cls: _P) -> _P:
        cls.FORMAT, cls.KIND, cls.LARGEST = version, kind, largest
        assert kind not in KINDS, f"packet kind {kind} is taken"
        KINDS[kind] = cls
        return cls

    return register
