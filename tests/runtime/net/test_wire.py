import math
import struct
from collections.abc import Callable
from dataclasses import fields
from typing import Any, cast, get_args, get_type_hints

import hypothesis.extra.numpy as hnp
import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from runtime.net import wire
from runtime.net.codecs import LARGEST
from runtime.net.errors import WireFormatError
from runtime.net.traffic import REASONS

# Not Packet.__subclasses__(): it still holds the classes that @dataclass(slots=True) has replaced.
# msgpack ships no types.
unpack = cast("Callable[[bytes], Any]", msgpack.unpackb)  # type: ignore[reportUnknownMemberType]
frame_of = cast("Callable[[Any], bytes]", msgpack.packb)  # type: ignore[reportUnknownMemberType]

KINDS: tuple[type[wire.Packet], ...] = tuple(
    thing
    for thing in vars(wire).values()
    if isinstance(thing, type) and issubclass(thing, wire.Packet) and thing is not wire.Packet
)
DECODE_REASONS = REASONS[:8]

# Shared machines are slow now and then; what is wrong here is never a matter of time.
unhurried = settings(deadline=None, max_examples=25)


# --- packets of every kind, drawn from the codecs in their field annotations ----------------------


def codecs_of(cls: type[wire.Packet]) -> list[wire.Codec]:
    hints = get_type_hints(cls, include_extras=True)
    return [get_args(hints[field.name])[1] for field in fields(cls)]  # type: ignore[arg-type]


def texts(longest: int) -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=["Cs"]), max_size=longest)


def tensors(codec: wire.Tensor) -> st.SearchStrategy[Any]:
    shapes = hnp.array_shapes(
        min_dims=codec.ndim, max_dims=max(codec.ndim, codec.most_ndim), min_side=0, max_side=5
    )
    dtypes = st.sampled_from(codec.dtypes).map(np.dtype)

    def arrays(dtype: np.dtype[Any]) -> st.SearchStrategy[Any]:
        finite = hnp.from_dtype(dtype, allow_nan=False, allow_infinity=False)
        return hnp.arrays(dtype, shapes, elements=finite if dtype.kind == "f" else None)

    return dtypes.flatmap(arrays)


def values_of(codec: wire.Codec) -> st.SearchStrategy[Any]:
    match codec:
        case wire.Uint(bits):
            return st.integers(0, 2**bits - 1)
        case wire.Real(least, most):
            return st.floats(least, most)
        case wire.Choice(words):
            return st.sampled_from(words)
        case wire.Text(longest):
            return texts(longest)
        case wire.Texts(_, longest):
            return st.lists(texts(longest), max_size=5).map(tuple)
        case wire.Scalars():
            return st.dictionaries(texts(64), st.floats(-LARGEST, LARGEST), max_size=5)
        case wire.Tensor():
            return tensors(codec)
        case wire.Tensors():
            any_tensor = tensors(wire.Tensor(("float32", "uint64", "uint8"), 2, codec.elements))
            return st.dictionaries(texts(32), any_tensor, max_size=3)
        case _:
            raise AssertionError(f"no strategy for {codec}")


def packets(cls: type[wire.Packet]) -> st.SearchStrategy[wire.Packet]:
    return st.builds(cls, *map(values_of, codecs_of(cls)))


any_packet = st.sampled_from(KINDS).flatmap(packets)


def decode_or_reason(frame: bytes, *accepted: type[wire.Packet]) -> wire.Packet | str:
    """The packet, or why there is none; any other exception is a bug."""
    try:
        return wire.decode(frame, *accepted)
    except WireFormatError as error:
        refusal = error.reason
    assert refusal in DECODE_REASONS
    return refusal


def reason(frame: bytes, *accepted: type[wire.Packet]) -> str:
    outcome = decode_or_reason(frame, *accepted)
    assert isinstance(outcome, str)
    return outcome


def parts_of(packet: wire.Packet) -> list[Any]:
    return unpack(wire.encode(packet))


MESSAGE = wire.Message(
    sender=300,
    tick=7,
    send_ns=2**40,
    copies=np.array([0b101], dtype=np.uint8),
    rows=np.array([[1.0, -2.0]], dtype=np.float16),
)


LABEL = 256 * "\N{BIRD}"


