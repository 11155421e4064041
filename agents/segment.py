"""Policy versions in memory that a host's node writes and its agents read.

    node -> SegmentWriter.publish -> slot ─ memory of both ─ slot -> Segment.take -> block of bytes

The segment is a file without a name (memfd). It needs no /dev/shm, which containers keep small, no
resource tracker, and nobody who removes it: the kernel drops it with the last process that has it,
however that one ends. Agents are handed it when they are started. The node's own map is the only
one that can ever be written, and nobody can change the size (file seals). A slot's memory is taken
(posix_fallocate) before anything is written there. So an agent need fear neither other writers nor
a SIGBUS.

A version lies in one of a few slots. An agent holds a lock on each slot that it reads, and the
kernel takes back the locks of a process that has died. The node writes to a slot that nobody holds,
and never to the newest. So no agent has to say when it is done with a version, and it may keep one
for as long as it likes.

The locks are those of open files (F_OFD_SETLK): other locks of a process are lost as soon as any
descriptor of the file is closed in it.
"""

import fcntl
import mmap
import os
import struct
import weakref
import zlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from agents.frozen import ALIGNMENT, Block, Frozen
from runtime.net import wire
from runtime.net.inherited import Inherited

SLOTS = 8
"""More than are in use at once: the newest, the one before for those who are behind, and in an
on-policy run the one that an episode is played with. Memory is taken as they are needed."""
_PAGE = mmap.PAGESIZE
_READ = os.O_RDONLY | os.O_CLOEXEC
_F_SEAL_FUTURE_WRITE = 0x10
"""Linux 5.1; Python names it from 3.14 on."""
_SEALS = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | _F_SEAL_FUTURE_WRITE
_HEADER = struct.Struct("<QQQ")
"""Version, octets of the block (0: there is none) and their CRC-32."""
_HEADER_BYTES = ALIGNMENT
_LOCK = struct.Struct("@hhqqi0q")
"""struct flock: type, whence, start, length, pid."""


@dataclass(frozen=True, slots=True)
class SegmentHandle:
    """What an agent is told of its host's segment."""

    file: Inherited
    slot_bytes: int
    """Of each slot, its header included."""


class Held(NamedTuple):
    version: int
    block: Block
    """Not writable; its slot stays as it is while this array or a view of it exists."""


