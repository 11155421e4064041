"""What crosses a socket, and its encoding.

    dataclass -> encode -> msgpack array [version, kind, field, …] -> decode -> the same dataclass

No pickle anywhere. Limits stand in the field annotations (runtime/net/codecs.py) and are checked
before anything is built from a frame, its size first of all. Whatever does not fit raises
WireFormatError, whose reason is counted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from operator import attrgetter
from typing import (
    Annotated,
    Any,
    ClassVar,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import msgpack
import numpy as np
from numpy.typing import NDArray

from runtime.net.codecs import Choice, Codec, Real, Scalars, Tensor, Text, Texts, Uint, brief, items
from runtime.net.errors import WireFormatError
from runtime.net.forms import Layout

_pack = cast("Callable[[Any], bytes]", msgpack.Packer().pack)  # pyright: ignore  # no type stubs
_unpack = cast("Callable[..., Any]", msgpack.unpackb)  # pyright: ignore  # no type stubs

VERSION = 2
BODY_VERSION = 1
"""Of the packets between a body and its agent, which others implement too (docs/body.md)."""

KIB = 1024
MIB = 1024 * KIB

Flag = Annotated[int, Uint(1)]
U8 = Annotated[int, Uint(8)]
U16 = Annotated[int, Uint(16)]
U32 = Annotated[int, Uint(32)]
Count = Annotated[int, Uint(53)]
"""A number that others add up or convert: exact as a float, and far from what an int64 holds."""
U64 = Annotated[int, Uint(64)]
F64 = Annotated[float, Real()]
Label = Annotated[str, Text()]

# Largest numbers of things in one packet: copies, agents, steps (configs/schema/).
_COPIES = 1024
_AGENTS = 4096
_STEPS = 60_001

PerCopyU8 = Annotated[NDArray[np.uint8], Tensor(("uint8",), 1, _COPIES)]
PerCopyU16 = Annotated[NDArray[np.uint16], Tensor(("uint16",), 1, _COPIES)]
PerCopyU32 = Annotated[NDArray[np.uint32], Tensor(("uint32",), 1, _COPIES)]
Rows = Annotated[NDArray[Any], Tensor(("float32", "float16", "int8"), 2, 4 * MIB)]
Counts = Annotated[NDArray[np.uint64], Tensor(("uint64",), 1, 4096)]
# float16 where every number is one to the bit.
Weights = Annotated[NDArray[Any], Tensor(("float32", "float16"), 1, 16 * MIB)]
PackedMask = Annotated[NDArray[np.uint8], Tensor(("uint8",), 1, 2 * MIB + 1)]
CountsByHost = Annotated[NDArray[np.uint64], Tensor(("uint64",), 2, 64 * KIB)]


class Packet:
    """Base of all packet types. FORMAT and KIND are the first two elements on the wire, LARGEST is
    the size limit."""

    FORMAT: ClassVar[int]
    KIND: ClassVar[int]
    LARGEST: ClassVar[int]
    __slots__ = ()


_P = TypeVar("_P", bound=type[Packet])
_KINDS: dict[int, type[Packet]] = {}


def _packet(kind: int, largest: int, version: int = VERSION) -> Callable[[_P], _P]:
    def register(cls: _P) -> _P:
        cls.FORMAT, cls.KIND, cls.LARGEST = version, kind, largest
        assert kind not in _KINDS, f"packet kind {kind} is taken"
        _KINDS[kind] = cls
        return cls

    return register


# --- the step -------------------------------------------------------------------------------------


@_packet(1, 16 * MIB)
@dataclass(frozen=True, slots=True, eq=False)
class Observation(Packet):
    """World to agent: what the agent sees now, in every copy, and what is on its way to it."""

    tick: U32
    """Lock-step counter, the same for all copies and agents, never reset."""
    epsilon: F64
    """Exploration rate for copies that train."""
    episodes: PerCopyU32
    """[E] episode number of each copy."""
    steps: PerCopyU16
    """[E] step within that episode; 0 is the first after a reset."""
    flags: PerCopyU8
    """[E] ALIVE, EXPLORE and REST bits."""
    in_masks: PerCopyU16
    """[E] bit k: in-neighbour k used its edge to this agent at the last tick."""
    peer_masks: PerCopyU16
    """[E] bit k: out-neighbour k took part in the last tick (paper timing: takes part in this)."""
    beacon_masks: PerCopyU16
    """[E] bit k: a beacon of out-neighbour k is on its way (causal: of the last tick)."""
    observations: Rows
    """[copies alive, D] rows of the copies whose ALIVE bit is set, in order."""


@_packet(2, 64 * KIB)
@dataclass(frozen=True, slots=True, eq=False)
class Action(Packet):
    """Agent to world: what it does, and which edges it has used."""

    tick: U32
    policy_version: U32
    actions: PerCopyU8
    """[E] action of each copy (0 where it is dead)."""
    out_masks: PerCopyU16
    """[E] bit k: a message went to out-neighbour k at this tick."""
    beacons: PerCopyU8
    """[ceil(E / 8)] bitmap of the copies in which a beacon went to all in-neighbours; paper timing
    sends one in every step and leaves this empty."""


@_packet(3, 64 * KIB)
@dataclass(frozen=True, slots=True, eq=False)
class Gates(Packet):
    """Agent to world, paper timing only: which edges it uses in this very tick."""

    tick: U32
    out_masks: PerCopyU16


@_packet(4, 64 * KIB)
@dataclass(frozen=True, slots=True, eq=False)
class InMask(Packet):
    """World to agent, paper timing only: which in-edges carry a message in this tick."""

    tick: U32
    in_masks: PerCopyU16


@_packet(5, 16 * MIB)
@dataclass(slots=True, eq=False)  # frozen ones cost four times as much to make
class Message(Packet):
    """Agent to out-neighbour: message vectors of the copies in which the edge is open."""

    sender: U16
    tick: U32
    send_ns: U64
    """Sender's monotonic clock when the packet was handed to the socket."""
    copies: PerCopyU8
    """[ceil(E / 8)] bitmap of the copies that the rows belong to, least significant bit first."""
    rows: Rows
    """[copies open, M]"""


