"""Who takes over the agents of a host that is gone for good.

agents without a host, hosts that are left -> share_out -> a host for each agent
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Taker:
    """A host that is left."""

    name: str
    agents: int
    """That it runs already."""
    share: int
    """Agents that the hosts file gives it: how much of the load is for it."""
    room: int
    """Agents that it has ports for."""


def share_out(agents: Sequence[int], takers: Sequence[Taker]) -> dict[int, str]:
    """Give each agent to the host that has the fewest for its share, the first of equals.

    Hosts `b` and `c` with 2 and 4 agents, as many as their shares, take three more like this. The
    next one would make 3/2 or 5/4 of them: `c`. Then 3/2 or 6/4: `b`. Then 4/2 or 6/4: `c`.

    Returns:
        A host for each agent, as far as there is room.
    """
    counts = {taker.name: taker.agents for taker in takers}
    homes: dict[int, str] = {}
    for agent in agents:
        free = [taker for taker in takers if counts[taker.name] < taker.room]
        if not free:
            break
        least = min(free, key=lambda taker: (counts[taker.name] + 1) / taker.share)
        homes[agent] = least.name
        counts[least.name] += 1
    return homes
