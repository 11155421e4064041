"""Options of the training of prey. They are a file of their own, because reading them takes no
torch.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from configs.ranges import between, check_ranges, within
from configs.schema import MAX_COPIES, MAX_SEED, MAX_STEPS, MAX_THREADS
from envs.adversarial_pursuit.habitat import MAX_AGENTS, settle


@dataclass(frozen=True, kw_only=True, slots=True)
class PreyOptions:
    """Train prey for AdversarialPursuit, against predators that learn as well."""

    trained_by: ClassVar[str] = "learner.opponents.prey:train"

    env: str = "adversarial-pursuit"
    """Environment whose other team is trained."""

    out: str
    """File to write: three linear layers, as envs/adversarial_pursuit/prey.py reads them."""

    steps: Annotated[int, between(1, MAX_STEPS)] = 300_000
    """Environment steps, summed over the pursuits that run at once."""

    agents: Annotated[int, between(2, MAX_AGENTS)] = 25
    """Predators; the number of prey follows."""

    pursuits: Annotated[int, between(1, MAX_COPIES)] = 16
    """Pursuits at once."""

    seed: Annotated[int, between(0, MAX_SEED)] = 0
    """Root seed of everything that is drawn."""

    hidden: Annotated[int, between(1, 4096)] = 64
    """Units of both hidden layers."""

    learning_rate: Annotated[float, within(1e-9, 1.0)] = 1e-3
    """Adam's step size; it falls linearly to a tenth."""

    gamma: Annotated[float, within(0.0, 1.0, above_low=True)] = 0.9
    """Discount factor."""

    batch_size: Annotated[int, between(1, 65_536)] = 512
    """Transitions in one update."""

    replay: Annotated[int, between(1, 10**7)] = 300_000
    """Transitions of each team that are remembered."""

    target_rate: Annotated[float, within(1e-6, 1.0)] = 0.01
    """Share of the online network that the target network takes over with each update."""

    epsilon_end: Annotated[float, within(0.0, 1.0)] = 0.05
    """Exploration rate after a quarter of the steps; it begins at 1."""

    easy: Annotated[float, within(0.0, 1.0)] = 0.25
    """Share of the pursuits whose prey wander at random: from them predators learn to tag."""

    evaluate_steps: Annotated[int, between(1, MAX_STEPS)] = 50_000
    """Environment steps between evaluations."""

    evaluate_pursuits: Annotated[int, between(1, 10_000)] = 5
    """Episodes in each part of an evaluation."""

    threads: Annotated[int, between(1, MAX_THREADS)] = 1
    """Torch threads."""

    def __post_init__(self) -> None:
        check_ranges(self)
        settle(self.agents)
