"""Attacks on a whole run across three hosts: strangers, a compromised host, and what leaks.

One run is attacked by every test in turn and must go on learning with everybody; the last test ends
it. What a guest does under a name that somebody has keeps that one out while it lasts, as the
threat model says (docs/security.md), so every attack is followed by a look whether all are back.
"""

import contextlib
import re
import stat
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from runtime.deployment.bundle import KEYS, Bundle, read_all
from runtime.net import topology, wire
from runtime.net.security import CurveClient, KeyPair
from runtime.net.traffic import Traffic
from runtime.net.transport import CONTROL, LAUNCHER, LEARNER, WORLD, Channel, agent_routing_id
from tests.process.fleet import HEAD, NUM_AGENTS, Fleet
from tests.process.namespaces import require_hosts
from tests.process.runs import wait_for
from tests.security_helpers import FAILED, LET_IN
from tests.transport_helpers import Context, wait_until_writable

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

METRICS_PORT = 9464
HASTY = ("--runtime.step-timeout-s", "1", "--runtime.host-timeout-s", "8")
ENDLESS = ("--steps", "100000000", "--evaluation.interval-steps", "0")
IN_B = "agent-2"
"""An agent of host b, the host that is compromised."""


class Enemy:
    """Sits on host b, has copied what he could, and speaks ZeroMQ."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        bundles = read_all(fleet.bundles)
        self.hosts = bundles[0].book.hosts
        self.public = bundles[0].book.public
        self.keys = {name: pair for bundle in bundles for name, pair in bundle.keys.items()}
        self.bundle: Bundle = next(bundle for bundle in bundles if bundle.host.name == "b")
        with fleet.hosts["b"].inside():
            self.context: Context = zmq.Context()
            self._first = self.context.socket(zmq.DEALER)  # starts the thread that connects

    def channel(self, name: str, server: str) -> Channel:
        """Let in under a name whose key he has."""
        curve = self.bundle.keyring(name).client_of(server)
        endpoint = self.hosts.endpoint(server)
        channel = Channel(self.context, endpoint, b"", Traffic(), CONTROL, curve=curve)
        wait_until_writable(channel)
        return channel

    def knock(self, server: str, curve: CurveClient | None) -> "Knock":
        return Knock(self.context, self.hosts.endpoint(server), curve)

    def close(self) -> None:
        self.context.destroy(linger=0)  # what a failed test has left open as well


class Knock:
    """One attempt to connect, and how its handshakes end."""

    def __init__(self, context: Context, endpoint: str, curve: CurveClient | None) -> None:
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        if curve is not None:
            curve.apply(self._socket)
        events = LET_IN | zmq.EVENT_DISCONNECTED | FAILED[0] | FAILED[1] | FAILED[2]
        self._monitor = self._socket.get_monitor_socket(events)
        self.events: set[int] = set()
        self._socket.connect(endpoint)

    @property
    def is_answered(self) -> bool:
        while self._monitor.poll(0):
            event = cast("dict[str, Any]", recv_monitor_message(self._monitor))["event"]
            self.events.add(int(event))
        return bool(self.events)

    def close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close()


@pytest.fixture(scope="module")
def enemy(tmp_path_factory: pytest.TempPathFactory) -> Generator[Enemy]:
    require_hosts()
    folder = tmp_path_factory.mktemp("fleet")
    metrics = ("--metrics-port", str(METRICS_PORT))
    with Fleet.start(folder, *ENDLESS, *HASTY, *metrics, join=[]) as fleet:
        for name in ("b", "c"):
            fleet.join(name, *metrics)
        fleet.wait_until_learning(90.0)
        enemy = Enemy(fleet)
        yield enemy
        enemy.close()


def assert_unharmed(enemy: Enemy, before: dict[str, int]) -> None:
    """The same processes, all of them at work."""
    fleet = enemy.fleet
    wait_for("everybody to be up", lambda: fleet.figure("agent/up") == NUM_AGENTS, 30.0)
    fleet.wait_for_episodes(60.0)
    assert fleet.all_processes() == before
    assert fleet.head.poll() is None, fleet.output(HEAD)


def scrape(fleet: Fleet, host: str, address: str) -> str:
    """What /metrics says to somebody on that host."""
    with (
        fleet.hosts[host].inside(),
        urllib.request.urlopen(f"http://{address}:{METRICS_PORT}/metrics", timeout=5.0) as answer,
    ):
        return answer.read().decode()


# --- what can be seen -----------------------------------------------------------------------------


def test_no_secret_shows_in_arguments_environments_logs_results_or_metrics(enemy: Enemy) -> None:
    fleet = enemy.fleet
    secrets = {pair.secret.encode() for pair in enemy.keys.values()}
    assert len(secrets) == NUM_AGENTS + 3 + 3

    seen: dict[str, bytes] = {}
    for host in fleet.hosts:
        pids = host.pids()
        assert len(pids) > 3
        for pid in pids:
            for what in ("cmdline", "environ"):
                with contextlib.suppress(OSError):  # it has ended while we looked
                    seen[f"{what} of {pid}"] = Path(f"/proc/{pid}/{what}").read_bytes()
        seen[f"metrics of {host.name}"] = scrape(fleet, host.name, "127.0.0.1").encode()
        assert b"murmuration_agent_up" in seen[f"metrics of {host.name}"]
    files = [path for path in fleet.folder.rglob("*") if path.is_file()]
    for path in files:
        if path.name != KEYS:
            with contextlib.suppress(FileNotFoundError):  # the oldest of a journal, by now
                seen[str(path)] = path.read_bytes()
    assert any(name.endswith("agent-0.log") for name in seen)
    assert any(name.endswith("config.yaml") for name in seen)

    found = [name for name, content in seen.items() for secret in secrets if secret in content]
    assert found == []
    assert all(
        secret in (fleet.bundles / "a" / KEYS).read_bytes()
        for secret in secrets
        & {enemy.keys[name].secret.encode() for name in enemy.hosts.identities_on("a")}
    ), "the search would not find one"


def listening(fleet: Fleet, host: str) -> set[str]:
    namespace = fleet.hosts[host].namespace
    command = ["ss", "-N", namespace, "-tlnHO"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.split()[3] for line in lines}


def test_only_the_sockets_of_the_hosts_file_listen_for_others(enemy: Enemy) -> None:
    for host in enemy.hosts.hosts:
        identities = enemy.hosts.identities_on(host.name)
        expected = {enemy.hosts.endpoint(name).removeprefix("tcp://") for name in identities}
        found = listening(enemy.fleet, host.name)
        assert found == expected | {f"127.0.0.1:{METRICS_PORT}"}


def test_metrics_cannot_be_read_from_another_host(enemy: Enemy) -> None:
    assert "murmuration_agent_up" in scrape(enemy.fleet, "b", "127.0.0.1")
    with pytest.raises(urllib.error.URLError, match="Connection refused"):
        scrape(enemy.fleet, "c", enemy.hosts["b"].address)


def folder_of_sockets(fleet: Fleet, host: str) -> Path:
    """Where the processes of a host have their local sockets."""
    command = ["ss", "-N", fleet.hosts[host].namespace, "-xlnHO"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (folder,) = set(re.findall(r" (/\S*/murmuration-[^/\s]*)/", lines))
    return Path(folder)


def test_local_sockets_lie_in_a_folder_of_their_owner(enemy: Enemy) -> None:
    for host in ("a", "b", "c"):
        folder = folder_of_sockets(enemy.fleet, host)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert [path.name for path in folder.iterdir()] != []


# --- who gets in ----------------------------------------------------------------------------------


def turned_away(knocks: dict[str, Knock]) -> set[str]:
    """Wait for an answer to each; those that were never let in."""
    wait_for("answers to all", lambda: all(k.is_answered for k in knocks.values()), 30.0)
    found = {name for name, knock in knocks.items() if LET_IN not in knock.events}
    for knock in knocks.values():
        knock.close()
    return found


def test_strangers_are_turned_away_everywhere(enemy: Enemy) -> None:
    before = enemy.fleet.all_processes()
    knocks: dict[str, Knock] = {}
    stranger, own = KeyPair.generate(), enemy.keys[IN_B]
    for server in enemy.hosts.identities():
        knocks[f"{server}: no key"] = enemy.knock(server, None)
        key = enemy.public[server]
        knocks[f"{server}: unlisted"] = enemy.knock(server, CurveClient(stranger, key))
        wrong = CurveClient(own, stranger.public)
        knocks[f"{server}: wrong key of the server"] = enemy.knock(server, wrong)
    everything = set(knocks)
    assert turned_away(knocks) == everything
    assert_unharmed(enemy, before)


def guests_of(server: str) -> set[str]:
    """Who has business there."""
    agents = {agent_routing_id(agent).decode() for agent in range(NUM_AGENTS)}
    nodes = {"node-a", "node-b", "node-c"}
    match server:
        case "launcher":
            return {WORLD, LEARNER, *nodes}
        case "world":
            return agents
        case "learner":
            return {WORLD, LAUNCHER, *agents, *nodes}
        case _ if server in nodes:
            return nodes - {server}
        case _:
            peers = topology.in_neighbours(int(server.removeprefix("agent-")), NUM_AGENTS)
            return {agent_routing_id(peer).decode() for peer in peers}


def test_a_key_opens_only_the_doors_it_is_for(enemy: Enemy) -> None:
    before = enemy.fleet.all_processes()
    everybody = enemy.hosts.identities()
    knocks = {
        f"{name} at {server}": enemy.knock(
            server, CurveClient(enemy.keys[name], enemy.public[server])
        )
        for server in everybody
        for name in everybody
        if name not in guests_of(server)
    }
    everything = set(knocks)
    assert len(everything) > 50
    assert turned_away(knocks) == everything
    assert_unharmed(enemy, before)


# --- what a compromised host can say --------------------------------------------------------------


def test_a_node_cannot_speak_for_anybody_else_at_the_head(enemy: Enemy) -> None:
    before = enemy.fleet.all_processes()
    node = enemy.channel("node-b", LAUNCHER)
    lies: list[wire.Packet] = [
        wire.Hello("learner", 0, 0, 1, "tcp://10.77.0.2:7499"),
        wire.Hello("world", 0, 0, 1, "tcp://10.77.0.2:7499"),
        wire.WorldState("trained"),
        wire.Status("learner", {"updates": 1e9}),
        wire.LearnerState(1e9, 1_000_000_000),
        wire.Trained(1_000_000_000),
        wire.EpisodeResult(1, 0, 10, 10, 424242.0, 1),
        wire.EpisodeResult(1, 1, 10, 10, 424242.0, 1),
        wire.AgentState(0, 5, 0),
        wire.AgentState(5, 5, 0),
        wire.Instruction("kill", 0),
        wire.Join("another deployment"),
    ]
    for lie in lies:
        assert node.send(lie)

    def answers() -> list[str]:
        return [packet.reason for packet in node.drain(wire.Stop) if isinstance(packet, wire.Stop)]

    (reason,) = wait_for("an answer to the last", answers, 20.0)
    assert reason == "the bundle of host b is not of the head's deployment: copy the newest"
    node.close()
    assert_unharmed(enemy, before)
    (episodes,) = enemy.fleet.folder.glob("runs/*/episodes.jsonl")
    assert "424242" not in episodes.read_text()
    assert enemy.fleet.figure("learner/updates") < 1e9


def hostile_frames(kind: wire.Packet) -> dict[str, bytes]:
    """What is not a packet, in every way that a packet can be wrong."""
    good = wire.encode(kind)
    nan = np.full((1, 64), np.nan, dtype=np.float16)
    one = np.ones(1, dtype=np.uint8)
    shape = [0, [1 << 31, 1 << 31], b""]
    return {
        "truncated": good[: len(good) // 2],
        "cut by one": good[:-1],
        "too long": good + b"\x00",
        "nested deeply": b"\x91" * 3_000 + b"\xc0",
        "many empty lists": b"\xdc\xff\xff" + b"\x90" * 65_535,
        "four thousand million elements": b"\xdd\xff\xff\xff\xff",
        "a gigabyte of text": b"\xdb\x40\x00\x00\x00",
        "a map": b"\x81\xa1a\x01",
        "an extension": b"\xc7\x08\x00" + bytes(8),
        "garbage": bytes(range(256)),
        "not a number": wire.encode(wire.Message(2, 1, 0, one, nan)),
        "false dtype": wire.encode(wire.Message(2, 1, 0, one, np.ones((1, 64), dtype=np.int8))),
        "false shape": wire.encode(wire.Message(2, 1, 0, one, np.ones((7, 3), dtype=np.float16))),
        "an impossible shape": _packed([wire.VERSION, wire.Message.KIND, 2, 1, 0, shape, shape]),
        "from the past": wire.encode(wire.Action(0, 1, one, np.ones(1, dtype=np.uint16), one)),
        "from the future": wire.encode(
            wire.Action((1 << 32) - 1, 1, one, np.ones(1, dtype=np.uint16), one)
        ),
        "another version": _packed([kind.FORMAT + 1, kind.KIND]),
        "another kind": _packed([wire.VERSION, 99]),
        "negative": _packed([wire.VERSION, kind.KIND, -1, -1, -1]),
        "more than any sum holds": _packed(
            [wire.VERSION, wire.Status.KIND, "node", [["env_steps", "tick"], [1e308, 1e308]]]
        ),
    }


def _packed(value: list[Any]) -> bytes:
    import msgpack

    return cast("bytes", msgpack.packb(value))  # pyright: ignore  # no type stubs


def test_nothing_that_a_guest_can_send_ends_a_process(enemy: Enemy) -> None:
    fleet = enemy.fleet
    before = fleet.all_processes()
    out = agent_routing_id(topology.out_neighbours(2, NUM_AGENTS)[0]).decode()
    one = np.ones(1, dtype=np.uint8)
    rows = np.ones((1, 64), dtype=np.float16)
    doors: list[tuple[str, str, wire.Packet]] = [
        (IN_B, WORLD, wire.Action(1, 1, one, np.ones(1, dtype=np.uint16), one)),
        (IN_B, LEARNER, wire.SnapshotRequest(1)),
        (IN_B, out, wire.Message(2, 1, 0, one, rows)),
        ("node-b", LAUNCHER, wire.Status("node", {"agents_ready": 2.0})),
        ("node-b", "node-a", wire.ClockProbe(1, 1)),
        ("node-b", LEARNER, wire.SnapshotRequest(0)),
    ]
    dropped = fleet.figure("learner/dropped_frames")
    sent = 0
    for name, server, packet in doors:
        channel = enemy.channel(name, server)
        for frame in hostile_frames(packet).values():
            assert channel.send_frame(frame, None)
            sent += server == LEARNER
        channel.socket.send_multipart([b"two", b"frames"])
        # The last is good, and what comes before it has been read when it has.
        wait_for("it to leave", lambda c=channel, p=packet: c.send(p), 10.0)
        time.sleep(0.3)
        channel.close()
    wait_for("drops", lambda: fleet.figure("learner/dropped_frames") >= dropped + sent, 30.0)
    assert_unharmed(enemy, before)


def test_an_agent_that_floods_the_world_stops_neither_it_nor_the_others(enemy: Enemy) -> None:
    fleet = enemy.fleet
    before = fleet.all_processes()
    world = before["a/world"]
    rss_mb = fleet.rss_mb(world)
    channel = enemy.channel(IN_B, WORLD)
    stop = threading.Event()
    sent = 0

    def flood() -> None:
        nonlocal sent
        while not stop.is_set():
            if channel.socket.poll(10, zmq.POLLOUT):
                channel.socket.send(b"\xc1" * 20_000)
                sent += 1

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        wait_for("a flood", lambda: sent > 2_000, 30.0)
        fleet.wait_for_steps(60.0, more=200)
        assert fleet.rss_mb(world) < rss_mb + 100
    finally:
        stop.set()
        thread.join()
        channel.close()
    assert_unharmed(enemy, before)


def unknown_senders(fleet: Fleet) -> float:
    """Packets that host b's node has dropped because they were not its agents'."""
    lines = scrape(fleet, "b", "127.0.0.1").splitlines()
    dropped = (line for line in lines if line.startswith("murmuration_dropped_packets_total"))
    found = (x for x in dropped if 'process="node"' in x and 'reason="unknown_sender"' in x)
    return sum(float(line.split()[-1]) for line in found)


def test_a_node_hears_only_its_own_agents(enemy: Enemy) -> None:
    """On one host names are claims, so they are held against the host's share."""
    fleet = enemy.fleet
    before = fleet.all_processes()
    folder = folder_of_sockets(fleet, "b")
    strangers = unknown_senders(fleet)
    channel = Channel(
        enemy.context, f"ipc://{folder}/node", agent_routing_id(0), Traffic(), CONTROL
    )
    wait_until_writable(channel)
    for packet in (
        wire.Leaving(),
        wire.Hello("agent", 0, 9, 1, "tcp://10.77.0.2:7499"),
        wire.SnapshotRequest(0),
    ):
        assert channel.send(packet)
    wait_for("three to be dropped", lambda: unknown_senders(fleet) == strangers + 3, 10.0)
    assert not channel.socket.poll(100), "it was answered"
    channel.close()
    assert_unharmed(enemy, before)