class SegmentWriter:
    """The node's end."""

    def __init__(self, block_bytes: int) -> None:
        """Make a segment of versions of at most so many octets.

        Raises:
            OSError: the kernel has no memory for it, or no such files.
        """
        self._slot_bytes = -(-(_HEADER_BYTES + block_bytes) // _PAGE) * _PAGE
        size = SLOTS * self._slot_bytes
        self._descriptor = os.memfd_create(
            "murmuration parameters", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
        )
        self._read_only = -1
        try:
            os.fchmod(self._descriptor, 0o600)
            os.ftruncate(self._descriptor, size)
            for slot in range(SLOTS):  # headers are looked at before anything else is there
                os.posix_fallocate(self._descriptor, slot * self._slot_bytes, _PAGE)
            self._map = mmap.mmap(self._descriptor, size)
            fcntl.fcntl(self._descriptor, fcntl.F_ADD_SEALS, _SEALS)
            self._read_only = os.open(f"/proc/self/fd/{self._descriptor}", _READ)
        except OSError:
            self._close_files()
            raise
        self._allocated = [False] * SLOTS
        self._newest: int | None = None

    @property
    def handle(self) -> SegmentHandle:
        """For agents that are started now."""
        return SegmentHandle(Inherited(self._read_only), self._slot_bytes)

    @property
    def block_bytes(self) -> int:
        """Octets of a version at most."""
        return self._slot_bytes - _HEADER_BYTES

    def publish(self, version: int, frozen: Frozen) -> wire.SharedVersion | None:
        """Put a version into a slot that nobody reads.

        Returns:
            What agents are told; None: the version is too large, every slot is in use, or there is
            no memory.
        """
        if frozen.size > self.block_bytes:
            return None
        for slot in range(SLOTS):
            if slot == self._newest or not _lock(self._descriptor, fcntl.F_WRLCK, slot):
                continue
            try:
                if not self._allocate(slot):
                    return None
                crc32 = self._write(slot, version, frozen)
            finally:
                _lock(self._descriptor, fcntl.F_UNLCK, slot)
            self._newest = slot
            return wire.SharedVersion(version, slot, frozen.size, crc32)
        return None

    def withdraw(self, said: wire.SharedVersion) -> None:
        """Let nobody else find a version that is not the newest; agents that read it keep it."""
        assert said.slot != self._newest
        _HEADER.pack_into(self._map, said.slot * self._slot_bytes, 0, 0, 0)

    def _allocate(self, slot: int) -> bool:
        if not self._allocated[slot]:
            try:
                start = slot * self._slot_bytes
                os.posix_fallocate(self._descriptor, start, self._slot_bytes)
            except OSError:
                return False
            self._allocated[slot] = True
        return True

    def _write(self, slot: int, version: int, frozen: Frozen) -> int:
        start = slot * self._slot_bytes
        # Who looks at the header without a lock finds nothing, until all is there.
        _HEADER.pack_into(self._map, start, 0, 0, 0)
        block = np.frombuffer(self._map, np.uint8, frozen.size, start + _HEADER_BYTES)
        frozen.write(block)
        crc32 = zlib.crc32(block.data)
        _HEADER.pack_into(self._map, start, version, frozen.size, crc32)
        return crc32

    def close(self) -> None:
        """Give it up; agents that have it keep it."""
        self._map.close()
        self._close_files()

    def _close_files(self) -> None:
        for descriptor in (self._descriptor, self._read_only):
            if descriptor >= 0:
                os.close(descriptor)


class Segment:
    """An agent's end."""

    def __init__(self, handle: SegmentHandle) -> None:
        """Map a segment to read it.

        Raises:
            OSError: it is none, or can be written or resized by others than its maker.
        """
        self._slot_bytes = handle.slot_bytes
        # Opened anew, because locks belong to an open file and the handle's is everybody's.
        self._descriptor = os.open(f"/proc/self/fd/{handle.file.descriptor}", _READ)
        try:
            size = os.fstat(self._descriptor).st_size
            seals = fcntl.fcntl(self._descriptor, fcntl.F_GET_SEALS)
            if seals & _SEALS != _SEALS or size != SLOTS * self._slot_bytes:
                raise OSError(f"segment of {size} octets with seals {seals:#x}")
            self._map = mmap.mmap(self._descriptor, size, access=mmap.ACCESS_READ)
        except OSError:
            os.close(self._descriptor)
            raise
        self._held: set[int] = set()

    def newest(self) -> Held | None:
        """The newest version that is there; None: there is none, or it is damaged.

        It may be out of date at once; agents that take part are told of later ones.
        """
        for _ in range(SLOTS):  # while we look, the node may write elsewhere
            headers = [(*self._header(slot), slot) for slot in range(SLOTS)]
            version, size, crc32, slot = max(headers, key=lambda header: (header[1] > 0, header[0]))
            held = self.take(wire.SharedVersion(version, slot, size, crc32))
            if held is not None:
                return held
        return None

    def take(self, said: wire.SharedVersion) -> Held | None:
        """A version that the node has announced; None: it is not there, or is not what was said."""
        slot = said.slot
        room = self._slot_bytes - _HEADER_BYTES
        if slot >= SLOTS or slot in self._held or not 0 < said.size <= room:
            return None
        if not _lock(self._descriptor, fcntl.F_RDLCK, slot):
            return None
        start = slot * self._slot_bytes + _HEADER_BYTES
        block = np.frombuffer(self._map, np.uint8, said.size, start)
        self._held.add(slot)
        # Every view of an array holds that array: when this one goes, nobody reads any longer.
        weakref.finalize(block, self._release, slot).atexit = False
        is_it = self._header(slot) == (said.version, said.size, said.crc32)
        return Held(said.version, block) if is_it and zlib.crc32(block.data) == said.crc32 else None

    def _release(self, slot: int) -> None:
        self._held.remove(slot)
        _lock(self._descriptor, fcntl.F_UNLCK, slot)

    def _header(self, slot: int) -> tuple[int, ...]:
        """Version, size and checksum; without a lock they may change at any moment."""
        return _HEADER.unpack_from(self._map, slot * self._slot_bytes)


def _lock(descriptor: int, kind: int, slot: int) -> bool:
    """Lock a slot for readers (F_RDLCK) or for the writer, or let go of it; False: it is taken.

    Raises:
        OSError: the file knows no locks.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _LOCK.pack(kind, os.SEEK_SET, slot, 1, 0))
    except BlockingIOError:
        return False
    return True
