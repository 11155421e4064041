"""The node's command on a host of its own: join a run elsewhere, or serve a deployed policy.

python -m runtime.node --join 10.0.0.1 --bundle host-b      a part of somebody's training run
python -m runtime.node --bundle host-b                      a deployed policy, until Ctrl-C

bundle -> checks -> (Join -> Assignment, policy) -> Node -> exit code, summary.json
"""

import asyncio
import dataclasses
import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
import setproctitle
import uvloop
import zmq
from zmq.utils.monitor import recv_monitor_message

from agents.acting import acting_without_training
from agents.parameters import ParameterStore
from agents.policy import PolicySpec, write_atomically
from agents.rules import AgentRules
from configs.errors import UserError
from configs.load import exit_with_error, parse_command_line, parse_run_config
from configs.ranges import between, check_ranges, within
from configs.schema import MAX_PORT, START_S_PER_AGENT
from envs.registry import bounds_of, observation_shape_of
from runtime.deployment.body_endpoint import require_bodies
from runtime.deployment.bundle import Bundle, read_bundle
from runtime.deployment.hosts import Host
from runtime.deployment.update_file import newest_policy
from runtime.host import process as node
from runtime.host.attendance import TAKEN
from runtime.host.exporter import require_free_port
from runtime.host.faults import Faults
from runtime.host.preflight import require_local_address, require_open_files
from runtime.host.setup import NodeSetup, RealTime, place_of, training_setup
from runtime.net import wire
from runtime.net.errors import SetupError
from runtime.net.limits import begin_process
from runtime.net.logs import setup_logging
from runtime.net.moves import unpacked
from runtime.net.topology import exponential
from runtime.net.traffic import Traffic
from runtime.net.transport import CONTROL, LAUNCHER, LEARNER, WORLD, Channel, node_routing_id
from runtime.terminal.scratch import Scratch, require_temporary_folder

logger = logging.getLogger(__name__)

_LAUNCHER_PORT = 1
_RETRY_S = 2.0
_PREDECESSORS_LEAVE_S = 5.0
"""Seconds that the agents of a node which was killed have to leave their ports."""
_PORT_RETRY_S = 0.1
_LINE_PERIOD_S = 5.0
"""Seconds between two lines about a deployed host."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeCommand:
    """Run this host's share of the agents, out of the bundle that was made for it."""

    bundle: str
    """Folder that runtime.deploy, runtime.keys or runtime.launch --hosts made for this host."""

    join: str = ""
    """Address of the head (10.0.0.1, or 10.0.0.1:7401 where a proxy stands between); empty serves
    a deployed policy."""

    timeout_s: Annotated[float, within(0.0, 86_400.0, above_low=True)] = 300.0
    """Seconds to wait for the head."""

    runs_dir: str = "runs"
    """Folder under which this host keeps logs and summary."""

    updates: str = ""
    """Folder in which a deployed host keeps policy versions that are pushed to it; the bundle's own
    unless set."""

    metrics_port: Annotated[int, between(0, MAX_PORT)] = 9464
    """Port of /metrics; 0 switches the exporter off."""

    metrics_address: str = "127.0.0.1"
    """Address of /metrics; loopback unless told otherwise."""

    metrics_per_edge: bool = False
    """Export series for every edge as well."""

    metrics_linger_s: Annotated[float, within(0.0, 600.0)] = 0.0
    """Seconds that /metrics stays up after the end, for a last scrape."""

    silent_timeout_s: Annotated[float, within(1.0, 86_400.0)] = 60.0
    """Seconds without a word after which an agent counts as hung and is started again."""

    start_timeout_s: Annotated[float, within(1.0, 86_400.0)] = 120.0
    """Seconds that the start of this host's agents may stand still; for each agent there is a fifth
    of a second more."""

    max_restarts: Annotated[int, between(0, 10**6)] = 1_000_000
    """Restarts of one agent before a deployed host gives up; a joined one takes the run's."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.join and self.updates:
            raise ValueError("--updates is for a deployed policy: leave it out with --join")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. 2 means that nothing was started."""
    argv = sys.argv[1:] if argv is None else argv
    begin_process(keyed=True)
    try:
        command = parse_command_line(NodeCommand, argv, prog="python -m runtime.node")
        bundle = read_bundle(Path(command.bundle))
        _check(command, bundle)
        scratch = Scratch()
    except (UserError, ValueError, OSError) as error:
        exit_with_error(error)
    setproctitle.setproctitle("murmuration: node")
    try:
        scratch.hold_our_sockets()
        directory = _new_directory(command, bundle)
        setup_logging("node", 0, directory / "logs")
        if command.join:
            setup = _join(command, bundle, str(scratch.path), directory)
        else:
            setup = deployed_setup(command, bundle, str(scratch.path), directory)
        require_open_files(setup.rules.graph)  # which may have more edges than the backbone
        return _serve(setup, bundle, directory)
    except SetupError as error:
        exit_with_error(error)
    finally:
        scratch.close()


