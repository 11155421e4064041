"""One field of a packet on its way onto the wire and back.

    value -> Codec.pack -> what msgpack takes -> Codec.unpack -> the same value, or WireFormatError

A tensor is the triple [dtype code, shape, little-endian bytes]. Whatever comes in is checked before
anything is built from it: structure, then ranges, then finite values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from configs.bounded import brief
from configs.columns import LONGEST_NAME
from runtime.net.errors import WireFormatError

_DTYPE_NAMES = (
    *("float32", "float16", "int8", "uint8", "uint16", "uint32", "uint64", "float64"),
    "int64",
)
DTYPES: tuple[np.dtype[Any], ...] = tuple(np.dtype(name).newbyteorder("<") for name in _DTYPE_NAMES)
CODES: dict[np.dtype[Any], int] = {dtype: code for code, dtype in enumerate(DTYPES)}


class Codec(Protocol):
    """One field's way onto the wire and back; `unpack` checks everything it is given."""

    def pack(self, value: Any) -> Any: ...

    def unpack(self, raw: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class Uint:
    """Unsigned integer of so many bits."""

    bits: int

    def pack(self, value: int) -> int:
        return value

    def unpack(self, raw: Any) -> int:
        if type(raw) is not int or raw < 0 or raw >> self.bits:
            raise WireFormatError("range", f"expected uint{self.bits}, got {brief(raw)}")
        return raw


LARGEST = 1e18
"""Of floats that cross: code that adds up, squares, multiplies by a million or converts to int64
what arrives gets a finite number. Tensors may hold any finite number of their dtype."""


@dataclass(frozen=True, slots=True)
class Real:
    """A number between two bounds; what is beyond them is sent as the nearer bound."""

    least: float = -LARGEST
    most: float = LARGEST

    def pack(self, value: float) -> float:
        # Not a number stays what it is, and is refused: nobody knows what it should have been.
        return min(max(float(value), self.least), self.most)

    def unpack(self, raw: Any) -> float:
        if type(raw) is not float or not isfinite(raw):
            raise WireFormatError("nonfinite", f"expected a finite float, got {brief(raw)}")
        if not self.least <= raw <= self.most:
            raise WireFormatError("range", f"{raw} is not in [{self.least}, {self.most}]")
        return raw


@dataclass(frozen=True, slots=True)
class Text:
    """UTF-8 text of at most so many characters."""

    longest: int = 256

    def pack(self, value: str) -> str:
        return value[: self.longest]

    def unpack(self, raw: Any) -> str:
        if type(raw) is not str or len(raw) > self.longest:
            raise WireFormatError("range", f"expected text of {self.longest}, got {brief(raw)}")
        return raw


@dataclass(frozen=True, slots=True)
class Texts:
    """A list of short texts."""

    most: int
    longest: int = 256

    def pack(self, value: tuple[str, ...]) -> list[str]:
        return list(value)

    def unpack(self, raw: Any) -> tuple[str, ...]:
        texts = items(raw)
        if texts is None or len(texts) > self.most:
            raise WireFormatError("range", f"expected a list of {self.most}, got {brief(raw)}")
        item = Text(self.longest)
        return tuple(item.unpack(text) for text in texts)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    def pack(self, value: str) -> str:
        assert value in self.words, value
        return value

    def unpack(self, raw: Any) -> str:
        if type(raw) is not str or raw not in self.words:
            raise WireFormatError("range", f"expected {' or '.join(self.words)}, got {brief(raw)}")
        return raw


@dataclass(frozen=True, slots=True)
class Scalars:
    """Named numbers between -LARGEST and LARGEST."""

    most: int = 256

    def pack(self, value: Mapping[str, float]) -> list[list[Any]]:
        real = Real()
        return [list(value.keys()), [real.pack(number) for number in value.values()]]

    def unpack(self, raw: Any) -> Mapping[str, float]:
        pair = items(raw)
        if pair is None or len(pair) != 2:
            raise WireFormatError("range", f"expected names and numbers, got {brief(raw)}")
        names = Texts(self.most, 64).unpack(pair[0])
        numbers = items(pair[1])
        if numbers is None or len(numbers) != len(names):
            raise WireFormatError("range", f"expected {len(names)} numbers, got {brief(pair[1])}")
        real = Real()
        return {name: real.unpack(x) for name, x in zip(names, numbers, strict=True)}


@dataclass(frozen=True, slots=True)
class Tensor:
    """An array of one of these dtypes, this many dimensions and at most so many elements."""

    dtypes: tuple[str, ...]
    ndim: int
    most: int
    most_ndim: int = 0
    """Largest number of dimensions where several are allowed, `ndim` being the smallest."""

    def pack(self, value: NDArray[Any]) -> tuple[int, tuple[int, ...], bytes]:
        return CODES[value.dtype], value.shape, value.tobytes()

    def unpack(self, raw: Any) -> NDArray[Any]:
        triple = items(raw)
        if triple is None or len(triple) != 3:
            raise WireFormatError("shape", f"expected a tensor, got {brief(raw)}")
        code, content = triple[0], triple[2]
        if type(code) is not int or not 0 <= code < len(DTYPES):
            raise WireFormatError("dtype", f"unknown dtype {brief(code)}")
        name = _DTYPE_NAMES[code]  # numpy's own dtype.name costs 5 µs a time
        if name not in self.dtypes:
            raise WireFormatError("dtype", f"expected {' or '.join(self.dtypes)}, got {name}")
        dtype = DTYPES[code]
        shape = items(triple[1])
        if shape is None or not self.ndim <= len(shape) <= max(self.ndim, self.most_ndim):
            raise WireFormatError("shape", f"expected {self.ndim} dimensions, got {brief(shape)}")
        count = 1
        for extent in shape:
            if type(extent) is not int or not 0 <= extent <= self.most:
                raise WireFormatError("shape", f"extent {brief(extent)} out of range")
            count *= extent
        if count > self.most:
            raise WireFormatError("shape", f"{count} elements, at most {self.most} allowed")
        if type(content) is not bytes or len(content) != count * dtype.itemsize:
            raise WireFormatError("shape", f"{count} elements of {name} do not fit the bytes")
        array: NDArray[Any] = np.frombuffer(content, dtype=dtype).reshape(shape)
        if dtype.kind == "f" and not np.isfinite(array).all():
            raise WireFormatError("nonfinite", "tensor holds NaN or infinity")
        return array


@dataclass(frozen=True, slots=True)
class Tensors:
    """Named tensors of any dtype, one to four dimensions and at most so many elements each."""

    most: int
    elements: int

    def pack(self, value: Mapping[str, NDArray[Any]]) -> list[list[Any]]:
        tensor = Tensor(_DTYPE_NAMES, 1, self.elements, 4)
        return [list(value.keys()), [tensor.pack(array) for array in value.values()]]

    def unpack(self, raw: Any) -> Mapping[str, NDArray[Any]]:
        pair = items(raw)
        if pair is None or len(pair) != 2:
            raise WireFormatError("range", f"expected names and tensors, got {brief(raw)}")
        names = Texts(self.most, LONGEST_NAME).unpack(pair[0])
        arrays = items(pair[1])
        if arrays is None or len(arrays) != len(names):
            raise WireFormatError("range", f"expected {len(names)} tensors, got {brief(pair[1])}")
        if len(set(names)) < len(names):
            raise WireFormatError("range", "two tensors have one name")
        tensor = Tensor(_DTYPE_NAMES, 1, self.elements, 4)
        return {name: tensor.unpack(x) for name, x in zip(names, arrays, strict=True)}


def items(raw: Any) -> list[Any] | None:
    """The list itself, or None if it is anything else."""
    return cast("list[Any]", raw) if type(raw) is list else None
