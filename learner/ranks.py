"""Several processes that share each update (DistributedDataParallel, one per GPU).

    rank 0: learner's process            rank 1, 2, …: learner/follower.py
      replay -> batch ── rows ──────────────▶ rows
      gradient ◀────────── mean of all ─────▶ gradient
      Adam                                    Adam: the same step, so the same parameters

Rank 0 has the sockets, the replay and the files; the others know parameters and what they are
handed. Rows are cut so that nobody is left without one, and noise is drawn for whole parts
(learner/comm/gates.py): two ranks take the step that one process would take with the whole batch.

torchrun's agent starts the ranks, watches them and stops them (learner/entry.py).
"""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from learner.experience.device_batch import DeviceBatch
from learner.experience.replay import Rows, WindowBatch

_PATIENCE = timedelta(days=365)
"""Rank 0 has nothing to hand out until episodes come; a rank that dies closes its connections."""


@dataclass(frozen=True, slots=True)
class Order:
    """What an update depends on besides parameters and rows."""

    env_steps: int
    """Of the run by now: temperatures, prices and step sizes follow it."""


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """A rank's rows of one part of a batch."""

    batch: WindowBatch
    rows: Rows
    on_device: DeviceBatch | None = None
    """The same rows on their way; None: they have not set out."""


class Ranks:
    """This process among those that share updates.

    torchrun's environment says which one it is: RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT.
    """

    def __init__(self, device: torch.device) -> None:
        cuda = device.type == "cuda"
        dist.init_process_group("nccl" if cuda else "gloo", timeout=_PATIENCE)
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.group: Any = dist.group.WORLD
        """What gradients are exchanged in."""
        # Batches lie in the host's memory, and so they travel.
        untyped: Any = dist
        self._by_host: Any = untyped.new_group(backend="gloo", timeout=_PATIENCE)

    def tell(self, content: Any) -> Any:
        """Rank 0's content, at every rank."""
        box = [content]
        dist.broadcast_object_list(box, src=0, group=self._by_host)
        return box[0]

    def add_up(self, numbers: Tensor) -> None:
        """Replace the numbers by their sum over all ranks."""
        dist.all_reduce(numbers, group=self.group)  # pyright: ignore[reportUnknownMemberType]

    def hand_out(self, order: Order, batch: WindowBatch, rows: int) -> list[Share]:
        """Rank 0: give everybody an order and its rows; returns one's own.

        Args:
            order: goes to all.
            batch: at least as many rows as there are ranks.
            rows: largest size of a part, over all ranks.
        """
        shares = shared_out(batch, rows, self.size)
        self._scatter([None, *((order, own) for own in shares[1:])])
        return shares[0]

    def take(self) -> tuple[Order, list[Share]] | None:
        """Other ranks: wait for the next order; None: there is none any more.

        Raises:
            RuntimeError: rank 0 is gone.
        """
        return self._scatter(None)

    def dismiss(self) -> None:
        """Rank 0, between two updates: no order will follow."""
        self._scatter([None] * self.size)

    def close(self) -> None:
        dist.destroy_process_group()

    def _scatter(self, contents: list[Any] | None) -> Any:
        box = [None]
        dist.scatter_object_list(box, contents, src=0, group=self._by_host)
        return box[0]


def launched() -> bool:
    """Whether torchrun's agent has started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def shared_out(batch: WindowBatch, rows: int, ranks: int) -> list[list[Share]]:
    """Every rank's shares: as many as the batch has parts of at most about `rows` rows.

    Raises:
        ValueError: fewer rows than ranks.
    """
    if batch.size < ranks:
        raise ValueError(f"{batch.size} rows are not enough for {ranks} ranks")
    parts = min(-(-batch.size // rows), batch.size // ranks)
    shares: list[list[Share]] = [[] for _ in range(ranks)]
    for part in range(parts):
        begin, end = batch.size * part // parts, batch.size * (part + 1) // parts
        of = end - begin
        for rank, own in enumerate(shares):
            place = Rows(of * rank // ranks, of * (rank + 1) // ranks, of)
            own.append(Share(batch.at(slice(begin + place.begin, begin + place.end)), place))
    return shares
