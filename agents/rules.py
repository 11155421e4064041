"""How an agent behaves, apart from its parameters: what a run tells each of its agents."""

from dataclasses import dataclass
from typing import Literal

from agents.acting import Acting
from agents.comm.graphs import graph_of, moves
from agents.found import scheme_of
from agents.policy import PolicySpec
from agents.recorder import Ships
from configs.columns import Column
from configs.schema import GateMode, GateTiming
from configs.schema.limits import MOST_EDGES
from runtime.net.topology import Graph


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentRules:
    """How an agent behaves, apart from its parameters."""

    num_agents: int
    copies: int
    spec: PolicySpec
    comm: str
    """The communication scheme, by name; of `spec` it takes the parameters."""
    comm_options: str = ""
    """Of the scheme itself, as text."""
    gate_timing: GateTiming
    gate_mode: GateMode
    dead: Literal["silent", "relay"]
    ships: Ships
    """Episodes whose trajectories leave the agent."""
    columns: tuple[Column, ...] = ()
    """What is recorded of every step beside observation, action and gates."""
    most_edges: int = MOST_EDGES
    """Connections to out-neighbours that it keeps open where these change from step to step."""
    gate_budget: int = 0
    """Edges that it may open in a step; 0 sets no limit."""
    acting: Acting = "epsilon-greedy"
    """How it chooses its actions."""
    steady: bool = False
    """Keep to one policy version within an episode of training: an on-policy algorithm learns from
    it."""
    in_pieces: bool = False
    """Rollouts of a fixed length cut episodes into pieces, and a steady agent keeps to one version
    within a rollout."""
    comes_back: bool = False
    """Whether it may live again within an episode in which it died."""
    drop_edges: float = 0.0
    """Probability with which a message or beacon that has arrived is thrown away (link loss)."""
    realtime: bool = False
    """Never wait for neighbours (deployment)."""
    max_message_age_steps: int = 1
    """In real time, how many steps old a message may be that a step still uses."""

    @property
    def graph(self) -> Graph:
        """Edges that exist."""
        return graph_of(self.comm, self.comm_options, self.num_agents)

    @property
    def moves(self) -> bool:
        """Whether who is a neighbour changes from step to step."""
        return moves(self.comm, self.comm_options)

    def __post_init__(self) -> None:
        if self.realtime and self.gate_timing == "paper":
            raise ValueError(
                "gate.timing paper needs two exchanges in every step and somebody to wait for "
                "both: in real time there is only causal"
            )
        if self.realtime and self.moves:
            raise ValueError(
                f"--comm {self.comm} sends to neighbours that change with every step, and in real "
                "time nobody says who they are"
            )
        timings = scheme_of(self.comm).timings
        if self.gate_timing not in timings:
            raise ValueError(
                f"--comm {self.comm} runs with gate.timing {' or '.join(timings)}, got "
                f"{self.gate_timing}"
            )
        if not 1 <= self.max_message_age_steps <= 100:
            raise ValueError(
                f"max-message-age-steps must be between 1 and 100, got {self.max_message_age_steps}"
            )
