"""How large the map of AdversarialPursuit is, and how many prey and walls are on it.

    settle(num_agents) -> Habitat(map_size, predators, prey, walls)

The density is MAgent2's: a predator for every 80 cells, a prey for every 40 and three walls for
every 100. The papers' sizes follow from it: 25 predators on 45×45, 45 on 60×60, 61 on 70×70, 101
on 90×90.
"""

from dataclasses import dataclass
from math import isqrt

MIN_AGENTS = 2
MAX_AGENTS = 1024
_CELLS_PER_PREDATOR = 80
_CELLS_PER_PREY = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Habitat:
    """A square map and who lives on it."""

    map_size: int
    """Cells along each side, the walls around included."""
    predators: int
    """N, the learning team; 2×2 cells each."""
    prey: int
    walls: int
    """Single cells, beside those around the map."""


def settle(num_agents: int) -> Habitat:
    """The smallest map on which the density gives `num_agents` predators.

    Raises:
        ValueError: not between 2 and 1024 agents.
    """
    if not MIN_AGENTS <= num_agents <= MAX_AGENTS:
        raise ValueError(
            f"adversarial-pursuit takes between {MIN_AGENTS} and {MAX_AGENTS} agents, got "
            f"{num_agents}"
        )
    map_size = isqrt(_CELLS_PER_PREDATOR * num_agents - 1) + 1
    cells = map_size**2
    return Habitat(
        map_size=map_size,
        predators=num_agents,
        prey=cells // _CELLS_PER_PREY,
        walls=3 * cells // 100,
    )