def _check(command: NodeCommand, bundle: Bundle) -> None:
    if command.join and bundle.is_deployment:
        raise SetupError(f"{bundle.folder} holds a deployed policy: leave out --join to serve it")
    if not command.join and not bundle.is_deployment:
        raise SetupError(f"{bundle.folder} has no policy: give --join with the head's address")
    require_local_address(bundle.host.address, f"{bundle.folder} is for host {bundle.host.name}")
    require_open_files(exponential(bundle.book.hosts.num_agents))
    require_temporary_folder()
    if bundle.options is not None:
        require_bodies(bundle.options.body, bundle.host.agents, bundle.folder)
    if command.updates and not Path(command.updates).is_dir():
        raise SetupError(f"--updates {command.updates}: there is no such folder")
    _require_free_ports(bundle.host, takes_updates=bundle.is_deployment)
    if command.metrics_port:
        require_free_port(command.metrics_port, command.metrics_address)
    if command.join:
        head_endpoint(command.join, bundle)


def _require_free_ports(host: Host, *, takes_updates: bool) -> None:
    """Check that nobody runs this host already; agents of a node that was killed leave first.

    Raises:
        SetupError: a port of the node or of an agent is taken.
    """
    agents = range(host.last_port - len(host.agents) + 1, host.last_port + 1)
    wanted = (host.port, *((host.update_port,) if takes_updates else ()), *agents)
    patience_until_s = time.monotonic() + _PREDECESSORS_LEAVE_S
    while (taken := next(filter(host.is_taken, wanted), None)) is not None:
        if time.monotonic() > patience_until_s:
            raise SetupError(
                f"port {taken} of {host.address} is taken: host {host.name} runs already, or "
                "something else listens there (end it, or give the host another port)"
            )
        time.sleep(_PORT_RETRY_S)


def _new_directory(command: NodeCommand, bundle: Bundle) -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    directory = Path(command.runs_dir) / f"{stamp}-{bundle.host.name}"
    try:
        (directory / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"{directory} cannot be made ({error.strerror}): --runs-dir") from error
    return directory


# --- a deployed policy ----------------------------------------------------------------------------


def deployed_setup(
    command: NodeCommand, bundle: Bundle, sockets: str, directory: Path
) -> NodeSetup:
    """The setup of a node whose agents serve bodies."""
    made_with, options = bundle.policy, bundle.options
    assert made_with is not None
    assert options is not None
    updates = Path(command.updates or bundle.folder)
    policy = newest_policy(updates, bundle.book.deployment, made_with)
    return NodeSetup(
        agents=bundle.host.agents,
        rules=AgentRules(
            num_agents=bundle.book.hosts.num_agents,
            copies=1,
            spec=policy.spec,
            comm=options.comm,
            comm_options=policy.spec.scheme_options,
            gate_timing="causal",
            gate_mode=options.gate_mode,
            gate_budget=options.gate_budget,
            dead="silent",
            ships="none",
            acting=acting_without_training(policy.spec.bounds),
            realtime=True,
            max_message_age_steps=options.max_message_age_steps,
        ),
        parameters=ParameterStore(policy.flat, policy.version),
        seed=options.seed,
        launcher_endpoint="",
        world_endpoint="",
        learner_endpoint="",
        learns=False,
        ipc_dir=sockets,
        place=place_of(bundle),
        deployment=RealTime(
            bodies={agent: bundle.body_endpoint(agent) for agent in bundle.host.agents},
            rate_hz=options.rate_hz,
            name=bundle.book.deployment,
            policy=policy,
            updates=updates,
        ),
        metrics_address=command.metrics_address,
        metrics_port=command.metrics_port,
        metrics_per_edge=command.metrics_per_edge,
        metrics_linger_s=command.metrics_linger_s,
        peer_timeout_s=1.0,
        start_timeout_s=(command.start_timeout_s + START_S_PER_AGENT * len(bundle.host.agents)),
        silent_timeout_s=command.silent_timeout_s,
        max_restarts=command.max_restarts,
        nice=options.nice,
        logs=directory / "logs",
    )


# --- a part of a run ------------------------------------------------------------------------------


