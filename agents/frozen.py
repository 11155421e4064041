"""An object made of arrays as one block of bytes, which many processes read in place.

    PolicyVersion -> Frozen -> block of bytes -> thaw -> the same object; its arrays are views

Matrices are merged for inference once, by the process that writes the block. A process that reads
it makes objects and views, and neither multiplies nor copies. The block says in msgpack what there
is: plain values, containers, arrays, objects by class and attributes. No pickle: nothing is called,
and no class is made that is not ours or has not agreed (`is_shared`). Arrays are views of the
block: where it is mapped to be read, they are read-only.

What does not fit (an own container type, a generator, a class of somebody else's) is refused as a
whole: its owner then makes it from the parameters, as ever.
"""

import sys
from collections.abc import Iterator
from enum import IntEnum
from types import MethodType
from typing import Any, cast

import msgpack
import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64
"""Octets: a cache line, and as much as any instruction asks for."""
_OURS = ("agents.", "configs.", "runtime.net.")
_LARGEST_STRUCTURE = 1 << 20
_NUMERIC = "biuf"


class _Kind(IntEnum):
    PLAIN = 0
    SCALAR = 1
    ARRAY = 2
    SLICE = 3
    TUPLE = 4
    LIST = 5
    DICT = 6
    OBJECT = 7
    KNOWN = 8
    METHOD = 9


Block = NDArray[np.uint8]


class NotShareableError(TypeError):
    """Something in the object has no place in a block."""


class DamagedError(ValueError):
    """A block is not what `Frozen` writes."""


def is_shared(cls: type) -> bool:
    """Whether objects of a class may be made of a block, their arrays read by many processes.

    Ours may: none writes to the arrays that its constructor makes. A class from elsewhere says so
    itself, by `shared_arrays = True`; a class that derives from it is asked again.
    """
    return cls.__module__.startswith(_OURS) or vars(cls).get("shared_arrays") is True


class Frozen:
    """An object, taken apart.

    Raises:
        NotShareableError: something in it has no place in a block.
    """

    def __init__(self, thing: object, *, without: frozenset[str] = frozenset()) -> None:
        """
        Args:
            without: names of attributes that are left out of every object.
        """
        self._without = without
        self._arrays: list[tuple[int, NDArray[Any]]] = []
        self._array_at: dict[int, list[Any]] = {}
        self._objects: dict[int, int] = {}
        self._kept: list[object] = []
        """Whose addresses are in use."""
        self._end = 0
        try:
            structure = cast("bytes", cast("Any", msgpack).packb(self._of(thing)))
        except (OverflowError, ValueError, RecursionError) as error:
            # Integers and nesting beyond msgpack's, and a list that holds itself.
            raise NotShareableError(str(error)) from error
        self._head = len(structure).to_bytes(8, "little") + structure
        self._first = _aligned(len(self._head))
        self.size = self._first + self._end
        """Octets of the block."""

    def write(self, block: Block) -> None:
        """Fill a block of `size` octets, itself aligned."""
        block[: len(self._head)] = np.frombuffer(self._head, dtype=np.uint8)
        for offset, array in self._arrays:
            place = block[self._first + offset :][: array.nbytes]
            order = "C" if array.flags.c_contiguous else "F"
            place.view(array.dtype).reshape(array.shape, order=order)[...] = array

    def _of(self, thing: object) -> list[Any]:
        kind = type(thing)
        if thing is None or kind in (bool, int, float, str):
            return [_Kind.PLAIN, thing]
        if isinstance(thing, np.generic):
            return self._of_scalar(cast("np.generic[Any]", thing))
        if kind is np.ndarray:
            return self._of_array(cast("NDArray[Any]", thing))
        if kind is slice:
            ends = cast("slice[object, object, object]", thing)
            return [_Kind.SLICE, *(self._of(x) for x in (ends.start, ends.stop, ends.step))]
        if kind is tuple or kind is list:
            items = cast("tuple[object, ...]", thing)
            return [
                _Kind.TUPLE if kind is tuple else _Kind.LIST,
                *(self._of(item) for item in items),
            ]
        if kind is dict:
            pairs = cast("dict[object, object]", thing).items()
            return [_Kind.DICT, *([self._of(key), self._of(value)] for key, value in pairs)]
        if isinstance(thing, MethodType):
            return self._of_method(thing)
        return self._of_object(thing)

    def _of_scalar(self, scalar: "np.generic[Any]") -> list[Any]:
        if scalar.dtype.kind not in _NUMERIC:
            raise NotShareableError(f"a number of {scalar.dtype}")
        return [_Kind.SCALAR, scalar.dtype.str, scalar.tobytes()]

    def _of_array(self, array: NDArray[Any]) -> list[Any]:
        known = self._array_at.get(id(array))
        if known is not None:
            return known
        if array.dtype.kind not in _NUMERIC:
            raise NotShareableError(f"array of {array.dtype}")
        self._kept.append(array)
        flags = array.flags
        kept = array if flags.c_contiguous or flags.f_contiguous else np.ascontiguousarray(array)
        order = "C" if kept.flags.c_contiguous else "F"
        said = [_Kind.ARRAY, self._end, kept.dtype.str, list(kept.shape), order]
        self._arrays.append((self._end, kept))
        self._end = _aligned(self._end + kept.nbytes)
        self._array_at[id(array)] = said
        return said

    def _of_method(self, method: MethodType) -> list[Any]:
        name = method.__func__.__name__
        if getattr(type(method.__self__), name, None) is not method.__func__:
            raise NotShareableError(f"method {name} of another class")
        return [_Kind.METHOD, self._of(method.__self__), name]

    def _of_object(self, thing: object) -> list[Any]:
        known = self._objects.get(id(thing))
        if known is not None:
            return [_Kind.KNOWN, known]
        cls = type(thing)
        if not is_shared(cls) or _class_of(cls.__module__, cls.__qualname__) is not cls:
            raise NotShareableError(f"{cls.__module__}.{cls.__qualname__}")
        self._objects[id(thing)] = len(self._objects)
        self._kept.append(thing)
        state = [
            [name, self._of(value)] for name, value in _state(thing) if name not in self._without
        ]
        return [_Kind.OBJECT, cls.__module__, cls.__qualname__, *state]


