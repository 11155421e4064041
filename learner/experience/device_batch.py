"""A batch on its way to where it is computed.

    WindowBatch in pinned memory -> copies on a stream of their own -> DeviceBatch
                                                                       wait: the update's stream

On a GPU a copy from ordinary memory makes the host wait until all is over. From pinned memory it
is the device's own business, beside the update before it, and only the stream that computes with
the copies waits for them. On a CPU the tensors are the arrays themselves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from learner.experience.replay import WindowBatch, Zeros

_ROWS_TOGETHER = 16
"""Rows by which the number of those that are computed grows."""
_WORTH_LEAVING_OUT = 400
"""Agent-steps of the dead from which it is cheaper to compute without them."""
_FIELDS = (
    "observations",
    "actions",
    "rewards",
    "states",
    "alive",
    "filled",
    "terminated",
    "truncated",
    "starts",
    "returns_after",
)
"""Of a WindowBatch, beside its columns."""


@dataclass(frozen=True, slots=True, eq=False)
class DeviceBatch:
    """The arrays of a WindowBatch as tensors."""

    fields: Mapping[str, Tensor]
    """By their names there, and as they are there: time first."""
    columns: Mapping[str, Tensor]
    """[T, B, N, …] or [T + 1, B, N, …] by name; integers of several bytes are int64."""
    has_rebirths: bool
    """Whether an agent lives again after a death."""
    living_R: Tensor | None = None
    """int64: rows b × N + n of agents that live at some time, and a few others; None: all rows."""
    copied: "torch.cuda.Event | None" = None
    """When all of them are there; None: they are."""

    def wait(self) -> None:
        """Have what is computed from now on in this thread wait for the copies; the host does
        not.
        """
        if self.copied is None:
            return
        stream = torch.cuda.current_stream(self.fields["starts"].device)
        stream.wait_event(self.copied)
        for tensor in (*self.fields.values(), *self.columns.values()):
            tensor.record_stream(stream)  # its memory is not given away before


class Transfer:
    """Brings batches to a device; any thread may ask."""

    def __init__(self, device: torch.device, *, finds_living: bool = False) -> None:
        self._finds_living = finds_living
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.zeros: Zeros = np.zeros if self._stream is None else _pinned_zeros
        """Makes arrays that the device can read by itself."""

    def begin(self, batch: WindowBatch) -> DeviceBatch:
        """Start the copies, of which `DeviceBatch.wait` sees the end."""
        if self._stream is None:
            return self._sent(batch, None)
        with torch.cuda.stream(self._stream):
            return self._sent(batch, self._stream)

    def _sent(self, batch: WindowBatch, stream: "torch.cuda.Stream | None") -> DeviceBatch:
        fields = {name: self._tensor(getattr(batch, name)) for name in _FIELDS}
        columns = {name: self._tensor(_signed(array)) for name, array in batch.columns.items()}
        reborn = bool((batch.alive[1:] > batch.alive[:-1]).any())
        copied = None
        if stream is not None:
            copied = torch.cuda.Event()
            copied.record(stream)
        living_R = self._living(batch) if self._finds_living and not reborn else None
        return DeviceBatch(fields, columns, reborn, living_R, copied)

    def _living(self, batch: WindowBatch) -> Tensor | None:
        lives_R = batch.alive.any(axis=0).ravel()
        # oneDNN makes code for each shape: let there be few of them.
        count = -(-max(int(lives_R.sum()), 1) // _ROWS_TOGETHER) * _ROWS_TOGETHER
        if (lives_R.size - count) * len(batch.alive) < _WORTH_LEAVING_OUT:
            return None
        return self._tensor(np.sort(np.argsort(~lives_R, kind="stable")[:count]))

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
        if self._stream is None:
            return tensor
        # Rows of a larger batch, or columns that were widened, have left their pinned memory.
        pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
        return pinned.to(self._device, non_blocking=True)


def _pinned_zeros(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """torch keeps pinned memory that is given back, so that asking again costs nothing."""
    size_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = torch.zeros(size_bytes, dtype=torch.uint8, pin_memory=True)
    array: NDArray[Any] = memory.numpy().view(dtype).reshape(shape)
    return array


def _signed(array: NDArray[Any]) -> NDArray[Any]:
    """Unsigned numbers wider than a byte as int64, bit by bit: torch computes with no others."""
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        return array.astype(np.int64)
    return array
