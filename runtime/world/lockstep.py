"""A world without its process: it keeps agents and environment copies in lock-step.

    Action (Gates), AgentState, deadline  ->  World  ->  Observation (InMask), EpisodeRecord,
    EpisodeResult, Kill, Refused

One tick: every agent gets its observation, the world waits for every agent's action, all copies
move by one step. What is played lives in episodes.py, which messages are under way in edges.py, how
long the world waits in pacing.py, the planned kill of an evaluation in planned_kill.py.

The world is where it is known which edges were used: every action carries the mask of edges that
its agent has just used, and the next observation hands each agent its in-mask. So an agent waits
for exactly the messages that are under way, and nothing is sent over a closed edge. An agent that
missed the deadline plays a no-op until it speaks again. What does not fit is refused and changes
nothing.

Dimension key: E = copies, N = agents, D = observation features.
"""

from enum import Enum, auto
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from configs.arrays import BoolArray
from envs.copies import EnvCopies
from runtime.net import ticks, wire
from runtime.net.edge_bits import MaskArray
from runtime.net.topology import exponential
from runtime.world.asked import AskedGuide
from runtime.world.commands import (
    AskGuide,
    Refused,
    ToAgent,
    ToLauncher,
    ToLearner,
    WorldCommand,
)
from runtime.world.edges import EdgesInUse
from runtime.world.episodes import Episodes, Phase, on_wire
from runtime.world.guide import Guide
from runtime.world.pacing import LearnerPace, Patience, RolloutPace
from runtime.world.planned_kill import PlannedKill
from runtime.world.played import Played
from runtime.world.rules import WorldRules


class _Exchange(Enum):
    """What the world is waiting for."""

    NOTHING = auto()
    GATES = auto()
    ACTIONS = auto()


def _by_agent(masks_EN: MaskArray) -> MaskArray:
    """[E, N, *W] -> [N, E, *W], each agent's in one piece."""
    return np.ascontiguousarray(masks_EN.swapaxes(0, 1))


