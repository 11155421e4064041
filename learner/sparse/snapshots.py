"""Masks over training, one file for each twentieth of a run.

    topology ──▶ runs/<id>/masks/000000056000.npz   the masks after 56 000 environment steps
                                                    ──▶ python -m runtime.mask_plot

The number of files does not grow with the run. A run that is continued writes one more where it
goes on.
"""

import io
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from agents.policy import write_atomically
from configs.run_files import MASKS

if TYPE_CHECKING:  # who draws masks needs no torch
    from learner.sparse.topology import Topology

_PARTS = 20


class MaskSnapshots:
    """Writes the masks of a topology whenever the next twentieth of the run has begun.

    Args:
        folder: made when there is something to write.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._part = -1
        """Twentieths of the run at the last file."""

    def look(
        self, topology: "Topology", env_steps: int, steps: int, *, is_over: bool = False
    ) -> bool:
        """Write a file if one is due; whether that was so.

        Args:
            topology: as it is after `env_steps`.
            steps: of the whole run.
            is_over: this is how the masks stay, however many steps it has taken: the last episodes
                may not have counted.

        Raises:
            OSError: it could not be written; the next one will be tried.
        """
        part = _PARTS if is_over else min(_PARTS * env_steps // steps, _PARTS)
        if part <= self._part:
            return False
        self._part = part
        arrays: dict[str, Any] = {name: mask.cpu().numpy() for name, mask in topology.masks.items()}
        content = io.BytesIO()
        np.savez_compressed(content, **arrays, env_steps=np.int64(env_steps))
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"{env_steps:012d}.npz"
        write_atomically(path, content.getvalue())
        return True


class MaskSnapshot(NamedTuple):
    """The content of one file."""

    env_steps: int
    masks: dict[str, NDArray[np.bool_]]
    """[out, in] of each masked matrix, by the name of its parameter."""


def read_snapshots(run: Path) -> list[MaskSnapshot]:
    """All files of a run in the order of its steps.

    Raises:
        ValueError: a file is damaged; the message names it.
    """
    found: list[MaskSnapshot] = []
    for path in (run / MASKS).glob("*.npz"):
        try:
            # Its archive has a checksum for each array.
            with np.load(io.BytesIO(path.read_bytes())) as file:
                masks = {name: cast("NDArray[np.bool_]", file[name]) for name in file.files}
            found.append(MaskSnapshot(int(masks.pop("env_steps")), masks))
        except (
            OSError,
            EOFError,
            ValueError,
            KeyError,
            TypeError,
            BadZipFile,
            zlib.error,
        ) as error:
            raise ValueError(f"{path} is damaged ({error}): remove it to go on") from error
    return sorted(found, key=lambda snapshot: snapshot.env_steps)