def _join(command: NodeCommand, bundle: Bundle, sockets: str, directory: Path) -> NodeSetup:
    endpoint = head_endpoint(command.join, bundle)
    print(f"host {bundle.host.name}: joining the run at {endpoint}", flush=True)
    assignment, moves, policy = _ask(endpoint, bundle, command.timeout_s)
    try:
        text = assignment.config.tobytes().decode()
        config = parse_run_config(text, "its configuration")
        spec = PolicySpec.of(
            config.network,
            assignment.observation_dim,
            assignment.num_actions,
            comm=config.comm,
            comm_options=config.comm_options,
            observation_shape=observation_shape_of(config),
            bounds=bounds_of(config),
        )
    except ValueError as error:
        raise SetupError(f"{endpoint}: cannot run what the head runs: {error}") from error
    hosts = bundle.book.hosts
    if config.num_agents != hosts.num_agents:
        raise SetupError(
            f"the run has {config.num_agents} agents, {bundle.folder} was made for "
            f"{hosts.num_agents}: copy the newest bundle"
        )
    runtime = dataclasses.replace(
        config.runtime,
        metrics_address=command.metrics_address,
        metrics_port=command.metrics_port,
        metrics_per_edge=command.metrics_per_edge,
        metrics_linger_s=command.metrics_linger_s,
    )
    config = dataclasses.replace(config, runtime=runtime)
    if policy.values.shape != (spec.size,):
        raise SetupError(f"the head's policy has {policy.values.size} numbers, not {spec.size}")
    renewed = config.runtime.rebalance
    place = place_of(bundle, assignment.incarnation, is_renewed=renewed)
    if moves is not None:
        try:
            place = place.after(unpacked(moves, hosts.num_agents, len(hosts.names)))
        except ValueError as error:
            raise SetupError(f"{endpoint}: cannot tell which agents have moved: {error}") from error
    print(f"host {bundle.host.name}: {_task(place.hosts[place.host].agents)}", flush=True)
    return training_setup(
        config,
        spec,
        ParameterStore(policy.values.astype(np.float32), policy.version),
        ships=cast('Literal["training", "all", "none"]', assignment.ships),
        learns=bool(assignment.learns),
        place=place,
        launcher_endpoint=endpoint,
        world_endpoint=hosts.endpoint(WORLD),
        learner_endpoint=hosts.endpoint(LEARNER),
        ipc_dir=sockets,
        logs=directory / "logs",
    )


def head_endpoint(join: str, bundle: Bundle) -> str:
    """Where the launcher listens, from what a person types.

    Raises:
        SetupError: not ADDRESS or ADDRESS:PORT.
    """
    address, colon, port = join.removeprefix("tcp://").rpartition(":")
    if not colon or (":" in address and not address.startswith("[")):  # a bare IPv6 address
        address, port = join.removeprefix("tcp://"), ""
    default = bundle.book.hosts[bundle.book.hosts.head].port + _LAUNCHER_PORT
    if not address or (port and not (port.isdigit() and 1 <= int(port) <= MAX_PORT)):
        raise SetupError(f"--join {join}: expected ADDRESS or ADDRESS:PORT, a port to {MAX_PORT}")
    return f"tcp://{address}:{port or default}"


_Answer = tuple[wire.Assignment, wire.Moves | None, wire.DenseParameters]
"""What is run, which agents have moved, and the policy to begin with."""


def _ask(endpoint: str, bundle: Bundle, timeout_s: float) -> _Answer:
    """Ask to be taken in until the head answers.

    Raises:
        SetupError: it does not answer in time, does not know our key, or has that host already.
    """
    deadline = time.monotonic() + timeout_s
    reason = "nobody answers there"
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        while time.monotonic() < deadline:
            answer = _ask_once(context, endpoint, bundle, deadline)
            if isinstance(answer, tuple):
                return answer
            if answer.startswith(TAKEN) and answer != reason:
                print(f"{answer}; trying again for {deadline - time.monotonic():.0f} s", flush=True)
            reason = answer
            if not reason.startswith((TAKEN, _SILENT)):
                break
            time.sleep(max(min(_RETRY_S, deadline - time.monotonic()), 0.0))
    finally:
        context.destroy(linger=0)
    raise SetupError(f"{endpoint}: {reason}")


_SILENT = "nobody answers there"
_MOST_HUNG_UP = 5
_UNKNOWN_KEY = (
    "the head does not know this bundle's keys: it was made by another deployment, or its keys "
    "have been rotated; copy the newest bundle"
)


