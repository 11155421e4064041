"""How agents act, wait and explore."""

from dataclasses import dataclass
from typing import Annotated, Literal

from configs.ranges import between, check_ranges, within
from configs.schema.fields import require
from configs.schema.limits import MAX_STEPS, MOST_EDGES


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentsConfig:
    dead: Literal["silent", "relay"] = "silent"
    """silent: a dead agent sends nothing; relay: it keeps relaying, as the reference code does."""

    peer_timeout_s: Annotated[float, within(0.001, 60.0)] = 2.0
    """Seconds an agent waits for packets that are under way before it counts them as late."""

    most_edges: Annotated[int, between(1, MOST_EDGES)] = 64
    """Connections that an agent keeps open to others, where its neighbours change as it moves. The
    one that was not used for longest is closed for another, but none of the last two steps."""

    epsilon_start: Annotated[float, within(0.0, 1.0)] = 1.0
    """Exploration rate at the beginning of training."""

    epsilon_end: Annotated[float, within(0.0, 1.0)] = 0.05
    """Exploration rate after the annealing."""

    epsilon_steps: Annotated[int, between(1, MAX_STEPS)] = 500_000
    """Environment steps over which epsilon falls linearly."""

    adviser: str = ""
    """Battle: who is asked for an action in exploring steps instead of chance alone: scripted, or
    the path of an opponent's file; empty asks nobody."""

    advice: Annotated[float, within(0.0, 1.0)] = 0.5
    """Share of the exploring steps in which the adviser is asked."""

    record_q: bool = False
    """Ship action values with the trajectories (the parity test reads them)."""

    def __post_init__(self) -> None:
        check_ranges(self, "agents")
        require(
            self.epsilon_end <= self.epsilon_start,
            "agents.epsilon_end must not be above agents.epsilon_start, got "
            f"{self.epsilon_end} with start {self.epsilon_start}",
        )