@_packet(6, 16 * MIB)
@dataclass(slots=True, eq=False)  # frozen ones cost four times as much to make
class Beacon(Packet):
    """Agent to in-neighbour, back on the same connection: its node embeddings z."""

    sender: U16
    tick: U32
    send_ns: U64
    copies: PerCopyU8
    rows: Rows
    """[copies alive, Z]"""


@_packet(7, KIB)
@dataclass(frozen=True, slots=True)
class EdgeHello(Packet):
    """First packet on a new edge; answered by EdgeWelcome, so that both ends know it works."""

    sender: U16
    incarnation: U32


@_packet(8, KIB)
@dataclass(frozen=True, slots=True)
class EdgeWelcome(Packet):
    sender: U16
    incarnation: U32


# --- trajectories ---------------------------------------------------------------------------------


@_packet(10, 64 * MIB)
@dataclass(frozen=True, slots=True, eq=False)
class Trajectory(Packet):
    """Agent to learner: what it saw and did in one episode, as long as it lived (L steps)."""

    agent: U16
    episode: U32
    first_version: U32
    """Policy version of the first step; versions may change within an episode."""
    last_version: U32
    observations: Annotated[NDArray[Any], Tensor(("float16", "float32"), 2, 16 * MIB)]
    """[L, D] exactly as the agent saw them."""
    actions: Annotated[NDArray[np.uint8], Tensor(("uint8",), 1, _STEPS)]
    """[L]"""
    gates: Annotated[NDArray[np.uint16], Tensor(("uint16",), 1, _STEPS)]
    """[L] bit k: the edge to out-neighbour k was used."""
    q_values: Annotated[NDArray[np.float32], Tensor(("float32",), 2, 16 * MIB)]
    """[L, A] if recorded, else empty."""


@_packet(11, 256 * MIB)
@dataclass(frozen=True, slots=True, eq=False)
class EpisodeRecord(Packet):
    """World to learner: the part of an episode of T steps that no single agent knows."""

    episode: U32
    env_steps: Count
    """Training steps taken by all copies when the episode ended."""
    states: Annotated[NDArray[np.float32], Tensor(("float32",), 2, 64 * MIB)]
    """[T + 1, S]"""
    rewards: Annotated[NDArray[np.float32], Tensor(("float32",), 2, 64 * MIB)]
    """[T, N] individual rewards."""
    alive: Annotated[NDArray[np.uint8], Tensor(("uint8",), 2, 64 * MIB)]
    """[T + 1, N] 1 while an agent lives."""
    terminated: Flag
    """1 if the task itself ended, 0 if time ran out (truncated)."""
    complete: Flag
    """1 if every agent took part from the first step to its death or the end."""
    final_observations: Annotated[NDArray[Any], Tensor(("float16", "float32"), 2, 64 * MIB)]
    """[N, D] what would be seen at step T, to bootstrap from after a truncation."""


