"""Options of self-play. They are a file of their own, because reading them takes no torch."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from configs.ranges import between, check_ranges, within
from configs.schema import (
    MAX_AGENTS,
    MAX_COPIES,
    MAX_CYCLES,
    MAX_SEED,
    MAX_STEPS,
    MAX_THREADS,
)
from envs.battle.map import deploy


@dataclass(frozen=True, kw_only=True, slots=True)
class OpponentOptions:
    """Train an opponent for Battle by self-play."""

    trained_by: ClassVar[str] = "learner.opponents.selfplay:train"

    env: str = "battle"
    """Environment whose other team is trained."""

    out: str
    """File to write: three linear layers, as envs/battle/opponents.py reads them."""

    steps: Annotated[int, between(1, MAX_STEPS)] = 300_000
    """Environment steps, summed over the battles that are fought at once."""

    agents: Annotated[int, between(2, MAX_AGENTS)] = 20
    """Agents of each team."""

    battles: Annotated[int, between(1, MAX_COPIES)] = 16
    """Battles fought at once."""

    seed: Annotated[int, between(0, MAX_SEED)] = 0
    """Root seed of everything that is drawn."""

    hidden: Annotated[int, between(1, 4096)] = 128
    """Units of both hidden layers."""

    learning_rate: Annotated[float, within(1e-9, 1.0)] = 1e-3
    """Adam's step size; it falls linearly to a tenth."""

    gamma: Annotated[float, within(0.0, 1.0, above_low=True)] = 0.95
    """Discount factor."""

    reward_clip: Annotated[float, within(1e-6, 1e6)] = 1.0
    """Largest reward that counts: a kill earns fifty times a hit, and whose blow it is that kills
    is chance."""

    n_step: Annotated[int, between(1, MAX_CYCLES)] = 2
    """Steps whose rewards are summed before the target network is asked."""

    batch_size: Annotated[int, between(1, 65_536)] = 512
    """Transitions in one update."""

    updates_per_step: Annotated[float, within(0.0, 1000.0)] = 0.2
    """Gradient steps for each environment step."""

    replay: Annotated[int, between(1, 10**7)] = 400_000
    """Transitions the replay holds."""

    target_rate: Annotated[float, within(1e-6, 1.0)] = 0.01
    """Share of the online network that the target network takes over with each update."""

    epsilon_end: Annotated[float, within(0.0, 1.0)] = 0.05
    """Exploration rate after a quarter of the steps; it begins at 1."""

    scripted: Annotated[float, within(0.0, 1.0)] = 0.35
    """Share of the battles in which the other team is scripted."""

    past: Annotated[float, within(0.0, 1.0)] = 0.3
    """Share of the battles in which the other team is an earlier version."""

    snapshot_steps: Annotated[int, between(1, MAX_STEPS)] = 20_000
    """Environment steps between the versions that are kept as opponents."""

    evaluate_steps: Annotated[int, between(1, MAX_STEPS)] = 25_000
    """Environment steps between evaluations."""

    evaluate_battles: Annotated[int, between(1, MAX_COPIES)] = 20
    """Battles of an evaluation, on each side against each opponent."""

    threads: Annotated[int, between(1, MAX_THREADS)] = 1
    """Torch threads."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.scripted + self.past > 1.0:
            raise ValueError(
                "scripted and past are shares of the battles and must not exceed 1 together, got "
                f"{self.scripted} and {self.past}"
            )
        if not self.out:
            raise ValueError("out must name the file to write")
        deploy(self.agents)