def _ask_once(
    context: "zmq.Context[zmq.Socket[bytes]]", endpoint: str, bundle: Bundle, deadline: float
) -> _Answer | str:
    identity = node_routing_id(bundle.host.name)
    keyring = bundle.keyring(identity.decode())
    channel = Channel(
        context, endpoint, identity, Traffic(), CONTROL, curve=keyring.client_of(LAUNCHER)
    )
    monitor = channel.socket.get_monitor_socket()
    poller = zmq.Poller()
    poller.register(channel.socket, zmq.POLLIN)
    poller.register(monitor, zmq.POLLIN)
    asked, hung_up = False, 0
    assignment: wire.Assignment | None = None
    moves: wire.Moves | None = None
    try:
        while (left_s := deadline - time.monotonic()) > 0.0:
            if not asked and channel.is_writable:
                asked = channel.send(wire.Join(bundle.book.deployment))
            poller.poll(int(1000 * min(left_s, 0.2)) + 1)
            while monitor.poll(0):
                event = cast("dict[str, Any]", recv_monitor_message(monitor))["event"]
                if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                    return _UNKNOWN_KEY
                if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
                    return "what listens there does not speak with our keys"
                if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
                    # How a head with other keys than we expect refuses us; a head that is killed
                    # just then looks the same, but not several times.
                    hung_up += 1
                    if hung_up == _MOST_HUNG_UP:
                        return _UNKNOWN_KEY
                if event == zmq.EVENT_DISCONNECTED:
                    asked = False
            accepted = (wire.Assignment, wire.Moves, wire.DenseParameters, wire.Stop)
            for packet in channel.drain(*accepted):
                match packet:
                    case wire.Stop():
                        return packet.reason
                    case wire.Assignment():
                        assignment = packet
                    case wire.Moves():
                        moves = packet
                    case wire.DenseParameters() if assignment is not None:
                        return assignment, moves, packet
                    case _:
                        pass
        return _SILENT
    finally:
        channel.socket.disable_monitor()
        monitor.close(0)
        channel.close()


# --- serving --------------------------------------------------------------------------------------


def _serve(setup: NodeSetup, bundle: Bundle, directory: Path) -> int:
    """Run the node to its end; returns the exit code."""
    this = node.Node(setup)

    async def run() -> None:
        lines = asyncio.create_task(_tell(this, setup, bundle))
        try:
            await this.run()
        finally:
            lines.cancel()
            # Here, where the loop still takes the signals: no Ctrl-C comes between.
            _write_summary(this, bundle, directory)

    uvloop.run(run())
    if this.interrupted:
        return 130 if setup.deployment is None else 0
    return 1 if this.failed else 0


def _write_summary(this: node.Node, bundle: Bundle, directory: Path) -> None:
    summary = {"host": bundle.host.name, "exit_reason": this.reason, **this.status()}
    text = json.dumps(summary, indent=1)
    path = directory / "summary.json"
    try:
        write_atomically(path, text.encode() + b"\n")
    except OSError as error:
        logger.error("%s could not be written: %s\n%s", path, error.strerror, text)
        print(f"host {bundle.host.name}: {this.reason}")
    else:
        print(f"host {bundle.host.name}: {this.reason}; summary: {path}")


async def _tell(this: node.Node, setup: NodeSetup, bundle: Bundle) -> None:
    """A line now and then for the person who has started it."""
    before: dict[str, float] = {}
    faults = Faults(time.monotonic)

    def say() -> None:
        nonlocal before
        now = this.status()
        print(_line(bundle, setup, len(this.agents), now, before), flush=True)
        before = now

    while True:
        await asyncio.sleep(_LINE_PERIOD_S)
        faults.attempt(say)


def _line(
    bundle: Bundle,
    setup: NodeSetup,
    num_agents: int,
    now: dict[str, float],
    before: dict[str, float],
) -> str:
    def rate(*names: str) -> float:
        return sum(now.get(name, 0.0) - before.get(name, 0.0) for name in names) / _LINE_PERIOD_S

    sent = rate("sent_zmtp_message", "sent_zmtp_beacon")
    parts = [
        f"host {bundle.host.name}: {now['agents_ready']:.0f}/{num_agents} agents up",
        f"{rate('agent_steps') / max(num_agents, 1):.1f} steps/s",
        f"{sent / 1000:.1f} kB/s to neighbours",
        f"late {now['late']:.0f}",
        f"restarts {now['restarts']:.0f}",
    ]
    if setup.deployment is not None:
        p50_ms = now.get("action_latency_p50_ms", 0.0)
        p99_ms = now.get("action_latency_p99_ms", 0.0)
        parts.insert(1, f"policy {now['policy_version']:.0f}")
        parts.insert(3, f"action latency p50 {p50_ms:.2f} ms p99 {p99_ms:.2f} ms")
    return " | ".join(parts)


def _task(agents: Sequence[int]) -> str:
    """What a host does in a run, in words."""
    if not agents:
        return "its agents live on other hosts; it stands by until another host leaves"
    if agents[-1] - agents[0] == len(agents) - 1:
        return f"runs agents {agents[0]} to {agents[-1]}"
    return f"runs agents {', '.join(map(str, agents))}"