@_packet(15, KIB)
@dataclass(frozen=True, slots=True)
class TrajectoryAck(Packet):
    """Learner to everybody who has sent a part of this episode: it is safe, forget it."""

    episode: U32


# --- parameters -----------------------------------------------------------------------------------


@_packet(12, 64 * MIB)
@dataclass(frozen=True, slots=True, eq=False)
class DenseParameters(Packet):
    """A whole policy version: the flat vector of agents/policy.py and its CRC-32."""

    version: U32
    crc32: U32
    values: Weights


@_packet(13, 64 * MIB)
@dataclass(frozen=True, slots=True, eq=False)
class DeltaParameters(Packet):
    """The entries of a version that differ from its base; the CRC-32 is that of the result."""

    version: U32
    base_version: U32
    crc32: U32
    indices: Annotated[NDArray[np.uint32], Tensor(("uint32",), 1, 16 * MIB)]
    values: Weights


@_packet(16, 64 * MIB)
@dataclass(frozen=True, slots=True, eq=False)
class SparseParameters(Packet):
    """A whole policy version of which only some weights exist; the others are zero."""

    version: U32
    crc32: U32
    """Of the flat vector, zeros included."""
    size: U32
    """Numbers in that vector."""
    mask: PackedMask
    """Which of them exist."""
    values: Weights
    """Of those that exist, in their order."""


@_packet(17, 64 * MIB)
@dataclass(frozen=True, slots=True, eq=False)
class SparseDelta(Packet):
    """How the weights that exist differ from those of the base (agents/sparse_parameters.py)."""

    version: U32
    base_version: U32
    crc32: U32
    mask: PackedMask
    """Which exist now; empty if it is those of the base."""
    width: U8
    """Octets of a number: 4 for float32; 2 where base and result are float16 to the bit."""
    difference: Annotated[NDArray[np.uint8], Tensor(("uint8",), 1, 64 * MIB)]
    """Bits of the new values xor the old ones, octets by their place, deflated."""


Parameters = DenseParameters | DeltaParameters | SparseParameters | SparseDelta
PARAMETERS = (DenseParameters, DeltaParameters, SparseParameters, SparseDelta)


@_packet(14, KIB)
@dataclass(frozen=True, slots=True)
class SnapshotRequest(Packet):
    """Somebody has version `have` and needs a whole one (0: nothing yet)."""

    have: U32


# --- control --------------------------------------------------------------------------------------


@_packet(20, 4 * KIB)
@dataclass(frozen=True, slots=True)
class Hello(Packet):
    """First packet of a process to the one that started it: who, which life, where it listens."""

    role: Annotated[str, Choice(("agent", "node", "world", "learner"))]
    identity: U32
    incarnation: U32
    pid: U32
    endpoint: Label


@_packet(34, 2 * KIB)
@dataclass(frozen=True, slots=True)
class Join(Packet):
    """Node of another host to launcher: it asks to take part."""

    deployment: Label
    """Which deployment its bundle is of."""


@_packet(21, 4 * MIB)
@dataclass(frozen=True, slots=True)
class AddressBook(Packet):
    """Endpoints in the order of the receiver's need (an agent: its out-neighbours by offset)."""

    endpoints: Annotated[tuple[str, ...], Texts(_AGENTS)]


@_packet(22, 2 * KIB)
@dataclass(frozen=True, slots=True)
class Ready(Packet):
    """Agent to node, node to launcher: the edges are open."""

    role: Annotated[str, Choice(("agent", "node"))]
    identity: U32
    incarnation: U32


@_packet(35, KIB)
@dataclass(frozen=True, slots=True)
class Leaving(Packet):
    """Agent to node, node to launcher: the last report is on its way, the process ends."""


@_packet(23, 2 * KIB)
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


@_packet(24, KIB)
@dataclass(frozen=True, slots=True)
class AgentState(Packet):
    """Node to launch to world: an agent has gone (up = 0) or is ready to act (up = 1)."""

    agent: U16
    incarnation: U32
    up: Flag


@_packet(50, KIB)
@dataclass(frozen=True, slots=True)
class NodeState(Packet):
    """Node to launcher, with every Status: what the course of the run depends on."""

    agents_ready: U16
    policy_version_min: U32
    """Oldest version among its agents that report; 0 if none does."""


PHASES = ("training", "trained", "evaluating", "done")
"""Of the world (runtime/world/lockstep.py)."""