# --- there and back -------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", KINDS, ids=lambda cls: cls.__name__)
@unhurried
@given(data=st.data())
def test_every_kind_survives_the_round_trip(cls: type[wire.Packet], data: st.DataObject) -> None:
    packet = data.draw(packets(cls))
    arrived = wire.decode(wire.encode(packet), cls)
    assert type(arrived) is cls
    names = [field.name for field in fields(cls)]  # type: ignore[arg-type]  # a dataclass
    codecs = dict(zip(names, map(type, codecs_of(cls)), strict=True))
    for field in fields(cls):  # type: ignore[arg-type]  # every packet is a dataclass
        sent: Any = getattr(packet, field.name)
        received: Any = getattr(arrived, field.name)
        if hasattr(sent, "dtype"):
            assert_array_equal(received, sent, strict=True)
        elif codecs[field.name] == wire.Tensors:
            assert list(received) == list(sent)
            for name, array in sent.items():
                assert_array_equal(received[name], array, strict=True)
        else:
            assert received == sent


def test_kinds_are_distinct() -> None:
    assert len({cls.KIND for cls in KINDS}) == len(KINDS) > 20


@pytest.mark.parametrize(
    ("packet", "frame"),
    [
        (wire.EdgeHello(sender=5, incarnation=2), "94 03 07 05 02"),
        (
            MESSAGE,
            "97 03 05  cd 01 2c  07  cf 00 00 01 00 00 00 00 00"
            "93 03 91 01 c4 01 05"
            "93 01 92 01 02 c4 04 00 3c 00 c0",
        ),
        (
            wire.SparseParameters(
                version=3,
                crc32=7,
                size=9,
                mask=np.array([0, 1, 1], dtype=np.uint8),
                values=np.array([1.0, -2.0], dtype=np.float16),
            ),
            "97 03 10 03 07 09  93 03 91 03 c4 03 00 01 01  93 01 91 02 c4 04 00 3c 00 c0",
        ),
        (wire.SharedVersion(3, 2, 300, 7), "96 03 12 03 02 cd 01 2c 07"),
        (wire.WorldState("done"), "93 03 25 a4 64 6f 6e 65"),
        (wire.LearnerState(2.0, 300), "96 03 26  cb 40 00 00 00 00 00 00 00  cd 01 2c  00 00"),
        (wire.NodeState(6, 300), "94 03 32 06 cd 01 2c"),
        (wire.Trained(7), "93 03 27 07"),
        (wire.Evaluated(300, 2.0), "94 03 2d cd 01 2c  cb 40 00 00 00 00 00 00 00"),
        (wire.Instruction("kill", 3), "94 03 1c a4 6b 69 6c 6c 03"),
        (wire.Failure("no"), "93 03 1d a2 6e 6f"),
        (wire.Join("b"), "93 03 22 a1 62"),
        (wire.Leaving(), "92 03 23"),
        (wire.Alive(), "92 03 24"),
        (wire.BodyHello(3), "93 01 28 03"),
    ],
)
def test_bytes_on_the_wire_stay_what_they_are(packet: wire.Packet, frame: str) -> None:
    assert wire.encode(packet) == bytes.fromhex(frame)


def test_arrays_of_a_packet_cannot_be_written() -> None:
    arrived = wire.decode(wire.encode(MESSAGE))
    assert isinstance(arrived, wire.Message)
    assert not arrived.rows.flags.writeable


@pytest.mark.parametrize(
    "packet",
    [wire.Stop(LABEL), wire.Failure(LABEL), wire.Join(LABEL)],
    ids=lambda packet: type(packet).__name__,
)
def test_longest_label_of_any_script_arrives(packet: wire.Packet) -> None:
    assert wire.decode(wire.encode(packet), type(packet)) == packet


# --- what does not fit ----------------------------------------------------------------------------


def replaced(packet: wire.Packet, index: int, value: Any) -> bytes:
    """The packet's frame with one part of its array replaced; 0 is the version, 1 the kind."""
    parts = parts_of(packet)
    parts[index] = value
    return frame_of(parts)


