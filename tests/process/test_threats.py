"""Attacks on single sockets and on single receivers: what docs/security.md claims of each.

A tap sits on the cable, a guest has a key and bad intentions. tests/process/test_threats_run.py has
the same against a whole run.
"""

import contextlib
import dataclasses
import logging
import multiprocessing
import socket
import struct
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import zmq

from agents.process.edges import Edges
from configs.schema import LearnerConfig
from envs.base import EnvSpec
from envs.spaces import Discrete
from learner.entry import main
from learner.setup import LearnerSetup
from runtime.deployment.hosts import Host, Hosts
from runtime.net import wire
from runtime.net.errors import SetupError
from runtime.net.security import CurveServer, Gatekeeper, KeyPair, Keyring
from runtime.net.tcp_info import connections
from runtime.net.traffic import Traffic, frame_zmtp_bytes
from runtime.net.transport import (
    CONTROL,
    LAUNCHER,
    LEARNER,
    TRAJECTORIES,
    WORLD,
    Channel,
    Hub,
    Limits,
)
from runtime.run.recorder import Recorder
from runtime.terminal.processes import ONE_THREAD, start_process
from tests.agents.process.test_edges import BEACON, MESSAGE, ONE_COPY, End, pair_of_ends, setup_of
from tests.agents_helpers import make_rules
from tests.learner_helpers import DIMENSIONS, make_config, make_flat, make_packets, make_spec
from tests.process.runs import wait_for
from tests.security_helpers import House, heard, say, terminating_context, wait_until
from tests.transport_helpers import Context, at_channel, wait_until_writable

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

SECRET_TEXT = "the enemy is at the gate"


@pytest.fixture
def context() -> Iterator[Context]:
    with terminating_context() as context:
        yield context


@pytest.fixture
def house(context: Context) -> Iterator[House]:
    house = House(context)
    yield house
    house.close()


# --- on the cable ---------------------------------------------------------------------------------


