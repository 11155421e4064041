"""Packets that start, watch and end a run, and those between hosts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from runtime.net.codecs import Choice, Real, Scalars, Tensor, Texts
from runtime.net.packet import (
    F64,
    KIB,
    MIB,
    MOST_AGENTS,
    U8,
    U16,
    U32,
    U64,
    Count,
    Counts,
    CountsByHost,
    Flag,
    Label,
    Packet,
    packet,
)


@packet(20, 4 * KIB)
@dataclass(frozen=True, slots=True)
class Hello(Packet):
    """First packet of a process to the one that started it: who, which life, where it listens."""

    role: Annotated[str, Choice(("agent", "node", "world", "learner"))]
    identity: U32
    incarnation: U32
    pid: U32
    endpoint: Label


@packet(34, 2 * KIB)
@dataclass(frozen=True, slots=True)
class Join(Packet):
    """Node of another host to launcher: it asks to take part."""

    deployment: Label
    """Which deployment its bundle is of."""


@packet(21, 4 * MIB)
@dataclass(frozen=True, slots=True)
class AddressBook(Packet):
    """Endpoints in the order of the receiver's need (an agent: its out-neighbours by offset; a
    node: the nodes of all hosts)."""

    endpoints: Annotated[tuple[str, ...], Texts(MOST_AGENTS)]


@packet(22, 2 * KIB)
@dataclass(frozen=True, slots=True)
class Ready(Packet):
    """Agent to node, node to launcher: the edges are open."""

    role: Annotated[str, Choice(("agent", "node"))]
    identity: U32
    incarnation: U32


@packet(35, KIB)
@dataclass(frozen=True, slots=True)
class Leaving(Packet):
    """Agent to node, node to launcher: the last report is on its way, the process ends."""


@packet(23, 2 * KIB)
@dataclass(frozen=True, slots=True)
class Stop(Packet):
    """Leave in good order: flush, write what must be written, exit 0.

    From the learner to the launcher: it leaves, and for this reason has left something unwritten.
    """

    reason: Label


FINISHED = "finished"
"""The reason when a run has done what it was asked to."""
INTERRUPTED = "interrupted"
"""The reason at Ctrl-C: everybody is in a hurry then."""
EVICTED = "this host was away for too long and its agents live on others: start it again to join"
"""The reason for a host that comes back when its agents have moved."""


@packet(24, KIB)
@dataclass(frozen=True, slots=True)
class AgentState(Packet):
    """Node to launch to world: an agent has gone (up = 0) or is ready to act (up = 1)."""

    agent: U16
    incarnation: U32
    up: Flag


@packet(50, KIB)
@dataclass(frozen=True, slots=True)
class NodeState(Packet):
    """Node to launcher, with every Status: what the course of the run depends on."""

    agents_ready: U16
    policy_version_min: U32
    """Oldest version among its agents that report; 0 if none does."""


PHASES = ("training", "trained", "evaluating", "done")
"""Of the world (runtime/world/lockstep.py)."""


@packet(37, KIB)
@dataclass(frozen=True, slots=True)
class WorldState(Packet):
    """World to launcher, with every Status."""

    phase: Annotated[str, Choice(PHASES)]


@packet(38, KIB)
@dataclass(frozen=True, slots=True)
class LearnerState(Packet):
    """Learner to launcher to world, with every Status: how far the learner is behind."""

    updates_owed: Annotated[float, Real(0.0)]
    episodes_taken: Count
    """Taken in or given up."""
    rollouts_owed: Count = 0
    """On policy: rollouts that are full and not worked off."""
    policy_version: U32 = 0
    """Newest that was published."""


@packet(39, KIB)
@dataclass(frozen=True, slots=True)
class Trained(Packet):
    """Learner to launcher: all that was owed is done, and this version is the last."""

    version: U32


@packet(45, KIB)
@dataclass(frozen=True, slots=True)
class Evaluated(Packet):
    """Launcher to learner: a whole evaluation is over, and this is what the policy reached."""

    env_steps: Count
    """Training steps when it fell due."""
    reached: F64
    """The environment's headline figure."""


@packet(36, KIB)
@dataclass(frozen=True, slots=True)
class Alive(Packet):
    """Launcher to the nodes of other hosts: a sign of life."""


@packet(29, 2 * KIB)
@dataclass(frozen=True, slots=True)
class Failure(Packet):
    """To the launcher: the sender cannot go on."""

    reason: Label