BIG = 2**32 - 1
HELLO = wire.EdgeHello(5, 2)
RESULT = wire.EpisodeResult(1, 0, 2, 3, 0.5, 1)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (b"", "decode"),
        (b"\xc1", "decode"),
        (frame_of([]), "decode"),
        (frame_of([1]), "decode"),
        (frame_of(7), "decode"),
        (frame_of({"version": 1}), "decode"),
        (wire.encode(HELLO) + b"\x00", "decode"),
        (wire.encode(MESSAGE)[:-1], "decode"),
        (b"\x91" * 100_000, "decode"),  # nesting
        (b"\x94\x03\x07\xdd" + struct.pack(">I", BIG), "decode"),  # a list of four thousand million
        (b"\x94\x03\x07\xdb" + struct.pack(">I", BIG), "decode"),  # a text of that length
        (b"\x94\x03\x07\xc6" + struct.pack(">I", BIG), "decode"),  # bytes
        (b"\x94\x03\x07\xdf" + struct.pack(">I", BIG), "decode"),  # a map
        (b"\x94\x03\x07\xc9" + struct.pack(">I", BIG) + b"\x05", "decode"),  # an extension
        (frame_of([3, 7, {}, 2]), "range"),
        (frame_of([3, 7, {"a": 5}, 2]), "decode"),
        (frame_of([3, 7, [0] * 5000, 2]), "decode"),
        (replaced(HELLO, 0, 1), "version"),
        (replaced(HELLO, 0, True), "version"),
        (replaced(HELLO, 0, 3.0), "version"),
        (replaced(HELLO, 1, 99), "kind"),
        (replaced(HELLO, 1, [7]), "kind"),
        (frame_of([3, 7, 5]), "shape"),
        (frame_of([3, 7, 5, 2, 3]), "shape"),
        (replaced(HELLO, 2, -1), "range"),
        (replaced(HELLO, 2, 2**16), "range"),
        (replaced(HELLO, 2, True), "range"),
        (replaced(HELLO, 2, 1.0), "range"),
        (replaced(HELLO, 2, None), "range"),
        (replaced(RESULT, 6, math.nan), "nonfinite"),
        (replaced(RESULT, 6, math.inf), "nonfinite"),
        (replaced(RESULT, 6, 1e19), "range"),
        (replaced(RESULT, 3, 2), "range"),  # a flag
        (replaced(RESULT, 4, 2**53), "range"),  # a count
        (replaced(wire.WorldState("done"), 2, "undone"), "range"),
        (replaced(wire.WorldState("done"), 2, 3), "range"),
        (replaced(wire.WorldState("done"), 2, []), "range"),
        (replaced(wire.Instruction("start"), 2, "failed: by whom?"), "range"),
        (replaced(wire.LearnerState(0.0, 0), 2, -1.0), "range"),
        (frame_of([3, 26, "node", [["a"], [1e308]]]), "range"),
        (frame_of([3, 26, "cook", [["a"], [1.0]]]), "range"),
        (replaced(wire.Stop("x"), 2, "x" * 257), "range"),
        (replaced(wire.Stop("x"), 2, b"x"), "range"),
        (replaced(wire.Stop("x"), 2, ["x"]), "range"),
        (b"\x93\x03\x17\xa1\xff", "decode"),  # not UTF-8
        (frame_of([3, 21, "abc"]), "range"),
        (frame_of([3, 21, [1]]), "range"),
        (frame_of([3, 26, "node", [["a"], [math.nan]]]), "nonfinite"),
        (frame_of([3, 26, "node", [["a"], []]]), "range"),
        (frame_of([3, 26, "node", [["a" * 65], [1.0]]]), "range"),
        (frame_of([3, 26, "node", [["a"] * 257, [1.0] * 257]]), "range"),
        (frame_of([3, 26, "node", 3]), "range"),
    ],
)
def test_frame_that_does_not_fit_is_refused_with_its_reason(frame: bytes, expected: str) -> None:
    assert reason(frame) == expected