class Tap:
    """A cable with somebody on it, who reads along and can change, repeat and replay."""

    def __init__(self, endpoint: str) -> None:
        host, port = endpoint.removeprefix("tcp://").rsplit(":", 1)
        self.target = host, int(port)
        self.from_client = bytearray()
        self.chunks: list[bytes] = []
        """The same as it came."""
        self.from_server = bytearray()
        self.change: Callable[[bytes], bytes] = bytes
        """What becomes of what the client sends."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def endpoint(self) -> str:
        return f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self.target)
            self._ends += [client, server]
            for source, sink, log in (
                (client, server, self.from_client),
                (server, client, self.from_server),
            ):
                thread = threading.Thread(target=self._pass_on, args=(source, sink, log))
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, log: bytearray) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(1 << 16):
                log += chunk
                if log is self.from_client:
                    self.chunks.append(chunk)
                sink.sendall(self.change(chunk) if log is self.from_client else chunk)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10.0)
        for end in self._ends:
            end.close()


@dataclasses.dataclass
class Line:
    """A server, a tap, and a guest who connects through it."""

    hub: Hub
    guest: Channel
    tap: Tap
    secure: bool

    def replay(self) -> list[str]:
        """Connect as nobody in particular and send what has passed, at the pace at which it did;
        what the server hears of it.
        """
        found: list[str] = []
        with socket.create_connection(self.tap.target) as end:
            for chunk in self.tap.chunks:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    end.sendall(chunk)
                found += self.heard()
        return found

    def heard(self) -> list[str]:
        """All that the server hears within half a second."""
        found: list[str] = []
        deadline_s = time.monotonic() + 0.5
        while (left_s := deadline_s - time.monotonic()) > 0.0:
            self.hub.socket.poll(int(1000 * left_s) + 1)
            found += [p.reason for _, p in self.hub.drain(wire.Stop) if isinstance(p, wire.Stop)]
        return found


@pytest.fixture(params=[False, True], ids=["clear", "curve"])
def line(request: pytest.FixtureRequest, house: House) -> Iterator[Line]:
    """In clear as well: an attack that fails there proves nothing about keys."""
    context, secure = house.context, bool(request.param)
    clear = Hub(context, "tcp://127.0.0.1:*", house.traffic, CONTROL)
    hub = house.hub() if secure else clear
    tap = Tap(hub.endpoint)
    keys = Keyring("agent-1", house.keys["agent-1"], {"house": house.own.public})
    curve = keys.client_of("house") if secure else None
    guest = Channel(context, tap.endpoint, b"agent-1", Traffic(), CONTROL, curve=curve)
    wait_until_writable(guest)
    say(guest, SECRET_TEXT)
    assert heard(hub) == (b"agent-1", SECRET_TEXT)
    yield Line(hub, guest, tap, secure)
    guest.close()
    clear.close()
    tap.close()


def test_who_reads_along_learns_nothing_that_is_said(line: Line) -> None:
    assert line.hub.send(b"agent-1", wire.Stop(SECRET_TEXT[::-1]))
    assert at_channel(line.guest) == [wire.Stop(SECRET_TEXT[::-1])]
    assert (SECRET_TEXT.encode() in line.tap.from_client) is not line.secure
    assert (SECRET_TEXT[::-1].encode() in line.tap.from_server) is not line.secure


def test_a_recorded_connection_cannot_be_played_again(line: Line) -> None:
    assert line.replay() == ([] if line.secure else [SECRET_TEXT])


def test_a_recorded_message_cannot_be_repeated_on_its_own_connection(line: Line) -> None:
    line.tap.change = lambda chunk: chunk * 2
    say(line.guest, "attack at dawn")
    assert line.heard() == ["attack at dawn"] * (1 if line.secure else 2)


def test_a_message_that_was_changed_under_way_is_not_heard(line: Line) -> None:
    line.tap.change = lambda chunk: chunk[:-1] + bytes([chunk[-1] ^ 1])
    say(line.guest, "attack at dawn")
    assert line.heard() == ([] if line.secure else ["attack at dawo"])


# --- strangers who do not finish ------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        b"",
        pytest.param(b"\xff\x00\x00\x00", marks=pytest.mark.slow),
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", marks=pytest.mark.slow),
    ],
)
def test_a_stranger_who_does_not_finish_the_handshake_is_cut_off(house: House, said: bytes) -> None:
    hub = house.hub()
    host, port = hub.endpoint.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port))) as stranger:
        stranger.settimeout(15.0)
        stranger.sendall(said)
        with contextlib.suppress(ConnectionResetError):
            while stranger.recv(1 << 16):  # the greeting, and then the end
                pass
    say(house.guest(hub, "agent-1"), "served")
    assert heard(hub) == (b"agent-1", "served")


def test_a_stranger_cannot_announce_more_than_the_limit(house: House) -> None:
    """The size of a frame is believed before its sender is known, so the limit holds there too."""
    hub = house.hub(limits=Limits(send=4, receive=4, largest_bytes=1_000_000))
    host, port = hub.endpoint.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port))) as stranger:
        stranger.settimeout(15.0)
        mechanism = b"CURVE".ljust(20, b"\0")
        stranger.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x01" + mechanism + bytes(32))
        stranger.sendall(b"\x06" + struct.pack(">Q", 2_000_000))
        began_s = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            while stranger.recv(1 << 16):
                pass
        assert time.monotonic() - began_s < 4.0, "cut off by the clock and not for the size"


# --- guests with bad intentions -------------------------------------------------------------------


def test_a_guest_who_sends_too_much_at_once_is_cut_off_and_others_are_served(house: House) -> None:
    hub = house.hub(limits=Limits(send=4, receive=4, largest_bytes=100_000))
    honest, greedy = house.guest(hub, "agent-1"), house.dealer(hub, house.keys["agent-2"])
    monitor = greedy.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    greedy.send(bytes(200_000))
    assert monitor.poll(10_000), "the connection stands"
    say(honest, "served")
    assert heard(hub) == (b"agent-1", "served")
    assert house.traffic.dropped_total == 0
    greedy.disable_monitor()
    monitor.close(0)


def test_a_flood_waits_at_its_sender_while_nobody_reads(house: House) -> None:
    frame = bytes(100_000)
    hub = house.hub(limits=Limits(send=4, receive=16, largest_bytes=1_000_000))
    flooder = house.dealer(hub, house.keys["agent-2"], queue=1)
    taken = 0
    while taken < 2_000 and flooder.poll(1_000, zmq.POLLOUT):
        flooder.send(frame)
        taken += 1
    # Two queues of the sockets, and what the kernel's buffers hold (some megabytes).
    assert 16 < taken < 400, f"{taken} frames were taken without being read"


def test_who_floods_does_not_keep_others_from_being_heard(house: House) -> None:
    hub = house.hub(limits=Limits(send=4, receive=64, largest_bytes=1_000_000))
    honest = house.guest(hub, "agent-1")
    flooder = house.dealer(hub, house.keys["agent-2"])
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            if flooder.poll(10, zmq.POLLOUT):
                flooder.send(b"\xc1" * 1_000)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        wait_until(lambda: _drain(hub) == [] and house.traffic["dropped_decode"] > 5_000, "a flood")
        for number in range(20):
            say(honest, f"{number}")
            found: list[tuple[bytes, str]] = []
            drains = 0
            while not found:
                hub.socket.poll(10_000)
                found = _drain(hub)
                drains += 1
                assert drains < 1_000, "the flood drowns it"
            assert found == [(b"agent-1", f"{number}")]
    finally:
        stop.set()
        thread.join()


def test_one_look_at_a_socket_takes_no_more_than_a_thousand_packets(house: House) -> None:
    frame, count = b"\xc1" * 100, 3_000
    hub = house.hub(limits=Limits(send=4, receive=count, largest_bytes=1_000_000))
    flooder = house.dealer(hub, house.keys["agent-2"], queue=count)
    assert flooder.poll(10_000, zmq.POLLOUT)
    for _ in range(count):
        flooder.send(frame)
    address = hub.endpoint.removeprefix("tcp://")

    def all_arrived() -> bool:
        (server,) = (c for c in connections() if c.local == address)
        return server.bytes_received >= count * frame_zmtp_bytes(len(frame), curve=True)

    wait_until(all_arrived, "all frames")
    taken: list[int] = []
    while sum(taken) < count:
        assert hub.socket.poll(10_000)
        assert _drain(hub) == []
        taken.append(house.traffic["dropped_decode"] - sum(taken))
    assert max(taken) <= 1024


def _drain(hub: Hub) -> list[tuple[bytes, str]]:
    return [(n, p.reason) for n, p in hub.drain(wire.Stop) if isinstance(p, wire.Stop)]


def test_who_opens_connection_after_connection_does_not_fill_the_log(
    house: House, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.net.doorbook._MOST_LOGGED", 3)
    hub = house.hub()
    with caplog.at_level(logging.INFO):
        for number in range(10):
            guest = house.guest(hub, "agent-1")
            say(guest, f"{number}")
            assert heard(hub) == (b"agent-1", f"{number}")
    assert sum("has opened another connection" in line for line in caplog.messages) == 3


# --- an agent's inbox -----------------------------------------------------------------------------


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def keyrings(*names: str) -> dict[str, Keyring]:
    keys = {name: KeyPair.generate() for name in names}
    public = {name: pair.public for name, pair in keys.items()}
    return {name: Keyring(name, pair, public) for name, pair in keys.items()}


@pytest.fixture
def neighbours(stack: ExitStack, tmp_path: Path) -> tuple[End, End]:
    """Two agents with keys; the second has bad intentions."""
    rings = keyrings("agent-0", "agent-1")
    two_hosts: dict[str, object] = {"num_hosts": 2, "host_of": (0, 1)}
    options = [{"keyring": rings[f"agent-{i}"], **two_hosts} for i in range(2)]
    return pair_of_ends(stack, tmp_path, *options)


@pytest.mark.parametrize(
    "packet", [wire.Message(7, 5, 0, ONE_COPY, MESSAGE.rows), wire.EdgeHello(7, 3)]
)
def test_a_neighbour_with_keys_cannot_send_in_anothers_name(
    neighbours: tuple[End, End], packet: wire.Packet
) -> None:
    ours, theirs = neighbours
    greeted = ours.traffic["edge_handshake_zmtp"]
    theirs.edges.out_sockets[0].send(wire.encode(packet))
    wait_for("a drop", lambda: (ours.turn(), ours.traffic["dropped_unknown_sender"])[1], 10.0)
    assert ours.edges.latency().sum() == 0
    assert ours.traffic["edge_handshake_zmtp"] == greeted, "it was answered"


@pytest.mark.parametrize(
    "packet", [wire.Beacon(7, 5, 0, ONE_COPY, BEACON.rows), wire.EdgeWelcome(7, 3)]
)
def test_who_answers_on_an_edge_cannot_answer_in_anothers_name(
    neighbours: tuple[End, End], packet: wire.Packet
) -> None:
    ours, theirs = neighbours
    frame = wire.encode(packet)
    inbox = theirs.edges.inbox_socket
    # Its own ROUTER knows us by the connection over which we have greeted.
    ours.edges.out_sockets[0].send(wire.encode(wire.EdgeHello(0, 0)))
    assert inbox.poll(10_000)
    connection = inbox.recv_multipart()[0]
    inbox.send_multipart([connection, frame])

    def dropped() -> int:
        assert list(ours.edges.drain_beacons(0)) == []
        return ours.traffic["dropped_unknown_sender"]

    assert wait_for("a drop", dropped, 10.0) == 1


def test_only_in_neighbours_are_let_into_an_inbox(stack: ExitStack, tmp_path: Path) -> None:
    rings = keyrings(*(f"agent-{i}" for i in range(8)), "world", "node-b")
    rules = make_rules(num_agents=8)
    ours = stack.enter_context(End(setup_of(0, tmp_path, keyring=rings["agent-0"], rules=rules)))
    context: Context = stack.enter_context(contextlib.closing(_Terminating()))
    channels = {
        name: Channel(
            context,
            ours.edges.endpoint,
            b"",
            Traffic(),
            CONTROL,
            curve=ring.client_of("agent-0"),
        )
        for name, ring in rings.items()
        if name != "agent-0"
    }
    let_in = {"agent-7", "agent-6", "agent-4"}

    def settled() -> bool:
        ours.edges.update_counters()
        writable = {name for name, channel in channels.items() if channel.is_writable}
        return writable == let_in and ours.traffic["refused"] >= len(channels) - len(let_in)

    try:
        wait_for("three to be let in and the others refused", settled, 20.0)
    finally:
        for channel in channels.values():
            channel.close()


class _Terminating(zmq.Context["zmq.Socket[bytes]"]):
    def close(self) -> None:
        self.term()


def test_stamps_that_cannot_be_do_not_break_the_report(neighbours: tuple[End, End]) -> None:
    """A neighbour says when it sent, and its node what its clock shows: both may lie."""
    ours, theirs = neighbours
    ours.edges.set_clock_offsets(np.array([0, -(1 << 61)], dtype=np.int64))
    for _ in range(12):
        theirs.edges.out_sockets[0].send(wire.encode(wire.Message(1, 5, 0, ONE_COPY, MESSAGE.rows)))
    received = 0

    def all_here() -> bool:
        nonlocal received
        received += len(ours.turn()[0])
        return received == 12

    wait_for("all messages", all_here, 10.0)
    assert ours.edges.counts()[0, 2] == 12
    assert ours.edges.counts()[0, 3] == (1 << 63) - 1


# --- the learner ----------------------------------------------------------------------------------


NAMES = (*(f"agent-{i}" for i in range(DIMENSIONS.num_agents)), "node-b", WORLD, LEARNER, LAUNCHER)


class Learning:
    """A learner with keys, in a process of its own, and everybody who talks to it."""

    def __init__(self, folder: Path, context: Context) -> None:
        self.context = context
        self.rings = keyrings(*NAMES)
        self._gatekeeper = Gatekeeper(context)
        self._gatekeeper.admit(LAUNCHER, {LEARNER: self.rings[LEARNER].own.public})
        server = self.rings[LAUNCHER].server(LAUNCHER)
        self._hub = Hub(context, "tcp://127.0.0.1:*", Traffic(), CONTROL, curve=server)
        self._channels: list[Channel] = []
        self.status: dict[str, float] = {}
        self.endpoint = ""
        flat = make_flat(make_spec())
        config = LearnerConfig(device="cpu", threads=1, batch_size=4, learning_starts=4)
        setup = LearnerSetup(
            config=make_config(learner=config),
            dimensions=DIMENSIONS,
            initial=flat,
            initial_version=0,
            incarnation=0,
            launcher_endpoint=self._hub.endpoint,
            bind_endpoint="tcp://127.0.0.1:*",
            keyring=self.rings[LEARNER],
            checkpoint=folder / "checkpoint.safetensors",
            resume=False,
            run_dir=folder,
            logs=folder / "logs",
        )
        spawn = multiprocessing.get_context("spawn")
        self.process = start_process(spawn, main, setup, "learner", ONE_THREAD)
        wait_for("the learner", self._pump, 60.0)

    def _pump(self) -> bool:
        """Take what it says; whether it is at work."""
        for _, packet in self._hub.drain(wire.Hello, wire.Status):
            if isinstance(packet, wire.Hello):
                self.endpoint = packet.endpoint
            elif isinstance(packet, wire.Status):
                self.status = dict(packet.values)
        assert self.process.is_alive()
        return bool(self.endpoint and self.status)

    def channel(self, name: str) -> Channel:
        curve = self.rings[name].client_of(LEARNER)
        channel = Channel(self.context, self.endpoint, b"", Traffic(), TRAJECTORIES, curve=curve)
        self._channels.append(channel)
        wait_until_writable(channel)
        return channel

    def wait_for_status(self, name: str, at_least: float) -> None:
        def reached() -> bool:
            self._pump()
            return self.status.get(name, 0.0) >= at_least

        wait_for(f"{name} of {at_least}", reached, 30.0)

    def close(self) -> None:
        self.process.kill()
        self.process.join(10.0)
        for channel in self._channels:
            channel.close()
        self._hub.close()
        self._gatekeeper.close()


@pytest.fixture(scope="module")
def learning(tmp_path_factory: pytest.TempPathFactory) -> Generator[Learning]:
    with terminating_context() as context:
        learning = Learning(tmp_path_factory.mktemp("learning"), context)
        yield learning
        learning.close()


def test_a_learner_takes_from_each_what_is_theirs_to_say(learning: Learning) -> None:
    trajectories, record = make_packets(3)
    before = learning.status["dropped_frames"]
    false = [
        ("agent-1", trajectories[0]),
        ("node-b", trajectories[0]),
        (WORLD, trajectories[0]),
        ("agent-1", record),
        ("node-b", record),
        ("agent-1", wire.SnapshotRequest(0)),
        (WORLD, wire.SnapshotRequest(0)),
        ("agent-1", wire.Instruction("finish")),
        ("node-b", wire.Stop("now")),
    ]
    agent = learning.channel("agent-1")
    for name, packet in false:
        assert (agent if name == "agent-1" else learning.channel(name)).send(packet)
    learning.wait_for_status("dropped_frames", before + len(false))
    assert learning.status["episodes_pending"] == 0.0
    assert list(agent.drain(wire.DenseParameters)) == [], "agents ask their node"

    assert agent.send(trajectories[1])
    learning.wait_for_status("episodes_pending", 1.0)


def test_a_node_cannot_use_up_the_version_numbers(learning: Learning) -> None:
    node = learning.channel("node-b")
    before = learning.status["dropped_frames"]
    assert node.send(wire.SnapshotRequest((1 << 32) - 1))
    learning.wait_for_status("dropped_frames", before + 1)
    assert learning.status["version"] < 1_000
    # Nor in several steps: what an earlier life of the learner can have reached, and no more.
    assert node.send(wire.SnapshotRequest(900_000))
    learning.wait_for_status("version", 900_000)
    for _ in range(2):
        assert node.send(wire.SnapshotRequest(1_800_000))
    learning.wait_for_status("dropped_frames", before + 3)
    assert learning.status["version"] < 1_000_000


def test_an_agent_cannot_fill_the_learners_memory(learning: Learning) -> None:
    """It may send whatever it likes under numbers of episodes that nobody has played."""
    rows = np.zeros((60_000, DIMENSIONS.observation_dim), dtype=np.float32)
    actions, gates = np.zeros(60_000, dtype=np.uint8), np.zeros(60_000, dtype=np.uint16)
    columns = {"gates": gates}
    agent = learning.channel("agent-2")
    before_mb = _rss_mb(learning.process.pid)
    dropped = learning.status["dropped_packets"]
    for episode in range(400):  # half a gigabyte
        packet = wire.Trajectory(2, 10_000 + episode, 1, 1, rows, actions, columns)
        wait_for("room", lambda p=packet: agent.is_writable and agent.send(p), 30.0)
    learning.wait_for_status("dropped_packets", dropped + 370)
    assert _rss_mb(learning.process.pid) < before_mb + 200


def _rss_mb(pid: int | None) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


# --- who records episodes -------------------------------------------------------------------------


def test_a_recorder_takes_from_each_what_is_theirs_to_say(context: Context) -> None:
    rings = keyrings(*NAMES)
    gatekeeper = Gatekeeper(context)
    gatekeeper.admit(LEARNER, {name: ring.own.public for name, ring in rings.items()})
    spec = EnvSpec(
        name="test",
        num_agents=DIMENSIONS.num_agents,
        observation_shape=(DIMENSIONS.observation_dim,),
        actions=Discrete(DIMENSIONS.num_actions),
        state_dim=DIMENSIONS.state_dim,
        episode_limit=10,
        noop_action=0,
    )
    curve = CurveServer(rings[LEARNER].own, LEARNER)
    recorder = Recorder(context, "tcp://127.0.0.1:*", spec, curve)
    trajectories, record = make_packets(3)

    def channel(name: str) -> Channel:
        keys = rings[name].client_of(LEARNER)
        made = Channel(context, recorder.endpoint, b"", Traffic(), TRAJECTORIES, curve=keys)
        wait_until_writable(made)
        return made

    channels = {name: channel(name) for name in NAMES if name.startswith("agent") or name == WORLD}
    liar = channels["agent-5"]
    for trajectory in trajectories[:-1]:
        liar.send(trajectory)
    liar.send(record)
    for _ in range(20):
        recorder.socket.poll(20)
        recorder.drain()
    liar.send(trajectories[5])
    for _ in range(20):
        recorder.socket.poll(20)
        recorder.drain()
    assert recorder.episodes == []
    for agent, trajectory in enumerate(trajectories[:-1]):
        channels[f"agent-{agent}"].send(trajectory)
    channels[WORLD].send(record)
    wait_for("the episode", lambda: (recorder.drain(), recorder.episodes)[1], 10.0)
    for end in (*channels.values(), recorder, gatekeeper):
        end.close()


# --- sockets that must not open -------------------------------------------------------------------


def test_agents_do_not_listen_where_others_could_reach_them_without_keys(tmp_path: Path) -> None:
    context: Context = zmq.Context()
    setup = setup_of(0, tmp_path, inbox_endpoint="tcp://0.0.0.0:*")
    with pytest.raises(SetupError, match="it needs CURVE keys"):
        Edges(context, setup, Traffic())
    context.destroy(linger=0)


def test_a_book_without_a_neighbours_key_is_no_way_in() -> None:
    """Whoever is not in the address book cannot be connected to, with or without keys."""
    hosts = Hosts((Host("a", "10.0.0.1", 7400, (0, 1)),), "a")
    ring = keyrings("agent-0")["agent-0"]
    assert "agent-1" in hosts.identities()
    with pytest.raises(KeyError):
        ring.client_of("agent-1")
