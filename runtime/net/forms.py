"""Packets of the step, whose frames look alike: read by what is known of their form.

    frame = start | number | number … | tensor | tensor …
          = constant, value, constant, value, …      a number's type octet and a tensor's dtype and
                                                     shape are constants, its digits and content
                                                     are the value

What msgpack and the codecs would find is found by comparing bytes: a frame whose constants are
those of a frame of the same length that has passed all checks passes them too, but for its values:
numbers of one octet must be small, floats finite and within bounds. Whatever differs is left to the
codecs, which know why it is refused. Frames are the same to the byte, whoever writes them.

One call takes a frame apart and one comparison checks it: an agent reads up to fourteen of them in
a step, and a hundred agents on two cores find no line of Python in a cache.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgpack
import numpy as np
from numpy.typing import NDArray

from runtime.net.codecs import CODES, DTYPES, LARGEST

_MOST_FORMS = 4096
_MOST_OF_ONE_SIZE = 8
_NUMBERS = {
    (False, 0xCC): ("B", 8),
    (False, 0xCD): ("H", 16),
    (False, 0xCE): ("I", 32),
    (False, 0xCF): ("Q", 64),
    (True, 0xCB): ("d", 64),
}
"""By whether it is a float, and msgpack's type octet: the letter that struct knows, and bits."""
_SMALLEST_TYPE = 0x80
"""An octet below it is a number itself."""
_ndarray = np.ndarray
_packed = cast("Callable[[Any], bytes]", msgpack.Packer().pack)  # pyright: ignore  # no type stubs

_SUSPECTS: dict[np.dtype[Any], tuple[int, int, bytes]] = {
    np.dtype("<f2"): (1, 2, bytes([*range(0x7C, 0x80), *range(0xFC, 0x100)])),
    np.dtype("<f4"): (3, 4, b"\x7f\xff"),
}
"""By dtype of floats: first and step of the octets that hold the exponent, and which of these may
belong to an infinity or NaN. A comparison of bytes costs a fifth of numpy's isfinite."""

_Floats = tuple[int, slice, bytes]


@dataclass(frozen=True, slots=True, eq=False)
class _Form:
    """What is constant in a frame, and where its values are."""

    size: int
    apart: Callable[[bytes], tuple[Any, ...]]
    """Takes a frame of this size apart: constant, value, constant, value, …"""
    constants: tuple[bytes, ...]
    small: tuple[int, ...]
    """Values of one octet that has no type octet in front."""
    reals: tuple[int, ...]
    floats: tuple[_Floats, ...]
    """Of tensors of floats: which value, octets that show whether a number is finite, and what
    these must not be."""
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[np.dtype[Any], ...]
    """Of the tensors, whose values come last."""


class Layout:
    """The frames of one kind of packet: so many numbers, then so many tensors."""

    def __init__(self, version: int, kind: int, numbers: Sequence[int | None], tensors: int):
        """
        Args:
            numbers: bits of each unsigned integer, None for a float.
            tensors: how many follow.
        """
        count = 2 + len(numbers) + tensors
        assert count < 16, "msgpack's short arrays"
        self.start = bytes([0x90 | count, version, kind])
        self._numbers = tuple(numbers)
        self._split = len(self._numbers)
        """Of a packet's values the first that is a tensor."""
        self._known: dict[int, tuple[_Form, ...]] = {}
        """By size of the frame."""
        self._written: dict[tuple[Any, ...], list[bytes]] = {}
        """Prefixes by dtypes and shapes."""

    def write(self, values: Sequence[Any]) -> bytes:
        """The frame of a packet with these fields."""
        split = self._split
        tensors: Sequence[NDArray[Any]] = values[split:]
        key = tuple([(tensor.dtype, tensor.shape) for tensor in tensors])
        prefixes = self._written.get(key)
        if prefixes is None:
            prefixes = [_prefix(tensor) for tensor in tensors]
            if len(self._written) >= _MOST_FORMS:
                self._written.clear()
            self._written[key] = prefixes
        parts = [b""] * (2 * len(prefixes))
        parts[::2], parts[1::2] = prefixes, [tensor.tobytes() for tensor in tensors]
        return b"".join((self.start, *map(_packed, values[:split]), *parts))

    def learn(self, frame: bytes, values: Sequence[Any]) -> None:
        """Take note of a frame that has passed all checks of the codecs, and of its fields."""
        form = self._form_of(frame, values)
        if form is None:
            return
        if len(self._known) >= _MOST_FORMS:
            self._known.clear()
        others = self._known.get(form.size, ())
        self._known[form.size] = (form, *others[: _MOST_OF_ONE_SIZE - 1])

    def read(self, frame: bytes) -> list[Any] | None:
        """The fields of a frame that begins with `start`, or None: let the codecs look at it."""
        for form in self._known.get(len(frame), ()):
            parts = form.apart(frame)
            if parts[::2] == form.constants:
                break
        else:
            return None
        values = parts[1::2]
        for index in form.small:
            if values[index] >= _SMALLEST_TYPE:
                return None
        for index in form.reals:
            if not -LARGEST <= values[index] <= LARGEST:
                return None
        for index, octets, suspects in form.floats:
            exponents = values[index][octets]
            if exponents.translate(None, suspects) != exponents:
                return None
        numbers = self._split
        tensors = map(_ndarray, form.shapes, form.dtypes, values[numbers:])
        return [*values[:numbers], *tensors]

    def _form_of(self, frame: bytes, values: Sequence[Any]) -> _Form | None:
        """None where somebody has written a number or a shape otherwise than we do."""
        letters, constants = [">"], list[bytes]()
        small: list[int] = []
        reals: list[int] = []

        def add(constant: bytes, letter: str) -> None:
            letters.append(f"{len(constant)}s{letter}")
            constants.append(constant)

        start, at = self.start, len(self.start)
        for index, bits in enumerate(self._numbers):
            kind = frame[at]
            if bits is not None and kind < _SMALLEST_TYPE:
                small.append(index)
                add(start, "B")
                at += 1
            else:
                letter, width = _NUMBERS.get((bits is None, kind), ("", 0))
                if not letter or (bits is not None and width > bits):
                    return None
                if bits is None:
                    reals.append(index)
                add(start + frame[at : at + 1], letter)
                at += 1 + width // 8
            start = b""
        first = self._split
        floats: list[_Floats] = []
        tensors: Sequence[NDArray[Any]] = values[first:]
        dtypes = [DTYPES[CODES[tensor.dtype]] for tensor in tensors]
        for index, (tensor, dtype) in enumerate(zip(tensors, dtypes, strict=True), first):
            add(_prefix(tensor), f"{tensor.nbytes}s")
            if dtype in _SUSPECTS:
                begin, step, suspects = _SUSPECTS[dtype]
                floats.append((index, slice(begin, None, step), suspects))
        layout = struct.Struct("".join(letters))
        if layout.size != len(frame) or layout.unpack(frame)[::2] != tuple(constants):
            return None
        return _Form(
            size=layout.size,
            apart=layout.unpack,
            constants=tuple(constants),
            small=tuple(small),
            reals=tuple(reals),
            floats=tuple(floats),
            shapes=tuple(tensor.shape for tensor in tensors),
            dtypes=tuple(dtypes),
        )


def _prefix(tensor: NDArray[Any]) -> bytes:
    """What msgpack writes of a tensor in front of its content."""
    whole = _packed((CODES[tensor.dtype], tensor.shape, bytes(tensor.nbytes)))
    return whole[: len(whole) - tensor.nbytes]
