"""Options of policies that decide for all agents: Sable, MAT, and MAGPO's guider."""

from dataclasses import dataclass
from typing import Annotated

from configs.algorithms.base import Traits
from configs.algorithms.ippo import PpoOptions
from configs.ranges import between, within


@dataclass(frozen=True, kw_only=True)
class GuideOptions(PpoOptions):
    """What a guide takes beside PPO's options; critics' options have no effect, since a guide's
    encoder says the values.
    """

    size: Annotated[int, between(2, 4096)] = 64
    """Units of an agent's embedding: a multiple of twice the heads."""
    heads: Annotated[int, between(1, 64)] = 1
    """Heads of attention or retention."""
    blocks: Annotated[int, between(1, 64)] = 1
    """Blocks of encoder and decoder."""
    decay: Annotated[float, within(0.0, 1.0)] = 1.0
    """Sable: factor of what a step leaves for the next."""
    norm_input: bool = False
    """Whether observations are normed first, as in the released code: it hides a large number among
    small ones, such as CoordSum's target."""
    dead_blocks: bool = False
    """Sable: whether feed-forward blocks begin at zero and so never learn, as released."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size % (2 * self.heads):
            raise ValueError(
                f"--algorithm.options: size is a multiple of twice the heads, got {self.size} and "
                f"{self.heads}"
            )


def guided_traits(options: GuideOptions, *, alone: bool) -> Traits:
    """What guides record and where they play.

    Args:
        alone: agents learn nothing: the guide plays in evaluations as well.
    """
    return Traits(
        columns=frozenset({"guide_log_prob"}),
        experience=options.rollouts,
        acting="guided",
        centralised=alone,
        has_operator=False,
        sizes={"guide": ("size",)},
        keeps=("heads", "blocks", "normalise_values", *(("guide",) if not alone else ())),
    )
