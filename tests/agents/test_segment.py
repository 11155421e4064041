"""Versions that one process writes and many read: never torn, never overwritten while in use."""

import mmap
import os
import signal
import stat
from collections.abc import Iterator

import numpy as np
import pytest

from agents.frozen import Frozen, thaw
from agents.segment import SLOTS, Held, Segment, SegmentHandle, SegmentWriter
from runtime.net import wire
from runtime.net.inherited import Inherited

SIZE = 10_000


def version_of(number: int) -> Frozen:
    return Frozen(np.full(SIZE // 8, number, dtype=np.float64))


@pytest.fixture
def writer() -> Iterator[SegmentWriter]:
    writer = SegmentWriter(version_of(0).size)
    yield writer
    writer.close()


def publish(writer: SegmentWriter, number: int) -> wire.SharedVersion:
    announced = writer.publish(number, version_of(number))
    assert announced is not None
    return announced


def value(held: Held | None) -> float:
    assert held is not None
    found = thaw(held.block)
    assert isinstance(found, np.ndarray)
    assert (found == found[0]).all(), "torn"
    return float(found[0])


def test_what_the_node_writes_its_agents_read_and_cannot_change(writer: SegmentWriter) -> None:
    segment = Segment(writer.handle)
    held = segment.take(publish(writer, 7))
    assert value(held) == 7.0
    assert held is not None
    assert held.version == 7
    assert not held.block.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        held.block.flags.writeable = True


def test_nobody_but_the_node_can_write_there_or_change_the_size(writer: SegmentWriter) -> None:
    handed = writer.handle.file.descriptor
    status = os.fstat(handed)
    assert stat.S_IMODE(status.st_mode) == 0o600
    # Even somebody who may open the file to write, as root may.
    descriptor = os.open(f"/proc/self/fd/{handed}", os.O_RDWR)
    try:
        for attempt in (
            lambda: mmap.mmap(descriptor, status.st_size),
            lambda: os.pwrite(descriptor, b"!", 100),
            lambda: os.ftruncate(descriptor, 4096),
            lambda: os.ftruncate(descriptor, 2 * status.st_size),
        ):
            with pytest.raises(PermissionError):
                attempt()
    finally:
        os.close(descriptor)
    with pytest.raises(PermissionError):
        mmap.mmap(handed, status.st_size)


def test_a_file_that_others_could_write_or_shorten_is_refused(writer: SegmentWriter) -> None:
    size = os.fstat(writer.handle.file.descriptor).st_size
    descriptor = os.memfd_create("unsealed")
    try:
        os.ftruncate(descriptor, size)
        with pytest.raises(OSError, match="seals"):
            Segment(SegmentHandle(Inherited(descriptor), writer.handle.slot_bytes))
    finally:
        os.close(descriptor)


def test_a_version_stays_while_anything_of_it_is_in_use(writer: SegmentWriter) -> None:
    segment = Segment(writer.handle)
    held = segment.take(publish(writer, 1))
    assert held is not None
    part = held.block[256:300]
    before = part.copy()
    slot_of_1 = 0
    del held
    for number in range(2, 30):
        assert publish(writer, number).slot != slot_of_1
    np.testing.assert_array_equal(part, before)
    del part
    assert slot_of_1 in {publish(writer, number).slot for number in range(30, 32)}


def test_the_newest_version_stays_although_nobody_has_taken_it_yet(writer: SegmentWriter) -> None:
    for number in range(1, 20):
        first, second = publish(writer, 2 * number), publish(writer, 2 * number + 1)
        assert first.slot != second.slot
        assert value(Segment(writer.handle).take(second)) == second.version


def test_without_a_free_slot_nothing_is_overwritten(writer: SegmentWriter) -> None:
    segments = [Segment(writer.handle) for _ in range(2)]
    held = [segments[number % 2].take(publish(writer, number)) for number in range(1, SLOTS + 1)]
    assert writer.publish(99, version_of(99)) is None
    assert [value(one) for one in held] == list(range(1, SLOTS + 1))
    held[3] = None
    assert publish(writer, 100).slot == 3


def test_what_is_too_large_for_a_slot_finds_no_place(writer: SegmentWriter) -> None:
    assert writer.publish(1, Frozen(np.zeros(writer.block_bytes))) is None


def test_an_agent_that_is_killed_gives_its_versions_back(writer: SegmentWriter) -> None:
    announced = publish(writer, 1)
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:  # an agent: it takes the version and is never heard of again
        held = Segment(writer.handle).take(announced)
        os.write(told, b"+" if held is not None else b"-")
        signal.pause()
        os._exit(0)
    try:
        assert os.read(ready, 1) == b"+"
        slots = {publish(writer, number).slot for number in range(2, 12)}
        assert announced.slot not in slots
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(told)
    assert announced.slot in {publish(writer, number).slot for number in range(12, 14)}


def test_who_comes_later_begins_with_the_newest(writer: SegmentWriter) -> None:
    assert Segment(writer.handle).newest() is None
    for number in (3, 4, 5):
        publish(writer, number)
    late = Segment(writer.handle)
    assert value(late.newest()) == 5.0


def test_a_version_that_is_not_what_was_announced_is_refused(writer: SegmentWriter) -> None:
    said = publish(writer, 3)
    for other in (
        wire.SharedVersion(4, said.slot, said.size, said.crc32),
        wire.SharedVersion(3, said.slot, said.size, said.crc32 ^ 1),
        wire.SharedVersion(3, said.slot, said.size - 8, said.crc32),
        wire.SharedVersion(3, said.slot, 1 << 50, said.crc32),
        wire.SharedVersion(3, said.slot, 0, said.crc32),
        wire.SharedVersion(3, said.slot + 1, said.size, said.crc32),
        wire.SharedVersion(3, 255, said.size, said.crc32),
    ):
        assert Segment(writer.handle).take(other) is None
    segment = Segment(writer.handle)
    held = segment.take(said)
    assert segment.take(said) is None, "a lock that is let go of twice protects nobody"
    assert value(held) == 3.0


def test_torn_octets_are_refused(writer: SegmentWriter) -> None:
    said = publish(writer, 3)
    writer._map[5000] ^= 0xFF  # pyright: ignore[reportPrivateUsage]  # nobody else can write there
    assert Segment(writer.handle).take(said) is None
    assert Segment(writer.handle).newest() is None


def test_memory_is_taken_as_it_is_needed() -> None:
    writer = SegmentWriter(1 << 20)
    try:

        def taken() -> int:
            return 512 * os.fstat(writer.handle.file.descriptor).st_blocks

        empty = taken()
        assert empty < 1 << 20
        publish(writer, 1)
        assert (1 << 20) <= taken() < 2 << 20
        for number in range(2, 20):  # nobody keeps any: two slots are enough
            publish(writer, number)
        assert taken() < 3 << 20
    finally:
        writer.close()
