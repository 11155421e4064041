"""What every agent's process does, whatever decides its time.

    hello -> address book -> edges -> serve until Stop -> last report -> second Stop -> end

Two shells build on it: agents/process/lockstep.py waits for a world (lock-step),
agents/process/realtime.py for a body and the clock.
"""

import ctypes
import logging
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from multiprocessing import parent_process
from typing import TypeVar

import numpy as np
import setproctitle
import zmq
from numpy.typing import NDArray

from agents.core import AgentCore
from agents.parameters import ParameterStore
from agents.process.edges import Edges
from agents.process.edges_on_demand import EdgesOnDemand
from agents.process.pinning import pin
from agents.process.profile import Profile, profile_path, write
from agents.process.setup import ShellSetup
from agents.segment import Segment
from agents.shared_parameters import HostParameters
from configs import streams
from configs.streams import Role
from runtime.net import latency, wire
from runtime.net.limits import begin_process
from runtime.net.logs import lines_lost, setup_logging
from runtime.net.moves import unpacked
from runtime.net.report_period import report_period_s
from runtime.net.traffic import Traffic, Uncounted
from runtime.net.transport import CONTROL, Channel, agent_routing_id

logger = logging.getLogger(__name__)

LEAVE_S = 1.0
"""Seconds that an agent waits at least for the others' last reports before it closes its edges."""
_LAST_REPORTS_PER_S = 100
_PR_SET_PDEATHSIG = 1
_HELLO_RETRY_S, _LONGEST_RETRY_S = 0.05, 0.8
"""Doubled every time, for the same reason as in agents/process/edges.py."""

Context = zmq.Context[zmq.Socket[bytes]]


def leave_s(num_agents: int) -> float:
    """Seconds that the last reports of so many agents may take, on a machine that is busy."""
    return max(LEAVE_S, num_agents / _LAST_REPORTS_PER_S)


class Stopped(Exception):
    """The node says stop, or is gone."""


