"""An agent without its process: events in, commands out.

    Observation, Message, Beacon, InMask, parameters, PeersLate, Renumbered
        -> AgentCore.handle ->
    SendMessage, SendBeacon, ToWorld, ToLearner, ToNode, Dropped

One step, in the order of docs/design.md, "The step, exactly":

    causal   observation, messages and beacons of t-1 -> c, m, q, gates -> messages, beacons, action
    paper    observation -> beacons of t -> gates -> messages m of t-1 -> c, m, q -> action

In lock-step the world says what is under way, and a step waits for it. In real time nobody says and
nobody waits: a step uses what is here (agents/comm/freshest.py), and what is not is a closed edge.

No socket, clock or process here: agents/process/lockstep.py and agents/process/realtime.py feed the
events and carry out the commands.

Dimension key: E = copies, K = offsets, D = observation features, H = hidden, M = message, Z =
beacon.
"""

from enum import Enum, auto
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.acting import allowed_actions, make_actor
from agents.carry import carry_rows
from agents.comm import sending
from agents.comm.base import Heard
from agents.comm.freshest import Freshest
from agents.comm.gating import Moment, Site
from agents.comm.inbox import Inbox
from agents.comm.link_loss import LinkLoss
from agents.comm.peer_beacons import PeerBeacons
from agents.comm.said_beacon import REPEAT_TICKS, SaidBeacon
from agents.edge_masks import CopyBitmaps, EdgeMasks, with_own_token
from agents.events import (
    Command,
    Dropped,
    Event,
    Greeted,
    PeersLate,
    Renumbered,
    SendBeacon,
    ToNode,
    ToWorld,
)
from agents.found import scheme_of
from agents.head import own_outputs
from agents.insight import Insight
from agents.parameters import Outcome, ParameterStore
from agents.participation import Participants, Participation
from agents.recorder import Recorders
from agents.rounding import (
    LARGEST_BEACON,
    LARGEST_OBSERVATION,
    is_plausible,
    message_from_wire,
    message_to_wire,
)
from agents.rules import AgentRules
from agents.shared_parameters import HostParameters
from agents.tally import Tally
from configs.arrays import BoolArray, FloatArray
from configs.columns import GATES, Q_VALUES
from runtime.net import ticks, wire
from runtime.net.edge_bits import MaskArray

_LISTENS_EVERY = 4
"""Ticks after which an agent that takes part in no copy takes what has come for it: beacons, for
which the queues of its connections have room. Messages of those who did not know yet come within
two ticks, and are not to grow stale."""


class _Phase(Enum):
    IDLE = auto()
    """Between steps: the next thing to come is an observation."""
    BEACONS = auto()
    """paper timing: waiting for the beacons of this step."""
    IN_MASK = auto()
    """paper timing: waiting for the world to say which in-edges are open."""
    MESSAGES = auto()
    """Waiting for the packets that the action depends on."""