# --- the end --------------------------------------------------------------------------------------


def test_the_run_has_counted_and_logged_who_was_refused_and_ends_in_good_order(
    enemy: Enemy,
) -> None:
    fleet, stranger = enemy.fleet, KeyPair.generate()
    servers = ("launcher", "world", "learner", "node-c", "agent-0")
    knocks = {
        server: enemy.knock(server, CurveClient(stranger, enemy.public[server]))
        for server in servers
    }
    assert turned_away(knocks) == set(servers)
    logs = {
        "launcher": [fleet.folder / f"{HEAD}-0.txt"],
        "world": [*fleet.folder.glob("runs/*/logs/world-0.log")],
        "learner": [*fleet.folder.glob("runs/*/logs/learner-0.log")],
        "node": [*fleet.folder.glob("runs-c/*/logs/node-0.log")],
        "inbox": [*fleet.folder.glob("runs/*/logs/agent-0.log")],
    }
    for domain, (path,) in logs.items():
        assert f"{domain}: refused a connection from 10.77.0.2" in path.read_text()
    refused = r"^murmuration_refused_connections_total\S* [1-9]"
    for host in (HEAD, "c"):

        def counted(host: str = host) -> bool:
            return bool(re.search(refused, scrape(fleet, host, "127.0.0.1"), re.MULTILINE))

        wait_for("a count", counted, 10.0)
    fleet.interrupt()
    assert fleet.wait_for_exits(60.0)[HEAD] == 130, fleet.output(HEAD)
