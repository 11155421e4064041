"""A part of a batch, on the device: what a loss is computed of.

    Share (arrays of some rows) -> tensors, and which steps count

Dimension key: T = time, B = batch, N = agents.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.schema import RunConfig
from learner.experience.replay import Rows
from learner.ranks import Share
from learner.targets import Outcome


@dataclass(frozen=True, slots=True, eq=False)
class Divisors:
    """What the sums of a whole batch are divided by; at least 1."""

    steps: Tensor
    """[] steps that count."""
    agent_steps: Tensor
    """[] steps of living agents that count."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Rows of a batch; of a part that several processes share, those of this one."""

    observations: Tensor
    actions: Tensor
    states: Tensor
    alive: Tensor
    outcome: Outcome
    rows: Rows
    """Of the part that several processes share."""
    generator: torch.Generator
    """Of noise: parts that are worked off side by side must not share a stream."""
    learns_TB: Tensor
    """bool: steps that count in the loss: played, and past the burn-in."""
    agent_mask_TBN: Tensor
    """bool: the same for each agent while it lives."""
    returns_after_B: Tensor
    """The team's recorded return behind the window, clipped and not scaled; zeros where no loss
    asks for it."""
    start_B: Tensor
    """int64: step of its episode with which each window begins."""
    begins_TBN: Tensor | None
    """[T + 1, B, N] bool: an agent lives again after a death; None: nobody does."""
    columns: Mapping[str, Tensor]
    """[T, B, N, …] or [T + 1, B, N, …] by name (configs/columns.py); integers are int64."""

    @property
    def lives_TBN(self) -> Tensor:
        """[T, B, N] bool: has a part in the team's value."""
        return self.outcome.alive_TBN[:-1]

    @property
    def lives_on_TBN(self) -> Tensor:
        """[T, B, N] bool: the same in each next step."""
        return self.outcome.alive_TBN[1:]

    def noisy_episodes(self, share: float) -> Tensor | None:
        """[B] bool: episodes whose gates get noise, `share` of all; None: each of them."""
        if share == 1.0:
            return None
        device = self.learns_TB.device
        drawn = torch.rand(self.rows.of, generator=self.generator, device=device)
        return drawn[self.rows.slice] < share


def load(share: Share, generator: torch.Generator, run: RunConfig, device: torch.device) -> Part:
    """Move arrays to the device and work out what counts."""
    batch, config = share.batch, run.learner

    def tensor(array: NDArray[Any]) -> Tensor:
        contiguous = np.ascontiguousarray(array)
        return torch.from_numpy(contiguous).to(device)  # pyright: ignore[reportUnknownMemberType]  # untyped in torch

    outcome = Outcome.of(
        config,
        rewards_TBN=tensor(batch.rewards),
        alive_TBN=tensor(batch.alive),
        filled_TB=tensor(batch.filled),
        terminated_TB=tensor(batch.terminated),
        truncated_TB=tensor(batch.truncated),
    )
    # A window that begins with its episode starts from the true state: nothing to warm up, and
    # without its first steps nobody would ever learn how to begin.
    warming = np.arange(len(batch.actions))[:, None] < config.burn_in
    learns_TB = outcome.filled_TB & ~tensor(warming & (batch.starts > 0))
    alive = tensor(batch.alive)
    begins_TBN = np.zeros_like(batch.alive)
    np.greater(batch.alive[1:], batch.alive[:-1], out=begins_TBN[1:])
    return Part(
        observations=tensor(batch.observations).float(),
        actions=tensor(batch.actions),
        states=tensor(batch.states),
        alive=torch.ones_like(alive) if run.agents.dead == "relay" else alive,
        outcome=outcome,
        rows=share.rows,
        generator=generator,
        learns_TB=learns_TB,
        agent_mask_TBN=outcome.agent_mask_TBN & learns_TB.unsqueeze(-1),
        returns_after_B=tensor(batch.returns_after),
        start_B=tensor(batch.starts),
        begins_TBN=tensor(begins_TBN) if begins_TBN.any() else None,
        columns={name: tensor(_signed(array)) for name, array in batch.columns.items()},
    )


def _signed(array: NDArray[Any]) -> NDArray[Any]:
    """Unsigned numbers wider than a byte as int64, bit by bit: torch computes with no others."""
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        return array.astype(np.int64)
    return array
