"""A run: the launcher's loop around Conductor, Attendance and Scoreboard.

    world  ┐                            ┌ Conductor  (what follows what)
    nodes  ┼→ Hub → packets and deaths →┼ Attendance (which hosts are here)
    learner┘                            └ Scoreboard (view, JSONL, TensorBoard, summary.json)

World, learner and one node are the launcher's children; the nodes of other hosts join
(runtime/host/join.py). The launcher owns its processes: whatever happens, they are told to stop,
then ended, then killed, each with its own deadline, and the folder of sockets is removed.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import numpy as np
import zmq

from agents.parameters import ParameterStore
from agents.policy import PolicySpec
from agents.process.shell import LEAVE_S, leave_s
from configs.arrays import FloatArray
from configs.load import dump_run_config
from configs.schema import RunConfig
from envs.base import EnvSpec
from runtime.deployment.bundle import Bundle
from runtime.host import attendance
from runtime.host import process as node
from runtime.host.attendance import Attendance
from runtime.host.setup import LOCAL_HOST, place_of, training_setup
from runtime.net import wire
from runtime.net.errors import SetupError
from runtime.net.failures import NO_FAILURES, Failures
from runtime.net.limits import begin_process
from runtime.net.security import Gatekeeper, Keyring
from runtime.net.traffic import Traffic
from runtime.net.transport import CONTROL, LAUNCHER, LEARNER, WORLD, Hub, host_of, node_routing_id
from runtime.record.run_log import RunLog
from runtime.run import conductor as course
from runtime.run.conductor import Conductor, Stage
from runtime.run.episode_watch import EpisodeWatch
from runtime.run.recorder import Recorder
from runtime.run.scoreboard import Scoreboard
from runtime.run.view import View
from runtime.terminal import stop_signals
from runtime.terminal.processes import ONE_THREAD, spawn
from runtime.terminal.scratch import Scratch
from runtime.world import process as world_host

logger = logging.getLogger(__name__)

STOP_S = 4.0
"""Seconds that children have to leave in good order; the node gives its agents three of them."""
KILL_S = 0.5
MAX_LEARNER_RESTARTS = 5
_VIEW_PERIOD_S = 0.5
_LOG_PERIOD_S = 1.0
_ASLEEP_S = 2.0
"""A turn that takes longer says that this process was kept from listening."""
_RETRY_S = 1.0
_HEARD = (
    wire.Hello,
    wire.Join,
    wire.Ready,
    wire.Leaving,
    wire.AgentState,
    wire.Status,
    wire.NodeState,
    wire.WorldState,
    wire.LearnerState,
    wire.Trained,
    wire.EpisodeResult,
    wire.Instruction,
    wire.Failure,
)
"""What the launcher is told while a run goes on. Some of it may still come at the end, when it
changes nothing any more: it is no fault."""
_GREETING_PERIOD_S = 1.0
"""Seconds between two signs of life to the other hosts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Where an earlier run stood."""

    env_steps: int = 0
    episodes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Plan:
    """What is to be run."""

    config: RunConfig
    env: EnvSpec
    spec: PolicySpec
    parameters: FloatArray
    version: int
    directory: Path
    """The run's folder, which exists."""
    trains: bool
    evaluation_episodes: int
    start_learner: Callable[["LearnerPlace"], BaseProcess] | None = None
    """Starts the learner process; None for a run without one."""
    progress: Progress = Progress()
    record: bool = False
    """Keep every evaluation episode (see `Run.recorder`)."""
    failures: Failures = NO_FAILURES
    """What is made to fail. A kill wants every episode in a copy of its own, so that all see it at
    the same step (env.copies = `evaluation_episodes`)."""
    head: Bundle | None = None
    """Keys and addresses of a run across hosts; None if everything is on this machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerPlace:
    """Where a learner process finds the others."""

    launcher_endpoint: str
    bind_endpoint: str
    incarnation: int
    resume: bool
    keyring: Keyring | None


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    exit_code: int
    reason: str
    summary: dict[str, Any]


class Run:
    """One run, from the first process to the last."""

    def __init__(self, plan: Plan, view: View, log: RunLog | None) -> None:
        self._plan = plan
        self._view = view
        self._log = log
        config = plan.config
        now_s = time.monotonic()
        self._board = Scoreboard(
            config,
            plan.directory.name,
            trains=plan.trains,
            evaluation_episodes=plan.evaluation_episodes,
            resumed_at=plan.progress.env_steps,
        )
        self._conductor = Conductor(
            trains=plan.trains,
            has_learner=plan.start_learner is not None,
            evaluation_episodes=plan.evaluation_episodes,
            max_learner_restarts=MAX_LEARNER_RESTARTS,
            start_deadline_s=now_s + config.start_patience_s,
        )
        self._host = LOCAL_HOST if plan.head is None else plan.head.host.name
        self._attendance = Attendance(
            {self._host: range(config.num_agents)}
            if plan.head is None
            else {host.name: host.agents for host in plan.head.book.hosts.hosts},
            local=self._host,
            host_timeout_s=config.runtime.host_timeout_s,
        )
        self._is_ipc = config.runtime.transport == "ipc"
        self._scratch = Scratch()
        self._sockets = str(self._scratch.path)
        self._children: dict[course.Role, BaseProcess] = {}
        self._started_s: dict[course.Role, float] = {}
        self._heard_s: dict[course.Role, float] = {}
        """When each child spoke last; none before its first word."""
        self._start_learner_at_s = float("inf")
        """When a learner that could not be started again is tried once more."""
        self._episode_watch = EpisodeWatch()
        self._episodes_played = 0
        """Training episodes of this life."""
        self._hung: set[course.Role] = set()
        """Children that were killed for their silence."""
        self._turned_s = now_s
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._gatekeeper: Gatekeeper | None = None
        self._traffic = Traffic()
        self._finished_hosts: set[str] = set()
        self._greeted_s = 0.0
        self._up: set[int] = set()
        self._learner_endpoint = ""
        self._device = ""
        self._end: course.End | None = None
        self._unsaved = ""
        """Why the learner's last state is not on disk; empty if it is."""
        self._signals = 0
        self._begun_s = now_s
        self._ready_s: float | None = None
        self._playing_s = 0.0
        self._shown_s = self._logged_s = 0.0
        self.recorder: Recorder | None = None

    @property
    def board(self) -> Scoreboard:
        """The run's figures; complete after `execute`."""
        return self._board

    @property
    def ready_after_s(self) -> float | None:
        """Seconds from the run's beginning until all agents were ready; None if they never were."""
        return None if self._ready_s is None else self._ready_s - self._begun_s

    def execute(self) -> Outcome:
        """Run to the end and clean up; raises nothing that a run can cause."""
        begin_process(keyed=self._plan.head is not None)
        with stop_signals.handled_by(self._on_signal):
            return self._execute()

    def _execute(self) -> Outcome:
        self._view.start()
        try:
            self._open()
            while self._end is None:
                self._turn()
            if self._ready_s is not None:
                self._playing_s = time.monotonic() - self._ready_s
        except SetupError as error:
            self._end = course.End(str(error), 1)
        except Exception as error:  # the process edge: whatever it was, there is a summary
            self._end = self._end or course.End(f"the launcher cannot go on: {error!r}", 1)
            logger.exception("the launcher cannot go on")
        finally:
            self._close()
        assert self._end is not None
        wall_s = time.monotonic() - self._begun_s
        self._board.dropped_by_launcher = self._traffic.dropped_total
        summary = self._board.summary(self._end.reason, wall_s, self._playing_s, self._device)
        if self._log is not None:
            self._log_row(self._log)
            self._log.summary(summary)
        self._view.finish(self._board.snapshot(self._end.reason, self._elapsed_s()), self._files())
        return Outcome(self._end.exit_code, self._end.reason, summary)

    # --- start
    # --------------------------------------------------------------------------------------

    def _open(self) -> None:
        plan = self._plan
        self._scratch.hold_our_sockets()
        if plan.head is not None:
            self._gatekeeper = Gatekeeper(self._context)
            public = plan.head.book.public
            nodes = [node_routing_id(name).decode() for name in plan.head.book.hosts.names]
            guests = {name: public[name] for name in (WORLD, LEARNER, *nodes)}
            self._gatekeeper.admit(LAUNCHER, guests)
        keyring = self._keyring(LAUNCHER)
        self._hub = Hub(
            self._context,
            self._endpoint(LAUNCHER),
            self._traffic,
            CONTROL,
            linger_ms=500,
            curve=None if keyring is None else keyring.server(LAUNCHER),
        )
        self._poller = zmq.Poller()
        self._poller.register(self._hub.socket, zmq.POLLIN)
        if plan.record:
            self.recorder = self._make_recorder()
            self._poller.register(self.recorder.socket, zmq.POLLIN)
        if plan.start_learner is not None:
            self._learner_endpoint = self._endpoint(LEARNER)
            self._start_learner(resume=bool(plan.config.resume))
        else:
            self._start_world("" if self.recorder is None else self.recorder.endpoint)

    def _make_recorder(self) -> Recorder:
        """Across hosts it has the learner's address and keys, as it has its part."""
        keyring, name = self._keyring(LEARNER), "recorder"
        if keyring is None or self._gatekeeper is None:
            return Recorder(self._context, self._endpoint(name), self._plan.env)
        others = {name: key for name, key in keyring.public.items() if name != LEARNER}
        self._gatekeeper.admit(LEARNER, others)
        curve = keyring.server(LEARNER)
        return Recorder(self._context, self._endpoint(LEARNER), self._plan.env, curve)

    def _keyring(self, name: str) -> Keyring | None:
        return None if self._plan.head is None else self._plan.head.keyring(name)

    def _endpoint(self, name: str) -> str:
        if self._plan.head is not None and name in (LAUNCHER, WORLD, LEARNER):
            return self._plan.head.book.hosts.endpoint(name)
        return f"ipc://{self._sockets}/{name}" if self._is_ipc else "tcp://127.0.0.1:*"

    def _start_learner(self, *, resume: bool) -> None:
        assert self._plan.start_learner is not None
        process = self._plan.start_learner(
            LearnerPlace(
                launcher_endpoint=self._hub.endpoint,
                bind_endpoint=self._learner_endpoint,
                incarnation=self._conductor.learner_restarts,
                resume=resume,
                keyring=self._keyring(LEARNER),
            )
        )
        self._adopt("learner", process)

    def _start_world(self, learner_endpoint: str) -> None:
        plan = self._plan
        setup = world_host.WorldSetup(
            config=plan.config,
            ships=self._ships(),
            train_steps=plan.config.steps if plan.trains else 0,
            env_steps=plan.progress.env_steps,
            episodes=plan.progress.episodes,
            launcher_endpoint=self._hub.endpoint,
            learner_endpoint=learner_endpoint,
            bind_endpoint=self._endpoint(WORLD),
            keyring=self._keyring(WORLD),
            failures=plan.failures,
            logs=self._logs(),
        )
        self._adopt("world", spawn(world_host.main, setup, "murmuration world", ONE_THREAD))

    def _start_node(self, command: course.StartNode) -> None:
        plan, config = self._plan, self._plan.config
        recorder = "" if self.recorder is None else self.recorder.endpoint
        setup = training_setup(
            config,
            plan.spec,
            ParameterStore(plan.parameters, plan.version),
            ships=self._ships(),
            learns=plan.start_learner is not None,
            place=None if plan.head is None else place_of(plan.head),
            launcher_endpoint=self._hub.endpoint,
            world_endpoint=command.world_endpoint,
            learner_endpoint=command.learner_endpoint or recorder,
            ipc_dir=self._sockets if self._is_ipc or plan.head is not None else "",
            logs=self._logs(),
            drop_edges=plan.failures.drop_edges,
        )
        self._adopt("node", spawn(node.main, setup, "murmuration node", ONE_THREAD))
        self._attend(self._attendance.open(time.monotonic()))

    def _assign(self, command: attendance.Assign) -> None:
        """Tell a host that has joined what is run, and with which policy it begins."""
        plan = self._plan
        logger.info("host %s has joined", command.host)
        self._board.host_begins_anew(command.host)
        peer = node_routing_id(command.host)
        text = dump_run_config(plan.config).encode()
        assignment = wire.Assignment(
            run_id=plan.directory.name,
            config=np.frombuffer(text, dtype=np.uint8),
            observation_dim=plan.spec.observation_dim,
            num_actions=plan.spec.num_actions,
            ships=self._ships(),
            learns=int(plan.start_learner is not None),
            incarnation=command.first_incarnation,
        )
        self._hub.send(peer, assignment)
        self._hub.send(peer, ParameterStore(plan.parameters, plan.version).snapshot())

    def _ships(self) -> Literal["training", "all", "none"]:
        if self._plan.record:
            return "all"
        return "training" if self._plan.trains else "none"

    def _peers_of(self, role: course.Role) -> list[bytes]:
        """Everybody in that role: there is a node on every host."""
        if role != "node":
            return [role.encode()]
        return [node_routing_id(host) for host in (self._host, *self._attendance.remote)]

    def _restart_learner(self) -> None:
        self._start_learner_at_s = float("inf")
        try:
            self._start_learner(resume=True)
        except OSError as error:  # what is missing now may be there in a moment
            self._start_learner_at_s = time.monotonic() + _RETRY_S
            logger.warning("the learner could not be started, it is tried again: %s", error)

    def _adopt(self, role: course.Role, process: BaseProcess) -> None:
        self._children[role] = process
        self._started_s[role] = time.monotonic()
        self._poller.register(process.sentinel, zmq.POLLIN)

    # --- the loop
    # -----------------------------------------------------------------------------------

    def _turn(self) -> None:
        ready = {socket for socket, _ in self._poller.poll(100)}
        if self._signals:
            self._carry_out(self._conductor.interrupted())
            return
        for peer, packet in self._hub.drain(*_HEARD):
            self._take(peer, packet)
        if self.recorder is not None:
            self.recorder.drain()
        for role, process in list(self._children.items()):
            if process.sentinel in ready or not process.is_alive():
                self._bury(role, process)
        now_s = time.monotonic()
        if now_s - self._turned_s > _ASLEEP_S:
            # Ctrl-Z, or no cpu: who has not looked has heard nobody, and it was nobody's fault.
            logger.info("the launcher could not look for %.1f s", now_s - self._turned_s)
            self._heard_s = dict.fromkeys(self._heard_s, now_s)
            self._started_s = dict.fromkeys(self._started_s, now_s)
            self._attendance.forgive(now_s)
        self._turned_s = now_s
        self._end_silent_children(now_s)
        if now_s >= self._start_learner_at_s:
            self._restart_learner()
        self._attend(self._attendance.due(now_s))
        if now_s - self._greeted_s >= _GREETING_PERIOD_S:
            self._greeted_s = now_s
            for host in self._attendance.remote:
                self._hub.send(node_routing_id(host), wire.Alive())
            self._tell_figures()
        listening = int(self._board.node.get("agents_listening", 0))
        self._carry_out(self._conductor.due(now_s, self._attendance.waited_for(listening)))
        self._show()

    def _tell_figures(self) -> None:
        """Give our own node the figures of the whole run, which it exports."""
        if "node" in self._heard_s:
            figures = wire.Status("launcher", self._board.run_figures())
            self._hub.send(node_routing_id(self._host), figures)

    def _end_silent_children(self, now_s: float) -> None:
        """A child that hangs is treated like one that has died, once it is dead.

        One that has said nothing yet has as long as a start may take.
        """
        config = self._plan.config
        for role, process in self._children.items():
            heard_s = self._heard_s.get(role)
            limit_s = (
                config.start_patience_s if heard_s is None else config.runtime.silent_timeout_s
            )
            if now_s - (self._started_s[role] if heard_s is None else heard_s) > limit_s:
                self._heard_s[role] = now_s
                self._hung.add(role)
                process.kill()
                logger.error("the %s process has been silent for %.0f s: killed", role, limit_s)

    def _take(self, peer: bytes, packet: wire.Packet) -> None:
        if not _speaks_for_itself(peer, packet):
            self._traffic.dropped("unknown_sender")
            return
        now_s = time.monotonic()
        host = host_of(peer)
        if host == self._host:
            self._heard_s["node"] = now_s
        elif host is None and (role := peer.decode(errors="replace")) in self._children:
            self._heard_s[role] = now_s
        match packet:
            case wire.Join() if host is not None:
                self._take_in(host, packet.deployment)
                return
            case _ if host is not None and host != self._host:
                self._attend(self._attendance.heard(host, now_s))
            case _:
                pass
        match packet:
            case wire.Hello():
                logger.info("%s is process %d at %s", packet.role, packet.pid, packet.endpoint)
                if packet.role == "learner":
                    first = not self._learner_is_known()
                    self._learner_endpoint = packet.endpoint
                    if first:
                        self._start_world(packet.endpoint)
                self._carry_out(self._conductor.hello(packet.role, packet.endpoint))
            case wire.Leaving() if host is not None and host != self._host:
                logger.warning("host %s has left the run", host)
                self._attend(self._attendance.left(host))
            case wire.Leaving():  # our own node, whose end its sentinel tells
                pass
            case wire.Ready() if host is not None:
                self._attend(self._attendance.ready(host))
            case wire.AgentState() if host is not None:
                self._attend(self._attendance.agent_state(host, packet))
            case wire.Status(role="node") if host is not None:
                self._board.take_status(packet, host)
            case wire.NodeState() if host is not None:
                self._attend(self._attendance.counted(host, packet.agents_ready))
                self._carry_out(self._conductor.node_state(host, packet))
            case wire.Status():
                self._board.take_status(packet)
                if packet.role == "learner":
                    self._device = "cuda" if packet.values.get("is_cuda") else "cpu"
            case wire.WorldState():
                self._carry_out(self._conductor.world_state(packet))
            case wire.LearnerState():
                self._carry_out(self._conductor.learner_state(packet))
            case wire.Trained():
                self._carry_out(self._conductor.trained(packet.version, now_s))
            case wire.EpisodeResult():
                self._take_result(packet)
            case wire.Instruction(name="kill"):
                self._carry_out(self._conductor.kill(packet.value))
            case wire.Failure():
                self._take_failure(host, packet.reason)
            case _:
                self._traffic.dropped("kind")

    def _take_result(self, result: wire.EpisodeResult) -> None:
        evaluation = self._board.take_result(result)
        self._episodes_played += not result.evaluation
        if self._log is not None:
            self._log.episode(result)
            if evaluation is not None:
                values = self._board.evaluation_metrics(evaluation)
                self._log.evaluation(evaluation.env_steps, values)
                self._log_row(self._log)  # two may end between the rows that time brings

    def _take_failure(self, host: str | None, reason: str) -> None:
        """A process gives up, and so do we, unless it is a host that has not found back in."""
        if host is not None and host != self._host:
            reason = f"host {host}: {reason}"
            if self._ready_s is not None and not self._attendance.is_ready(host):
                logger.warning("%s", reason)
                return
        self._carry_out(self._conductor.failed(reason))

    def _take_in(self, host: str, deployment: str) -> None:
        """A host asks to join, and says which bundle it has."""
        head = self._plan.head
        if head is None or deployment != head.book.deployment:
            reason = f"the bundle of host {host} is not of the head's deployment: copy the newest"
            self._hub.send(node_routing_id(host), wire.Stop(reason))
        else:
            self._attend(self._attendance.join(host, time.monotonic()))

    def _attend(self, commands: list[attendance.Command]) -> None:
        for command in commands:
            match command:
                case attendance.Assign():
                    self._assign(command)
                case attendance.ToHost():
                    self._hub.send(node_routing_id(command.host), command.packet)
                case attendance.ToWorld():
                    state = command.packet
                    (self._up.add if state.up else self._up.discard)(state.agent)
                    self._board.agents_up = len(self._up)
                    self._carry_out(self._conductor.agent_state(state))
                case attendance.AllReady():
                    logger.info("all agents are ready after %.1f s", self._elapsed_s())
                    self._ready_s = time.monotonic()
                    self._carry_out(self._conductor.node_ready())
                case attendance.Refused():
                    self._traffic.dropped(command.reason)
                case attendance.HostLost():
                    logger.warning(
                        "host %s has been silent for %.1f s: its agents count as gone",
                        command.host,
                        command.silent_s,
                    )

    def _learner_is_known(self) -> bool:
        return "world" in self._children

    def _bury(self, role: course.Role, process: BaseProcess) -> None:
        self._poller.unregister(process.sentinel)
        process.join()
        del self._children[role]
        # Its last words may still be in the socket, and they say more than its exit code.
        # So may what others have said meanwhile, which must not be lost either.
        for peer, packet in self._hub.drain(*_HEARD):
            self._take(peer, packet)
        self._heard_s.pop(role, None)
        logger.warning("the %s process ended with %s", role, process.exitcode)
        is_hung = role in self._hung
        self._hung.discard(role)
        self._carry_out(self._conductor.died(role, process.exitcode, is_hung=is_hung))

    def _carry_out(self, commands: list[course.Command]) -> None:
        for command in commands:
            match command:
                case course.StartNode():
                    self._start_node(command)
                case course.RestartLearner():
                    self._restart_learner()
                case course.Tell():
                    for peer in self._peers_of(command.role):
                        self._hub.send(peer, command.packet)
                case course.End():
                    self._end = self._end or command

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._signals += 1

    # --- what a person sees
    # -------------------------------------------------------------------------

    def _show(self) -> None:
        elapsed_s = self._elapsed_s()
        if elapsed_s - self._shown_s >= _VIEW_PERIOD_S:
            self._shown_s = elapsed_s
            stage = self._conductor.stage
            phase = "training" if stage is Stage.RUNNING else stage.name.lower()
            self._view.update(self._board.snapshot(phase, elapsed_s))
        if self._log is not None and elapsed_s - self._logged_s >= _LOG_PERIOD_S:
            self._logged_s = elapsed_s
            self._log_row(self._log)
            self._watch_episodes()

    def _watch_episodes(self) -> None:
        learner = self._board.learner
        if self._conductor.stage is Stage.RUNNING and learner:
            line = self._episode_watch.look(
                time.monotonic(),
                played=self._episodes_played,
                joined=int(learner.get("episodes", 0.0)),
                dropped=int(learner.get("episodes_dropped", 0.0)),
                owed=learner.get("backlog", 0.0),
            )
            if line is not None:
                logger.warning("%s", line)

    def _log_row(self, log: RunLog) -> None:
        if self._board.is_under_way:
            self._board.dropped_by_launcher = self._traffic.dropped_total
            log.metrics(self._board.env_steps, self._board.metrics())

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._begun_s

    def _logs(self) -> Path:
        return self._plan.directory / "logs"

    def _files(self) -> dict[str, Path]:
        names = ("summary.json", "metrics.jsonl", "episodes.jsonl", "policy.safetensors", "logs")
        paths = {name: self._plan.directory / name for name in names}
        return {name: path for name, path in paths.items() if path.exists()}

    # --- the end
    # ------------------------------------------------------------------------------------

    def _close(self) -> None:
        """Stop everything that was started, with a deadline for each step of insistence."""
        if self._end is None:
            self._end = course.End("stopped by an error in the launcher", 1)
        if hasattr(self, "_hub"):
            for role, process in self._children.items():
                if role != "node":
                    self._hub.send(role.encode(), wire.Stop(self._end.reason))
                if role == "learner":
                    process.terminate()  # it may be deep in an update: the signal reaches it there
            self._tell_figures()
            for peer in self._peers_of("node"):
                self._hub.send(peer, wire.Stop(self._end.reason))
            self._wait_for_children(self._patience_s(self._end))
            for process in self._children.values():
                process.terminate()
            self._wait_for_children(KILL_S)
            for process in self._children.values():
                process.kill()
            self._wait_for_children(KILL_S)
            self._hub.close()
            if self._unsaved:
                # The user asked for a trained policy, and hears that there is none, or an old one.
                reason = f"{self._end.reason}, but {self._unsaved}"
                self._end = course.End(reason, self._end.exit_code or 1)
        if self.recorder is not None:
            self.recorder.close()
        if self._gatekeeper is not None:
            self._gatekeeper.close()
        self._context.term()
        self._scratch.close()

    def _patience_s(self, end: course.End) -> float:
        """Seconds that children get to leave in good order."""
        if end.reason == wire.INTERRUPTED:
            return STOP_S
        config = self._plan.config
        return STOP_S + config.runtime.metrics_linger_s + leave_s(config.num_agents) - LEAVE_S

    def _wait_for_children(self, timeout_s: float) -> None:
        """Wait, and keep listening: the last statuses hold the final figures.

        A Ctrl-C meanwhile shortens it: nobody lingers any longer.
        """
        deadline, is_hurried = time.monotonic() + timeout_s, False
        while time.monotonic() < deadline and (
            self._children or not self._finished_hosts.issuperset(self._attendance.remote)
        ):
            self._poller.poll(20)
            if self._signals and not is_hurried:
                is_hurried = True
                deadline = min(deadline, time.monotonic() + STOP_S)
                for peer in self._peers_of("node"):
                    self._hub.send(peer, wire.Stop(wire.INTERRUPTED))
            self._take_last_words()
            for role, process in list(self._children.items()):
                if not process.is_alive():
                    self._poller.unregister(process.sentinel)
                    process.join()
                    del self._children[role]
        self._take_last_words()

    def _take_last_words(self) -> None:
        for peer, packet in self._hub.drain(*_HEARD, wire.Stop):
            host = host_of(peer)
            if not _speaks_for_itself(peer, packet):
                self._traffic.dropped("unknown_sender")
            elif isinstance(packet, wire.Status):
                self._board.take_status(packet, host or "")
            elif isinstance(packet, wire.Leaving) and host is not None:
                self._finished_hosts.add(host)
            elif isinstance(packet, wire.EpisodeResult):
                self._take_result(packet)
            elif isinstance(packet, wire.Stop):
                self._unsaved = packet.reason
        if self.recorder is not None:
            self.recorder.drain()


def _speaks_for_itself(peer: bytes, packet: wire.Packet) -> bool:
    """Whether what a packet says is its sender's to say: nodes speak of themselves, and of nobody
    else's episodes, progress or addresses.
    """
    match packet:
        case wire.Ready() | wire.Leaving() | wire.AgentState() | wire.NodeState() | wire.Join():
            return host_of(peer) is not None
        case wire.Hello(role="node") | wire.Status(role="node"):
            return host_of(peer) is not None
        case wire.Hello() | wire.Status():
            return packet.role.encode() == peer
        case wire.EpisodeResult() | wire.WorldState() | wire.Instruction():
            return peer == WORLD.encode()
        case wire.LearnerState() | wire.Trained() | wire.Stop():
            return peer == LEARNER.encode()
        case wire.Failure():
            return host_of(peer) is not None or peer in (WORLD.encode(), LEARNER.encode())
        case _:
            return False
