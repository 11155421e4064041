"""A run on one machine: the launcher's loop around Conductor and Scoreboard.

    world ┐                            ┌ Conductor  (what follows what)
    node  ┼→ Hub → packets and deaths →┤
    learner┘                           └ Scoreboard (view, JSONL, TensorBoard, summary.json)

The launcher owns the processes: whatever happens, they are told to stop, then ended, then killed,
each with its own deadline, and the folder of sockets is removed.
"""

import logging
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import zmq

from agents.core import AgentRules
from agents.parameters import ParameterStore
from agents.policy import FloatArray, PolicySpec
from configs.schema import RunConfig
from envs.base import EnvSpec
from runtime import conductor as course
from runtime import node, wire, world_host
from runtime.conductor import Conductor, Stage
from runtime.preflight import require_short_ipc_dir
from runtime.processes import ONE_THREAD, spawn
from runtime.recorder import Recorder
from runtime.run_log import RunLog
from runtime.scoreboard import Scoreboard
from runtime.traffic import Traffic
from runtime.transport import CONTROL, Hub
from runtime.view import View

logger = logging.getLogger(__name__)

STOP_S = 4.0
"""Seconds that children have to leave in good order; the node gives its agents three of them."""
KILL_S = 0.5
MAX_LEARNER_RESTARTS = 5
_VIEW_PERIOD_S = 0.5
_LOG_PERIOD_S = 1.0


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


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerPlace:
    """Where a learner process finds the others."""

    launcher_endpoint: str
    bind_endpoint: str
    incarnation: int
    resume: bool


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
        self._board = Scoreboard(config, plan.directory.name, trains=plan.trains)
        self._conductor = Conductor(
            trains=plan.trains,
            has_learner=plan.start_learner is not None,
            evaluation_episodes=plan.evaluation_episodes,
            max_learner_restarts=MAX_LEARNER_RESTARTS,
            start_deadline_s=now_s + config.runtime.start_timeout_s,
        )
        self._is_ipc = config.runtime.transport == "ipc"
        # mkdtemp makes it 0700: nobody else can reach the sockets.
        self._sockets = tempfile.mkdtemp(prefix="murmuration-")
        self._children: dict[course.Role, BaseProcess] = {}
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._traffic = Traffic()
        self._up: set[int] = set()
        self._learner_endpoint = ""
        self._device = ""
        self._end: course.End | None = None
        self._signals = 0
        self._begun_s = now_s
        self._ready_s: float | None = None
        self._playing_s = 0.0
        self._shown_s = self._logged_s = 0.0
        self.recorder: Recorder | None = None

    def execute(self) -> Outcome:
        """Run to the end and clean up; raises nothing that a run can cause."""
        handlers = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        self._view.start()
        try:
            self._open()
            while self._end is None:
                self._turn()
            if self._ready_s is not None:
                self._playing_s = time.monotonic() - self._ready_s
        finally:
            self._close()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        assert self._end is not None
        wall_s = time.monotonic() - self._begun_s
        summary = self._board.summary(self._end.reason, wall_s, self._playing_s, self._device)
        if self._log is not None:
            self._log.metrics(*self._row())
            self._log.summary(summary)
        self._view.finish(self._board.snapshot(self._end.reason, self._elapsed_s()), self._files())
        return Outcome(self._end.exit_code, self._end.reason, summary)

    # --- start
    # --------------------------------------------------------------------------------------

    def _open(self) -> None:
        plan = self._plan
        if self._is_ipc:
            require_short_ipc_dir(Path(self._sockets))
        self._hub = Hub(
            self._context, self._endpoint("launcher"), self._traffic, CONTROL, linger_ms=500
        )
        self._poller = zmq.Poller()
        self._poller.register(self._hub.socket, zmq.POLLIN)
        if plan.record:
            self.recorder = Recorder(self._context, self._endpoint("recorder"), plan.env)
            self._poller.register(self.recorder.socket, zmq.POLLIN)
        if plan.start_learner is not None:
            self._learner_endpoint = self._endpoint("learner")
            self._start_learner(resume=plan.progress.env_steps > 0)
        else:
            self._start_world("" if self.recorder is None else self.recorder.endpoint)

    def _endpoint(self, name: str) -> str:
        return f"ipc://{self._sockets}/{name}" if self._is_ipc else "tcp://127.0.0.1:*"

    def _start_learner(self, *, resume: bool) -> None:
        assert self._plan.start_learner is not None
        process = self._plan.start_learner(
            LearnerPlace(
                launcher_endpoint=self._hub.endpoint,
                bind_endpoint=self._learner_endpoint,
                incarnation=self._conductor.learner_restarts,
                resume=resume,
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
            bind_endpoint=self._endpoint("world"),
            logs=self._logs(),
        )
        self._adopt("world", spawn(world_host.main, setup, "murmuration world", ONE_THREAD))

    def _start_node(self, command: course.StartNode) -> None:
        plan, config = self._plan, self._plan.config
        recorder = "" if self.recorder is None else self.recorder.endpoint
        setup = node.NodeSetup(
            agents=tuple(range(config.num_agents)),
            rules=AgentRules(
                num_agents=config.num_agents,
                copies=config.env.copies,
                spec=plan.spec,
                comm=config.comm,
                gate_timing=config.gate.timing,
                gate_mode=config.gate.mode,
                dead=config.agents.dead,
                ships=self._ships(),
                record_q=config.agents.record_q,
            ),
            parameters=ParameterStore(plan.parameters, plan.version),
            seed=config.seed,
            launcher_endpoint=self._hub.endpoint,
            world_endpoint=command.world_endpoint,
            learner_endpoint=command.learner_endpoint or recorder,
            learns=plan.start_learner is not None,
            ipc_dir=self._sockets if self._is_ipc else "",
            metrics_port=config.runtime.metrics_port,
            metrics_per_edge=config.runtime.metrics_per_edge,
            peer_timeout_s=config.agents.peer_timeout_s,
            start_timeout_s=config.runtime.start_timeout_s,
            max_restarts=config.runtime.max_restarts,
            nice=config.runtime.nice if plan.trains else 0,
            logs=self._logs(),
        )
        self._adopt("node", spawn(node.main, setup, "murmuration node", ONE_THREAD))

    def _ships(self) -> Literal["training", "all", "none"]:
        if self._plan.record:
            return "all"
        return "training" if self._plan.trains else "none"

    def _adopt(self, role: course.Role, process: BaseProcess) -> None:
        self._children[role] = process
        self._poller.register(process.sentinel, zmq.POLLIN)

    # --- the loop
    # -----------------------------------------------------------------------------------

    def _turn(self) -> None:
        ready = {socket for socket, _ in self._poller.poll(100)}
        if self._signals:
            self._carry_out(self._conductor.interrupted())
            return
        for peer, packet in self._hub.drain(
            wire.Hello,
            wire.Ready,
            wire.AgentState,
            wire.Status,
            wire.EpisodeResult,
            wire.Instruction,
        ):
            self._take(peer, packet)
        if self.recorder is not None:
            self.recorder.drain()
        for role, process in list(self._children.items()):
            if process.sentinel in ready or not process.is_alive():
                self._bury(role, process)
        self._carry_out(self._conductor.due(time.monotonic()))
        self._show()

    def _take(self, peer: bytes, packet: wire.Packet) -> None:
        match packet:
            case wire.Hello():
                logger.info("%s is process %d at %s", packet.role, packet.pid, packet.endpoint)
                if packet.role == "learner":
                    first = not self._learner_is_known()
                    self._learner_endpoint = packet.endpoint
                    if first:
                        self._start_world(packet.endpoint)
                self._carry_out(self._conductor.hello(packet.role, packet.endpoint))
            case wire.Ready():
                logger.info("all agents are ready after %.1f s", self._elapsed_s())
                self._ready_s = time.monotonic()
                self._carry_out(self._conductor.node_ready())
            case wire.AgentState():
                (self._up.add if packet.up else self._up.discard)(packet.agent)
                self._board.agents_up = len(self._up)
                self._carry_out(self._conductor.agent_state(packet))
            case wire.Status():
                self._board.take_status(packet)
                if packet.role == "learner":
                    self._device = "cuda" if packet.values.get("is_cuda") else "cpu"
                self._carry_out(self._conductor.status(packet, time.monotonic()))
            case wire.EpisodeResult():
                self._board.take_result(packet)
                if self._log is not None:
                    self._log.episode(packet)
            case wire.Instruction():
                self._carry_out(self._conductor.failed(packet.name.removeprefix("failed: ")))
            case _:
                self._traffic.dropped("kind")

    def _learner_is_known(self) -> bool:
        return "world" in self._children

    def _bury(self, role: course.Role, process: BaseProcess) -> None:
        self._poller.unregister(process.sentinel)
        process.join()
        del self._children[role]
        # Its last words may still be in the socket, and they say more than its exit code.
        for peer, packet in self._hub.drain(wire.Instruction):
            self._take(peer, packet)
        logger.warning("the %s process ended with %s", role, process.exitcode)
        self._carry_out(self._conductor.died(role, process.exitcode))

    def _carry_out(self, commands: list[course.Command]) -> None:
        for command in commands:
            match command:
                case course.StartNode():
                    self._start_node(command)
                case course.RestartLearner():
                    self._start_learner(resume=True)
                case course.Tell():
                    self._hub.send(command.role.encode(), command.packet)
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
            self._log.metrics(*self._row())

    def _row(self) -> tuple[int, dict[str, float]]:
        metrics = self._board.metrics()
        return int(metrics.get("env/steps", 0)), metrics

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
                self._hub.send(role.encode(), wire.Stop(self._end.reason))
                if role == "learner":
                    process.terminate()  # it may be deep in an update: the signal reaches it there
            self._wait_for_children(STOP_S)
            for process in self._children.values():
                process.terminate()
            self._wait_for_children(KILL_S)
            for process in self._children.values():
                process.kill()
            self._wait_for_children(KILL_S)
            self._hub.close()
        if self.recorder is not None:
            self.recorder.close()
        self._context.term()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def _wait_for_children(self, timeout_s: float) -> None:
        """Wait, and keep listening: the last statuses hold the final figures."""
        deadline = time.monotonic() + timeout_s
        while self._children and time.monotonic() < deadline:
            self._poller.poll(20)
            self._take_last_words()
            for role, process in list(self._children.items()):
                if not process.is_alive():
                    self._poller.unregister(process.sentinel)
                    process.join()
                    del self._children[role]
        self._take_last_words()

    def _take_last_words(self) -> None:
        for _, packet in self._hub.drain(wire.Status, wire.EpisodeResult):
            if isinstance(packet, wire.Status):
                self._board.take_status(packet)
            elif isinstance(packet, wire.EpisodeResult):
                self._board.take_result(packet)
        if self.recorder is not None:
            self.recorder.drain()
