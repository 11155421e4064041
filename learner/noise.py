"""torch's random streams: generators that begin as configs/streams.py says.

seed, role, key -> torch.Generator -> branches, one for each part that is worked off apart
"""

from collections.abc import Generator
from contextlib import contextmanager

import torch

from configs import streams
from configs.streams import Role


def generator(
    seed: int, role: Role, device: torch.device | str = "cpu", **key: int
) -> torch.Generator:
    """A stream of its own; see `streams.sequence`."""
    return torch.Generator(device).manual_seed(streams.number(seed, role, **key))


def unused(device: torch.device) -> torch.Generator:
    """A stream for what asks for one and draws nothing that counts."""
    return torch.Generator(device)


def branches(parent: torch.Generator, count: int) -> list[torch.Generator]:
    """A stream for each of several parts, which draw from them in any order."""
    if count == 1 or parent.device.type != "cpu":
        # A GPU works its parts off one after another; and to look at a number that was drawn there
        # would wait for it.
        return [parent] * count
    return [branch(parent) for _ in range(count)]


def branch(parent: torch.Generator) -> torch.Generator:
    """A stream that the next draw of another one determines, on the same device."""
    number = torch.empty((), dtype=torch.int64, device=parent.device)
    drawn = int(number.random_(generator=parent))
    return torch.Generator(parent.device).manual_seed(drawn)


@contextmanager
def seeded(seed: int, role: Role) -> Generator[None]:
    """Layers that are made within begin with numbers of this stream, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
        torch.manual_seed(streams.number(seed, role))  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
        yield
