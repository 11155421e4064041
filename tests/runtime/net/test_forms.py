"""The short way of reading a frame against the long one: what it accepts, the codecs accept."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, cast, get_args, get_type_hints

import msgpack
import numpy as np
import pytest

from runtime.net import wire
from runtime.net.errors import WireFormatError
from runtime.net.forms import Layout

unpack = cast("Callable[[bytes], Any]", msgpack.unpackb)  # type: ignore[reportUnknownMemberType]

E = 3
NONE = np.zeros(E, dtype=np.uint16)
PACKETS: tuple[wire.Packet, ...] = (
    wire.Message(
        300, 70_000, 2**40, np.array([5], np.uint8), np.array([[1, -2], [0.5, 6e4]], np.float16)
    ),
    wire.Beacon(7, 9, 0, np.array([2], np.uint8), np.array([[-127, 3]], np.int8)),
    wire.Observation(
        tick=2**32 - 1,
        epsilon=0.25,
        episodes=np.arange(E, dtype=np.uint32),
        steps=NONE,
        flags=np.ones(E, dtype=np.uint8),
        in_masks=NONE,
        peer_masks=NONE,
        beacon_masks=NONE,
        observations=np.array([[1.0], [1e30], [-3.0]], dtype=np.float32),
    ),
    wire.Action(5, 6, np.zeros(E, np.uint8), NONE, np.zeros(1, np.uint8)),
    wire.Gates(200, NONE),
    wire.InMask(3, NONE),
)
DAMAGE = (0, 1, 3, 0x7C, 0x7F, 0x80, 0x93, 0xC0, *range(0xC4, 0xD0), 0xD1, 0xFC, 0xFF)
"""What a byte is replaced with: what means something to msgpack or to a float's exponent."""
by_kind = pytest.mark.parametrize("packet", PACKETS, ids=lambda packet: type(packet).__name__)


def codecs_of(packet: wire.Packet) -> list[wire.Codec]:
    hints = get_type_hints(type(packet), include_extras=True)
    return [get_args(hints[field.name])[1] for field in fields(packet)]  # type: ignore[arg-type]


def values_of(packet: wire.Packet) -> list[Any]:
    return [getattr(packet, field.name) for field in fields(packet)]  # type: ignore[arg-type]


def layout_of(packet: wire.Packet) -> Layout:
    """By the annotations of a packet's fields."""
    numbers: list[int | None] = []
    tensors = 0
    for codec in codecs_of(packet):
        match codec:
            case wire.Uint(bits):
                numbers.append(bits)
            case wire.Real():
                numbers.append(None)
            case _:
                assert isinstance(codec, wire.Tensor)
                tensors += 1
        assert not tensors or isinstance(codec, wire.Tensor), "numbers come first"
    return Layout(packet.FORMAT, packet.KIND, numbers, tensors)


def by_codecs(packet: wire.Packet, frame: bytes) -> list[Any] | None:
    """The fields of a frame of the same kind, the long way; None if it is refused."""
    try:
        version, kind, *parts = unpack(frame)
    except Exception:  # msgpack raises five unrelated types
        return None
    codecs = codecs_of(packet)
    if (version, kind) != (packet.FORMAT, packet.KIND) or len(parts) != len(codecs):
        return None
    try:
        return [codec.unpack(part) for codec, part in zip(codecs, parts, strict=True)]
    except WireFormatError:
        return None


def same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a, b) and getattr(a, "dtype", None) == getattr(b, "dtype", None)
        for a, b in zip(one, other, strict=True)
    )


@by_kind
def test_a_frame_is_the_same_to_the_byte_whoever_writes_it(packet: wire.Packet) -> None:
    parts = [
        codec.pack(value) for codec, value in zip(codecs_of(packet), values_of(packet), strict=True)
    ]
    pack = cast("Callable[[Any], bytes]", msgpack.packb)  # type: ignore[reportUnknownMemberType]
    expected = pack([packet.FORMAT, packet.KIND, *parts])
    assert layout_of(packet).write(values_of(packet)) == expected
    assert wire.encode(packet) == expected


@by_kind
def test_a_frame_is_read_once_its_form_is_known(packet: wire.Packet) -> None:
    layout, frame = layout_of(packet), wire.encode(packet)
    assert layout.read(frame) is None
    layout.learn(frame, values_of(packet))
    values = layout.read(frame)
    assert values is not None
    assert same(values, values_of(packet))
    assert not values[-1].flags.writeable


