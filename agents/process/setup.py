"""What every agent's process is told, whatever decides its time.

It is plain data: the process parses no flags and reads no globals.
"""

from dataclasses import dataclass
from pathlib import Path

from agents.parameters import ParameterStore
from agents.rules import AgentRules
from agents.segment import SegmentHandle
from runtime.net.security import Keyring


@dataclass(frozen=True, kw_only=True, slots=True)
class ShellSetup:
    """Who an agent is, how it behaves, and where it finds its node and its neighbours."""

    identity: int
    incarnation: int
    seed: int
    life: int = 0
    """How often the run has been resumed."""
    rules: AgentRules
    parameters: ParameterStore | SegmentHandle
    """The policy to begin with; or where the node keeps the newest one for the whole host."""
    node_endpoint: str
    inbox_endpoint: str
    """Where it listens for its in-neighbours."""
    is_tcp: bool
    """Whether edges are TCP connections, on which the kernel counts."""
    nice: int
    """Added to the niceness that it inherits."""
    logs: Path
    keyring: Keyring | None = None
    """Keys for everything that leaves the machine; None where nothing does."""
    num_hosts: int = 1
    host_of: tuple[int, ...] = ()
    """[N] index of the host on which each agent lives; empty: all on host 0."""
    telemetry: bool = True
    """Count what crosses and how long it takes."""
    profile: bool = False
    """Measure where the time goes (agents/process/profile.py)."""
    pin: bool = False
    """Stay on one core (agents/process/pinning.py)."""

    def host(self, agent: int) -> int:
        return self.host_of[agent] if self.host_of else 0
