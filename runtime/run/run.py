"""A run: the launcher's loop around Conductor, Attendance, Children and Reporting.

    world  ┐                            ┌ Conductor  (what follows what)
    nodes  ┼→ Hub → packets and deaths →┼ Attendance (which hosts are here), Children
    learner┘                            └ Scoreboard → Reporting (view, files, summary.json)

What is run is a Plan (plan.py); where its processes are and what each is told, a Placement
(placement.py).

World, learner and one node are the launcher's children; the nodes of other hosts join
(runtime/host/join.py). The launcher owns its processes: whatever happens, they are told to stop,
then ended, then killed, each with its own deadline, and the folder of sockets is removed.
"""

import logging
import time
from collections import Counter
from types import FrameType

import zmq

from agents.comm.graphs import graph_of
from agents.process.shell import LEAVE_S, leave_s
from configs.columns import recorded
from runtime.host import attendance
from runtime.host import process as node
from runtime.host.attendance import Attendance
from runtime.host.start_patience import StartPatience
from runtime.net import wire
from runtime.net.errors import SetupError
from runtime.net.limits import begin_process
from runtime.net.security import Gatekeeper, Keyring
from runtime.net.traffic import Traffic
from runtime.net.transport import CONTROL, LAUNCHER, LEARNER, WORLD, Hub, host_of, node_routing_id
from runtime.record.run_log import RunLog
from runtime.run import conductor as course
from runtime.run.children import Children
from runtime.run.conductor import Conductor
from runtime.run.placement import Placement
from runtime.run.plan import Plan, RunEnd
from runtime.run.recorder import Recorder
from runtime.run.reporting import Reporting
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
_SUSPENDED_S = 2.0
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


