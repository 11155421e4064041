"""Every joined episode on disk, before anybody is told that it is safe.

    append: Episode -> its packets as wire frames, one file an episode -> journal/
    load:   journal/ -> frames -> EpisodeJoiner -> Episode

A file is written once, with its length and CRC-32 in front; one that was cut short when its writer
was killed does not add up and is removed by the next load. One file an episode, so that the bound
is kept by removing files: the newest `capacity` episodes are here, no others.

What a kill -9 of the learner leaves in the kernel's page cache is not lost, so nothing is synced:
a power cut may cost the newest episodes. No pickle, no torch.
"""

import contextlib
import logging
import re
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from configs.bounded import read_bytes
from learner.experience.episode import Dimensions, Episode, EpisodeJoiner, parts_of
from runtime.net import wire
from runtime.net.errors import WireFormatError

logger = logging.getLogger(__name__)


_MOST_BYTES = 1 << 30
"""Of one episode."""
_MAGIC = b"MURMJRN1"
_HEADER = struct.Struct("<8sIIQ")
"""Magic, CRC-32 of the body, number of frames, length of the body in bytes."""
_FRAME_LENGTH = struct.Struct("<I")
_SUFFIX = ".episode"
_NAME = re.compile(r"(\d+)-(\d+)")
"""Ordinal and number, before the suffix."""


class Journal:
    """The newest episodes, in the order in which they were joined.

    Args:
        folder: made with the first episode.
        capacity: episodes kept; 0 keeps none.
    """

    def __init__(self, folder: Path, capacity: int) -> None:
        self.capacity = capacity
        self._folder = folder
        # Sorted by ordinal: the names begin with it.
        self._files = deque(sorted(_entries(folder)))

    def __len__(self) -> int:
        """Episodes on disk."""
        return len(self._files)

    def append(self, ordinal: int, episode: Episode) -> None:
        """Write an episode, and remove the oldest if there are now too many.

        Args:
            ordinal: how many episodes the run's learner had joined with this one; it grows with
                every call and is given back by `load`.
            episode: to be kept.

        Raises:
            OSError: it could not be written; what was there before still is.
        """
        path = self._folder / f"{ordinal:010d}-{episode.number:010d}{_SUFFIX}"
        content = _encode(episode)
        try:
            self._folder.mkdir(exist_ok=True)
            with path.open("wb") as file:
                file.write(content)
        except OSError:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)  # its beginning would only take up space
            raise
        self._files.append(path)
        self.trim()

    def load(self, dimensions: Dimensions) -> Iterator[tuple[int, Episode]]:
        """Ordinals and episodes, the oldest first.

        Files that do not add up, or hold an episode of another task, are removed. One that cannot
        be read at the moment stays.
        """
        self.trim()
        dropped: dict[str, list[str]] = {}
        for path in list(self._files):
            try:
                content = read_bytes(path, _MOST_BYTES)
            except OSError as error:
                logger.warning("journal: %s is left out: %s", path.name, error)
                continue
            try:
                episode = _decode(content, dimensions)
            except (ValueError, WireFormatError) as error:
                dropped.setdefault(str(error), []).append(path.name)
                self._files.remove(path)
                path.unlink(missing_ok=True)
                continue
            yield int(path.name.split("-")[0]), episode
        # A journal of an older version is dropped whole: a line for each file would hide the rest.
        for reason, names in dropped.items():
            more = f" and {len(names) - 1} more are" if len(names) > 1 else " is"
            logger.warning("journal: %s%s dropped: %s", names[0], more, reason)

    def clear(self) -> None:
        """Remove everything."""
        while self._files:
            self._files.popleft().unlink(missing_ok=True)

    def trim(self) -> None:
        """Remove the oldest beyond the capacity: there are such if an earlier life kept more."""
        while len(self._files) > self.capacity:
            self._files.popleft().unlink(missing_ok=True)


def newest_number(folder: Path) -> int:
    """The highest number of an episode in a journal, by the names of its files; -1 without one."""
    return max((int(path.stem.split("-")[1]) for path in _entries(folder)), default=-1)


def _entries(folder: Path) -> list[Path]:
    """Files that have names of ours; whatever else lies there is none of our business."""
    found = folder.glob(f"*{_SUFFIX}")
    return [path for path in found if _NAME.fullmatch(path.stem) and path.is_file()]


def steps_played(folder: Path) -> int:
    """Training steps of all copies at the end of the newest episode in a journal; 0 without one."""
    for path in sorted(_entries(folder), reverse=True):
        try:
            packets = list(_packets(read_bytes(path, _MOST_BYTES)))
        except (OSError, ValueError, WireFormatError):  # cut short: its writer was killed
            continue
        steps = (packet.env_steps for packet in packets if isinstance(packet, wire.EpisodeRecord))
        return max(steps, default=0)
    return 0


def _encode(episode: Episode) -> bytes:
    frames = [wire.encode(part) for part in parts_of(episode)]
    body = b"".join(piece for frame in frames for piece in (_FRAME_LENGTH.pack(len(frame)), frame))
    return _HEADER.pack(_MAGIC, zlib.crc32(body), len(frames), len(body)) + body


def _decode(content: bytes, dimensions: Dimensions) -> Episode:
    """The episode of a file.

    Raises:
        ValueError: cut short, damaged, or of another task.
        WireFormatError: written by another version of the wire format.
    """
    joiner, episode = EpisodeJoiner(dimensions), None
    for packet in _packets(content):
        episode = joiner.add(packet)
    if episode is None:
        raise ValueError("its parts make no episode of this task")
    return episode


def _packets(content: bytes) -> Iterator[wire.Trajectory | wire.EpisodeRecord]:
    """The packets of a file.

    Raises:
        ValueError: cut short or damaged.
        WireFormatError: written by another version of the wire format.
    """
    if len(content) < _HEADER.size:
        raise ValueError("cut short within its header")
    magic, crc32, num_frames, length = _HEADER.unpack_from(content)
    body = memoryview(content)[_HEADER.size :]
    if magic != _MAGIC:
        raise ValueError("not a file of a journal")
    if len(body) != length or zlib.crc32(body) != crc32:
        raise ValueError(f"{len(body)} of {length} bytes, or damaged")
    at = 0
    for _ in range(num_frames):
        try:
            (size,) = _FRAME_LENGTH.unpack_from(body, at)
        except struct.error as error:
            raise ValueError(f"fewer than {num_frames} packets") from error
        at += _FRAME_LENGTH.size
        packet = wire.decode(bytes(body[at : at + size]), wire.Trajectory, wire.EpisodeRecord)
        assert isinstance(packet, wire.Trajectory | wire.EpisodeRecord)
        yield packet
        at += size
    if at != len(body):
        raise ValueError(f"{num_frames} packets in {at} of {len(body)} bytes")
