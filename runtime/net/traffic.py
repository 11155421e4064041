"""Bytes by class and layer, counted where they leave and arrive.

    frame -> payload bytes (its length) -> ZMTP bytes (payload + framing + handshakes, by formula)
          -> TCP bytes (the kernel's TCP_INFO, `runtime.net.tcp_info`)

Counters are plain integers that only grow; they travel to the node as one array
(AgentReport.counters) in the order of `COUNTERS`.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from runtime.net import wire


class TrafficClass(IntEnum):
    """What a packet is for. Everything that crosses belongs to exactly one."""

    MESSAGE = 0
    BEACON = 1
    OBSERVATION = 2
    ACTION = 3
    TRAJECTORY = 4
    PARAMETERS = 5
    CONTROL = 6
    HEARTBEAT = 7
    GUIDE = 8


CLASS_OF: dict[type[wire.Packet], TrafficClass] = {
    wire.Message: TrafficClass.MESSAGE,
    wire.Beacon: TrafficClass.BEACON,
    wire.Observation: TrafficClass.OBSERVATION,
    wire.InMask: TrafficClass.OBSERVATION,
    wire.PolicyDue: TrafficClass.OBSERVATION,
    wire.Action: TrafficClass.ACTION,
    wire.Gates: TrafficClass.ACTION,
    wire.Trajectory: TrafficClass.TRAJECTORY,
    wire.EpisodeRecord: TrafficClass.TRAJECTORY,
    wire.TrajectoryAck: TrafficClass.TRAJECTORY,
    wire.GuideQuestion: TrafficClass.GUIDE,
    wire.GuideAnswer: TrafficClass.GUIDE,
    wire.DenseParameters: TrafficClass.PARAMETERS,
    wire.DeltaParameters: TrafficClass.PARAMETERS,
    wire.SparseParameters: TrafficClass.PARAMETERS,
    wire.SparseDelta: TrafficClass.PARAMETERS,
    wire.SharedVersion: TrafficClass.PARAMETERS,
    wire.SnapshotRequest: TrafficClass.PARAMETERS,
    wire.PolicyOffer: TrafficClass.PARAMETERS,
    wire.BodyObservation: TrafficClass.OBSERVATION,
    wire.BodyAction: TrafficClass.ACTION,
    wire.BodyReals: TrafficClass.ACTION,
    wire.AgentReport: TrafficClass.HEARTBEAT,
    wire.Status: TrafficClass.HEARTBEAT,
    wire.NodeState: TrafficClass.HEARTBEAT,
    wire.WorldState: TrafficClass.HEARTBEAT,
    wire.LearnerState: TrafficClass.HEARTBEAT,
}
"""Every other packet is CONTROL."""

FORM_OF: dict[type[wire.Packet], str] = {
    wire.DenseParameters: "dense",
    wire.DeltaParameters: "delta",
    wire.SparseParameters: "sparse",
    wire.SparseDelta: "sparse_delta",
    wire.SharedVersion: "shared",
}
"""What a policy version comes as: all numbers, those that differ from another version, or the same
of those that exist (agents/sparse_parameters.py); or as the word that it lies in the host's
memory."""

REASONS = (
    "oversize",
    "decode",
    "version",
    "kind",
    "shape",
    "dtype",
    "range",
    "nonfinite",
    "stale",
    "future",
    "unknown_sender",
    "duplicate",
    "unreachable",
    "full",
)
"""Why a packet was dropped: reasons of WireFormatError, then of freshness and delivery."""

COUNTERS: tuple[str, ...] = (
    *(f"{way}_{what}_{c.name.lower()}" for way in ("sent", "received")
      for what in ("packets", "payload", "zmtp") for c in TrafficClass),
    *(f"dropped_{reason}" for reason in REASONS),
    *(f"{what}_{form}" for what in ("versions", "version_payload") for form in FORM_OF.values()),
    "late",
    "lost_messages",
    "lost_beacons",
    "agent_steps",
    "edge_slots",
    "edges_open",
    "edge_handshake_zmtp",
    "edge_tcp_sent",
    "edge_tcp_received",
    "trajectories_sent",
    "snapshots_requested",
    "shared_parameters",
    "ticks_missed",
    "refused",
    "readings_failed",
    "log_lines_lost",
)  # fmt: skip
"""Names of all counters in wire order.