@by_kind
def test_whatever_is_wrong_with_a_frame_it_is_read_as_the_codecs_do_or_left_to_them(
    packet: wire.Packet,
) -> None:
    layout, frame = layout_of(packet), wire.encode(packet)
    layout.learn(frame, values_of(packet))
    read = 0
    for position in range(3, len(frame)):  # whoever calls has looked at the first three
        for byte in DAMAGE:
            damaged = frame[:position] + bytes([byte]) + frame[position + 1 :]
            values = layout.read(damaged)
            if values is not None:
                expected = by_codecs(packet, damaged)
                assert expected is not None, damaged.hex(" ")
                assert same(values, expected), damaged.hex(" ")
                read += 1
    assert read > 20
    for size in range(len(frame)):
        assert layout.read(frame[:size]) is None
    assert layout.read(frame + b"\0") is None


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_with_its_reason_by_then_too(
    dtype: type[np.floating[Any]], value: float
) -> None:
    one = np.ones(1, dtype=np.uint8)
    for number in (1.0, float(np.finfo(dtype).max), value):
        rows = np.array([[0.0, number]], dtype=dtype)
        frame = wire.encode(wire.Message(1, 2, 3, one, rows))
        if np.isfinite(number):
            assert isinstance(wire.decode(frame, wire.Message), wire.Message)
        else:
            with pytest.raises(WireFormatError) as refusal:
                wire.decode(frame, wire.Message)
            assert refusal.value.reason == "nonfinite"


def test_the_largest_frame_of_a_kind_is_no_larger_for_being_known() -> None:
    """A form is learnt from a frame that has passed all checks, its size among them."""
    rows = np.zeros((1, wire.Gates.LARGEST), dtype=np.uint16)[0]
    with pytest.raises(WireFormatError):
        wire.decode(wire.encode(wire.Gates(1, rows)), wire.Gates)
    with pytest.raises(WireFormatError):
        wire.decode(wire.encode(wire.Gates(1, rows)), wire.Gates)


def test_a_number_that_is_too_large_for_its_field_is_left_to_the_codecs() -> None:
    (message, *_) = PACKETS
    layout, parts = layout_of(message), unpack(wire.encode(message))
    pack = cast("Callable[[Any], bytes]", msgpack.packb)  # type: ignore[reportUnknownMemberType]
    for sender, fits in ((0, True), (200, True), (2**16 - 1, True), (2**16, False), (-1, False)):
        parts[2] = sender
        frame = pack(parts)
        layout.learn(frame, values_of(message))
        assert (layout.read(frame) is not None) == fits
    small = pack([*parts[:2], 0, *parts[3:]])
    assert layout.read(small[:3] + b"\xff" + small[4:]) is None


@pytest.mark.parametrize("number", [b"\xd0\x05", b"\xd1\x00\x05", b"\xcf" + bytes(7) + b"\x05"])
def test_a_number_in_an_unusual_form_is_read_by_the_codecs_every_time(number: bytes) -> None:
    frame = wire.encode(wire.Gates(5, NONE))
    unusual = frame[:3] + number + frame[4:]
    for _ in range(2):
        packet = wire.decode(unusual, wire.Gates)
        assert isinstance(packet, wire.Gates)
        assert packet.tick == 5


def test_a_float_in_an_unusual_form_is_read_by_the_codecs_every_time() -> None:
    (_, _, observation, *_) = PACKETS
    frame = wire.encode(observation)
    at = frame.index(b"\xcb")
    unusual = frame[:at] + b"\xca\x3e\x80\x00\x00" + frame[at + 9 :]
    for _ in range(2):
        packet = wire.decode(unusual, wire.Observation)
        assert isinstance(packet, wire.Observation)
        assert packet.epsilon == 0.25


def test_two_forms_of_one_size_are_both_known() -> None:
    beacons = [
        wire.Beacon(sender, tick, 2**40, np.ones(1, np.uint8), np.ones((1, 2), np.int8))
        for sender, tick in ((5, 200), (200, 5))
    ]
    assert len({len(wire.encode(beacon)) for beacon in beacons}) == 1
    layout = layout_of(beacons[0])
    for beacon in beacons:
        layout.learn(wire.encode(beacon), values_of(beacon))
    for beacon in beacons:
        values = layout.read(wire.encode(beacon))
        assert values is not None
        assert same(values, values_of(beacon))
