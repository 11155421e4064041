"""The course of a run, without its processes: who starts when, and what follows what.

hello, ready, status, deaths, time  ->  Conductor  ->  StartNode, RestartLearner, Tell, End

STARTING    world and learner say where they listen, then the node starts the agents
RUNNING     the world plays training episodes (an evaluation run skips to EVALUATING), all that
            were asked for or until an evaluation is good enough
FINISHING   all steps are done: the learner does the updates it owes and publishes the last
version SETTLING    until every agent has that version
EVALUATING  the last evaluation, with the version that the policy file holds
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from runtime.host.start_patience import StartPatience
from runtime.net import wire
from runtime.world.episodes import Phase as WorldPhase

SETTLE_S = 10.0
"""Seconds that agents have to receive the last version."""

Role = Literal["world", "learner", "node"]


@dataclass(frozen=True, slots=True)
class StartNode:
    world_endpoint: str
    learner_endpoint: str


@dataclass(frozen=True, slots=True)
class RestartLearner:
    pass


@dataclass(frozen=True, slots=True)
class Tell:
    role: Role
    packet: wire.Instruction | wire.AgentState | wire.LearnerState | wire.Evaluated


@dataclass(frozen=True, slots=True)
class End:
    """The run is over; `exit_code` 0 if it did what it was asked to."""

    reason: str
    exit_code: int


ConductorCommand = StartNode | RestartLearner | Tell | End


class Stage(Enum):
    STARTING = auto()
    RUNNING = auto()
    FINISHING = auto()
    SETTLING = auto()
    EVALUATING = auto()
    ENDED = auto()


class Conductor:
    """Decides what the launcher does next."""

    def __init__(
        self,
        *,
        trains: bool,
        has_learner: bool,
        evaluation_episodes: int,
        max_learner_restarts: int,
        patience: StartPatience,
    ) -> None:
        """Conduct a training run, or (trains=False) nothing but an evaluation.

        Args:
            has_learner: whether a learner process is part of the run.
            evaluation_episodes: episodes of the last evaluation, 0 for none.
            patience: how long the start may take.
        """
        self.stage = Stage.STARTING
        self.learner_restarts = 0
        self._trains = trains
        self._has_learner = has_learner
        self._evaluation_episodes = evaluation_episodes
        self._max_learner_restarts = max_learner_restarts
        self._patience = patience
        self._endpoints: dict[str, str] = {}
        self._awaited: set[str] = {"world", "learner"} if has_learner else {"world"}
        self._node_started = False
        self._last_version = 0
        self._versions: dict[str, int] = {}
        """Oldest version among each host's agents, by its node's last word."""
        self._settled_by_s = float("inf")

    def hello(self, role: str, endpoint: str) -> list[ConductorCommand]:
        """A process says where it listens; the learner says so again after a restart."""
        if role not in ("world", "learner"):
            return []
        self._endpoints[role] = endpoint
        self._awaited.discard(role)
        if self._node_started and role == "learner":
            commands: list[ConductorCommand] = [Tell("node", wire.Instruction("resubscribe"))]
            if self.stage is Stage.FINISHING:
                commands.append(Tell("learner", wire.Instruction("finish")))
            return commands
        if self._awaited or self._node_started:
            return []
        self._node_started = True
        return [StartNode(self._endpoints["world"], self._endpoints.get("learner", ""))]

    def node_ready(self) -> list[ConductorCommand]:
        """All agents have opened their edges."""
        if self.stage is not Stage.STARTING:
            return []
        start = Tell("world", wire.Instruction("start"))
        if self._trains:
            self.stage = Stage.RUNNING
            return [start]
        return [start, *self._evaluate()]

    def agent_state(self, state: wire.AgentState) -> list[ConductorCommand]:
        return [Tell("world", state)]

    def kill(self, agent: int) -> list[ConductorCommand]:
        """The world has reached the step at which this agent is to die."""
        return [Tell("node", wire.Instruction("kill", agent))]

    def world_state(self, state: wire.WorldState) -> list[ConductorCommand]:
        """The world has reached a phase."""
        phase = WorldPhase(state.phase)
        if self.stage is Stage.RUNNING and phase is WorldPhase.TRAINED:
            self.stage = Stage.FINISHING
            return [Tell("learner", wire.Instruction("finish"))]
        if self.stage is Stage.EVALUATING and phase is WorldPhase.DONE:
            return self._end(wire.FINISHED, 0)
        return []

    def evaluated(
        self, evaluation: wire.Evaluated | None, *, good_enough: bool
    ) -> list[ConductorCommand]:
        """An evaluation is over: the learner keeps the policy of the best one.

        Args:
            evaluation: None where the headline figure is missing.
            good_enough: it has reached what training was for: the world need not play all steps.
        """
        commands: list[ConductorCommand] = []
        if self._has_learner and evaluation is not None:
            commands.append(Tell("learner", evaluation))
        if good_enough and self.stage is Stage.RUNNING:
            commands.append(Tell("world", wire.Instruction("finish")))
        return commands

    def learner_state(self, state: wire.LearnerState) -> list[ConductorCommand]:
        """The world must not run away from the learner."""
        return [Tell("world", state)] if self.stage is Stage.RUNNING else []

    def trained(self, version: int, now_s: float) -> list[ConductorCommand]:
        """The learner owes nothing any more, and has published its last version."""
        if self.stage is Stage.FINISHING:
            self.stage = Stage.SETTLING
            self._last_version = version
            self._settled_by_s = now_s + SETTLE_S
        return []

    def node_state(self, host: str, state: wire.NodeState) -> list[ConductorCommand]:
        """The agents of a host have reached a version."""
        self._versions[host] = state.policy_version_min
        reached = min(self._versions.values()) >= self._last_version
        return self._evaluate() if self.stage is Stage.SETTLING and reached else []

    def host_gone(self, host: str) -> None:
        """Nobody waits for what that host has."""
        self._versions.pop(host, None)

    def failed(self, reason: str) -> list[ConductorCommand]:
        """A process says that it cannot go on."""
        return self._end(reason, 1)

    def died(
        self, role: Role, exit_code: int | None, *, is_hung: bool = False
    ) -> list[ConductorCommand]:
        """A process has ended without having been told to, or (is_hung) for its silence."""
        if self.stage is Stage.ENDED:
            return []
        ended_by_signal = exit_code is not None and exit_code < 0
        how = f"signal {-(exit_code or 0)}" if ended_by_signal else f"exit code {exit_code}"
        what = "hung and was killed" if is_hung else f"died ({how})"
        reason = f"the {role} process {what}, see logs/{role}-0.log"
        if role != "learner" or not self._node_started:
            return self._end(reason, 1)
        if self.learner_restarts >= self._max_learner_restarts:
            return self._end(f"{reason}, after {self.learner_restarts} restarts", 1)
        self.learner_restarts += 1
        # What a dead learner owes must not keep the world waiting.
        return [RestartLearner(), Tell("world", wire.Instruction("learner_gone"))]

    def interrupted(self) -> list[ConductorCommand]:
        return self._end(wire.INTERRUPTED, 130)

    def due(
        self,
        now_s: float,
        waited_for: Sequence[str] = (),
        *,
        unjoined: int = 0,
        started: int = 0,
        up: int = 0,
    ) -> list[ConductorCommand]:
        """What time has brought.

        Args:
            waited_for: which hosts or agents a start waits for, in words.
            unjoined: hosts that have not joined.
            started: agents that have said where they listen.
            up: agents that have opened their edges.
        """
        if self.stage is Stage.STARTING:
            self._patience.look(len(self._endpoints) + started + up - unjoined, now_s)
            if self._patience.is_over(now_s):
                pace = "" if unjoined else self._patience.words(started, now_s)
                return self._end(self._not_ready(waited_for, pace), 1)
        if self.stage is Stage.SETTLING and now_s >= self._settled_by_s:
            return self._evaluate()
        return []

    def forgive(self, now_s: float) -> None:
        """The launcher could not listen until now: a start that has not moved may have."""
        self._patience.forgive(now_s)

    def _not_ready(self, waited_for: Sequence[str], pace: str) -> str:
        more = "--runtime.start-timeout-s gives more time"
        processes = [f"the {role} process has not started" for role in sorted(self._awaited)]
        missing = ", ".join(processes or waited_for or ["the node has not started"])
        if self._node_started and pace:
            missing, more = f"{missing}; {pace}", f"{more}, fewer agents need less"
        return f"not ready in time: {missing} ({more})"

    def _evaluate(self) -> list[ConductorCommand]:
        if self._evaluation_episodes == 0:
            return self._end(wire.FINISHED, 0)
        self.stage = Stage.EVALUATING
        return [Tell("world", wire.Instruction("evaluate", self._evaluation_episodes))]

    def _end(self, reason: str, exit_code: int) -> list[ConductorCommand]:
        if self.stage is Stage.ENDED:  # the first cause counts
            return []
        self.stage = Stage.ENDED
        return [End(reason, exit_code)]