class AgentCore:
    """One agent's state between the packets of a run."""

    def __init__(
        self,
        identity: int,
        rules: AgentRules,
        parameters: ParameterStore | HostParameters,
        rng: np.random.Generator,
    ) -> None:
        self.identity = identity
        self.tally = Tally()
        self._rules = rules
        self._paper = rules.gate_timing == "paper"
        self._parameters = parameters
        self._rng = rng
        scheme, graph = scheme_of(rules.comm), rules.graph
        self._offset_of_out = {peer: k for k, peer in enumerate(graph.out_neighbours(identity))}
        self._offset_of_in = {peer: k for k, peer in enumerate(graph.in_neighbours(identity))}
        self._oldest = rules.max_message_age_steps if rules.realtime else 1
        """Ticks that a packet may be behind ours when it arrives."""
        # What may get lost is said again: where packets do, or in paper timing, with every step.
        repeat_ticks = REPEAT_TICKS if rules.realtime else 0
        if rules.drop_edges or rules.gate_timing == "paper":
            repeat_ticks = 1

        copies, spec, offsets = rules.copies, rules.spec, graph.num_edges
        self._masks = EdgeMasks(graph.num_edges)
        self._masks_shape = self._masks.shape(rules.copies)
        self._messages = self._new_inbox(spec.message)
        self._peer_beacons = PeerBeacons(offsets, copies, spec.beacon, says_who=rules.realtime)
        self._policy = parameters.policy(spec, rules.num_agents, identity)
        self._own_outputs = own_outputs(spec, identity)
        self._policy_version: int = parameters.version
        self._hidden_EH: FloatArray = self._policy.begin(copies)
        self._parts_EP = self._policy.parts(self._hidden_EH)
        self._beacon = SaidBeacon(spec, copies, repeat_ticks=repeat_ticks, says_who=rules.realtime)
        self._own_EM: FloatArray = np.zeros((copies, spec.message), dtype=np.float32)
        self._sent_rows: NDArray[Any] = message_to_wire(self._own_EM, spec.message_dtype)
        self._message_form = spec.message, np.dtype(spec.message_dtype)
        self._beacon_form = spec.beacon, np.dtype(spec.beacon_dtype)
        # What float16 and int8 hold beyond that does no harm.
        self._largest_message, self._largest_beacon = (
            largest if dtype == "float32" else None
            for largest, dtype in (
                (self._policy.scheme.largest, spec.message_dtype),
                (LARGEST_BEACON, spec.beacon_dtype),
            )
        )
        self._bitmaps = CopyBitmaps(copies)
        self._participants = Participants(copies, relays=rules.dead == "relay")
        self._nowhere_E: BoolArray = np.zeros(copies, dtype=np.bool_)
        self._all_copies = np.packbits(~self._nowhere_E, bitorder="little")
        self._no_copy = np.packbits(self._nowhere_E, bitorder="little")
        self._recorders = Recorders(
            identity, copies, rules.ships, rules.columns, comes_back=rules.comes_back
        )
        self._actor = make_actor(rules.acting, spec.num_actions, spec.bounds, rng)
        self._mask_width = (spec.num_actions + 7) // 8
        self._loss = LinkLoss(rules.drop_edges, copies, offsets, rng) if rules.drop_edges else None
        self._gating = scheme.gating(
            Site(
                timing=rules.gate_timing,
                mode=rules.gate_mode,
                budget=rules.gate_budget,
                options=spec.scheme_opts(),
                moves=rules.moves,
                realtime=rules.realtime,
                says_every_step=repeat_ticks == 1,
                oldest_beacon=2 * REPEAT_TICKS + rules.max_message_age_steps,
                masks=self._masks,
                own_beacon=self._beacon,
                peer_beacons=self._peer_beacons,
                rng=rng,
            )
        )
        self._speaks = self._gating.speaks
        # Who is waited for, loses packets or may live again has a step even where it has no part.
        self._may_rest = not (self._paper or rules.realtime or rules.drop_edges or rules.comes_back)
        # Only a scorer reads beacons, so without a learned gate none is sent.
        self._beacons = self._gating.scores
        self._lost_messages_EK: BoolArray = np.zeros((copies, offsets), dtype=np.bool_)
        self._lost_beacons_EK: BoolArray = np.zeros((copies, offsets), dtype=np.bool_)

        self._words = Heard(
            own_EM=self._own_EM,
            tokens_ETM=None,
            present_ET=None,
            steps_E=np.zeros(copies, dtype=np.uint16),
            memory_EX=np.zeros((copies, self._policy.scheme.memory), dtype=np.float32),
            observation_ED=np.zeros((copies, spec.observation_dim), dtype=np.float32),
        )
        self._remembers = self._policy.scheme.memory > 0
        self._reads_message = self._policy.reads_message
        self._says_actions = scheme.says_actions
        self._counts_edges = scheme.counts_edges

        self._lived_E = self._nowhere_E
        """Copies in which the agent was alive in the step before."""
        self._phase = _Phase.IDLE
        self._turns = False
        """A rollout of fixed length has ended with the step before."""
        self._due = 0
        """Policy version that the next step waits for."""
        self._held: wire.Observation | None = None
        """That step."""
        self._rests = 0
        """Steps since it last took part in a copy."""
        self._tick: int | None = None
        self._now: wire.Observation
        self._takes_part: Participation
        self._first_E: BoolArray | None = None
        """[E] copies whose episode begins with this step; None: no copy's does."""
        self._in_masks = self._masks.none(copies)
        self._open_EK: BoolArray = np.zeros((copies, offsets), dtype=np.bool_)
        self._messages_under_way = 0
        """In-edges that carry a message in some copy, as bits."""
        self._heard = 0
        """Tick of what this step waits for: this one with the paper's timing, else the last."""
        self._expected_messages = self._expected_beacons = 0
        """Edges over which something is under way to this step, as bits."""
        self._missing_messages = self._missing_beacons = 0
        """Those of them that have not brought it yet; nothing while the step does not wait."""
        self._peers_late = False
        """Whether this step goes on without packets that are under way."""

    @property
    def waits_for_peers(self) -> bool:
        """Whether a deadline must run: packets of peers are under way and the step needs them."""
        return self._phase is _Phase.MESSAGES or self._phase is _Phase.BEACONS

    @property
    def missing(self) -> tuple[int, int]:
        """In-edges whose messages and out-edges whose beacons the step still waits for, as bits."""
        return self._missing_messages, self._missing_beacons

    @property
    def has_unheard(self) -> bool:
        """Whether packets may have come that no step will ever wait for, and are to be taken now:
        in a copy whose episode has just begun, or in which this agent does not take part. Where it
        takes part in none, now and then will do.
        """
        takes_part = self._takes_part
        if self._first_E is not None or takes_part.all_active:
            return self._first_E is not None
        return takes_part.any_active or self._rests <= 2 or self._rests % _LISTENS_EVERY == 0

    @property
    def tick(self) -> int:
        return self._tick or 0

    @property
    def policy_version(self) -> int:
        """Version that the current step runs with."""
        return self._policy_version

    def handle(self, event: Event) -> list[Command]:
        """Take one event; commands come in the order in which they are to be carried out."""
        match event:
            case wire.Message() | wire.Beacon():
                return self._receive(event)
            case wire.Observation():
                return self._observe(event)
            case wire.InMask():
                return self._learn_in_mask(event)
            case wire.PolicyDue():
                self._due = event.policy_version
                return []
            case (
                wire.DenseParameters()
                | wire.DeltaParameters()
                | wire.SparseParameters()
                | wire.SparseDelta()
                | wire.SharedVersion()
            ):
                return self._update(event)
            case PeersLate():
                return self._go_on_without_late_peers()
            case Greeted():
                self._beacon.repeat()
                return []
            case Renumbered():
                return self._renumber()

    def look_back(self) -> Insight:
        """What the last step was made of, after all of its packets and before the next step's.

        Of copies in which the agent takes no part it says nothing that means anything.
        """
        words, policy = self._words, self._policy
        shape = self._open_EK.shape
        heard_EK = np.zeros(shape, dtype=np.bool_)
        if words.tokens_ETM is not None:
            present_ET = words.present_ET
            heard_EK = np.ones(shape, np.bool_) if present_ET is None else present_ET[:, 1:].copy()
        return Insight(
            open_EK=self._open_EK.copy(),
            heard_EK=heard_EK,
            scores_EK=self._gating.scores_of(policy),
            weights_ET=policy.scheme.weights(self._parts_EP, words),
        )

    # --- events -----------------------------------------------------------------------------------

    def _observe(self, now: wire.Observation) -> list[Command]:
        if self._tick is not None and ticks.ahead(now.tick, self._tick) <= 0:
            return [Dropped("stale")]
        if self._parameters.version < self._due and self._waits_for_policy(now):
            return []
        self._held = None
        takes_part = self._participants.of(now.flags)
        if takes_part is None or not self._fits(now, takes_part):
            return [Dropped("shape")]
        if not is_plausible(now.observations, LARGEST_OBSERVATION):
            return [Dropped("range")]
        # A new version takes effect here and nowhere else: never within a step.
        is_new = self._policy_version != self._parameters.version
        if is_new and self._rules.steady:
            is_new = self._may_change(now, takes_part)
        self._turns = takes_part.is_last
        if is_new:
            previous = self._policy
            rules = self._rules
            self._policy = self._parameters.policy(rules.spec, rules.num_agents, self.identity)
            self._hidden_EH = self._policy.adopt(self._hidden_EH, previous)
            self._policy_version = self._parameters.version

        self._tick, self._now, self._takes_part = now.tick, now, takes_part
        self._heard = now.tick if self._paper else (now.tick - 1) % ticks.MODULUS
        self._peers_late = False
        self._wait_for_nothing()
        if self._loss is not None:
            self._lost_messages_EK, self._lost_beacons_EK = self._loss.draw()
        self._first_E = now.steps == 0 if 0 in now.steps.tolist() else None
        if self._first_E is not None:
            self._forget(self._first_E)
        if self._rules.comes_back:
            is_new |= self._begin_lives(takes_part.alive_E)
        if is_new or self._first_E is not None:
            self._parts_EP = self._policy.parts(self._hidden_EH)
        self._peer_beacons.advance(now.tick, self._first_E)
        if isinstance(self._messages, Freshest):
            first_E = self._nowhere_E if self._first_E is None else self._first_E
            self._messages.advance(now.tick, first_E)
        commands = self._recorders.turn(now, takes_part, self._policy_version, self._carry)
        if not takes_part.any_active and self._may_rest and self._gating.pass_over(self._moment()):
            if takes_part.is_last:
                commands += self._recorders.rollout_ends(now, takes_part)
            return [*commands, self._rest(now, takes_part)]
        self._rests = 0

        if takes_part.num_alive == self._rules.copies:
            observation_ED = now.observations.astype(np.float32)
        else:
            shape = (self._rules.copies, self._rules.spec.observation_dim)
            observation_ED = np.zeros(shape, dtype=np.float32)
            observation_ED[takes_part.alive_E] = now.observations
        self._words.observation_ED = observation_ED
        self._hidden_EH = self._policy.recur(observation_ED, self._hidden_EH, self._parts_EP)
        self._parts_EP = self._policy.parts(self._hidden_EH)
        if self._beacons:
            self._beacon.take(self._gating.beacon(self._policy, self._parts_EP, observation_ED))
            if self._paper:
                commands += self._send_beacon()[0]

        if self._rules.realtime:
            self._phase = _Phase.MESSAGES
            return commands + self._proceed()
        if self._beacons:
            self._expected_beacons = self._any_copy(now.beacon_masks)
            self._missing_beacons = self._expected_beacons and self._beacons_missing()
        if self._paper:
            self._phase = _Phase.BEACONS  # of messages the world says when it has heard all gates
        else:
            self._expect_messages(now.in_masks)
        return commands + self._proceed()

    def _forget(self, first_E: BoolArray) -> None:
        """Begin episodes: nothing was seen or said, and everybody knows a beacon of zeros."""
        self._hidden_EH[first_E] = 0.0
        self._own_EM[first_E] = 0.0
        if self._remembers:
            self._words.memory_EX[first_E] = 0.0
        self._sent_rows = self._sent_rows.copy()
        self._sent_rows[first_E] = 0
        self._beacon.begin(first_E)

    def _waits_for_policy(self, now: wire.Observation) -> bool:
        """Keep a step for later: its policy version is on its way. The first after a start is of
        the newest that there was; and if the world has gone on, so does the agent.
        """
        waits = self._tick is not None and (self._held is None or self._held.tick == now.tick)
        if waits:
            self._held = now
        else:
            self._due = 0
        return waits

    def _may_change(self, now: wire.Observation, takes_part: Participation) -> bool:
        """Whether a steady agent may take up another policy with this step."""
        if self._rules.in_pieces:
            return self._turns or not takes_part.any_explores
        return not (takes_part.explores_E & (now.steps > 0)).any()

    def _carry(self) -> FloatArray:
        """[E, X] what is remembered before this step."""
        own = {"beacon": self._beacon.said_EZ, "memory": self._words.memory_EX}
        return carry_rows(
            self._policy.whole(self._hidden_EH),
            self._own_EM,
            self._open_EK,
            [own[name] for name in self._policy.scheme.carries],
        )

    def _begin_lives(self, alive_E: BoolArray) -> bool:
        """A new life begins with a memory of nothing; whether one does."""
        begins_E = alive_E & ~self._lived_E
        self._lived_E = alive_E
        self._hidden_EH[begins_E] = 0.0
        return bool(begins_E.any())

    def _receive(self, packet: wire.Message | wire.Beacon) -> list[Command]:
        is_message = type(packet) is wire.Message
        peer = (self._offset_of_in if is_message else self._offset_of_out).get(packet.sender)
        if peer is None:
            return [Dropped("unknown_sender")]
        listed = self._bitmaps.read(packet.copies)
        if listed is None:
            return [Dropped("shape")]
        present_E, count = listed
        width, dtype = self._message_form if is_message else self._beacon_form
        if packet.rows.shape != (count, width):
            return [Dropped("shape")]
        if packet.rows.dtype != dtype:
            return [Dropped("dtype")]
        largest = self._largest_message if is_message else self._largest_beacon
        if largest is not None and not is_plausible(packet.rows, largest):
            return [Dropped("range")]
        if self._tick is not None and (packet.tick != self._heard or self._rules.realtime):
            ahead = ticks.ahead(packet.tick, self._tick)
            if ahead > 1:
                return [Dropped("future")]
            if ahead < 0 and self._rules.realtime:
                self.tally.late += 1
            # An old beacon is better than none: it holds until a newer one comes.
            if ahead < -self._oldest and is_message:
                return [Dropped("stale")]
        inbox = self._messages if is_message else self._peer_beacons
        if not inbox.put(peer, packet.tick, present_E, packet.rows):
            return [Dropped("stale")]
        if packet.tick != self._heard:
            # It may have taken the place of one that the step waits for.
            if self._expected_messages:
                self._missing_messages = self._messages_missing()
            if self._expected_beacons:
                self._missing_beacons = self._beacons_missing()
        elif is_message:
            self._missing_messages &= ~(1 << peer)
        else:
            self._missing_beacons &= ~(1 << peer)
        if self._missing_messages or self._missing_beacons:
            return []
        return self._proceed()

    def _learn_in_mask(self, packet: wire.InMask) -> list[Command]:
        if self._phase is not _Phase.IN_MASK or packet.tick != self._tick:
            return [Dropped("stale")]
        if packet.in_masks.shape != self._masks_shape:
            return [Dropped("shape")]
        self._expect_messages(packet.in_masks)
        return self._proceed()

    def _expect_messages(self, in_masks: MaskArray) -> None:
        self._in_masks = in_masks
        self._messages_under_way = self._any_copy(in_masks) if self._speaks else 0
        self._expected_messages = self._messages_under_way
        self._missing_messages = self._expected_messages and self._messages_missing()
        self._phase = _Phase.MESSAGES

    def _update(self, packet: wire.AgentParameters) -> list[Command]:
        if self._parameters.apply(packet) is Outcome.GAP:
            self.tally.snapshots_requested += 1
            return [ToNode(wire.SnapshotRequest(self._parameters.version))]
        if self._held is not None and self._parameters.version >= self._due:
            return self._observe(self._held)
        return []

    def _renumber(self) -> list[Command]:
        self._tick = None
        self._beacon.renumber()
        assert isinstance(self._messages, Freshest), "only a body numbers anew"
        self._messages.renumber()
        self._peer_beacons.renumber()
        return []

    def _go_on_without_late_peers(self) -> list[Command]:
        if not self.waits_for_peers:
            return []
        self.tally.late += self._missing_messages.bit_count() + self._missing_beacons.bit_count()
        self._wait_for_nothing()
        self._peers_late = True
        return self._proceed()

    # --- the step ---------------------------------------------------------------------------------

    def _proceed(self) -> list[Command]:
        """Do what can be done with the packets that are here."""
        if self._missing_messages or self._missing_beacons:
            return []
        if self._phase is _Phase.MESSAGES:
            self._wait_for_nothing()
            self._phase = _Phase.IDLE
            return self._act()
        if self._phase is _Phase.BEACONS:
            self._wait_for_nothing()
            commands = self._gate()
            self._phase = _Phase.IN_MASK
            return [*commands, ToWorld(wire.Gates(self._now.tick, self._masks.pack(self._open_EK)))]
        return []

    def _wait_for_nothing(self) -> None:
        self._expected_messages = self._expected_beacons = 0
        self._missing_messages = self._missing_beacons = 0

    def _act(self) -> list[Command]:
        now, spec, policy, heard = self._now, self._rules.spec, self._policy, self._heard
        words = self._words
        words.own_EM, words.steps_E = self._own_EM, now.steps
        if self._speaks:
            words.present_ET = self._present_tokens(heard)
            words.tokens_ETM = self._messages.tokens(heard, self._own_EM)
        if self._counts_edges:
            self._open_EK = words.open_EK = self._gating.choose(policy, self._moment())
        says_actions, parts_EP = self._says_actions, self._parts_EP
        message_EM = self._own_EM if says_actions else policy.message(parts_EP, words)
        context_EC = message_EM
        if not self._reads_message:
            context_EC = policy.context(parts_EP, words, message_EM)
        q_EA = policy.q_values(parts_EP, context_EC)
        if self._own_outputs is not None:
            q_EA = q_EA[:, self._own_outputs]
        if not says_actions:
            self._sent_rows = message_to_wire(message_EM, spec.message_dtype)
            self._own_EM = message_from_wire(self._sent_rows)

        commands: list[Command] = []
        said = self._no_copy
        if not self._paper:
            commands = self._gate()
            if self._beacons:
                beacons, said = self._send_beacon()
                commands += beacons
        out_masks = self._masks.pack(self._open_EK)
        takes_part, tally, open_EK = self._takes_part, self.tally, self._open_EK
        allowed = allowed_actions(now, takes_part, spec.num_actions)
        actions = self._actor.choose(q_EA, now, takes_part, allowed)
        if says_actions:
            message_EM = policy.scheme.message_of_actions(actions)
            self._sent_rows = message_to_wire(message_EM, spec.message_dtype)
            self._own_EM = message_from_wire(self._sent_rows)
            commands += self._send_messages()
        if self._recorders.records:
            computed = {GATES.name: out_masks, Q_VALUES.name: q_EA, **self._actor.computed}
            self._recorders.record(now, takes_part, actions, self._policy_version, computed)
        if takes_part.num_alive < self._rules.copies:
            open_EK = open_EK & takes_part.alive_E[:, None]
        tally.agent_steps += takes_part.num_alive
        tally.edge_slots += takes_part.num_alive * self._masks.edges
        if out_masks.size == 1:
            tally.edges_open += out_masks.item().bit_count() if takes_part.num_alive else 0
        else:
            tally.edges_open += int(np.count_nonzero(open_EK))
        action = wire.Action(now.tick, self._policy_version, actions, out_masks, said)
        commands.append(ToWorld(action))
        if takes_part.is_last:
            commands += self._recorders.rollout_ends(now, takes_part)
        return commands

    def _present_tokens(self, heard: int) -> BoolArray | None:
        """[E, T] own token and the messages of step `heard` that are here; None: all are."""
        messages = self._messages
        if isinstance(messages, Freshest):
            arrived_EK = messages.present(heard).T
        else:
            edges = self._masks.in_edges(self._in_masks)
            is_whole = not self._messages_under_way & ~messages.arrived_whole(heard)
            if is_whole and self._loss is None:
                return edges.present_ET
            arrived_EK = edges.open_EK & messages.present(heard).T
        if self._loss is not None:
            self.tally.lost_messages += int((arrived_EK & self._lost_messages_EK).sum())
            arrived_EK = arrived_EK & ~self._lost_messages_EK
        return with_own_token(arrived_EK)

    def _gate(self) -> list[Command]:
        """Choose edges by what is known and send the current message over them."""
        if not self._counts_edges:  # else they are chosen already
            self._open_EK = self._gating.choose(self._policy, self._moment())
        if self._loss is not None and self._beacons:
            self.tally.lost_beacons += self._gating.lost_beacons
        if self._says_actions:
            return []  # none is chosen yet
        return self._send_messages()

    def _send_messages(self) -> list[Command]:
        return sending.messages(self._open_EK, self._now.tick, self._all_copies, self._sent_rows)

    def _moment(self) -> Moment:
        # By position: names cost twice as much, in every step.
        return Moment(
            self._now,
            self._takes_part,
            self._first_E,
            self._heard,
            self._peers_late,
            None if self._loss is None else self._lost_beacons_EK,
        )

    def _rest(self, now: wire.Observation, takes_part: Participation) -> Command:
        """The answer of an agent that takes part in no copy. It draws what it would have drawn, and
        of everything else nothing is left when an episode begins.
        """
        values_EA = np.zeros((self._rules.copies, self._rules.spec.outputs), np.float32)
        allowed = allowed_actions(now, takes_part, self._rules.spec.num_actions)
        actions = self._actor.choose(values_EA, now, takes_part, allowed)
        out_masks = self._masks.none(self._rules.copies)
        self._phase = _Phase.IDLE
        self._rests += 1
        return ToWorld(
            wire.Action(now.tick, self._policy_version, actions, out_masks, self._no_copy)
        )

    # --- small things -----------------------------------------------------------------------------

    def _fits(self, now: wire.Observation, takes_part: Participation) -> bool:
        copies = (self._rules.copies,)
        rows, dim = takes_part.num_alive, self._rules.spec.observation_dim
        masks = now.action_masks.shape
        return (
            now.episodes.shape == now.steps.shape == copies
            and now.in_masks.shape == now.peer_masks.shape == self._masks_shape
            and now.beacon_masks.shape == self._masks_shape
            and now.observations.shape == (rows, dim)
            and (masks == (0, 0) or masks == (rows, self._mask_width))
        )

    def _any_copy(self, masks: MaskArray) -> int:
        """Bit k is set if edge k exists and has it set in a copy in which this agent is active."""
        if not self._takes_part.all_active:
            masks = masks[self._takes_part.active_E]
        return self._masks.any_copy(masks)

    def _new_inbox(self, vector: int) -> Inbox | Freshest:
        rules, peers = self._rules, self._masks.edges
        if rules.realtime:
            return Freshest(peers, rules.copies, vector, rules.max_message_age_steps)
        return Inbox(peers, rules.copies, vector)

    def _messages_missing(self) -> int:
        return self._expected_messages & ~self._messages.arrived(self._heard)

    def _beacons_missing(self) -> int:
        return self._expected_beacons & ~self._peer_beacons.arrived(self._heard)

    def _send_beacon(self) -> tuple[list[Command], NDArray[np.uint8]]:
        """Say the beacon where it is due; and the bitmap of these copies."""
        now = self._now
        due = self._beacon.due(now.tick, self._takes_part.active_E, now.steps)
        if due is None:
            return [], self._no_copy
        said_E, rows = due
        copies = np.packbits(said_E, bitorder="little")
        return [SendBeacon(self._now.tick, copies, rows)], copies
