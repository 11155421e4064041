"""A stage of a pre-training: passes over data in a random order, each batch one step of Adam.

    update number -> epoch, place in it -> rows, noise -> losses -> gradient, clipped -> step

What an update draws follows from its number alone, so a stage goes on anywhere as if it had never
been interrupted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from configs import streams
from configs.streams import Role
from learner import noise

LOSS = "loss"
"""Name of what is minimised, among the losses."""

Losses = Mapping[str, Tensor]
Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Passes:
    """How often a stage goes over what, and how."""

    number: int
    """Of the stage; no two have the same."""
    seed: int
    epochs: int
    rows: int
    """What one pass goes over."""
    batch: int
    learning_rate: float
    grad_clip: float

    @property
    def updates_of_epoch(self) -> int:
        return -(-self.rows // self.batch)

    @property
    def updates(self) -> int:
        """In all epochs."""
        return self.epochs * self.updates_of_epoch

    def noise(self, epoch: int, draw: int) -> torch.Generator:
        """Of one update, from 1 on."""
        return noise.generator(
            self.seed, Role.PRETRAINING, stage=self.number, epoch=epoch, draw=draw
        )

    def order(self, epoch: int) -> Rows:
        """[rows] in which an epoch goes over them."""
        rng = streams.generator(self.seed, Role.PRETRAINING, stage=self.number, epoch=epoch, draw=0)
        return rng.permutation(self.rows)


class Stage:
    """One stage, at some point of its updates.

    Args:
        parameters: what it trains, by names.
        losses: of some rows, with noise to draw from.
    """

    def __init__(
        self,
        passes: Passes,
        parameters: Sequence[tuple[str, nn.Parameter]],
        losses: Callable[[Rows, torch.Generator], Losses],
    ) -> None:
        self.passes = passes
        self.parameters = dict(parameters)
        self.optimiser = torch.optim.Adam(self.parameters.values(), lr=passes.learning_rate)
        self.done = 0
        """Updates so far."""
        self._losses = losses

    @property
    def is_over(self) -> bool:
        return self.done >= self.passes.updates

    @property
    def epochs_done(self) -> int:
        """Whole passes."""
        return self.done // self.passes.updates_of_epoch

    def update(self) -> dict[str, float]:
        """Take the next one; its losses."""
        epoch, place = divmod(self.done, self.passes.updates_of_epoch)
        begin = place * self.passes.batch
        rows = self.passes.order(epoch)[begin : begin + self.passes.batch]
        losses = self._losses(rows, self.passes.noise(epoch, draw=1 + place))
        self.optimiser.zero_grad()
        torch.autograd.backward(losses[LOSS])
        nn.utils.clip_grad_norm_(self.parameters.values(), self.passes.grad_clip)
        self.optimiser.step()  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
        self.done += 1
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def begin_moments(self) -> None:
        """Give Adam its zeros now: it makes them at its first step, and a checkpoint fills them."""
        for parameter in self.parameters.values():
            self.optimiser.state[parameter] = {
                "step": torch.tensor(0.0),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
