"""An agent without its process: events in, commands out.

    Observation, Message, Beacon, InMask, parameters, PeersLate, Renumbered
        -> AgentCore.handle ->
    SendMessage, SendBeacon, ToWorld, ToLearner, ToNode, Dropped

One step, in the order of DESIGN.md, "The step, exactly":

    causal   observation, messages and beacons of t-1 -> c, m, q, gates -> messages, beacons, action
    paper    observation -> beacons of t -> gates -> messages m of t-1 -> c, m, q -> action

In lock-step the world says what is under way, and a step waits for it. In real time nobody says and
nobody waits: a step uses what is here (agents/freshest.py), and what is not is a closed edge.

No socket, clock or process here: agents/process.py and agents/realtime.py feed the events and carry
out the commands.

Dimension key: E = copies, K = offsets, D = observation features, H = hidden, M = message, Z =
beacon.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from agents import backbone, ticks
from agents.events import (
    Command,
    Dropped,
    Event,
    Parameters,
    PeersLate,
    Renumbered,
    SendBeacon,
    SendMessage,
    ToLearner,
    ToNode,
    ToWorld,
)
from agents.freshest import Freshest
from agents.gate import BoolArray, edge_features, logistic_noise
from agents.inbox import Inbox
from agents.link_loss import LinkLoss
from agents.network import Network
from agents.parameters import Outcome, ParameterStore
from agents.policy import FloatArray, PolicySpec
from agents.recorder import EpisodeRecorder
from agents.rounding import (
    beacon_from_steps,
    beacon_from_wire,
    beacon_to_wire,
    message_from_wire,
    message_to_wire,
)
from configs.schema import Comm, GateMode, GateTiming
from runtime import wire

MaskArray = NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentRules:
    """How an agent behaves, apart from its parameters."""

    num_agents: int
    copies: int
    spec: PolicySpec
    comm: Comm
    gate_timing: GateTiming
    gate_mode: GateMode
    dead: Literal["silent", "relay"]
    ships: Literal["training", "all", "none"]
    """Episodes whose trajectories leave the agent."""
    record_q: bool
    drop_edges: float = 0.0
    """Probability with which a message or beacon that has arrived is thrown away (link loss)."""
    realtime: bool = False
    """Never wait for neighbours (deployment)."""
    max_message_age_steps: int = 1
    """In real time, how many steps old a message or beacon may be that a step still uses."""

    def __post_init__(self) -> None:
        if self.realtime and self.gate_timing == "paper":
            raise ValueError(
                "gate.timing paper needs two exchanges in every step and somebody to wait for "
                "both: in real time there is only causal"
            )
        if not 1 <= self.max_message_age_steps <= 100:
            raise ValueError(
                f"max-message-age-steps must be between 1 and 100, got {self.max_message_age_steps}"
            )


_MOST_BITMAPS = 1024


class _Phase(Enum):
    IDLE = auto()
    """Between steps: the next thing to come is an observation."""
    BEACONS = auto()
    """paper timing: waiting for the beacons of this step."""
    IN_MASK = auto()
    """paper timing: waiting for the world to say which in-edges are open."""
    MESSAGES = auto()
    """Waiting for the packets that the action depends on."""


@dataclass(slots=True)
class Tally:
    """What happened so far, for the heartbeat."""

    agent_steps: int = 0
    """Steps of copies in which the agent was alive."""
    edge_slots: int = 0
    """agent_steps × offsets: messages if every edge were always open."""
    edges_open: int = 0
    late: int = 0
    """Packets that were under way and missed the deadline; in real time those that came after the
    step that they were meant for."""
    lost_messages: int = 0
    """Message vectors that arrived and fell to link loss."""
    lost_beacons: int = 0
    snapshots_requested: int = 0


class AgentCore:
    """One agent's state between the packets of a run."""

    def __init__(
        self,
        identity: int,
        rules: AgentRules,
        parameters: ParameterStore,
        rng: np.random.Generator,
    ) -> None:
        self.identity = identity
        self.tally = Tally()
        self._rules = rules
        self._parameters = parameters
        self._rng = rng
        self._out = backbone.out_neighbours(identity, rules.num_agents)
        self._offset_of_out = {peer: k for k, peer in enumerate(self._out)}
        self._offset_of_in = {
            peer: k for k, peer in enumerate(backbone.in_neighbours(identity, rules.num_agents))
        }
        self._features_KF = edge_features(rules.num_agents)
        self._oldest = rules.max_message_age_steps if rules.realtime else 1
        """Ticks that a packet may be behind ours when it arrives."""
        self._speaks = rules.comm == "sops" and rules.gate_mode != "closed"
        # Only the scorer reads beacons, so without a learned gate none is sent.
        self._beacons = self._speaks and rules.gate_mode == "learned"

        copies, spec, offsets = rules.copies, rules.spec, len(self._out)
        self._messages = self._new_inbox(spec.message)
        self._peer_beacons = self._new_inbox(spec.beacon)
        self._hidden_EH: FloatArray = np.zeros((copies, spec.hidden), dtype=np.float32)
        self._beacon_EZ: FloatArray = np.zeros((copies, spec.beacon), dtype=np.float32)
        self._beacon_rows: NDArray[Any] = beacon_to_wire(self._beacon_EZ, spec.beacon_dtype)
        self._own_EM: FloatArray = np.zeros((copies, spec.message), dtype=np.float32)
        self._sent_rows: NDArray[Any] = message_to_wire(self._own_EM, spec.message_dtype)
        self._message_form = spec.message, np.dtype(spec.message_dtype)
        self._beacon_form = spec.beacon, np.dtype(spec.beacon_dtype)
        self._bitmaps: dict[bytes, tuple[BoolArray, int]] = {}
        """Bitmaps of copies seen before: with few copies, or all of them alive, they recur."""
        self._bits_K = (1 << np.arange(offsets)).astype(np.uint16)
        self._recorders = [
            EpisodeRecorder(identity, record_q=rules.record_q) for _ in range(copies)
        ]
        self._network = Network(spec, parameters.flat, self._features_KF)
        self._network_version: int = parameters.version

        self._loss = LinkLoss(rules.drop_edges, copies, offsets, rng) if rules.drop_edges else None
        self._lost_messages_EK: BoolArray = np.zeros((copies, offsets), dtype=np.bool_)
        self._lost_beacons_EK: BoolArray = np.zeros((copies, offsets), dtype=np.bool_)

        self._phase = _Phase.IDLE
        self._tick: int | None = None
        self._now: wire.Observation
        self._alive_E: BoolArray = np.zeros(copies, dtype=np.bool_)
        self._active_E: BoolArray = np.zeros(copies, dtype=np.bool_)
        self._in_masks: MaskArray = np.zeros(copies, dtype=np.uint16)
        self._open_EK: BoolArray = np.zeros((copies, offsets), dtype=np.bool_)
        self._expected_messages = 0
        self._expected_beacons = 0

    @property
    def waits_for_peers(self) -> bool:
        """Whether a deadline must run: packets of peers are under way and the step needs them."""
        return self._phase in (_Phase.BEACONS, _Phase.MESSAGES)

    @property
    def tick(self) -> int:
        return self._tick or 0

    @property
    def policy_version(self) -> int:
        """Version that the current step runs with."""
        return self._network_version

    def handle(self, event: Event) -> list[Command]:
        """Take one event; commands come in the order in which they are to be carried out."""
        match event:
            case wire.Message():
                return self._receive(event, self._messages, self._offset_of_in)
            case wire.Beacon():
                return self._receive(event, self._peer_beacons, self._offset_of_out)
            case wire.Observation():
                return self._observe(event)
            case wire.InMask():
                return self._learn_in_mask(event)
            case wire.DenseParameters() | wire.DeltaParameters():
                return self._update(event)
            case PeersLate():
                return self._go_on_without_late_peers()
            case Renumbered():
                return self._renumber()

    # --- events -----------------------------------------------------------------------------------

    def _observe(self, now: wire.Observation) -> list[Command]:
        if self._tick is not None and ticks.ahead(now.tick, self._tick) <= 0:
            return [Dropped("stale")]
        alive_E = (now.flags & wire.ALIVE) != 0
        if not self._fits(now, alive_E):
            return [Dropped("shape")]
        # A new version takes effect here and nowhere else: never within a step.
        if self._network_version != self._parameters.version:
            self._network = Network(self._rules.spec, self._parameters.flat, self._features_KF)
            self._network_version = self._parameters.version

        self._tick, self._now, self._alive_E = now.tick, now, alive_E
        if self._loss is not None:
            self._lost_messages_EK, self._lost_beacons_EK = self._loss.draw()
        relay = self._rules.dead == "relay"
        self._active_E = np.ones_like(alive_E) if relay else alive_E
        first_E = now.steps == 0
        if first_E.any():
            self._hidden_EH[first_E] = 0.0
            self._own_EM[first_E] = 0.0
            self._sent_rows[first_E] = 0
        for inbox in (self._messages, self._peer_beacons):
            if isinstance(inbox, Freshest):
                inbox.advance(now.tick, first_E)
        commands = self._turn_recorders(now)

        observation_ED = np.zeros((len(alive_E), self._rules.spec.observation_dim), np.float32)
        observation_ED[alive_E] = now.observations
        self._hidden_EH = self._network.recur(observation_ED, self._hidden_EH)
        if self._beacons:
            z_EZ = self._network.beacon(self._hidden_EH)
            self._beacon_rows = beacon_to_wire(z_EZ, self._rules.spec.beacon_dtype)
            self._beacon_EZ = beacon_from_wire(self._beacon_rows)
            if self._rules.gate_timing == "paper":
                commands += self._send_beacon()

        self._expected_beacons = self._any_copy(now.beacon_masks) if self._beacons else 0
        if self._rules.realtime:
            self._expected_beacons = self._expected_messages = 0
            self._phase = _Phase.MESSAGES
        elif self._rules.gate_timing == "paper":
            self._expected_messages = 0  # not known before the world has heard all gates
            self._phase = _Phase.BEACONS
        else:
            self._in_masks = now.in_masks
            self._expected_messages = self._any_copy(now.in_masks) if self._speaks else 0
            self._phase = _Phase.MESSAGES
        return commands + self._proceed()

    def _receive(
        self,
        packet: wire.Message | wire.Beacon,
        inbox: Inbox | Freshest,
        offset_of: dict[int, int],
    ) -> list[Command]:
        peer = offset_of.get(packet.sender)
        if peer is None:
            return [Dropped("unknown_sender")]
        if self._tick is not None:
            ahead = ticks.ahead(packet.tick, self._tick)
            if ahead > 1:
                return [Dropped("future")]
            if ahead < 0 and self._rules.realtime:
                self.tally.late += 1
            if ahead < -self._oldest:
                return [Dropped("stale")]
        listed = self._copies_of(packet.copies)
        if listed is None:
            return [Dropped("shape")]
        present_E, count = listed
        is_message = inbox is self._messages
        width, dtype = self._message_form if is_message else self._beacon_form
        if packet.rows.shape != (count, width):
            return [Dropped("shape")]
        if packet.rows.dtype != dtype:
            return [Dropped("dtype")]
        if not inbox.put(peer, packet.tick, present_E, packet.rows):
            return [Dropped("stale")]
        return self._proceed()

    def _copies_of(self, bitmap: NDArray[np.uint8]) -> tuple[BoolArray, int] | None:
        """[E] the copies that a bitmap lists, and how many; None if it has another length."""
        key = bitmap.tobytes()
        known = self._bitmaps.get(key)
        if known is None:
            copies = self._rules.copies
            if len(bitmap) != (copies + 7) // 8:
                return None
            listed_E = np.unpackbits(bitmap, count=copies, bitorder="little").astype(np.bool_)
            known = (listed_E, int(listed_E.sum()))
            if len(self._bitmaps) >= _MOST_BITMAPS:
                self._bitmaps.clear()
            self._bitmaps[key] = known
        return known

    def _learn_in_mask(self, packet: wire.InMask) -> list[Command]:
        if self._phase is not _Phase.IN_MASK or packet.tick != self._tick:
            return [Dropped("stale")]
        if packet.in_masks.shape != (self._rules.copies,):
            return [Dropped("shape")]
        self._in_masks = packet.in_masks
        self._expected_messages = self._any_copy(packet.in_masks) if self._speaks else 0
        self._phase = _Phase.MESSAGES
        return self._proceed()

    def _update(self, packet: Parameters) -> list[Command]:
        if self._parameters.apply(packet) is Outcome.GAP:
            self.tally.snapshots_requested += 1
            return [ToNode(wire.SnapshotRequest(self._parameters.version))]
        return []

    def _renumber(self) -> list[Command]:
        self._tick = None
        for inbox in (self._messages, self._peer_beacons):
            assert isinstance(inbox, Freshest), "only a body numbers anew"
            inbox.renumber()
        return []

    def _go_on_without_late_peers(self) -> list[Command]:
        if not self.waits_for_peers:
            return []
        missing = self._missing_beacons(), self._missing_messages()
        self.tally.late += sum(bits.bit_count() for bits in missing)
        self._expected_beacons = self._expected_messages = 0
        return self._proceed()

    # --- the step ---------------------------------------------------------------------------------

    def _proceed(self) -> list[Command]:
        """Do what can be done with the packets that are here."""
        if self._phase is _Phase.BEACONS and not self._missing_beacons():
            commands = self._gate(self._tick or 0)
            self._phase = _Phase.IN_MASK
            return [*commands, ToWorld(wire.Gates(self._now.tick, self._out_masks()))]
        if (
            self._phase is _Phase.MESSAGES
            and not self._missing_messages()
            and (self._rules.gate_timing == "paper" or not self._missing_beacons())
        ):
            self._phase = _Phase.IDLE
            return self._act()
        return []

    def _act(self) -> list[Command]:
        now, spec = self._now, self._rules.spec
        paper = self._rules.gate_timing == "paper"
        heard = now.tick if paper else (now.tick - 1) % ticks.MODULUS
        tokens_ETM = self._own_EM[:, None]
        present_ET = np.ones((self._rules.copies, 1), dtype=np.bool_)
        if self._speaks:
            arrived_EK = self._under_way(self._in_masks) & self._messages.present(heard).T
            self.tally.lost_messages += int((arrived_EK & self._lost_messages_EK).sum())
            arrived_EK &= ~self._lost_messages_EK
            vectors_EKM = self._messages.vectors(heard).transpose(1, 0, 2)
            tokens_ETM = np.concatenate((tokens_ETM, vectors_EKM), axis=1)
            present_ET = np.concatenate((present_ET, arrived_EK), axis=1)
        context_EH = self._network.attend(self._hidden_EH, tokens_ETM, present_ET)
        message_EM = self._network.message(self._hidden_EH, context_EH)
        q_EA = self._network.q_values(self._hidden_EH, message_EM)
        self._sent_rows = message_to_wire(message_EM, spec.message_dtype)
        self._own_EM = message_from_wire(self._sent_rows)

        commands: list[Command] = []
        if not paper:
            commands += self._gate(heard)
            if self._beacons:
                commands += self._send_beacon()
        out_masks = self._out_masks()
        actions = self._choose(q_EA)
        self._record(actions, out_masks, q_EA)
        alive = int(self._alive_E.sum())
        self.tally.agent_steps += alive
        self.tally.edge_slots += alive * len(self._out)
        self.tally.edges_open += int(self._open_EK[self._alive_E].sum())
        commands.append(ToWorld(wire.Action(now.tick, self._network_version, actions, out_masks)))
        return commands

    def _gate(self, beacon_tick: int) -> list[Command]:
        """Choose edges by the beacons of `beacon_tick` and send the current message over them."""
        self._open_EK = self._open_edges(beacon_tick)
        edges_by_copies: dict[bytes, list[int]] = {}
        for k in np.flatnonzero(self._open_EK.any(axis=0)).tolist():
            edges_by_copies.setdefault(self._open_EK[:, k].tobytes(), []).append(k)
        return [
            SendMessage(
                edges=tuple(edges),
                tick=self._now.tick,
                copies=np.packbits(self._open_EK[:, edges[0]], bitorder="little"),
                rows=self._sent_rows[self._open_EK[:, edges[0]]],
            )
            for edges in edges_by_copies.values()
        ]

    def _open_edges(self, beacon_tick: int) -> BoolArray:
        """[E, K] score > 0; in copies that explore with the noise of equations 3 and 4."""
        now = self._now
        first_E = now.steps == 0
        peers_EK = self._under_way(now.beacon_masks)
        if not self._speaks:
            return np.zeros_like(self._open_EK)
        if self._rules.gate_timing == "paper":
            # The message of the step before goes out, and at step 0 there is none.
            allowed_EK = peers_EK & ~first_E[:, None]
        else:
            # At step 0 nobody has been heard: every peer counts as there, with a beacon of zeros.
            allowed_EK = peers_EK | first_E[:, None]
        allowed_EK &= self._active_E[:, None]
        if not self._beacons:
            return allowed_EK
        heard_EK = peers_EK & self._peer_beacons.present(beacon_tick).T
        self.tally.lost_beacons += int((heard_EK & self._lost_beacons_EK).sum())
        heard_EK &= ~self._lost_beacons_EK
        if self._rules.gate_timing == "causal":
            heard_EK &= ~first_E[:, None]
            allowed_EK &= heard_EK | first_E[:, None]
        else:
            allowed_EK &= heard_EK
        beacons_EKZ = self._peer_beacons.vectors(beacon_tick).transpose(1, 0, 2)
        beacons_EKZ = beacon_from_steps(beacons_EKZ, self._rules.spec.beacon_dtype)
        beacons_EKZ = np.where(heard_EK[:, :, None], beacons_EKZ, np.float32(0.0))
        scores_EK = self._network.scorer(self._beacon_EZ, beacons_EKZ)
        explores_E = (now.flags & wire.EXPLORE) != 0
        if explores_E.any():
            noise_EK = logistic_noise(self._rng, scores_EK.shape)
            scores_EK = scores_EK + np.where(explores_E[:, None], noise_EK, np.float32(0.0))
        return allowed_EK & (scores_EK > 0.0)

    def _choose(self, q_EA: FloatArray) -> NDArray[np.uint8]:
        """[E] epsilon-greedy in copies that explore, greedy elsewhere."""
        actions_E = q_EA.argmax(axis=1).astype(np.uint8)
        explores_E = (self._now.flags & wire.EXPLORE) != 0
        if self._now.epsilon > 0.0 and explores_E.any():
            random_E = self._rng.integers(0, q_EA.shape[1], size=len(actions_E), dtype=np.uint8)
            dice_E = self._rng.random(len(actions_E)) < self._now.epsilon
            actions_E = np.where(dice_E & explores_E, random_E, actions_E)
        actions_E[~self._alive_E] = 0
        return actions_E

    # --- trajectories -----------------------------------------------------------------------------

    def _turn_recorders(self, now: wire.Observation) -> list[Command]:
        """Ship what has ended with the last step, begin what starts with this one."""
        commands: list[Command] = []
        if self._rules.ships == "none":
            return commands
        for copy, recorder in enumerate(self._recorders):
            episode = int(now.episodes[copy])
            if not recorder.is_recording(episode) or not self._alive_E[copy]:
                trajectory = recorder.finish()
                if trajectory is not None:
                    commands.append(ToLearner(trajectory))
            explores = bool(now.flags[copy] & wire.EXPLORE)
            if now.steps[copy] == 0 and (explores or self._rules.ships == "all"):
                recorder.begin(episode)
        return commands

    def _record(self, actions_E: NDArray[np.uint8], out_masks: MaskArray, q_EA: FloatArray) -> None:
        if self._rules.ships == "none":
            return
        for row, copy in enumerate(np.flatnonzero(self._alive_E).tolist()):
            recorder = self._recorders[copy]
            if recorder.is_recording(int(self._now.episodes[copy])):
                recorder.record(
                    self._now.observations[row],
                    int(actions_E[copy]),
                    int(out_masks[copy]),
                    q_EA[copy],
                    self._network_version,
                )

    # --- small things -----------------------------------------------------------------------------

    def _fits(self, now: wire.Observation, alive_E: BoolArray) -> bool:
        columns = (now.episodes, now.steps, now.flags, now.in_masks, now.beacon_masks)
        rows = (int(alive_E.sum()), self._rules.spec.observation_dim)
        return (
            all(column.shape == (self._rules.copies,) for column in columns)
            and now.observations.shape == rows
        )

    def _any_copy(self, masks: MaskArray) -> int:
        """Bit k is set if it is set in any copy in which this agent takes part."""
        return int(np.bitwise_or.reduce(masks[self._active_E], initial=0))

    def _unpack(self, masks: MaskArray) -> BoolArray:
        """[E] bit masks -> [E, K]"""
        return (masks[:, None] & self._bits_K) != 0

    def _under_way(self, masks: MaskArray) -> BoolArray:
        """[E, K] which packets there are by the world's word; in real time that is not known."""
        return np.ones_like(self._open_EK) if self._rules.realtime else self._unpack(masks)

    def _new_inbox(self, vector: int) -> Inbox | Freshest:
        rules, peers = self._rules, len(self._out)
        if rules.realtime:
            return Freshest(peers, rules.copies, vector, rules.max_message_age_steps)
        return Inbox(peers, rules.copies, vector)

    def _out_masks(self) -> MaskArray:
        """[E, K] -> [E] bit masks"""
        return (self._open_EK * self._bits_K).sum(axis=1, dtype=np.uint16)

    def _missing_messages(self) -> int:
        paper = self._rules.gate_timing == "paper"
        heard = (self._tick or 0) - (0 if paper else 1)
        return self._expected_messages & ~self._messages.arrived(heard)

    def _missing_beacons(self) -> int:
        paper = self._rules.gate_timing == "paper"
        heard = (self._tick or 0) - (0 if paper else 1)
        return self._expected_beacons & ~self._peer_beacons.arrived(heard)

    def _send_beacon(self) -> list[Command]:
        if not self._active_E.any():
            return []
        copies = np.packbits(self._active_E, bitorder="little")
        return [SendBeacon(self._now.tick, copies, self._beacon_rows[self._active_E])]
