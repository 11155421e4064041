"""Publishing: parameter vectors -> numbered versions on the wire.

    flat vector -> Publisher -> DenseParameters | DeltaParameters (changed entries against the last)

Versions only grow. Each carries the CRC-32 of the whole vector, so that a receiver who applied a
delta to anything but its base notices. No socket here; `learner.process` sends what this makes.

Dimension key: P = parameters.
"""

from typing import Literal

import numpy as np

from agents.policy import FloatArray, checksum
from runtime.wire import DeltaParameters, DenseParameters


class Publisher:
    """The newest version and how it came from the one before.

    Args:
        flat: [P] parameters of the first version.
        mode: dense, or delta wherever that is smaller.
        version: number of the first version; agents take 0 for "nothing yet".
    """

    def __init__(self, flat: FloatArray, mode: Literal["dense", "delta"], version: int = 1) -> None:
        self._mode = mode
        self._flat = np.array(flat, dtype=np.float32)
        self._version = version

    @property
    def version(self) -> int:
        """Of the newest parameters."""
        return self._version

    def snapshot(self) -> DenseParameters:
        """The newest version as a whole, for whoever has nothing to apply a delta to."""
        return DenseParameters(self._version, checksum(self._flat), self._flat)

    def publish(self, flat: FloatArray) -> DenseParameters | DeltaParameters:
        """Make these parameters the next version."""
        base, before = self._version, self._flat
        self._version, self._flat = base + 1, np.array(flat, dtype=np.float32)
        if self._mode == "dense":
            return self.snapshot()
        # Bits and not values: -0.0 equals 0.0, and their checksums differ.
        changed = np.flatnonzero(before.view(np.uint32) != self._flat.view(np.uint32))
        indices = changed.astype(np.uint32)
        values = self._flat[changed]
        if indices.nbytes + values.nbytes >= self._flat.nbytes:
            return self.snapshot()
        return DeltaParameters(
            version=self._version,
            base_version=base,
            crc32=checksum(self._flat),
            indices=indices,
            values=values,
        )

    def continue_after(self, version: int) -> DenseParameters:
        """Number the present parameters above a version that somebody already has.

        A learner that starts again from a checkpoint is behind what agents have heard, and they
        ignore what is not newer.
        """
        self._version = max(self._version, version) + 1
        return self.snapshot()