@_packet(37, KIB)
@dataclass(frozen=True, slots=True)
class WorldState(Packet):
    """World to launcher, with every Status."""

    phase: Annotated[str, Choice(PHASES)]


@_packet(38, KIB)
@dataclass(frozen=True, slots=True)
class LearnerState(Packet):
    """Learner to launcher to world, with every Status: how far the learner is behind."""

    updates_owed: Annotated[float, Real(0.0)]
    episodes_taken: Count
    """Taken in or given up."""


@_packet(39, KIB)
@dataclass(frozen=True, slots=True)
class Trained(Packet):
    """Learner to launcher: all that was owed is done, and this version is the last."""

    version: U32


@_packet(36, KIB)
@dataclass(frozen=True, slots=True)
class Alive(Packet):
    """Launcher to the nodes of other hosts: a sign of life."""


@_packet(29, 2 * KIB)
@dataclass(frozen=True, slots=True)
class Failure(Packet):
    """To the launcher: the sender cannot go on."""

    reason: Label


@_packet(25, MIB)
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


@_packet(26, 64 * KIB)
@dataclass(frozen=True, slots=True)
class Status(Packet):
    """Named numbers about a process, cumulative or current, for the view and the summary; the
    launcher's are of the whole run, for its node's exporter. Nothing is decided by them: control
    has packets of its own."""

    role: Annotated[str, Choice(("node", "world", "learner", "launcher"))]
    values: Annotated[Mapping[str, float], Scalars()]


@_packet(27, KIB)
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


@_packet(28, 2 * KIB)
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


@_packet(30, 4 * MIB)
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


@_packet(31, KIB)
@dataclass(frozen=True, slots=True)
class ClockProbe(Packet):
    """Node to node, the first of four timestamps (RFC 5905, section 8)."""

    sequence: U32
    sent_ns: U64
    """Sender's monotonic clock."""


@_packet(32, KIB)
@dataclass(frozen=True, slots=True)
class ClockReply(Packet):
    """The answer: the probe's own stamp, and two of the answering host's monotonic clock."""

    sequence: U32
    sent_ns: U64
    received_ns: U64
    replied_ns: U64


@_packet(33, 64 * KIB)
@dataclass(frozen=True, slots=True, eq=False)
class ClockOffsets(Packet):
    """Node to its agents: what to add to another host's monotonic clock to read it as ours."""

    offsets_ns: Annotated[NDArray[np.int64], Tensor(("int64",), 1, _AGENTS)]
    """[hosts] UNKNOWN_OFFSET for a host that has not been heard yet."""


UNKNOWN_OFFSET = -(2**63)


# --- bodies (docs/body.md) ------------------------------------------------------------------------


@_packet(40, KIB, BODY_VERSION)
@dataclass(frozen=True, slots=True)
class BodyHello(Packet):
    """Body to agent: first packet on a connection."""

    agent: U16
    """The agent that this body is meant for; another one refuses it."""


@_packet(41, KIB, BODY_VERSION)
@dataclass(frozen=True, slots=True)
class BodyWelcome(Packet):
    """Agent to body: what it takes and gives."""

    agent: U16
    observation_dim: U32
    num_actions: U32
    rate_hz: Annotated[float, Real(0.0, 1000.0)]
    """Ticks a second; 0.0 if every observation is one."""


@_packet(42, 64 * KIB, BODY_VERSION)
@dataclass(frozen=True, slots=True, eq=False)
class BodyObservation(Packet):
    """Body to agent: what is sensed now."""

    step: U32
    """Counts up; all bodies of a deployment number the same moment alike."""
    flags: U8
    """ALIVE and FIRST bits."""
    sent_ns: U64
    """Body's monotonic clock (it is the agent's own: one host), 0 if it has none."""
    observation: Annotated[NDArray[Any], Tensor(("float32", "float16"), 1, 16 * KIB)]
    """[D]"""


@_packet(43, KIB, BODY_VERSION)
@dataclass(frozen=True, slots=True)
class BodyAction(Packet):
    """Agent to body: what to do."""

    step: U32
    """Of the observation that it answers."""
    action: U8
    policy_version: U32


ALIVE = 1
EXPLORE = 2
FIRST = 4
"""Of BodyObservation: the first of an episode; the agent forgets what went before."""
REST = 8
"""The copy is not played: nobody takes part in it, nor do the dead where they relay."""


