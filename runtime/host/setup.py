"""What a node is told, and where that comes from: a run's configuration, or a bundle.

RunConfig, policy, addresses -> training_setup -> NodeSetup
Bundle -> place_of -> Place         (a host among several, with its keys)
Moves -> Place.after -> Place       (when agents have moved between them)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from agents.acting import Acting
from agents.parameters import ParameterStore
from agents.policy import PolicyFile, PolicySpec
from agents.process import pinning
from agents.rules import AgentRules
from configs.algorithms.base import OnPolicy, Traits
from configs.algorithms.described import traits_of
from configs.columns import recorded
from configs.cpus import usable_cpus
from configs.schema import RunConfig
from envs import registry
from runtime.deployment.bundle import Bundle
from runtime.deployment.hosts import Hosts
from runtime.net.moves import Move, renewed
from runtime.net.security import KeyPair, Keyring
from runtime.net.transport import agent_routing_id, node_routing_id

LOCAL_HOST = "local"
"""Name of the host of a run that has only one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RealTime:
    """What takes the place of world and learner when a trained policy is deployed."""

    bodies: Mapping[int, str]
    """Where each agent of this host waits for its body."""
    rate_hz: float
    """Ticks a second; 0.0 ticks on each observation."""
    name: str
    """Which deployment this is: pushed versions name it."""
    policy: PolicyFile
    """What the agents begin with."""
    updates: Path
    """Folder in which pushed versions are kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A host among several: where everybody is, and this host's keys."""

    host: str
    hosts: Hosts
    keyrings: Mapping[str, Keyring]
    """Of this host's node and agents, by name."""
    first_incarnation: int = 0
    """Incarnation of the agents' first lives, above those of an earlier life of this host."""
    moves: tuple[Move, ...] = ()
    """All moves of agents so far; those to this host with their secrets."""

    @property
    def index(self) -> int:
        return self.hosts.names.index(self.host)

    def after(self, moves: Sequence[Move]) -> "Place":
        """The same place when agents have moved.

        Args:
            moves: all moves of the run so far; those to this host with their secrets.
        """
        names = self.hosts.names
        node = self.keyrings[node_routing_id(self.host).decode()]
        public = renewed(node.public, moves)
        rings = {name: replace(ring, public=public) for name, ring in self.keyrings.items()}
        for move in moves:
            if names[move.host] == self.host:
                pair = KeyPair(move.public, move.secret)
                rings[move.name] = Keyring(move.name, pair, public, is_renewed=True)
        hosts = self.hosts.moved({move.agent: names[move.host] for move in moves})
        return replace(self, hosts=hosts, keyrings=rings, moves=tuple(moves))


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeSetup:
    """All that a node is told."""

    agents: tuple[int, ...]
    """Identities of this host's share."""
    rules: AgentRules
    parameters: ParameterStore
    seed: int
    life: int = 0
    """How often the run has been resumed."""
    launcher_endpoint: str
    """Empty for a deployed node, like the next two."""
    world_endpoint: str
    learner_endpoint: str
    """Where trajectories go and parameters come from; empty if there is nobody."""
    learns: bool
    """Whether parameters come from there."""
    ipc_dir: str
    """Folder of ipc endpoints; empty for tcp over loopback."""
    place: Place | None = None
    """None if all agents are on this machine, where sockets are private."""
    deployment: RealTime | None = None
    metrics_port: int
    metrics_per_edge: bool
    metrics_address: str = "127.0.0.1"
    metrics_linger_s: float = 0.0
    """Seconds that /metrics stays up after the agents have left."""
    peer_timeout_s: float
    start_timeout_s: float
    silent_timeout_s: float
    """An agent that does not report for so long is ended and started again."""
    head_timeout_s: float = 30.0
    """Without a word from the launcher on another host for so long the run counts as over."""
    max_restarts: int
    nice: int
    """Niceness of the agents."""
    logs: Path
    telemetry: bool = True
    """Count and serve what crosses (runtime.telemetry)."""
    profile: bool = False
    """Agents measure where their time goes (agents/process/profile.py)."""
    pin: bool = False
    """Agents stay on one core each (agents/process/pinning.py)."""


