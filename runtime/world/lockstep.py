"""A world without its process: it keeps agents and environment copies in lock-step.

    Action (Gates), AgentState, deadline  ->  World  ->  Observation (InMask), EpisodeRecord,
    EpisodeResult, Kill, Refused

The world is where it is known which edges were used: every action carries the mask of edges that
its agent has just used, and the next observation hands each agent its in-mask. So an agent waits
for exactly the messages that are under way, and nothing is sent over a closed edge. Who does not
answer by the deadline plays a no-op and is not waited for again until it speaks, and if that is a
habit of its, for longer (runtime/world/patience.py). What does not fit is refused and changes
nothing.

Every copy is, for the length of an episode, either a training copy (agents explore, the episode
goes to the learner) or an evaluation copy (agents act greedily); evaluation episodes are counted in
the order in which they began, so that short ones are not preferred.

Dimension key: E = copies, N = agents, K = offsets, D = observation features.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from configs import streams
from configs.schema import GateTiming
from configs.streams import Role
from envs.base import Snapshot
from envs.copies import CopyStep, EnvCopies
from envs.opponent_schedule import OpponentSchedule
from runtime.net import ticks, topology, wire
from runtime.net.failures import Aftermath
from runtime.world.patience import Patience


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldRules:
    """How the world runs episodes."""

    gate_timing: GateTiming
    dead: Literal["silent", "relay"]
    train_steps: int
    """Environment steps of training copies until training ends; 0 only evaluates."""
    evaluation_interval: int
    """Training steps between evaluations; 0 evaluates only when told to."""
    evaluation_episodes: int
    epsilon: Callable[[int], float]
    """Exploration rate by training steps."""
    ships: Literal["training", "all", "none"]
    """Episodes that go to the learner (or recorder)."""
    updates_per_episode: float
    max_backlog: int
    """Updates the learner may owe before the world waits for it."""
    opponents: OpponentSchedule | None = None
    """Who plays the other team when; None where there is none."""
    seed: int = 0
    """Root of the draws of opponents."""
    life: int = 0
    """How often the run has been resumed."""
    victims: tuple[int, ...] = ()
    """Agents to be killed for good in an evaluation."""
    kill_at: int = 0
    """Steps that all copies of that evaluation have played when the kill comes."""


@dataclass(frozen=True, slots=True, eq=False)
class ToAgent:
    agent: int
    packet: wire.Observation | wire.InMask


@dataclass(frozen=True, slots=True, eq=False)
class ToLearner:
    packet: wire.EpisodeRecord


@dataclass(frozen=True, slots=True, eq=False)
class ToLauncher:
    packet: wire.EpisodeResult


@dataclass(frozen=True, slots=True)
class Kill:
    """Have the node end this agent's process for good; nothing moves until its death is known."""

    agent: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A packet of an agent has changed nothing."""

    agent: int
    reason: Literal["shape", "range", "stale", "future"]


Command = ToAgent | ToLearner | ToLauncher | Kill | Refused


class Phase(Enum):
    """Values are those of wire.PHASES."""

    TRAINING = "training"
    TRAINED = "trained"
    """All training steps are done; nothing moves until an evaluation is asked for."""
    EVALUATING = "evaluating"
    DONE = "done"


class _Mode(Enum):
    TRAIN = auto()
    EVALUATE = auto()
    REST = auto()
    """The evaluation needs the copy no more: it is not played, and nobody takes part in it, so that
    bytes and latency are of the episodes that count and no others."""


@dataclass(slots=True)
class _DueEvaluation:
    """An evaluation of which episodes have yet to begin."""

    env_steps: int
    """Training steps when it fell due."""
    episodes: int
    begun: int = 0


class _Exchange(Enum):
    """What the world is waiting for."""

    NOTHING = auto()
    GATES = auto()
    ACTIONS = auto()


class _Episode:
    """One copy's episode in progress, as the learner will want it."""

    def __init__(self, number: int, mode: _Mode, first: Snapshot, evaluated_at: int) -> None:
        self.number = number
        self.mode = mode
        self.evaluated_at = evaluated_at
        self.states = [first.state_S]
        self.alive = [first.alive_N]
        self.rewards: list[NDArray[np.float32]] = []
        self.complete = True

    @property
    def step(self) -> int:
        return len(self.rewards)

    def record(self, env_steps: int, last: CopyStep) -> wire.EpisodeRecord:
        observations = last.transition.after.observations_ND
        return wire.EpisodeRecord(
            episode=self.number,
            env_steps=env_steps,
            states=np.array(self.states, dtype=np.float32),
            rewards=np.array(self.rewards, dtype=np.float32),
            alive=np.array(self.alive, dtype=np.uint8),
            terminated=int(last.transition.terminated),
            complete=int(self.complete),
            final_observations=observations.astype(np.float16),
        )


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
        self._copies = copies
        self._rules = rules
        self._noop = spec.noop_action
        self._num_copies = num_copies
        self._offsets = np.array(topology.offsets(spec.num_agents))
        shape = (num_copies, spec.num_agents)

        self.tick = 0
        self.env_steps = env_steps
        """Training steps of all copies together, continued from an earlier run."""
        self.steps_played = 0
        """Steps of all copies together in this life, those of evaluations included."""
        self.num_episodes = episodes
        """Episodes begun so far; also the next episode's number."""
        self.evaluations_left = 0
        """Evaluation episodes that have been begun or will be, and are not finished."""
        self.missed_deadlines = 0
        self._updates_owed = 0.0
        """By the learner's last word."""
        self._num_shipped = 0
        """Training episodes sent to the learner."""
        self._num_untold = 0
        """Of them those that have ended since the last tick: agents do not know it yet."""
        self._baseline: tuple[int, int] | None = None
        """Episodes shipped and episodes the learner had seen when this learner first spoke."""
        self._num_taken = 0
        self._evaluations_due: deque[_DueEvaluation] = deque()
        self._opponents_E = np.zeros(num_copies, dtype=np.int64)
        """Index of the opponent in each copy's episode."""
        self._evaluate_at = env_steps if rules.evaluation_interval else 0
        self._up_N = np.zeros(spec.num_agents, dtype=np.bool_)
        self._patience = Patience(spec.num_agents)
        self._versions_N = np.zeros(spec.num_agents, dtype=np.int64)
        self.killed: tuple[int, ...] = ()
        """Who has been killed by now."""
        self.aftermath = Aftermath(spec.num_agents, rules.victims)
        self._dying: set[int] = set()
        """Killed, and their deaths not announced yet."""
        self._evaluated_steps = 0
        """Steps since the evaluation began."""
        self._exchange = _Exchange.NOTHING
        self._waiting: set[int] = set()
        self._parting: set[int] = set()
        """Who has been said farewell to and has not answered."""
        self._gated: set[int] = set()
        """paper timing: who has given its gates in this tick, and so waits for its in-mask."""
        self._actions_EN = np.full(shape, self._noop, dtype=np.int64)
        self._masks_EN = np.zeros(shape, dtype=np.uint16)
        self._acted_N = np.zeros(spec.num_agents, dtype=np.bool_)
        self._in_masks_EN = np.zeros(shape, dtype=np.uint16)
        self._peer_masks_EN = np.zeros(shape, dtype=np.uint16)
        self._beacon_masks_EN = np.zeros(shape, dtype=np.uint16)
        self._said_EN = np.zeros(shape, dtype=np.bool_)
        """Whose beacon was news in this tick, and so is under way."""
        self._now: tuple[Snapshot, ...] = ()
        self._episodes: list[_Episode] = []
        if rules.train_steps > env_steps:
            self.phase = Phase.TRAINING
            self._begin_all()
        else:
            self.phase = Phase.TRAINED

    @property
    def waits_for_agents(self) -> bool:
        return self._exchange is not _Exchange.NOTHING

    @property
    def missing(self) -> list[int]:
        """Agents that the current exchange waits for."""
        return sorted(self._waiting)

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
    def backlog(self) -> float:
        """Updates that the learner owes, those for episodes still on their way to it included.

        The learner looks up only between two updates, so its own word is always a little old.
        """
        return self._backlog_of(self._num_shipped)

    def _backlog_of(self, num_shipped: int) -> float:
        """The backlog if so many episodes had been shipped."""
        if self._baseline is None:
            return 0.0
        shipped, taken = self._baseline
        under_way = (num_shipped - shipped) - (self._num_taken - taken)
        return self._updates_owed + max(under_way, 0) * self._rules.updates_per_episode

    @property
    def may_tick(self) -> bool:
        """Whether a tick may begin now: the learner keeps up, nobody is being killed and there is
        something to play.

        Agents ship an episode when the next tick tells them that it has ended. Episodes that they
        do not know to have ended hold nothing up: the learner would wait for them in vain, and the
        world for the learner.
        """
        if self._exchange is not _Exchange.NOTHING or self._dying or not self._up_N.any():
            return False
        if self.phase is Phase.TRAINING:
            told = self._num_shipped - self._num_untold
            return self._backlog_of(told) <= self._rules.max_backlog
        return self.phase is Phase.EVALUATING

    # --- events -----------------------------------------------------------------------------------

    def agent_state(self, agent: int, *, up: bool) -> list[Command]:
        """The node says that an agent has gone or is ready."""
        self._up_N[agent] = up
        self._patience.spoke(agent)
        self._dying.discard(agent)
        self._gated.discard(agent)
        if up:
            return []  # it joins with the next tick
        for copy, episode in enumerate(self._episodes):
            if self._now[copy].alive_N[agent]:
                episode.complete = False
        self._waiting.discard(agent)
        return self._proceed()

    def learner_progress(self, *, updates_owed: float, episodes_taken: int) -> None:
        """The learner says what it owes, and how many episodes it has taken in or given up.

        A count that falls is another learner's. One that grows by more than was shipped is of a
        learner that has got again what its predecessor had not acknowledged. Either way the count
        begins anew: the world must neither run away from a learner nor wait for one that is idle.
        """
        another = episodes_taken < self._num_taken
        self._updates_owed, self._num_taken = updates_owed, episodes_taken
        if self._baseline is not None and not another:
            shipped, taken = self._baseline
            if episodes_taken - taken <= self._num_shipped - shipped:
                return
        self._baseline = self._num_shipped, episodes_taken

    def learner_gone(self) -> None:
        """Go on without a learner: nobody owes anything until the next one speaks."""
        self._updates_owed, self._baseline = 0.0, None

    def evaluate(self, episodes: int) -> None:
        """Leave training behind and play this many evaluation episodes."""
        self.phase = Phase.EVALUATING
        # One that training has cut off is not continued: figures are of whole evaluations.
        self._evaluations_due.clear()
        self.evaluations_left = 0
        self._evaluation_falls_due(episodes)
        self._evaluated_steps = 0
        self._begin_all()

    def begin_tick(self) -> list[Command]:
        """Hand every agent its observation; or, where the kill is due, have it done first."""
        assert self.may_tick
        if self._kill_is_due:
            return self._kill()
        self.tick += 1
        self._num_untold = 0
        self._parting.clear()
        self._acted_N[:] = False
        self._actions_EN[:] = self._noop
        self._masks_EN[:] = 0
        self._said_EN[:] = False
        self._waiting = set(
            np.flatnonzero(self._up_N & self._patience.waits_for(self.tick)).tolist()
        )
        self._gated.clear()
        paper = self._rules.gate_timing == "paper"
        self._exchange = _Exchange.GATES if paper else _Exchange.ACTIONS
        return self._observations()

    def farewell(self) -> list[Command]:
        """A last observation, in which everybody is gone: agents ship what they have recorded.

        They answer it like any other, once, and nobody waits for that.
        """
        self.tick += 1
        self._waiting.clear()
        self._parting = set(np.flatnonzero(self._up_N).tolist())
        return self._observations(nobody=True)

    def gates(self, agent: int, packet: wire.Gates) -> list[Command]:
        """paper timing: an agent says which edges it uses in this tick."""
        fault = self._fault_of(packet.out_masks)
        if fault is None:
            self._patience.spoke(agent)
            if self._is_parting(agent, packet.tick):
                return []
            fault = self._untimely(agent, packet.tick, _Exchange.GATES)
        if fault is not None:
            return [Refused(agent, fault)]
        self._masks_EN[:, agent] = packet.out_masks
        self._gated.add(agent)
        self._waiting.discard(agent)
        return self._proceed()

    def action(self, agent: int, packet: wire.Action) -> list[Command]:
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
        self._actions_EN[:, agent] = packet.actions
        self._masks_EN[:, agent] = packet.out_masks
        self._said_EN[:, agent] = np.unpackbits(
            packet.beacons, count=self._num_copies, bitorder="little"
        )
        self._versions_N[agent] = packet.policy_version
        self._acted_N[agent] = True
        self._waiting.discard(agent)
        return self._proceed()

    def deadline(self) -> list[Command]:
        """Who has not answered plays a no-op, and is not waited for until it speaks again."""
        for agent in self._waiting:
            self._patience.missed(agent, self.tick)
            self.missed_deadlines += 1
        self._waiting.clear()
        return self._proceed()

    # --- the tick ---------------------------------------------------------------------------------

    def _fault_of(self, out_masks: NDArray[np.uint16]) -> Literal["shape", "range"] | None:
        """Why masks of out-edges cannot be used; None if they can."""
        if out_masks.shape != (self._num_copies,):
            return "shape"
        return "range" if int(out_masks.max()) >> len(self._offsets) else None

    def _fault_of_choice(self, packet: wire.Action) -> Literal["shape", "range"] | None:
        copies = self._num_copies
        if packet.actions.shape != (copies,) or packet.beacons.shape != ((copies + 7) // 8,):
            return "shape"
        return "range" if int(packet.actions.max()) >= self._copies.spec.num_actions else None

    def _is_parting(self, agent: int, tick: int) -> bool:
        """Whether this is the agent's one answer to the farewell."""
        if tick != self.tick or agent not in self._parting:
            return False
        self._parting.discard(agent)
        return True

    def _untimely(
        self, agent: int, tick: int, exchange: _Exchange
    ) -> Literal["stale", "future"] | None:
        """Why nobody waits for this; None if somebody does."""
        if tick == self.tick and self._exchange is exchange and agent in self._waiting:
            return None
        before_gates = exchange is _Exchange.ACTIONS and self._exchange is _Exchange.GATES
        ahead = ticks.ahead(tick, self.tick)
        return "future" if ahead > 0 or (ahead == 0 and before_gates) else "stale"

    def _proceed(self) -> list[Command]:
        if self._waiting or self._exchange is _Exchange.NOTHING:
            return []
        if self._exchange is _Exchange.GATES:
            self._exchange = _Exchange.ACTIONS
            self._in_masks_EN = self._turn_to_receivers(self._masks_EN)
            # Who has come up or spoken again meanwhile has no step to act in.
            self._waiting = set(self._gated)
            if not self._waiting:
                return self._proceed()
            return [
                ToAgent(
                    agent, wire.InMask(self.tick, np.ascontiguousarray(self._in_masks_EN[:, agent]))
                )
                for agent in sorted(self._waiting)
            ]
        self._exchange = _Exchange.NOTHING
        return self._step()

    def _step(self) -> list[Command]:
        """Move every copy by one step with the actions that have come."""
        rests_E = self._rests_E
        alive_EN = self._alive_EN
        for episode, alive_N in zip(self._episodes, alive_EN, strict=True):
            if (alive_N & ~self._acted_N).any():
                episode.complete = False
        if self.phase is Phase.EVALUATING:
            self._evaluated_steps += 1
            counts_E = np.array([e.mode is _Mode.EVALUATE for e in self._episodes])
            acting_EN = (alive_EN & self._acted_N)[counts_E]
            is_after = bool(self.killed)
            self.aftermath.count_step(acting_EN, self._masks_EN[counts_E], is_after=is_after)
        present_EN = self._present_EN(self._acted_N)
        self._in_masks_EN = self._turn_to_receivers(self._masks_EN)
        self._peer_masks_EN = self._turn_to_senders(present_EN)
        self._beacon_masks_EN = self._turn_to_senders(present_EN & self._said_EN)

        commands: list[Command] = []
        steps = self._copies.step(self._actions_EN, self._opponents_E, rests_E)
        self._now = tuple(step.now for step in steps)
        self.steps_played += int(np.count_nonzero(~rests_E))
        for copy in np.flatnonzero(~rests_E).tolist():
            episode, step = self._episodes[copy], steps[copy]
            episode.rewards.append(step.transition.rewards_N)
            episode.states.append(step.transition.after.state_S)
            episode.alive.append(step.transition.after.alive_N)
            if episode.mode is _Mode.TRAIN:
                self.env_steps += 1
            if step.transition.terminated or step.transition.truncated:
                commands += self._finish(copy, step)
        self._turn_phase()
        return commands

    @property
    def _kill_is_due(self) -> bool:
        return (
            bool(self._rules.victims)
            and not self.killed
            and self.phase is Phase.EVALUATING
            and self._evaluated_steps == self._rules.kill_at
        )

    def _kill(self) -> list[Command]:
        """Have the victims killed before the step that would begin now."""
        self.killed = self._rules.victims
        self._dying = {agent for agent in self.killed if self._up_N[agent]}
        # What they said last may die in their sockets: nobody is told to wait for it, so that the
        # kill is the same in every run.
        spared_EN = np.ones(self._in_masks_EN.shape, dtype=np.bool_)
        spared_EN[:, list(self.killed)] = False
        every_edge = np.uint16((1 << len(self._offsets)) - 1)
        self._in_masks_EN &= self._turn_to_receivers(np.where(spared_EN, every_edge, np.uint16(0)))
        self._peer_masks_EN &= self._turn_to_senders(spared_EN)
        self._beacon_masks_EN &= self._turn_to_senders(spared_EN)
        return [Kill(agent) for agent in self.killed]

    def _finish(self, copy: int, last: CopyStep) -> list[Command]:
        """Report a copy's episode and begin the next."""
        episode = self._episodes[copy]
        evaluation = episode.mode is _Mode.EVALUATE
        self.evaluations_left -= int(evaluation)
        # Undiscounted sum over steps of the mean over all N agents, the dead counting zero.
        episode_return = float(np.array(episode.rewards, dtype=np.float64).mean(axis=1).sum())
        result = wire.EpisodeResult(
            episode=episode.number,
            evaluation=int(evaluation),
            env_steps=self.env_steps,
            length=episode.step,
            episode_return=episode_return,
            won=int(last.transition.won),
            opponent=int(self._opponents_E[copy]),
            evaluated_at=episode.evaluated_at,
        )
        commands: list[Command] = [ToLauncher(result)]
        if evaluation and self.phase is Phase.EVALUATING:
            self.aftermath.count_episode(np.array(episode.rewards))
        if self._ships(episode.mode):
            self._num_shipped += 1
            self._num_untold += 1
            commands.append(ToLearner(episode.record(self.env_steps, last)))
        if self.phase is Phase.EVALUATING and not self._evaluations_due:
            episode.mode = _Mode.REST
        else:
            self._episodes[copy] = self._new_episode(copy, last.now)
        self._in_masks_EN[copy] = 0
        self._peer_masks_EN[copy] = 0
        self._beacon_masks_EN[copy] = 0
        return commands

    def _ships(self, mode: _Mode) -> bool:
        match self._rules.ships:
            case "none":
                return False
            case "training":
                return mode is _Mode.TRAIN
            case "all":
                return True

    def _turn_phase(self) -> None:
        rules = self._rules
        if self.phase is Phase.TRAINING:
            if self.env_steps >= rules.train_steps:
                self.phase = Phase.TRAINED
            elif rules.evaluation_interval and self.env_steps >= self._evaluate_at:
                self._evaluate_at += rules.evaluation_interval
                self._evaluation_falls_due(rules.evaluation_episodes)
        elif self.phase is Phase.EVALUATING and self.evaluations_left == 0:
            self.phase = Phase.DONE

    def _begin_all(self) -> None:
        if self.phase is Phase.TRAINING and self._rules.evaluation_interval:
            self._evaluate_at = self.env_steps + self._rules.evaluation_interval
            self._evaluation_falls_due(self._rules.evaluation_episodes)
        self._now = self._copies.reset()
        self._episodes = [
            self._new_episode(copy, snapshot) for copy, snapshot in enumerate(self._now)
        ]
        self._in_masks_EN[:] = 0
        self._peer_masks_EN[:] = 0
        self._beacon_masks_EN[:] = 0

    def _evaluation_falls_due(self, episodes: int) -> None:
        if episodes:
            self._evaluations_due.append(_DueEvaluation(self.env_steps, episodes))
            self.evaluations_left += episodes

    def _new_episode(self, copy: int, first: Snapshot) -> _Episode:
        number = self.num_episodes
        self.num_episodes += 1
        schedule = self._rules.opponents
        if not self._evaluations_due:
            mode = _Mode.TRAIN if self.phase is Phase.TRAINING else _Mode.REST
            self._opponents_E[copy] = 0 if schedule is None else self._draw_opponent(number)
            return _Episode(number, mode, first, 0)
        # Every evaluation begins with the first opponent, so that each gets the same share of all.
        due = self._evaluations_due[0]
        self._opponents_E[copy] = 0 if schedule is None else schedule.in_turn(due.begun)
        due.begun += 1
        if due.begun == due.episodes:
            self._evaluations_due.popleft()
        return _Episode(number, _Mode.EVALUATE, first, due.env_steps)

    def _draw_opponent(self, number: int) -> int:
        """Index of the opponent of a training episode."""
        rules = self._rules
        assert rules.opponents is not None
        chance = streams.generator(
            rules.seed, Role.OPPONENT_CHOICE, life=rules.life, episode=number
        ).random()
        return rules.opponents.draw(self.env_steps, chance)

    # --- who takes part ---------------------------------------------------------------------------

    @property
    def _rests_E(self) -> NDArray[np.bool_]:
        """[E] copies that are not played."""
        return np.array([episode.mode is _Mode.REST for episode in self._episodes])

    @property
    def _alive_EN(self) -> NDArray[np.bool_]:
        """[E, N] who lives in a copy that is played."""
        alive_EN = np.array([snapshot.alive_N for snapshot in self._now])
        alive_EN[self._rests_E] = False
        return alive_EN

    def _present_EN(self, heard_N: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """[E, N] who of those that were heard takes part: the living, or the dead as well."""
        if self._rules.dead == "silent":
            return heard_N & self._alive_EN
        return heard_N & ~self._rests_E[:, None]

    # --- what agents are told ---------------------------------------------------------------------

    def _turn_to_receivers(self, masks_EN: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """[E, N] out-masks of senders -> in-masks: bit k of agent i is bit k of i - 2^k."""
        turned = np.zeros_like(masks_EN)
        for k, offset in enumerate(self._offsets):
            turned |= np.roll(masks_EN, offset, axis=1) & np.uint16(1 << k)
        return turned

    def _turn_to_senders(self, present_EN: NDArray[np.bool_]) -> NDArray[np.uint16]:
        """[E, N] bit k of agent i: its out-neighbour i + 2^k was there."""
        masks = np.zeros(present_EN.shape, dtype=np.uint16)
        for k, offset in enumerate(self._offsets):
            masks |= np.roll(present_EN, -offset, axis=1).astype(np.uint16) << np.uint16(k)
        return masks

    def _observations(self, *, nobody: bool = False) -> list[Command]:
        # Environments round to float16 themselves: what an agent sees is what the learner unrolls.
        rows_END: NDArray[Any] = np.array(
            [snapshot.observations_ND for snapshot in self._now], dtype=np.float16
        )
        alive_EN = self._alive_EN & (not nobody)
        explores_E = np.array([episode.mode is _Mode.TRAIN for episode in self._episodes])
        flags_E = explores_E * wire.EXPLORE + self._rests_E * wire.REST
        flags_EN = alive_EN * wire.ALIVE + flags_E[:, None]
        flags_NE = np.ascontiguousarray(flags_EN.T, dtype=np.uint8)
        if self._rules.gate_timing == "paper":
            # Beacons of this very tick: of everyone who is about to be handed an observation.
            asked_N = np.zeros_like(self._up_N)
            asked_N[list(self._waiting)] = True
            present_EN = self._present_EN(asked_N)
            peers_NE = beacons_NE = np.ascontiguousarray(self._turn_to_senders(present_EN).T)
        else:
            peers_NE = np.ascontiguousarray(self._peer_masks_EN.T)
            beacons_NE = np.ascontiguousarray(self._beacon_masks_EN.T)
        in_masks_NE = np.ascontiguousarray(self._in_masks_EN.T)
        episodes_E = np.array([episode.number for episode in self._episodes], dtype=np.uint32)
        steps_E = np.array([episode.step for episode in self._episodes], dtype=np.uint16)
        epsilon = self._rules.epsilon(self.env_steps)
        return [
            ToAgent(
                agent,
                wire.Observation(
                    tick=self.tick,
                    epsilon=epsilon,
                    episodes=episodes_E,
                    steps=steps_E,
                    flags=flags_NE[agent],
                    in_masks=in_masks_NE[agent],
                    peer_masks=peers_NE[agent],
                    beacon_masks=beacons_NE[agent],
                    observations=rows_END[alive_EN[:, agent], agent],
                ),
            )
            for agent in np.flatnonzero(self._up_N).tolist()
        ]