@cache
def _codecs(cls: type[Packet]) -> tuple[tuple[str, Codec], ...]:
    hints = get_type_hints(cls, include_extras=True)
    codecs: list[tuple[str, Codec]] = []
    for field in fields(cls):  # type: ignore[arg-type]  # every registered packet is a dataclass
        hint = hints[field.name]
        assert get_origin(hint) is Annotated, f"{cls.__name__}.{field.name} has no codec"
        codecs.append((field.name, get_args(hint)[1]))
    return tuple(codecs)


_SMALL_FRAME = 64 * KIB
_LISTS_PER_FRAME = 64


def _list_budget() -> Callable[[list[Any]], list[Any]]:
    """Refuse lists within lists: 8 MB of empty ones would become 600 MB of objects.

    Small frames cannot do harm and do not pay for the counting; no packet has more than 20 lists.
    """
    lists = 0

    def count(items: list[Any]) -> list[Any]:
        nonlocal lists
        lists += 1
        if lists > _LISTS_PER_FRAME:
            raise ValueError(f"more than {_LISTS_PER_FRAME} lists")
        return items

    return count


@cache
def _field_reader(cls: type[Packet]) -> Callable[[Packet], tuple[Any, ...]]:
    return attrgetter(*(field.name for field in fields(cls)))  # type: ignore[arg-type]  # as above


_LAYOUTS: dict[type[Packet], Layout] = {
    cls: Layout(cls.FORMAT, cls.KIND, numbers, tensors)
    for cls, numbers, tensors in (
        (Observation, (32, None), 7),
        (Action, (32, 32), 3),
        (Gates, (32,), 1),
        (InMask, (32,), 1),
        (Message, (16, 32, 64), 2),
        (Beacon, (16, 32, 64), 2),
    )
}
"""Of the packets that cross in every step; a test holds them against the field annotations."""
_KNOWN_STARTS = {layout.start: (cls, layout) for cls, layout in _LAYOUTS.items()}


def encode(packet: Packet) -> bytes:
    """Turn a packet into one frame."""
    cls = type(packet)
    layout = _LAYOUTS.get(cls)
    if layout is not None:
        return layout.write(_field_reader(cls)(packet))
    parts: list[Any] = [cls.FORMAT, cls.KIND]
    parts += [codec.pack(getattr(packet, name)) for name, codec in _codecs(cls)]
    return _pack(parts)


def decode(frame: bytes, *accepted: type[Packet]) -> Packet:
    """Turn a frame back into its packet; with `accepted`, refuse every other kind.

    Raises:
        WireFormatError: reason `oversize`, `decode`, `version`, `kind`, `shape`, `dtype`, `range`
            or `nonfinite`.
    """
    known = _KNOWN_STARTS.get(frame[:3])
    if known is not None and (not accepted or known[0] in accepted):
        values = known[1].read(frame)
        if values is not None:
            return known[0](*values)
    limit = max(cls.LARGEST for cls in accepted) if accepted else 256 * MIB
    if len(frame) > limit:
        raise WireFormatError("oversize", f"{len(frame)} bytes, at most {limit} allowed")
    try:
        raw = _unpack(
            frame,
            max_array_len=_AGENTS,
            max_map_len=0,
            max_ext_len=0,
            max_str_len=KIB,
            max_bin_len=len(frame),
            list_hook=_list_budget() if len(frame) > _SMALL_FRAME else None,
        )
    except Exception as error:  # msgpack raises five unrelated types, UnicodeDecodeError among them
        raise WireFormatError("decode", f"{type(error).__name__}") from error
    parts = items(raw)
    if parts is None or len(parts) < 2:
        raise WireFormatError("decode", f"expected an array, got {brief(raw)}")
    version, kind = parts[0], parts[1]
    cls = _KINDS.get(kind) if type(kind) is int else None
    expected = VERSION if cls is None else cls.FORMAT
    if version != expected or type(version) is not int:
        raise WireFormatError("version", f"version {brief(version)}, this is {expected}")
    if cls is None or (accepted and cls not in accepted):
        raise WireFormatError("kind", f"kind {brief(kind)} is not expected here")
    if len(frame) > cls.LARGEST:
        raise WireFormatError("oversize", f"{len(frame)} bytes, {cls.__name__} has {cls.LARGEST}")
    codecs = _codecs(cls)
    if len(raw) != len(codecs) + 2:
        raise WireFormatError(
            "shape", f"{cls.__name__} has {len(codecs)} fields, not {len(raw) - 2}"
        )
    values = [codec.unpack(part) for (_, codec), part in zip(codecs, raw[2:], strict=True)]
    if known is not None:
        known[1].learn(values)
    return cls(*values)