def _acting(traits: Traits, *, sampled: bool) -> Acting:
    """How agents act; a guide plays in the world, and agents beside it sample."""
    if traits.acting not in ("sample", "guided"):
        return traits.acting
    return "sample-always" if sampled else "sample"


def training_setup(
    config: RunConfig,
    spec: PolicySpec,
    parameters: ParameterStore,
    *,
    ships: Literal["training", "all", "none"],
    learns: bool,
    place: Place | None,
    launcher_endpoint: str,
    world_endpoint: str,
    learner_endpoint: str,
    ipc_dir: str,
    logs: Path,
    drop_edges: float = 0.0,
) -> NodeSetup:
    """The setup of a node that takes part in a run, on the launcher's host or another.

    `drop_edges` is the probability with which its agents lose what arrives
    (runtime/net/failures.py).
    """
    runtime, traits = config.runtime, traits_of(config.learner)
    env = registry.spec_of(config.env, config.num_agents)
    everybody = tuple(range(config.num_agents))
    return NodeSetup(
        agents=everybody if place is None else place.hosts[place.host].agents,
        rules=AgentRules(
            num_agents=config.num_agents,
            copies=config.env.copies,
            spec=spec,
            comm=config.comm,
            comm_options=config.comm_options,
            gate_timing=config.gate.timing,
            gate_mode=config.gate.mode,
            gate_budget=config.gate.budget,
            dead=config.agents.dead,
            most_edges=config.agents.most_edges,
            ships=ships,
            columns=recorded(config, trains=ships == "training"),
            acting=_acting(traits, sampled=config.evaluation.sampled),
            steady=isinstance(traits.experience, OnPolicy),
            in_pieces=ships == "training" and traits.rollout_steps > 0,
            comes_back=env.comes_back,
            drop_edges=drop_edges,
        ),
        parameters=parameters,
        seed=config.seed,
        life=config.life,
        launcher_endpoint=launcher_endpoint,
        world_endpoint=world_endpoint,
        learner_endpoint=learner_endpoint,
        learns=learns,
        ipc_dir=ipc_dir,
        place=place,
        metrics_address=runtime.metrics_address,
        metrics_port=runtime.metrics_port,
        metrics_per_edge=runtime.metrics_per_edge,
        metrics_linger_s=runtime.metrics_linger_s,
        peer_timeout_s=config.agents.peer_timeout_s,
        start_timeout_s=config.start_patience_s,
        silent_timeout_s=runtime.silent_timeout_s,
        head_timeout_s=runtime.head_timeout_s,
        max_restarts=runtime.max_restarts,
        nice=runtime.nice if ships == "training" else 0,
        logs=logs,
        telemetry=runtime.telemetry,
        profile=runtime.profile,
        pin=_pins(config, alone=place is None and not learns),
    )


def _pins(config: RunConfig, *, alone: bool) -> bool:
    """`alone`: all agents are on this machine, and no learner is."""
    if config.runtime.pin != "auto":
        return config.runtime.pin == "on"
    return alone and pinning.is_worth_it(config.num_agents, usable_cpus())


def place_of(bundle: Bundle, first_incarnation: int = 0, *, is_renewed: bool = False) -> Place:
    """A bundle's host, with the keys of its node and agents.

    Args:
        is_renewed: whether agents may move to other hosts and get new keys.
    """
    hosts, name = bundle.book.hosts, bundle.host.name
    identities = [node_routing_id(name), *map(agent_routing_id, bundle.host.agents)]
    return Place(
        host=name,
        hosts=hosts,
        keyrings={
            identity.decode(): replace(bundle.keyring(identity.decode()), is_renewed=is_renewed)
            for identity in identities
        },
        first_incarnation=first_incarnation,
    )