HALF_NAN = np.array([math.nan, 0], dtype=np.float16).tobytes()
HALF_INF = np.array([0, -math.inf], dtype=np.float16).tobytes()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([1, [1, 2], HALF_NAN], "nonfinite"),
        ([1, [1, 2], HALF_INF], "nonfinite"),
        ([4, [1, 2], bytes(4)], "dtype"),  # uint16 is no dtype of messages
        ([99, [1, 2], bytes(4)], "dtype"),
        ([-1, [1, 2], bytes(4)], "dtype"),
        ([True, [1, 2], bytes(4)], "dtype"),
        ([1, [2], bytes(4)], "shape"),
        ([1, [1, 1, 2], bytes(4)], "shape"),
        ([1, [-1, -2], bytes(4)], "shape"),
        ([1, [1, 2.0], bytes(4)], "shape"),
        ([1, [2, 2], bytes(4)], "shape"),
        ([1, [0, 2], bytes(4)], "shape"),
        ([1, [BIG, BIG], bytes(4)], "shape"),
        ([1, [2**12, 2**12], bytes(4)], "shape"),
        ([1, [1, 2], "text"], "shape"),
        ([1, "ab", bytes(4)], "shape"),
        ([1, [1, 2]], "shape"),
        (7, "shape"),
    ],
)
def test_tensor_that_does_not_fit_is_refused_with_its_reason(rows: Any, expected: str) -> None:
    assert reason(replaced(MESSAGE, 6, rows)) == expected


def test_tensor_of_too_many_elements_is_refused_even_if_the_bytes_are_there() -> None:
    rows, columns = 4096, 2048  # each is allowed, not both at once
    assert reason(replaced(MESSAGE, 6, [2, [rows, columns], bytes(rows * columns)])) == "shape"


def test_frame_is_refused_for_its_size_before_it_is_looked_at() -> None:
    garbage = bytes(wire.EdgeHello.LARGEST + 1)
    assert reason(garbage, wire.EdgeHello) == "oversize"
    assert reason(garbage, wire.EdgeHello, wire.Message) == "decode"


def test_frame_of_an_accepted_kind_is_held_to_its_own_size() -> None:
    long = frame_of([3, 7, 5, 2, bytes(2000)])
    assert reason(long, wire.EdgeHello, wire.Message) == "oversize"


def test_kind_that_is_not_accepted_is_refused() -> None:
    assert reason(wire.encode(HELLO), wire.Message, wire.Beacon) == "kind"


def test_frame_full_of_empty_lists_is_refused_before_it_fills_the_memory() -> None:
    bomb = b"\x96\x03\x0a" + 4 * (b"\xdc\x0f\xff" + 4095 * (b"\xdc\x00\x40" + 64 * b"\x90"))
    assert len(bomb) > wire.MIB
    assert reason(bomb, wire.Trajectory) == "decode"


# --- whatever arrives -----------------------------------------------------------------------------

junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=8,
)


def truncate(frame: bytes, at: int) -> bytes:
    return frame[: at % len(frame)]


def flip_bit(frame: bytes, at: int) -> bytes:
    flipped = bytearray(frame)
    flipped[at // 8 % len(frame)] ^= 1 << at % 8
    return bytes(flipped)


def repeat_byte(frame: bytes, at: int) -> bytes:
    at %= len(frame)
    return frame[:at] + frame[at : at + 1] + frame[at:]


@unhurried
@given(st.binary(max_size=200))
def test_random_bytes_give_a_packet_or_a_reason(frame: bytes) -> None:
    decode_or_reason(frame)


@pytest.mark.parametrize("damage", [truncate, flip_bit, repeat_byte], ids=lambda f: f.__name__)
@unhurried
@given(packet=any_packet, at=st.integers(0, 10_000))
def test_damaged_frame_gives_a_packet_or_a_reason(
    damage: Callable[[bytes, int], bytes], packet: wire.Packet, at: int
) -> None:
    decode_or_reason(damage(wire.encode(packet), at))


@unhurried
@given(cls=st.sampled_from(KINDS), data=st.data())
def test_fields_of_any_type_give_a_packet_or_a_reason(
    cls: type[wire.Packet], data: st.DataObject
) -> None:
    parts = parts_of(data.draw(packets(cls)))
    parts[data.draw(st.integers(0, len(parts) - 1))] = data.draw(junk)
    decode_or_reason(frame_of(parts))


@unhurried
@given(kind=st.integers(0, 30), parts=st.lists(junk, max_size=10))
def test_arrays_of_anything_give_a_packet_or_a_reason(kind: int, parts: list[Any]) -> None:
    decode_or_reason(frame_of([wire.VERSION, kind, *parts]))
