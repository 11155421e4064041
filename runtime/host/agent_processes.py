"""The agents' processes on one host: started, watched, ended.

    Spawn ──▶ AgentProcesses ──▶ forkserver ──▶ process      its end ──▶ Supervisor.exited

Which agent is to live when is decided by the Supervisor; the node carries it out with these.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any

import agents.process.lockstep
import agents.process.realtime
from agents.parameters import ParameterStore
from agents.process.lockstep import AgentSetup
from agents.process.realtime import DeployedAgentSetup
from agents.segment import SegmentHandle
from runtime.host.faults import Faults
from runtime.host.forkserver import preloading
from runtime.host.host_table import HostTable
from runtime.host.process_memory import pss_mb
from runtime.host.setup import NodeSetup, RealTime
from runtime.host.supervisor import Spawn, Supervisor, SupervisorCommand
from runtime.net.traffic import Traffic
from runtime.net.transport import agent_routing_id
from runtime.terminal.processes import start_bare

logger = logging.getLogger(__name__)

_PSS_PER_STATUS = 4
"""Processes whose memory is read at a time: the kernel walks all their pages for it."""


class AgentProcesses:
    """Processes by agent."""

    def __init__(
        self,
        setup: NodeSetup,
        supervisor: Supervisor,
        table: HostTable,
        traffic: Traffic,
        faults: Faults,
        node_endpoint: str,
        *,
        parameters: ParameterStore | SegmentHandle,
        endpoint: Callable[[str], str],
        obey: Callable[[list[SupervisorCommand]], None],
        give_up: Callable[[str], None],
        is_over: Callable[[], bool],
    ) -> None:
        """Nobody has been started yet.

        Args:
            node_endpoint: where agents find their node.
            parameters: their policy, or where it lies.
            endpoint: where a process of this name listens.
            obey: carries out what the supervisor says to an exit.
            give_up: ends the node, for this reason.
            is_over: whether the node has been told to end.
        """
        self._setup = setup
        self._supervisor = supervisor
        self._table = table
        self._traffic = traffic
        self._faults = faults
        self._node_endpoint = node_endpoint
        self._parameters = parameters
        self._endpoint = endpoint
        self._obey = obey
        self._give_up = give_up
        self._is_over = is_over
        self._processes: dict[int, BaseProcess] = {}
        self._spawned_with: dict[int, int] = {}
        """Policy version that each agent's process was started with."""
        self._spawned_s: dict[int, float] = {}
        self._starts: set[asyncio.Task[None]] = set()
        self._pss_mb: dict[int, float] = {}
        self._forkserver = preloading("agents.process.preload")

    @property
    def alive(self) -> dict[int, BaseProcess]:
        """Those that have not ended, by agent."""
        return self._processes

    def version_of(self, agent: int) -> int | None:
        """Policy version that an agent's process was started with."""
        return self._spawned_with.get(agent)

    @property
    def pss_mb_mean(self) -> float | None:
        """Memory of an agent's process, as far as it has been read."""
        return sum(self._pss_mb.values()) / len(self._pss_mb) if self._pss_mb else None

    def move(self, setup: NodeSetup) -> None:
        """Agents have moved between hosts: those that are started from now on are told this."""
        self._setup = setup

    def forgive(self, now_s: float) -> None:
        """We could not listen until now: silence so far proves nothing."""
        self._spawned_s = dict.fromkeys(self._spawned_s, now_s)

    def cancel_starts(self) -> None:
        for start in self._starts:
            start.cancel()

    def kill(self, agent: int) -> None:
        """Kill an agent's process; one that is being started is killed as soon as it is there."""
        process = self._processes.get(agent)
        if process is not None:
            process.kill()

    def start(self, command: Spawn) -> None:
        """Start an agent in the background."""
        start = asyncio.get_running_loop().create_task(self.start_now(command))
        self._starts.add(start)  # the loop alone would not keep it
        start.add_done_callback(self._starts.discard)

    async def start_now(self, command: Spawn) -> None:
        """Start an agent's process; what keeps it from starting may be over in a moment."""
        agent, version = command.agent, self._setup.parameters.version
        limit_s = self._setup.start_timeout_s
        try:
            process = await asyncio.wait_for(self._start_in_thread(command), limit_s)
        except TimeoutError:
            self._give_up(f"agent {agent}: the forkserver has not answered for {limit_s:.0f} s")
        except Exception as error:
            # Out of descriptors, memory or processes; or a forkserver that has died.
            self._supervisor.not_started(agent, time.monotonic())
            logger.warning("agent %d could not be started, it is tried again: %r", agent, error)
        else:
            self._adopt(agent, process, version)

    def _start_in_thread(self, command: Spawn) -> "asyncio.Future[BaseProcess]":
        """A start is a conversation with the forkserver and mostly waiting for it, all the more on
        a busy machine. A process that nobody waits for any longer is killed.
        """
        loop = asyncio.get_running_loop()
        started: asyncio.Future[BaseProcess] = loop.create_future()

        def deliver(outcome: BaseProcess | Exception) -> None:
            if isinstance(outcome, Exception):
                if not started.done():
                    started.set_exception(outcome)
            elif started.done():
                outcome.kill()
            else:
                started.set_result(outcome)

        def start() -> None:
            try:
                outcome: BaseProcess | Exception = self._start_agent(command)
            except Exception as error:
                outcome = error
            try:
                loop.call_soon_threadsafe(deliver, outcome)
            except RuntimeError:  # the node has ended
                if isinstance(outcome, BaseProcess):
                    outcome.kill()

        # No pool: its threads keep a process from ending, and a forkserver may never answer.
        threading.Thread(target=start, name=f"start of agent {command.agent}", daemon=True).start()
        return started

    def _start_agent(self, command: Spawn) -> BaseProcess:
        agent = command.agent
        if self._setup.deployment is None:
            target, setup = agents.process.lockstep.main, self._agent_setup(command)
        else:
            target = agents.process.realtime.main
            setup = self._deployed_setup(command, self._setup.deployment)
        return start_bare(self._forkserver, target, setup, name=f"agent {agent}")

    def _adopt(self, agent: int, process: BaseProcess, version: int) -> None:
        """Watch over an agent's process, which began with this policy version."""
        self._processes[agent] = process
        self._spawned_with[agent] = version
        self._spawned_s[agent] = time.monotonic()
        loop = asyncio.get_running_loop()
        take_exit = partial(self._take_exit, agent, process)
        loop.add_reader(process.sentinel, self._faults.attempt, take_exit)
        if self._is_over() or self._supervisor.is_doomed(agent):
            process.kill()  # the word came while it was being started

    def _agent_setup(self, command: Spawn) -> AgentSetup:
        setup = self._setup
        return AgentSetup(
            **self._shell_setup(command),
            world_endpoint=setup.world_endpoint,
            learner_endpoint=setup.learner_endpoint if setup.rules.ships != "none" else "",
            peer_timeout_s=setup.peer_timeout_s,
        )

    def _deployed_setup(self, command: Spawn, deployment: RealTime) -> DeployedAgentSetup:
        return DeployedAgentSetup(
            **self._shell_setup(command),
            body_endpoint=deployment.bodies[command.agent],
            rate_hz=deployment.rate_hz,
        )

    def _shell_setup(self, command: Spawn) -> dict[str, Any]:
        """The fields of ShellSetup, which both kinds of agents have."""
        setup, place = self._setup, self._setup.place
        name = agent_routing_id(command.agent).decode()
        return {
            "identity": command.agent,
            "incarnation": command.incarnation,
            "seed": setup.seed,
            "life": setup.life,
            "rules": setup.rules,
            "parameters": self._parameters,
            "node_endpoint": self._node_endpoint,
            "inbox_endpoint": command.endpoint or self._endpoint(f"a{command.agent}"),
            "is_tcp": place is not None or not setup.ipc_dir,
            "nice": setup.nice,
            "logs": setup.logs,
            "telemetry": setup.telemetry,
            "profile": setup.profile,
            "pin": setup.pin,
            "keyring": None if place is None else place.keyrings[name],
            "num_hosts": 1 if place is None else len(place.hosts.hosts),
            "host_of": () if place is None else place.hosts.host_of_agents(),
        }

    def _take_exit(self, agent: int, process: BaseProcess) -> None:
        asyncio.get_running_loop().remove_reader(process.sentinel)
        process.join()
        code = process.exitcode
        if self._processes.get(agent) is process:
            del self._processes[agent]
        self._obey(self._supervisor.exited(agent, code, time.monotonic()))
        logger.info("agent %d ended with %s", agent, code)

    def end_silent(self, now_s: float) -> None:
        """An agent that hangs is a dead agent, only slower to be noticed."""
        limit_s = self._setup.silent_timeout_s
        reported_s = {record.agent: record.reported_s for record in self._table.records()}
        for agent, process in self._processes.items():
            heard_s = max(reported_s.get(agent, 0.0), self._spawned_s[agent])
            if now_s - heard_s > limit_s and self._supervisor.has_started:
                self._spawned_s[agent] = now_s
                process.kill()
                logger.warning("agent %d has not reported for %.0f s: killed", agent, limit_s)

    def read_memory(self) -> None:
        """Look at a few processes at a time; those never read come first."""
        known = self._pss_mb
        waiting = sorted(self._supervisor.ready, key=lambda agent: agent in known)
        for agent in waiting[:_PSS_PER_STATUS]:
            if agent in known:
                break
            process = self._processes.get(agent)
            if process is None or not process.pid:
                continue
            try:
                size_mb = pss_mb(process.pid)
            except OSError:  # no descriptor left
                self._traffic.add("readings_failed")
                return
            if size_mb is not None:
                known[agent] = size_mb
