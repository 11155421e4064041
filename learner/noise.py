"""torch's random streams: generators that begin as configs/streams.py says.

seed, role, key -> torch.Generator -> branches, one for each part that is worked off apart
"""

import torch

from configs import streams
from configs.streams import Role


def generator(
    seed: int, role: Role, device: torch.device | str = "cpu", **key: int
) -> torch.Generator:
    """A stream of its own; see `streams.sequence`."""
    return torch.Generator(device).manual_seed(streams.number(seed, role, **key))


def branch(parent: torch.Generator) -> torch.Generator:
    """A stream that the next draw of another one determines, on the same device."""
    number = torch.empty((), dtype=torch.int64, device=parent.device)
    drawn = int(number.random_(generator=parent))
    return torch.Generator(parent.device).manual_seed(drawn)