class Shell(ABC):
    """A core, its edges and its node; who hands out observations is the subclass's matter."""

    def __init__(self, setup: ShellSetup, context: Context) -> None:
        """Open the sockets that need nobody's answer.

        Raises:
            SetupError: the inbox cannot be bound, or others could reach it and there are no keys.
        """
        self._setup = setup
        self._traffic = Traffic() if setup.telemetry else Uncounted()
        rng = streams.generator(
            setup.seed,
            Role.AGENT,
            agent=setup.identity,
            life=setup.life,
            incarnation=setup.incarnation,
        )
        self._parameters = _parameters(setup)
        self._core = AgentCore(setup.identity, setup.rules, self._parameters, rng)
        edges = EdgesOnDemand if setup.rules.moves else Edges
        self._edges = edges(context, setup, self._traffic)
        self._node = Channel(
            context,
            setup.node_endpoint,
            agent_routing_id(setup.identity),
            self._traffic,
            CONTROL,
            linger_ms=200,
        )
        self._action_latency = [0] * latency.BINS
        parent = parent_process()
        # Readable when whoever started us is gone: no orphan whatever happens.
        self._parent_fd = parent.sentinel if parent is not None else None
        self._poller = zmq.Poller()
        self._watch(self._poller)
        self._report_period_s = report_period_s(setup.rules.num_agents)
        self._report_at = 0.0
        self.profile: Profile | None = None
        """Where the time goes, if somebody wants to know."""

    @abstractmethod
    def serve(self) -> None:
        """Act until stopped.

        Raises:
            Stopped: the node says stop, or is gone.
        """

    def close(self) -> None:
        self._node.close()
        self._edges.close()

    # --- what comes -------------------------------------------------------------------------------

    def _watch(self, poller: zmq.Poller, *, inbox: bool = True) -> None:
        """Have a poller look at what every agent must look at."""
        poller.register(self._node.socket, zmq.POLLIN)
        if inbox:
            poller.register(self._edges.inbox_socket, zmq.POLLIN)
        if self._parent_fd is not None:
            poller.register(self._parent_fd, zmq.POLLIN)

    def _wait(self, timeout_s: float | None, poller: zmq.Poller | None = None) -> set[object]:
        """Sockets that have something, after at most so many seconds.

        Raises:
            Stopped: the node is gone.
        """
        events = (poller or self._poller).poll(
            None if timeout_s is None else int(1000 * timeout_s) + 1
        )
        ready: set[object] = {socket for socket, _ in events}
        if self._parent_fd in ready:
            raise Stopped("the node is gone")
        return ready

    def _take_control(self) -> Iterator[wire.AddressBook | wire.AgentParameters]:
        """What the node says, apart from what is dealt with here.

        Raises:
            Stopped: it says stop.
        """
        accepted = (
            wire.AddressBook,
            *wire.AGENT_PARAMETERS,
            wire.ClockOffsets,
            wire.PolicySwitch,
            wire.Moves,
            wire.Stop,
        )
        for packet in self._node.drain(*accepted):
            match packet:
                case wire.Stop():
                    raise Stopped(packet.reason)
                case wire.ClockOffsets():
                    self._edges.set_clock_offsets(packet.offsets_ns)
                case wire.PolicySwitch():
                    self._prepare_switch(packet)
                case wire.Moves():
                    self._learn(packet)
                case wire.AddressBook() if not self._edges.fits(packet.endpoints):
                    self._traffic.dropped("shape")
                case _:
                    assert isinstance(packet, wire.AddressBook | wire.AgentParameters)
                    yield packet

    def _prepare_switch(self, switch: wire.PolicySwitch) -> None:
        """Learn which version comes next, and when it holds; a run in lock-step has no such."""
        del switch
        self._traffic.dropped("kind")

    def _learn(self, packet: wire.Moves) -> None:
        """Agents live on other hosts."""
        try:
            moves = unpacked(packet, self._setup.rules.num_agents, self._setup.num_hosts)
        except ValueError:
            self._traffic.dropped("range")
        else:
            self._edges.learn(moves)

    # --- what goes --------------------------------------------------------------------------------

    def _hello(self) -> None:
        """Tell the node where we listen."""
        setup = self._setup
        hello = wire.Hello(
            "agent", setup.identity, setup.incarnation, os.getpid(), self._edges.endpoint
        )
        retry_s = _HELLO_RETRY_S
        while not self._node.is_writable:  # IMMEDIATE refuses until the connection stands
            self._wait(retry_s)
            retry_s = min(2 * retry_s, _LONGEST_RETRY_S)
        self._node.send(hello)

    def _ready(self) -> None:
        self._node.send(wire.Ready("agent", self._setup.identity, self._setup.incarnation))
        if self.profile is not None:
            self.profile.begin()
        logger.info("ready, incarnation %d", self._setup.incarnation)

    def _report(self) -> None:
        """Tell the node that we live and what we have counted."""
        tally, traffic = self._core.tally, self._traffic
        for name in (
            "agent_steps",
            "edge_slots",
            "edges_open",
            "late",
            "lost_messages",
            "lost_beacons",
            "snapshots_requested",
        ):
            traffic.set(name, getattr(tally, name))
        if isinstance(self._parameters, HostParameters):
            traffic.set("shared_parameters", self._parameters.shared_bytes)
        traffic.set("log_lines_lost", lines_lost())
        self._edges.update_counters()
        self._node.send(
            wire.AgentReport(
                agent=self._setup.identity,
                incarnation=self._setup.incarnation,
                tick=self._core.tick,
                policy_version=self._parameters.version,
                counters=traffic.as_array(),
                latency=self._edges.latency(),
                action_latency=self._action_latencies(),
                edges=self._edges.counts(),
            )
        )

    def _action_latencies(self) -> NDArray[np.uint64]:
        return np.array(self._action_latency, dtype=np.uint64)

    def take_leave(self) -> None:
        """Send the last report, and keep the edges open until everybody has.

        The kernel forgets a connection's counters when it closes, and the run's figures are sums of
        last reports.
        """
        if self.profile is not None:
            tally = self._core.tally
            steps = {"ticks": self._core.tick, "agent_steps": tally.agent_steps}
            path = profile_path(self._setup.logs, self._setup.identity)
            try:
                write(path, self.profile.figures() | steps)
            except OSError as error:
                self._traffic.add("readings_failed")
                logger.warning("%s could not be written: %s", path, error)
        self._report()
        self._node.send(wire.Leaving())
        deadline = time.monotonic() + leave_s(self._setup.rules.num_agents)
        while (left_s := deadline - time.monotonic()) > 0.0:
            if self._node.socket.poll(int(1000 * left_s) + 1):
                for _ in self._node.drain(wire.Stop):
                    return


def _parameters(setup: ShellSetup) -> ParameterStore | HostParameters:
    """The policy of an agent: its own, or its host's."""
    if isinstance(setup.parameters, ParameterStore):
        return setup.parameters
    parameters = HostParameters(Segment(setup.parameters), setup.rules.spec)
    os.close(setup.parameters.file.descriptor)  # it has one of its own
    return parameters


def _die_with_forkserver() -> None:
    """Have the kernel kill this process with the forkserver that has forked it.

    The forkserver is what tells the node of our end: when it dies, the node counts all of us as
    dead and starts successors under our names.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


_Setup = TypeVar("_Setup", bound=ShellSetup)


def run(setup: _Setup, make: Callable[[_Setup, Context], Shell]) -> None:
    """Run one agent until it is told to stop: the body of a process."""
    setproctitle.setproctitle(f"murmuration: agent {setup.identity}")
    _die_with_forkserver()
    os.nice(setup.nice)
    if setup.pin:
        pin(setup.identity)  # before ZeroMQ starts its thread, which inherits the core
    setup_logging("agent", setup.identity, setup.logs)
    begin_process(keyed=setup.keyring is not None)
    # Before anything keeps a method of its own: what is wrapped later would go unseen.
    profile = Profile.install() if setup.profile else None
    context: Context = zmq.Context()
    try:
        shell = make(setup, context)
        shell.profile = profile
        try:
            shell.serve()
        except Stopped as stop:
            logger.info("stopping: %s", stop)
            shell.take_leave()
        finally:
            shell.close()
    except Exception:  # the process edge: the node says that we died, and our log why
        logger.exception("agent %d cannot go on", setup.identity)
        raise SystemExit(1) from None
    context.term()