class World:
    """Lock-step of N agents over E copies."""

    def __init__(
        self,
        copies: EnvCopies,
        num_copies: int,
        rules: WorldRules,
        *,
        env_steps: int,
        episodes: int,
    ) -> None:
        spec = copies.spec
        self._spec = spec
        self._rules = rules
        self._num_copies = num_copies
        self.episodes = Episodes(copies, num_copies, rules, env_steps=env_steps, episodes=episodes)
        self.learner = LearnerPace(
            rules.updates_per_episode, rules.max_backlog, must_speak=rules.in_rounds
        )
        if rules.rollout_steps:
            self.learner = RolloutPace(may_be_ahead=rules.overlaps)
        self.kill = PlannedKill(spec.num_agents, rules.victims, rules.kill_at)
        self.tick = 0
        self.missed_deadlines = 0
        self._edges = EdgesInUse(num_copies, rules.graph or exponential(spec.num_agents))
        self._patience = Patience(spec.num_agents)
        self._asked: AskedGuide | None = None
        if rules.asks != "nobody":
            self._asked = AskedGuide(rules.asks, spec.num_actions)
        self._up_N = np.zeros(spec.num_agents, dtype=np.bool_)
        self._versions_N = np.zeros(spec.num_agents, dtype=np.int64)
        self._exchange = _Exchange.NOTHING
        self._waiting: set[int] = set()
        self._parting: set[int] = set()
        """Agents that have got the farewell and have not answered."""
        self._gated: set[int] = set()
        """paper timing: agents that have given their gates in this tick, and so wait for their
        in-masks."""
        self._played = Played(spec, num_copies)
        self._epsilon = 0.0
        """Exploration rate of this tick, the guide's share included."""
        self._due = 0
        """Policy version that agents have been told to wait for."""
        self._acted_N = np.zeros(spec.num_agents, dtype=np.bool_)

    @property
    def phase(self) -> Phase:
        return self.episodes.phase

    @property
    def waits_for_agents(self) -> bool:
        return self._exchange is not _Exchange.NOTHING

    @property
    def missing(self) -> list[int]:
        """Agents that the current exchange waits for."""
        return sorted(self._waiting)

    @property
    def waits_for_guide(self) -> bool:
        """Whether nothing but the guide's answer holds the tick up."""
        return (
            self._exchange is _Exchange.ACTIONS
            and not self._waiting
            and self._asked is not None
            and bool(self._asked.unanswered)
        )

    @property
    def num_missing(self) -> int:
        return len(self._waiting)

    def is_missing(self, agent: int) -> bool:
        """Whether the current exchange waits for this agent."""
        return agent in self._waiting

    @property
    def min_version(self) -> int:
        """Oldest policy version among the agents that are up; 0 if none is."""
        return int(self._versions_N[self._up_N].min()) if self._up_N.any() else 0

    @property
    def may_tick(self) -> bool:
        """Whether a tick may begin now: the learner keeps up, nobody is being killed and there is
        something to play.
        """
        if self.waits_for_agents or self.kill.is_under_way or not self._up_N.any():
            return False
        if self.phase is Phase.TRAINING:
            return self.learner.keeps_up
        return self.phase is Phase.EVALUATING

    @property
    def may_overlap(self) -> bool:
        """Whether the learner may be a rollout behind."""
        return self._rules.overlaps

    @property
    def waits_for_learner(self) -> bool:
        """Whether a tick could begin if the learner owed fewer updates."""
        if self.waits_for_agents or self.phase is not Phase.TRAINING:
            return False
        return not self.learner.keeps_up and bool(self._up_N.any())

    def figures(self) -> dict[str, float]:
        """The world's own part of its status."""
        episodes = self.episodes
        return {
            "env_steps": float(episodes.env_steps),
            "steps_played": float(episodes.steps_played),
            "episodes": float(episodes.num_begun),
            "tick": float(self.tick),
            "evaluations_left": float(episodes.evaluations_left),
            "missed_deadlines": float(self.missed_deadlines),
            "policy_version_min": float(self.min_version),
            "missing_agents": float(len(self._waiting)),
            "killed": float(len(self.kill.killed)),
            **self.kill.aftermath.figures(),
        }

    # --- events -----------------------------------------------------------------------------------

    def agent_state(self, agent: int, *, up: bool) -> list[WorldCommand]:
        """The node says that an agent has gone or is ready."""
        self._up_N[agent] = up
        self._patience.spoke(agent)
        self.kill.death_is_known(agent)
        self._gated.discard(agent)
        if up:
            return []  # it joins with the next tick
        self.episodes.spoil(agent)
        self._waiting.discard(agent)
        return self._proceed()

    def finish_training(self) -> None:
        """End the training before all its steps are done: now, or with the tick under way."""
        self.episodes.finish_training()
        if not self.waits_for_agents:
            self.episodes.turn_phase()

    def evaluate(self, episodes: int) -> None:
        """Leave training behind and play this many evaluation episodes."""
        self.kill.evaluation_begins()
        self.episodes.evaluate(episodes)
        self._edges.forget()

    def begin_tick(self) -> list[WorldCommand]:
        """Hand every agent its observation; or, where the kill is due, have it done first."""
        assert self.may_tick
        if self.phase is Phase.EVALUATING and self.kill.is_due:
            kills = self.kill.carry_out(self._up_N)
            self._edges.spare(self.kill.killed)
            return [*kills]
        self.tick += 1
        self.learner.tick_begins()
        self._edges.tick_begins()
        self._parting.clear()
        self._acted_N[:] = False
        self._played.tick_begins()
        self._waiting = set(
            np.flatnonzero(self._up_N & self._patience.waits_for(self.tick)).tolist()
        )
        self._gated.clear()
        paper = self._rules.gate_timing == "paper"
        self._exchange = _Exchange.GATES if paper else _Exchange.ACTIONS
        told = [*self._policy_due(), *self._observations()]
        return told if self._asked is None else [*self._question(self._asked), *told]

    def _policy_due(self) -> list[WorldCommand]:
        """Say once which version is played from now on, where only one may be."""
        version = self.learner.policy_version
        if not self._rules.in_rounds or version <= self._due:
            return []
        if not self.episodes.policy_may_change:
            return []
        self._due = version
        return [
            ToAgent(agent, wire.PolicyDue(version)) for agent in np.flatnonzero(self._up_N).tolist()
        ]

    def farewell(self) -> list[WorldCommand]:
        """A last observation, in which everybody is gone: agents ship what they have recorded.

        They answer it like any other, once, and nobody waits for that.
        """
        self.tick += 1
        self._waiting.clear()
        self._parting = set(np.flatnonzero(self._up_N).tolist())
        return self._observations(nobody=True)

    def gates(self, agent: int, packet: wire.Gates) -> list[WorldCommand]:
        """paper timing: an agent says which edges it uses in this tick."""
        fault = self._fault_of(packet.out_masks)
        if fault is None:
            self._patience.spoke(agent)
            if self._is_parting(agent, packet.tick):
                return []
            fault = self._untimely(agent, packet.tick, _Exchange.GATES)
        if fault is not None:
            return [Refused(agent, fault)]
        self._edges.out_EN[:, agent] = packet.out_masks
        self._gated.add(agent)
        self._waiting.discard(agent)
        return self._proceed()

    def action(self, agent: int, packet: wire.Action) -> list[WorldCommand]:
        """An agent says what it does and which edges it has used."""
        fault = self._fault_of(packet.out_masks) or self._fault_of_choice(packet)
        if fault is None:
            self._patience.spoke(agent)
            if self._is_parting(agent, packet.tick):
                return []
            fault = self._untimely(agent, packet.tick, _Exchange.ACTIONS)
        if fault is not None:
            return [Refused(agent, fault)]
        self._patience.answered(agent)
        self._played.take(agent, packet.actions)
        self._edges.out_EN[:, agent] = packet.out_masks
        self._edges.says_EN[:, agent] = np.unpackbits(
            packet.beacons, count=self._num_copies, bitorder="little"
        )
        self._versions_N[agent] = packet.policy_version
        self._acted_N[agent] = True
        self._waiting.discard(agent)
        return self._proceed()

    def guide(self, packet: wire.GuideAnswer) -> list[WorldCommand]:
        """The guide says what is played in this tick."""
        if self._asked is None:
            return [Refused(None, "stale")]
        fault = self._asked.fault_of(packet)
        if fault is None:
            self._asked.answered(packet)
            return self._proceed()
        # A guide that was asked twice answers twice.
        return [] if fault == "stale" else [Refused(None, fault)]

    def deadline(self) -> list[WorldCommand]:
        """An agent that has not answered plays a no-op until it speaks again; the guide is asked
        again, because what it was asked may have died with its learner.
        """
        if self._asked is not None and self.waits_for_guide:
            return [AskGuide(question) for question in self._asked.unanswered]
        for agent in self._waiting:
            self._patience.missed(agent, self.tick)
            self.missed_deadlines += 1
        self._waiting.clear()
        return self._proceed()

    # --- the tick ---------------------------------------------------------------------------------

    def _fault_of(self, out_masks: MaskArray) -> Literal["shape", "range"] | None:
        """Why masks of out-edges cannot be used; None if they can."""
        if not self._edges.fits(out_masks):
            return "shape"
        return None if self._edges.exist(out_masks) else "range"

    def _fault_of_choice(self, packet: wire.Action) -> Literal["shape", "range"] | None:
        if packet.beacons.shape != ((self._num_copies + 7) // 8,):
            return "shape"
        return self._played.fault_of(packet.actions)

    def _is_parting(self, agent: int, tick: int) -> bool:
        """Whether this is the agent's one answer to the farewell."""
        if tick != self.tick or agent not in self._parting:
            return False
        self._parting.discard(agent)
        return True

    def _untimely(
        self, agent: int, tick: int, exchange: _Exchange
    ) -> Literal["stale", "future"] | None:
        """Why the world does not wait for this; None if it does."""
        if tick == self.tick and self._exchange is exchange and agent in self._waiting:
            return None
        before_gates = exchange is _Exchange.ACTIONS and self._exchange is _Exchange.GATES
        ahead = ticks.ahead(tick, self.tick)
        return "future" if ahead > 0 or (ahead == 0 and before_gates) else "stale"

    def _proceed(self) -> list[WorldCommand]:
        if self._waiting or self._exchange is _Exchange.NOTHING:
            return []
        if self.waits_for_guide:
            return []
        if self._exchange is _Exchange.GATES:
            self._exchange = _Exchange.ACTIONS
            self._edges.messages_are_sent()
            # An agent that has come up or spoken again meanwhile has no step to act in.
            self._waiting = set(self._gated)
            if not self._waiting:
                return self._proceed()
            return [
                ToAgent(
                    agent, wire.InMask(self.tick, np.ascontiguousarray(self._edges.in_EN[:, agent]))
                )
                for agent in sorted(self._waiting)
            ]
        self._exchange = _Exchange.NOTHING
        return self._step()

    def _step(self) -> list[WorldCommand]:
        """Move every copy by one step with the actions that have come."""
        episodes, edges = self.episodes, self._edges
        rollouts = episodes.rollouts
        evaluating = self.phase is Phase.EVALUATING
        if evaluating:
            counts_E = episodes.evaluates_E
            acting_EN = (episodes.alive_EN & self._acted_N)[counts_E]
            self.kill.evaluation_step(acting_EN, edges.out_EN[counts_E])
        edges.step_ends(self._present_EN(self._acted_N))
        commands: list[WorldCommand] = []
        guided_EN, log_probs_EN = None, None
        if self._asked is not None:
            may_EN = episodes.alive_EN & self._acted_N
            guided_EN, log_probs_EN = self._asked.lead(self._played.actions_EN, may_EN)
        elif self._rules.guide is not None:
            guided_EN = self._follow_guide(self._rules.guide)
        self._played.settle(episodes.now)
        for end in episodes.play(self._played.actions_EN, self._acted_N, guided_EN, log_probs_EN):
            if end.result is not None:
                commands.append(ToLauncher(end.result))
                edges.forget(end.copy)
                if evaluating and end.result.evaluation:
                    self.kill.aftermath.count_episode(end.rewards_TN)
            if end.record is not None:
                self.learner.shipped()
                commands.append(ToLearner(end.record))
        if episodes.begins_anew:
            edges.forget()
        if episodes.rollouts > rollouts:
            self.learner.rollout_ends()
        return commands

    def _question(self, asked: AskedGuide) -> list[WorldCommand]:
        """What the guide is asked in this tick, if anything."""
        episodes, now = self.episodes, self.episodes.now
        masks_ENB = np.zeros((0, 0, 0), dtype=np.uint8)
        if self._spec.has_action_masks:
            masks_ENA = np.array([snapshot.action_masks_NA for snapshot in now])
            masks_ENB = np.packbits(masks_ENA, axis=-1, bitorder="little")
        flags_E = episodes.explores_E * wire.EXPLORE + episodes.rests_E * wire.REST
        asked.ask(
            wire.GuideQuestion(
                tick=self.tick,
                episodes=episodes.numbers_E,
                steps=episodes.steps_E,
                flags=flags_E.astype(np.uint8),
                observations=self._rows_END(),
                alive=episodes.alive_EN.astype(np.uint8),
                action_masks=masks_ENB,
            )
        )
        return [AskGuide(question) for question in asked.unanswered]

    def _follow_guide(self, guide: Guide) -> BoolArray:
        """[E, N] where the guide plays in place of agents that have acted."""
        episodes = self.episodes
        may_EN = episodes.alive_EN & self._acted_N & episodes.explores_E[:, None]
        rows_END = np.array([snapshot.observations_ND for snapshot in episodes.now])
        return guide.lead(self._played.actions_EN, rows_END, may_EN, self._epsilon)

    # --- what agents are told ---------------------------------------------------------------------

    def _present_EN(self, heard_N: BoolArray) -> BoolArray:
        """[E, N] agents that were heard and take part: the living, or the dead as well."""
        if self._rules.dead == "silent":
            return heard_N & self.episodes.alive_EN
        return heard_N & ~self.episodes.rests_E[:, None]

    def _rows_END(self) -> NDArray[Any]:
        """[E, N, D] what is seen now, as it travels."""
        # Environments round themselves: what an agent sees is what the learner unrolls.
        rows = [snapshot.observations_ND for snapshot in self.episodes.now]
        return on_wire(np.array(rows, dtype=self._spec.observation_dtype))

    def _neighbours_ENN(self) -> BoolArray:
        """[E, N, N] who is whose neighbour now, where the environment says so."""
        return np.array([snapshot.neighbours_NN for snapshot in self.episodes.now], dtype=np.bool_)

    def _observations(self, *, nobody: bool = False) -> list[WorldCommand]:
        episodes, edges = self.episodes, self._edges
        rows_END = self._rows_END()
        masks_ENB: NDArray[np.uint8] | None = None
        if self._spec.has_action_masks:
            masks_ENA = np.array([snapshot.action_masks_NA for snapshot in episodes.now])
            masks_ENB = np.packbits(masks_ENA, axis=-1, bitorder="little")
        alive_EN = episodes.alive_EN & (not nobody)
        flags_E = episodes.explores_E * wire.EXPLORE + episodes.rests_E * wire.REST
        if self._rules.rollout_steps:
            flags_E = 0 * flags_E if nobody else flags_E + wire.LAST * episodes.is_last_of_rollout
        flags_EN = alive_EN * wire.ALIVE + flags_E[:, None]
        flags_NE = np.ascontiguousarray(flags_EN.T, dtype=np.uint8)
        if self._rules.gate_timing == "paper":
            # Beacons of this very tick: of everyone who is about to be handed an observation.
            asked_N = np.zeros_like(self._up_N)
            asked_N[list(self._waiting)] = True
            present_EN = self._present_EN(asked_N)
            peers_NE = beacons_NE = _by_agent(edges.turn_to_senders(present_EN))
        else:
            peers_EN = edges.peers_EN
            if self._rules.moves:
                peers_EN = edges.peers_near(self._neighbours_ENN(), episodes.steps_E == 0)
            peers_NE = _by_agent(peers_EN)
            beacons_NE = _by_agent(edges.beacons_EN)
        in_masks_NE = _by_agent(edges.in_EN)
        numbers_E, steps_E = episodes.numbers_E, episodes.steps_E
        # An agent that lives in every copy gets its rows as they lie, without being picked out.
        whole_N: BoolArray = np.logical_and.reduce(alive_EN, axis=0)
        everywhere = slice(None)
        epsilon = self._epsilon = self._rules.epsilon(episodes.env_steps)
        if self._rules.guide is not None:
            epsilon = self._rules.guide.epsilon_of_agents(epsilon)
        told: list[WorldCommand] = []
        for agent in np.flatnonzero(self._up_N).tolist():
            alive = everywhere if whole_N[agent] else alive_EN[:, agent]
            observation = wire.Observation(
                tick=self.tick,
                epsilon=epsilon,
                episodes=numbers_E,
                steps=steps_E,
                flags=flags_NE[agent],
                in_masks=in_masks_NE[agent],
                peer_masks=peers_NE[agent],
                beacon_masks=beacons_NE[agent],
                observations=rows_END[alive, agent],
                action_masks=wire.ALL_ALLOWED if masks_ENB is None else masks_ENB[alive, agent],
            )
            told.append(ToAgent(agent, observation))
        return told