def _state(thing: object) -> Iterator[tuple[str, object]]:
    yield from cast("dict[str, object]", getattr(thing, "__dict__", {})).items()
    for cls in type(thing).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(thing, name) and name not in ("__dict__", "__weakref__"):
                yield name, getattr(thing, name)


def thaw(block: Block) -> object:
    """Put an object together again.

    Raises:
        DamagedError: the block is no object of ours.
    """
    try:
        size = int.from_bytes(block[:8].tobytes(), "little")
        if size > min(_LARGEST_STRUCTURE, block.size):
            raise DamagedError(f"structure of {size} octets")
        said = cast("Any", msgpack).unpackb(block[8 : 8 + size].tobytes())
        return _Thawing(block[_aligned(8 + size) :]).make(said)
    except DamagedError:
        raise
    except Exception as error:  # msgpack raises five unrelated types, and what it says may be odd
        raise DamagedError(f"{type(error).__name__}: {error}") from error


class _Thawing:
    def __init__(self, arrays: Block) -> None:
        self._arrays = arrays
        self._objects: list[object] = []

    def make(self, said: list[Any]) -> Any:
        kind, *rest = said
        match kind:
            case _Kind.PLAIN:
                return rest[0]
            case _Kind.SCALAR:
                return np.frombuffer(rest[1], dtype=_dtype(rest[0]))[0]
            case _Kind.ARRAY:
                return self._array(*rest)
            case _Kind.SLICE:
                return slice(*(self.make(part) for part in rest))
            case _Kind.TUPLE:
                return tuple(self.make(item) for item in rest)
            case _Kind.LIST:
                return [self.make(item) for item in rest]
            case _Kind.DICT:
                return {self.make(key): self.make(value) for key, value in rest}
            case _Kind.OBJECT:
                return self._object(*rest)
            case _Kind.KNOWN:
                return self._objects[rest[0]]
            case _Kind.METHOD:
                return self._method(*rest)
            case _:
                raise DamagedError(f"kind {kind}")

    def _array(self, offset: int, dtype: str, shape: list[int], order: str) -> NDArray[Any]:
        numbers = _dtype(dtype)
        size = numbers.itemsize
        for extent in shape:
            size *= extent
        if min(offset, *shape, 0) < 0:  # what is too long finds too few octets below
            raise DamagedError(f"array of {size} octets at {offset}")
        flat = self._arrays[offset : offset + size].view(numbers)
        return flat.reshape(shape, order="F" if order == "F" else "C")

    def _object(self, module: str, name: str, *state: tuple[str, Any]) -> object:
        cls = _class_of(module, name)
        if cls is None or not is_shared(cls):
            raise DamagedError(f"class {module}.{name}")
        thing = cast("object", object.__new__(cls))
        self._objects.append(thing)
        for attribute, value in state:
            object.__setattr__(thing, attribute, self.make(value))
        return thing

    def _method(self, owner: list[Any], name: str) -> MethodType:
        thing = self.make(owner)
        method = getattr(thing, name)
        if not isinstance(method, MethodType) or method.__self__ is not thing:
            raise DamagedError(f"method {name}")
        return method


def _class_of(module: str, name: str) -> type | None:
    """A class that has been imported already."""
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) else None


def _dtype(name: str) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(name)
    if dtype.kind not in _NUMERIC:
        raise DamagedError(f"numbers of {name}")
    return dtype


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