class Run:
    """One run, from the first process to the last."""

    def __init__(self, plan: Plan, view: View, log: RunLog | None) -> None:
        self._plan = plan
        config = plan.config
        now_s = time.monotonic()
        self._board = Scoreboard(
            config,
            plan.directory.name,
            trains=plan.trains,
            evaluation_episodes=plan.evaluation_episodes,
            resumed_at=plan.played_before.env_steps,
        )
        self._conductor = Conductor(
            trains=plan.trains,
            has_learner=plan.start_learner is not None,
            evaluation_episodes=plan.evaluation_episodes,
            max_learner_restarts=MAX_LEARNER_RESTARTS,
            patience=StartPatience(config.start_patience_s, now_s),
        )
        self._scratch = Scratch()
        self._places = Placement(plan, str(self._scratch.path))
        self._host = self._places.host
        self._attendance = Attendance(
            self._places.shares,
            local=self._host,
            host_timeout_s=config.runtime.host_timeout_s,
            rebalancing=self._places.rebalancing,
        )
        self._traffic = Traffic()
        self._report = Reporting(
            self._board, view, log, plan.directory, lambda: self._traffic.dropped_total
        )
        self._poller = zmq.Poller()
        self._children = Children(config, self._poller)
        self._start_learner_at_s = float("inf")
        """When a learner that could not be started again is tried once more."""
        self._turned_s = now_s
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._gatekeeper: Gatekeeper | None = None
        self._finished_hosts: set[str] = set()
        self._greeted_s = 0.0
        self._greets: set[str] = set()
        """Hosts whose nodes have said hello since they joined: before that they hear nothing."""
        self._whereabouts: tuple[str, ...] = ()
        """Where the nodes of all hosts are, once one has moved."""
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
        self.recorder: Recorder | None = None

    @property
    def board(self) -> Scoreboard:
        """The run's figures; complete after `execute`."""
        return self._board

    @property
    def ready_after_s(self) -> float | None:
        """Seconds from the run's beginning until all agents were ready; None if they never were."""
        return None if self._ready_s is None else self._ready_s - self._begun_s

    def execute(self) -> RunEnd:
        """Run to the end and clean up; raises nothing that a run can cause."""
        begin_process(keyed=self._plan.head is not None)
        with stop_signals.handled_by(self._on_signal):
            return self._execute()

    def _execute(self) -> RunEnd:
        self._report.start()
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
        end = self._end
        summary = self._report.finish(end.reason, self._elapsed_s(), self._playing_s, self._device)
        return RunEnd(end.exit_code, end.reason, summary)

    # --- start ------------------------------------------------------------------------------------

    def _open(self) -> None:
        plan = self._plan
        self._scratch.hold_our_sockets()
        if plan.head is not None:
            self._gatekeeper = Gatekeeper(self._context)
            public = plan.head.book.public
            nodes = [node_routing_id(name).decode() for name in plan.head.book.hosts.names]
            guests = {name: public[name] for name in (WORLD, LEARNER, *nodes)}
            self._gatekeeper.admit(LAUNCHER, guests)
        keyring = self._places.keyring(LAUNCHER)
        self._hub = Hub(
            self._context,
            self._places.endpoint(LAUNCHER),
            self._traffic,
            CONTROL,
            linger_ms=500,
            curve=None if keyring is None else keyring.server(LAUNCHER),
        )
        self._poller.register(self._hub.socket, zmq.POLLIN)
        if plan.record:
            self.recorder = self._make_recorder()
            self._poller.register(self.recorder.socket, zmq.POLLIN)
        if plan.start_learner is not None:
            self._learner_endpoint = self._places.endpoint(LEARNER)
            self._start_learner(resume=bool(plan.config.resume))
        else:
            self._start_world("" if self.recorder is None else self.recorder.endpoint)

    def _make_recorder(self) -> Recorder:
        """Across hosts it has the learner's address and keys, as it has its part."""
        keyring, name = self._places.keyring(LEARNER), "recorder"
        env, config, curve = self._plan.env, self._plan.config, None
        if keyring is not None and self._gatekeeper is not None:
            self._admit_to_recorder(keyring)
            name, curve = LEARNER, keyring.server(LEARNER)
        graph = graph_of(config.comm, config.comm_options, config.num_agents)
        endpoint = self._places.endpoint(name)
        return Recorder(self._context, endpoint, env, curve, recorded(config), graph)

    def _admit_to_recorder(self, keyring: Keyring) -> None:
        assert self._gatekeeper is not None
        others = {name: key for name, key in keyring.public.items() if name != LEARNER}
        self._gatekeeper.admit(LEARNER, others)

    def _start_learner(self, *, resume: bool) -> None:
        assert self._plan.start_learner is not None
        place = self._places.learner(
            self._hub.endpoint,
            self._learner_endpoint,
            incarnation=self._conductor.learner_restarts,
            resume=resume,
        )
        self._children.adopt("learner", self._plan.start_learner(place))

    def _start_world(self, learner_endpoint: str) -> None:
        setup = self._places.world(self._hub.endpoint, learner_endpoint)
        process = spawn(world_host.main, setup, "murmuration world", ONE_THREAD)
        self._children.adopt("world", process)

    def _start_node(self, command: course.StartNode) -> None:
        recorder = "" if self.recorder is None else self.recorder.endpoint
        setup = self._places.node(
            self._hub.endpoint, command.world_endpoint, command.learner_endpoint or recorder
        )
        process = spawn(node.main, setup, "murmuration node", ONE_THREAD)
        self._children.adopt("node", process)
        self._attend(self._attendance.open(time.monotonic()))

    def _assign(self, command: attendance.Assign) -> None:
        """Tell a host that has joined what is run, and with which policy it begins."""
        logger.info("host %s has joined", command.host)
        self._greets.discard(command.host)
        self._board.host_begins_anew(command.host)
        for packet in self._places.assignment(command.host, command.first_incarnation):
            self._hub.send(node_routing_id(command.host), packet)

    def _move(self, command: attendance.Moved) -> None:
        """A host has left for good: its agents get new homes and new keys, and all hear of it."""
        takers = Counter(command.homes.values())
        logger.warning(
            "host %s has been away for %.0f s: %d of its agents move (%s)",
            command.host,
            command.away_s,
            len(command.homes),
            ", ".join(f"{count} to {home}" for home, count in takers.items()),
        )
        self._places.move(command.homes, command.incarnation)
        self._board.agents_moved += len(command.homes)
        self._board.host_begins_anew(command.host)
        self._conductor.host_gone(command.host)
        for role in (WORLD, LEARNER):  # a learner that is being started hears of it afterwards
            if self._children.has_spoken(role):
                self._hub.send(role.encode(), self._places.moves())
        keyring = self._places.keyring(LEARNER)
        if self.recorder is not None and keyring is not None:
            self._admit_to_recorder(keyring)
        for host in (self._host, *self._attendance.remote):
            self._hub.send(node_routing_id(host), self._places.moves(host))

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

    # --- the loop ---------------------------------------------------------------------------------

    def _turn(self) -> None:
        ready: set[object] = {socket for socket, _ in self._poller.poll(100)}
        if self._signals:
            self._carry_out(self._conductor.interrupted())
            return
        for peer, packet in self._hub.drain(*_HEARD):
            self._take(peer, packet)
        for peer in self._hub.take_arrivals():
            if (host := host_of(peer)) is None or host in self._greets:
                self._tell_places(peer)
        if self.recorder is not None:
            self.recorder.drain()
        for role in self._children.ended(ready):
            self._bury(role)
        now_s = time.monotonic()
        if now_s - self._turned_s > _SUSPENDED_S:
            # This process was suspended, so silence proves nothing about the others.
            logger.info("the launcher could not look for %.1f s", now_s - self._turned_s)
            self._children.forgive(now_s)
            self._attendance.forgive(now_s)
            self._conductor.forgive(now_s)
        self._turned_s = now_s
        self._children.end_silent(now_s)
        if now_s >= self._start_learner_at_s:
            self._restart_learner()
        self._attend(self._attendance.due(now_s))
        if now_s - self._greeted_s >= _GREETING_PERIOD_S:
            self._greeted_s = now_s
            for host in self._greets.intersection(self._attendance.remote):
                self._hub.send(node_routing_id(host), wire.Alive())
            self._tell_figures()
            self._look_after_hosts()
        started = self._board.agents_started
        self._carry_out(
            self._conductor.due(
                now_s,
                self._attendance.waited_for(started),
                unjoined=len(self._attendance.unjoined),
                started=started,
                up=len(self._up),
            )
        )
        self._report.show(self._conductor.stage, self._elapsed_s())

    def _look_after_hosts(self) -> None:
        """A host that is lost is over; if one is elsewhere now, all others have to know."""
        if self._plan.placer is None:
            return
        news = self._plan.placer.look()
        for host in news.lost:
            # It may only be lost to those who have placed it: two cannot have the same agents.
            self._hub.send(node_routing_id(host), wire.Stop("placed elsewhere"))
            self._attend(self._attendance.left(host))
        if news.hosts is not None:
            self._whereabouts = news.hosts.whereabouts()
            here = {self._host} if self._children.has_spoken("node") else set[str]()
            for host in here | self._greets.intersection(self._attendance.remote):
                self._tell_whereabouts(node_routing_id(host))

    def _tell_places(self, peer: bytes) -> None:
        """Say which agents have moved, and to a node also where all nodes are: what was said of it
        may have died with an earlier connection, or with an earlier process.
        """
        host = host_of(peer)
        if self._places.has_moves:
            self._hub.send(peer, self._places.moves(host or ""))
        if host is not None:
            self._tell_whereabouts(peer)

    def _tell_whereabouts(self, node: bytes) -> None:
        if self._whereabouts:
            self._hub.send(node, wire.AddressBook(self._whereabouts))

    def _tell_figures(self) -> None:
        """Give our own node the figures of the whole run, which it exports."""
        if self._children.has_spoken("node"):
            figures = wire.Status("launcher", self._board.run_figures())
            self._hub.send(node_routing_id(self._host), figures)

    def _take(self, peer: bytes, packet: wire.Packet) -> None:
        if not _speaks_for_itself(peer, packet):
            self._traffic.dropped("unknown_sender")
            return
        now_s = time.monotonic()
        host = host_of(peer)
        if host == self._host:
            self._children.heard("node", now_s)
        elif host is None:
            self._children.heard(peer.decode(errors="replace"), now_s)
        match packet:
            case wire.Join() if host is not None:
                self._take_in(host, packet.deployment)
                return
            case _ if host is not None and host != self._host:
                self._attend(self._attendance.heard(host, now_s))
                if self._attendance.is_evicted(host):
                    return
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
                if host is not None:
                    self._greets.add(host)
                self._tell_places(peer)
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
        """An episode has ended, and perhaps an evaluation with it."""
        evaluation = self._report.take_result(result)
        if evaluation is not None:
            figure, good_enough = self._board.judged(evaluation)
            self._carry_out(self._conductor.evaluated(figure, good_enough=good_enough))

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

    def _attend(self, commands: list[attendance.AttendanceCommand]) -> None:
        for command in commands:
            match command:
                case attendance.Assign():
                    self._assign(command)
                case attendance.ToHost():
                    if not isinstance(command.packet, wire.Stop):
                        self._tell_places(node_routing_id(command.host))
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
                case attendance.Moved():
                    self._move(command)
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

    def _bury(self, role: course.Role) -> None:
        process = self._children.remove(role)
        # Its last words may still be in the socket, and they say more than its exit code.
        # So may what others have said meanwhile, which must not be lost either.
        for peer, packet in self._hub.drain(*_HEARD):
            self._take(peer, packet)
        logger.warning("the %s process ended with %s", role, process.exitcode)
        is_hung = self._children.forget(role)
        self._carry_out(self._conductor.died(role, process.exitcode, is_hung=is_hung))

    def _carry_out(self, commands: list[course.ConductorCommand]) -> None:
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

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._begun_s

    # --- the end ----------------------------------------------------------------------------------

    def _close(self) -> None:
        """Stop everything that was started, with a deadline for each step of insistence."""
        if self._end is None:
            self._end = course.End("stopped by an error in the launcher", 1)
        if hasattr(self, "_hub"):
            for role, process in self._children.processes.items():
                if role != "node":
                    self._hub.send(role.encode(), wire.Stop(self._end.reason))
                if role == "learner":
                    process.terminate()  # it may be deep in an update: the signal reaches it there
            self._tell_figures()
            for peer in self._peers_of("node"):
                self._hub.send(peer, wire.Stop(self._end.reason))
            self._wait_for_children(self._patience_s(self._end))
            for process in self._children.processes.values():
                process.terminate()
            self._wait_for_children(KILL_S)
            for process in self._children.processes.values():
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
            len(self._children) or not self._finished_hosts.issuperset(self._attendance.remote)
        ):
            self._poller.poll(20)
            if self._signals and not is_hurried:
                is_hurried = True
                deadline = min(deadline, time.monotonic() + STOP_S)
                for peer in self._peers_of("node"):
                    self._hub.send(peer, wire.Stop(wire.INTERRUPTED))
            self._take_last_words()
            for role in self._children.ended(set()):
                self._children.remove(role)
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
                self._report.take_result(packet)
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
