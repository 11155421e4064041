"""Publishing: parameter vectors -> numbered versions on the wire.

    flat vector, mask -> Publisher -> dense:  DenseParameters
                                      delta:  DeltaParameters (changed entries against the last)
                                      sparse: SparseDelta (agents/sparse_parameters.py)
             snapshot -> DenseParameters | SparseParameters

Versions only grow. Each carries the CRC-32 of the whole vector, so that a receiver who applied a
delta to anything but its base notices. No socket here; learner/subscribers.py sends this.

Dimension key: P = parameters.
"""

import numpy as np

from agents import sparse_parameters
from agents.policy import checksum
from agents.sparse_parameters import Masked, narrowest
from configs.arrays import BoolArray, FloatArray
from configs.schema import PublishDtype, PublishMode
from runtime.net import wire

_LARGEST_HALF = np.float32(np.finfo(np.float16).max)


class Publisher:
    """The newest version and how it came from the one before.

    Args:
        flat: [P] parameters of the first version.
        mode: dense; delta wherever that is smaller; or sparse.
        version: number of the first version; agents take 0 for "nothing yet".
        mask: [P] sparse: which weights exist; None: those that are not zero.
        dtype: what values are rounded to before they are published.
    """

    def __init__(
        self,
        flat: FloatArray,
        mode: PublishMode,
        version: int = 1,
        *,
        mask: BoolArray | None = None,
        dtype: PublishDtype = "float32",
    ) -> None:
        self._mode: PublishMode = mode
        self._dtype: PublishDtype = dtype
        self._newest = self._prepared(flat, mask)
        self._version = version

    @property
    def version(self) -> int:
        """Of the newest parameters."""
        return self._version

    @property
    def flat(self) -> FloatArray:
        """[P] the newest parameters as whoever has received them has them."""
        return self._newest.flat

    def snapshot(self) -> wire.DenseParameters | wire.SparseParameters:
        """The newest version as a whole, for whoever has nothing to apply a delta to."""
        if self._mode == "sparse":
            return sparse_parameters.whole(self._version, self._newest)
        return wire.DenseParameters(self._version, checksum(self.flat), narrowest(self.flat))

    def publish(self, flat: FloatArray, mask: BoolArray | None = None) -> wire.Parameters:
        """Make these parameters the next version.

        Args:
            mask: [P] sparse: which weights exist now; None: those that are not zero.
        """
        before = self._newest
        self._newest = self._prepared(flat, mask)
        self._version += 1
        match self._mode:
            case "dense":
                return self.snapshot()
            case "delta":
                return self._changes(before.flat)
            case "sparse":
                # Of vectors that have nothing in common, difference and values are equally long.
                return sparse_parameters.advance(self._version, before, self._newest)

    def _prepared(self, flat: FloatArray, mask: BoolArray | None) -> Masked:
        flat = np.array(flat, dtype=np.float32)
        if self._dtype == "float16":
            # What is too large is the largest and not infinity.
            np.clip(flat, -_LARGEST_HALF, _LARGEST_HALF, out=flat)
            flat = flat.astype(np.float16).astype(np.float32)
        if self._mode == "sparse":
            return Masked.of(flat, mask)
        return Masked(flat, np.ones(flat.size, dtype=np.bool_))

    def _changes(self, before: FloatArray) -> wire.Parameters:
        # Bits and not values: -0.0 equals 0.0, and their checksums differ.
        changed = np.flatnonzero(before.view(np.uint32) != self.flat.view(np.uint32))
        indices = changed.astype(np.uint32)
        values, whole = narrowest(self.flat[changed]), self.snapshot()
        if indices.nbytes + values.nbytes >= whole.values.nbytes:
            return whole
        return wire.DeltaParameters(
            version=self._version,
            base_version=self._version - 1,
            crc32=checksum(self.flat),
            indices=indices,
            values=values,
        )

    def continue_after(self, version: int) -> wire.DenseParameters | wire.SparseParameters:
        """Number the present parameters above a version that somebody already has.

        A learner that starts again from a checkpoint is behind what agents have heard, and they
        ignore what is not newer.
        """
        self._version = max(self._version, version) + 1
        return self.snapshot()
