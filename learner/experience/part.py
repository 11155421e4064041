"""A part of a batch, on the device: what a loss is computed of.

    DeviceBatch (some rows) -> which steps count

Dimension key: T = time, B = batch, N = agents.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from configs.columns import CARRY
from configs.schema import RunConfig
from learner.estimators.draw import Draw
from learner.experience.device_batch import DeviceBatch
from learner.experience.replay import Rows
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
    """[T, B, N, …], [T + 1, B, N, …] or [1, B, N, …] by name (configs/columns.py); integers are
    int64."""
    living_R: Tensor | None = None
    """int64: rows b × N + n of agents that live at some time; None: all count as such."""
    draw: Draw | None = None
    """The pass of an estimator of the gates' gradient (learner/estimators/); None: there is none,
    and no other pass."""

    def charge(self, losses: Tensor, divisor: Tensor, weight: float | Tensor = 1.0) -> None:
        """Say what steps cost because of what the agents heard, as it is in the loss.

        Args:
            losses: [T, B] or [T, B, N]
        """
        if self.draw is not None:
            self.draw.charge(losses * weight / divisor)

    def settled(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """What no gate that is drawn may have a say in: `compute`, once for all passes."""
        return compute() if self.draw is None else self.draw.settle(name, compute)

    @property
    def num_agents(self) -> int:
        """N, of the population that played."""
        return self.alive.shape[-1]

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


def part_of(batch: DeviceBatch, rows: Rows, generator: torch.Generator, run: RunConfig) -> Part:
    """Work out what counts, without a look from the host."""
    config, field = run.learner, batch.fields
    outcome = Outcome.of(
        config,
        rewards_TBN=field["rewards"],
        alive_TBN=field["alive"],
        filled_TB=field["filled"],
        terminated_TB=field["terminated"],
        truncated_TB=field["truncated"],
    )
    # A window that begins with its episode, like a piece that says what its agents remembered,
    # starts from the true state: nothing to warm up, and without its first steps nobody would ever
    # learn how to begin.
    steps_T1 = torch.arange(len(field["filled"]), device=field["filled"].device).unsqueeze(1)
    warming_TB = (steps_T1 < config.burn_in) & (field["starts"] > 0)
    if CARRY.name in batch.columns:
        warming_TB = torch.zeros_like(warming_TB)
    learns_TB = outcome.filled_TB & ~warming_TB
    alive_TBN = field["alive"]
    begins_TBN = None
    if batch.has_rebirths:
        begins_TBN = torch.zeros_like(alive_TBN)
        begins_TBN[1:] = alive_TBN[1:] & ~alive_TBN[:-1]
    return Part(
        observations=field["observations"].float(),
        actions=field["actions"],
        states=field["states"],
        alive=torch.ones_like(alive_TBN) if run.agents.dead == "relay" else alive_TBN,
        outcome=outcome,
        rows=rows,
        generator=generator,
        learns_TB=learns_TB,
        agent_mask_TBN=outcome.agent_mask_TBN & learns_TB.unsqueeze(-1),
        returns_after_B=field["returns_after"],
        start_B=field["starts"],
        begins_TBN=begins_TBN,
        columns=batch.columns,
        living_R=batch.living_R,
    )