`versions_dense` and its like: policy versions that arrived, by form, and `version_payload_dense`
their bytes, which are among those of PARAMETERS as well. `late`: packets that were under way and
missed the deadline. `lost_messages`, `lost_beacons`: vectors that arrived and were thrown away
because link loss was asked for. `edge_slots`: alive copies × offsets seen; `edges_open`: those that
were used (their ratio is the open share). `edge_handshake_zmtp`: bytes that this agent sent to open
its edges at both ends: greeting, READY, EdgeHello and EdgeWelcome; these two packets are counted
here and in no class, so that message + beacon + handshake is all an edge carried.
`shared_parameters`: bytes of policy versions that an agent reads in its host's memory, where they
have crossed no socket. `ticks_missed`:
ticks of a deployed agent's clock that came and found no new observation. `refused`: connections
that the process's gatekeeper has turned away (runtime/net/security.py). `readings_failed`: looks at
the kernel's counters or at memory that failed, after which the last reading stood.
`log_lines_lost`: lines of the process's log that could not be written (runtime/net/logs.py).
"""

_CLASSES = len(TrafficClass)
_INDEX = {name: index for index, name in enumerate(COUNTERS)}

GREETING_BYTES = 64
_READY_BODY_BYTES = 41
"""Name of the command, Socket-Type (DEALER or ROUTER, six letters each) and an empty Identity."""


_CURVE_MESSAGE_BYTES = 33
"""Command name, nonce, authenticator and flags of a CURVE MESSAGE (ZeroMQ RFC 26)."""
_CURVE_HELLO_BYTES = 200
_CURVE_WELCOME_BYTES = 168
_CURVE_INITIATE_BYTES = 257
_CURVE_READY_BYTES = 30
_CURVE_METADATA_BYTES = 35
"""Socket-Type (DEALER or ROUTER) and an empty Identity, inside of INITIATE and READY."""


def frame_zmtp_bytes(payload_bytes: int, *, curve: bool = False) -> int:
    """One single-frame message: flags and size take 2 or 9 octets, CURVE 33 more inside."""
    body_bytes = payload_bytes + (_CURVE_MESSAGE_BYTES if curve else 0)
    return body_bytes + (2 if body_bytes <= 255 else 9)


def handshake_zmtp_bytes(routing_id_bytes: int) -> int:
    """Greeting and READY of one end of a NULL DEALER-ROUTER connection, as sent by that end.

    107 octets with an empty routing id and one more for each octet of it; READY is framed like a
    message, so an id of more than 214 octets costs seven more.
    """
    return GREETING_BYTES + frame_zmtp_bytes(_READY_BODY_BYTES + routing_id_bytes)


def curve_handshake_bytes(*, is_server: bool) -> int:
    """What one end of a CURVE DEALER-ROUTER connection sends to open it, identities empty.

    Greeting, HELLO and INITIATE of the client: 567 octets; greeting, WELCOME and READY of the
    server: 301 (ZeroMQ RFC 26).
    """
    if is_server:
        ready_bytes = _CURVE_READY_BYTES + _CURVE_METADATA_BYTES
        commands = (_CURVE_WELCOME_BYTES, ready_bytes)
    else:
        commands = (_CURVE_HELLO_BYTES, _CURVE_INITIATE_BYTES + _CURVE_METADATA_BYTES)
    return GREETING_BYTES + sum(frame_zmtp_bytes(command) for command in commands)


class Traffic:
    """The counters of one process."""

    def __init__(self) -> None:
        self._values = [0] * len(COUNTERS)
        # Sizes of packets recur, so a packet costs one look: what comes to what is for readers.
        self._sent = [_no_sizes(), _no_sizes()]
        self._received = [_no_sizes(), _no_sizes()]
        """Packets by size, by class, without and with CURVE, that are not among the values yet."""

    def sent(
        self,
        traffic_class: TrafficClass,
        payload_bytes: int,
        *,
        curve: bool = False,
        packets: int = 1,
    ) -> None:
        """Count so many packets of this size each."""
        sizes = self._sent[curve][traffic_class]
        sizes[payload_bytes] = sizes.get(payload_bytes, 0) + packets

    def received(
        self, traffic_class: TrafficClass, payload_bytes: int, *, curve: bool = False
    ) -> None:
        sizes = self._received[curve][traffic_class]
        sizes[payload_bytes] = sizes.get(payload_bytes, 0) + 1

    def _add_up(self) -> list[int]:
        """The values, with all packets so far."""
        values = self._values
        for first, by_curve in ((0, self._sent), (3 * _CLASSES, self._received)):
            for curve, classes in enumerate(by_curve):
                for at, sizes in enumerate(classes, first):
                    for size, packets in sizes.items():
                        values[at] += packets
                        values[at + _CLASSES] += packets * size
                        framed = frame_zmtp_bytes(size, curve=bool(curve))
                        values[at + 2 * _CLASSES] += packets * framed
                    sizes.clear()
        return values

    def received_version(self, form: str, payload_bytes: int) -> None:
        """Count a policy version, besides its packet."""
        self.add(f"versions_{form}")
        self.add(f"version_payload_{form}", payload_bytes)

    def dropped(self, reason: str) -> None:
        self._values[_INDEX[f"dropped_{reason}"]] += 1

    @property
    def dropped_total(self) -> int:
        return sum(self[f"dropped_{reason}"] for reason in REASONS)

    def add(self, counter: str, amount: int = 1) -> None:
        self._values[_INDEX[counter]] += amount

    def set(self, counter: str, value: int) -> None:
        self._values[_INDEX[counter]] = value

    def __getitem__(self, counter: str) -> int:
        return self._add_up()[_INDEX[counter]]

    def as_array(self) -> NDArray[np.uint64]:
        """[len(COUNTERS)] for AgentReport."""
        return np.array(self._add_up(), dtype="<u8")


def _no_sizes() -> list[dict[int, int]]:
    return [{} for _ in TrafficClass]


class Uncounted(Traffic):
    """Counters of a process that does not count what crosses, only what goes wrong."""

    def sent(
        self,
        traffic_class: TrafficClass,
        payload_bytes: int,
        *,
        curve: bool = False,
        packets: int = 1,
    ) -> None:
        pass

    def received(
        self, traffic_class: TrafficClass, payload_bytes: int, *, curve: bool = False
    ) -> None:
        pass

    def received_version(self, form: str, payload_bytes: int) -> None:
        pass


def named(counters: NDArray[np.uint64]) -> dict[str, int]:
    """Give an AgentReport's counters their names back."""
    return dict(zip(COUNTERS, counters.tolist(), strict=True))