@packet(25, MIB)
@dataclass(frozen=True, slots=True, eq=False)
class AgentReport(Packet):
    """Agent to node, once a second or more rarely (runtime/net/report_period.py): heartbeat and
    cumulative counters (runtime/net/traffic.py)."""

    agent: U16
    incarnation: U32
    tick: U32
    policy_version: U32
    """Newest version it has; it takes effect with the next observation."""
    counters: Counts
    latency: CountsByHost
    """[hosts, BINS] histograms of message latency by the sender's host, bins of
    runtime/net/latency.py; a run on one machine has one host."""
    action_latency: Counts
    """[BINS] observation in to action out; only a deployed agent counts it."""
    edges: Annotated[NDArray[np.uint64], Tensor(("uint64",), 2, 4096)]
    """[K, 4] per out-edge messages, bytes; per in-edge messages, summed latency in ns."""


@packet(26, 64 * KIB)
@dataclass(frozen=True, slots=True)
class Status(Packet):
    """Named numbers about a process, cumulative or current, for the view and the summary; the
    launcher's are of the whole run, for its node's exporter. Nothing is decided by them: control
    has packets of its own."""

    role: Annotated[str, Choice(("node", "world", "learner", "launcher"))]
    values: Annotated[Mapping[str, float], Scalars()]


@packet(27, 64 * KIB)
@dataclass(frozen=True, slots=True)
class EpisodeResult(Packet):
    """World to launch: one finished episode."""

    episode: U32
    evaluation: Flag
    env_steps: Count
    length: U32
    episode_return: F64
    """Undiscounted sum over steps of the mean individual reward of all N agents."""
    won: Flag
    opponent: U8 = 0
    """Index in the run's opponent schedule."""
    evaluated_at: Count = 0
    """Training steps at which the evaluation fell due that the episode is part of."""
    metrics: Annotated[Mapping[str, float], Scalars()] = field(default_factory=dict[str, float])
    """Further figures of the episode, by the environment's own names."""


@packet(28, 2 * KIB)
@dataclass(frozen=True, slots=True)
class Instruction(Packet):
    """Launch to a process, or through launch: do this now, with one number."""

    name: Annotated[
        str,
        Choice(("start", "evaluate", "finish", "learner_gone", "resubscribe", "announce", "kill")),
    ]
    value: U32 = 0
    """evaluate: episodes; kill: the agent."""


# --- across hosts ---------------------------------------------------------------------------------


@packet(30, 4 * MIB)
@dataclass(frozen=True, slots=True, eq=False)
class Assignment(Packet):
    """Launcher to a node that has joined: what is run. The policy follows as DenseParameters."""

    run_id: Label
    config: Annotated[NDArray[np.uint8], Tensor(("uint8",), 1, MIB)]
    """UTF-8 text of the resolved configuration (configs.load.dump_run_config)."""
    observation_dim: U32
    num_actions: U32
    ships: Annotated[str, Choice(("training", "all", "none"))]
    """Episodes whose trajectories leave the agents: training, all or none."""
    learns: Flag
    """Whether a learner publishes parameters."""
    incarnation: U32
    """How often this host has joined before: its agents' incarnations begin above that."""


@packet(60, 4 * MIB)
@dataclass(frozen=True, slots=True, eq=False)
class Moves(Packet):
    """Launcher to nodes, world and learner, node to agents: who lives on another host than the
    bundles say, and by which keys they are known now (runtime/net/moves.py)."""

    moved: Annotated[NDArray[np.uint32], Tensor(("uint32",), 2, 3 * MOST_AGENTS)]
    """[M, 3] agent, index of its host, incarnation of its first life there."""
    public: Annotated[tuple[str, ...], Texts(MOST_AGENTS, 40)]
    """[M] their public keys."""
    secret: Annotated[tuple[str, ...], Texts(MOST_AGENTS, 40)] = field(repr=False)
    """[M] their secret keys, for their host's node; empty for everybody else."""


@packet(31, KIB)
@dataclass(frozen=True, slots=True)
class ClockProbe(Packet):
    """Node to node, the first of four timestamps (RFC 5905, section 8)."""

    sequence: U32
    sent_ns: U64
    """Sender's monotonic clock."""


@packet(32, KIB)
@dataclass(frozen=True, slots=True)
class ClockReply(Packet):
    """The answer: the probe's own stamp, and two of the answering host's monotonic clock."""

    sequence: U32
    sent_ns: U64
    received_ns: U64
    replied_ns: U64


@packet(33, 64 * KIB)
@dataclass(frozen=True, slots=True, eq=False)
class ClockOffsets(Packet):
    """Node to its agents: what to add to another host's monotonic clock to read it as ours."""

    offsets_ns: Annotated[NDArray[np.int64], Tensor(("int64",), 1, MOST_AGENTS)]
    """[hosts] UNKNOWN_OFFSET for a host that has not been heard yet."""


UNKNOWN_OFFSET = -(2**63)
