"""The file of a checkpoint: named arrays and JSON metadata, written whole or not at all.

safetensors, no pickle, no torch: a launcher reads the counters of a run to be resumed from here.

A CRC-32 covers the metadata and every array, so that a file whose bytes have changed is refused.
Checkpoints of format 1 have none: they are read, and `CheckpointContent.is_verified` says so.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from agents.policy import write_atomically
from configs.bounded import parse_json, require_regular, shorten
from configs.errors import UserError

FORMAT = "murmuration-checkpoint/2"
_WITHOUT_CHECKSUM = "murmuration-checkpoint/1"
ONLINE_POLICY, AVERAGE = "online.policy.", "average."
"""How the names of the policy's arrays begin, and of those of its average, if there is one."""


class CheckpointError(UserError, ValueError):
    """A checkpoint cannot be read, or does not fit the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointProgress:
    """How far a run had come."""

    env_steps: int
    episodes: int
    updates: int
    version: int
    """Newest policy version published by then."""


@dataclass(frozen=True, slots=True, eq=False)
class CheckpointContent:
    """All that a checkpoint holds."""

    progress: CheckpointProgress
    arrays: Mapping[str, NDArray[Any]]
    notes: Mapping[str, Any]
    """JSON values: states of generators, dimensions, devices."""
    config: str
    """The run's configuration as YAML."""
    is_verified: bool = True
    """Whether a checksum has vouched for it; False for a file of an older version."""


def write_checkpoint(path: Path, content: CheckpointContent) -> None:
    """Replace the file; a crash leaves either the old or the new one."""
    progress = content.progress
    metadata = {
        "format": FORMAT,
        "env_steps": str(progress.env_steps),
        "episodes": str(progress.episodes),
        "updates": str(progress.updates),
        "version": str(progress.version),
        "notes": json.dumps(dict(content.notes)),
        "config": content.config,
    }
    # Not ascontiguousarray: it makes a vector of a scalar.
    arrays = {name: np.asarray(array, order="C") for name, array in content.arrays.items()}
    metadata["crc32"] = str(_checksum(metadata, arrays))
    write_atomically(path, save(arrays, metadata))


def read_checkpoint(path: Path) -> CheckpointContent:
    """Read a checkpoint as a whole.

    Raises:
        CheckpointError: unreadable, damaged or of another format.
    """
    metadata, arrays = _read(path, with_arrays=True)
    progress = _progress_of(path, metadata)
    stated = metadata.pop("crc32", None)
    is_old = metadata["format"] == _WITHOUT_CHECKSUM and stated is None
    if not is_old and stated != str(_checksum(metadata, arrays)):
        raise CheckpointError(f"checkpoint {path} is damaged: checksum does not match")
    try:
        notes: dict[str, Any] = parse_json(metadata["notes"])
        config = metadata["config"]
    except (KeyError, ValueError) as error:
        what = shorten(str(error))
        raise CheckpointError(f"checkpoint {path} has damaged metadata: {what}") from error
    return CheckpointContent(progress, arrays, notes, config, is_verified=not is_old)


def read_progress(path: Path) -> CheckpointProgress:
    """Read the counters alone, and take them at their word: the checksum is not looked at.

    Raises:
        CheckpointError: unreadable, damaged or of another format.
    """
    return _progress_of(path, _read(path, with_arrays=False)[0])


def _read(path: Path, *, with_arrays: bool) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Metadata and, if asked for, arrays."""
    opener: Any = safe_open  # safetensors ships no types
    try:
        require_regular(path)
        with opener(path, framework="numpy") as file:
            names: list[str] = list(file.keys()) if with_arrays else []
            return file.metadata() or {}, {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError, TypeError) as error:  # TypeError: a dtype that numpy lacks
        what = shorten(getattr(error, "strerror", None) or str(error))
        raise CheckpointError(f"checkpoint {path} cannot be read: {what}") from error


def _progress_of(path: Path, metadata: Mapping[str, str]) -> CheckpointProgress:
    found = metadata.get("format")
    if found not in (FORMAT, _WITHOUT_CHECKSUM):
        raise CheckpointError(f"checkpoint {path} has format {found!r}, expected {FORMAT!r}")
    try:
        return CheckpointProgress(
            env_steps=int(metadata["env_steps"]),
            episodes=int(metadata["episodes"]),
            updates=int(metadata["updates"]),
            version=int(metadata["version"]),
        )
    except (KeyError, ValueError) as error:
        what = shorten(str(error))
        raise CheckpointError(f"checkpoint {path} has damaged metadata: {what}") from error


def _checksum(metadata: Mapping[str, str], arrays: Mapping[str, NDArray[Any]]) -> int:
    """CRC-32 of all that a file says, its own checksum excepted."""
    crc32 = zlib.crc32(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        crc32 = zlib.crc32(f"{name} {array.dtype.str} {array.shape}".encode(), crc32)
        crc32 = zlib.crc32(array.reshape(-1).view(np.uint8).data, crc32)
    return crc32
