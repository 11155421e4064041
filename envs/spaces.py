"""What agents may do: the action spaces that an environment can have.

    Discrete(5) | MultiDiscrete((3, 2)) | Box(low, high)   ->   numbers that agents send

A multi-discrete action travels as one number, the index of the combination: to everything but the
environment it is a discrete one. A box of real numbers travels as float32.
"""

import math
from dataclasses import dataclass

MOST_ACTIONS = 1 << 16
"""Actions are numbers of 16 bits at most."""
MOST_REALS = 4096


@dataclass(frozen=True, slots=True)
class Discrete:
    """One of n actions, 0 to n - 1."""

    n: int

    def __post_init__(self) -> None:
        if not 1 <= self.n <= MOST_ACTIONS:
            raise ValueError(f"an action space has 1 to {MOST_ACTIONS} actions, got {self.n}")


@dataclass(frozen=True, slots=True)
class MultiDiscrete:
    """Several choices at once, the last of which counts fastest in the index."""

    parts: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.parts or min(self.parts) < 1 or self.n > MOST_ACTIONS:
            raise ValueError(
                f"the parts of an action space have 1 to {MOST_ACTIONS} combinations, got "
                f"{self.parts}"
            )

    @property
    def n(self) -> int:
        """Combinations."""
        return math.prod(self.parts)

    def parts_of(self, index: int) -> tuple[int, ...]:
        """The choices that an index stands for."""
        choices: list[int] = []
        for size in reversed(self.parts):
            index, choice = divmod(index, size)
            choices.append(choice)
        return tuple(reversed(choices))


@dataclass(frozen=True, slots=True)
class Box:
    """Real numbers, each within its own bounds."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.low) == len(self.high) <= MOST_REALS:
            raise ValueError(f"a box has 1 to {MOST_REALS} pairs of bounds")
        if not all(
            math.isfinite(low) and math.isfinite(high) and low <= high
            for low, high in zip(self.low, self.high, strict=True)
        ):
            raise ValueError("the bounds of a box are finite, the lower ones first")

    @property
    def size(self) -> int:
        """Numbers in one action."""
        return len(self.low)


ActionSpace = Discrete | MultiDiscrete | Box
