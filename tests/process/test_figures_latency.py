"""Latency between hosts: delays that we have made ourselves, and what comes of them.

    host a, agent 0 ◀── messages: 400 ms ── proxy ◀── host b, agent 1, its clock 100 000 s ahead
    host a, agent 0 ◀──── everything: 100, 50 ms, then 10 and 30 ms ─▶ host c, agent 2

Three nodes, deployed; the test plays all bodies. Host b knows host a by the proxy's address: its
node's port is passed on at once, its agent's port with the delay. Clock probes of host a go to
host b directly. Namespaces share the machine's clocks, which is why true offsets are known here:
zero, and what `unshare --time` was asked for.

Delays of messages are 400 and 200 ms so that what this machine adds (nothing is quicker than its
scheduler) stays below a tenth of them, and not too close below the upper bound of a bin of
runtime/net/latency.py (371 to 441 ms, 185 to 220 ms), whose middle is what a quantile says.
"""

import dataclasses
import json
import math
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from runtime.bodies import Bodies
from runtime.deployment.bundle import DeployOptions, make_keys, write_bundles
from runtime.deployment.hosts import Host as Place
from runtime.deployment.hosts import Hosts as Book
from runtime.deployment.hosts import load_hosts
from runtime.net.transport import agent_routing_id, node_routing_id
from tests.process.deployed import RELAY_POLICY, relay_policy
from tests.process.metrics_page import MetricsPage, scrape
from tests.process.namespaces import Host, Hosts, require_hosts
from tests.process.runs import wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

METRICS_PORT = 9464
NUM_AGENTS = 3
AHEAD_S = 100_000
"""How far the clock of host b is ahead."""
MESSAGES_S, LATER_S = 0.4, 0.2
"""Delay of messages from b to a, and what it is changed to."""
SLOW_S = 0.1
"""Delay of everything to and from host c, each way, at first."""
LOPSIDED_S = 0.01, 0.03
"""From host c and to it, in the end. Delays only shrink: a quick probe is remembered for 64 s."""
STEP_S = 0.05
LATENCY = "edge_latency_seconds_total"
HEARD = ("edge_received_messages_total", LATENCY)
TOLERANCE = 0.1
_PROJECT = Path(__file__).parents[2]


def require_time_namespaces() -> None:
    """Skip where a process cannot be given a clock of its own."""
    command = ["unshare", "--time", "--monotonic", str(AHEAD_S), "true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except FileNotFoundError:
        pytest.skip("a clock of its own needs `unshare` (Debian package util-linux)")
    if done.returncode != 0:
        pytest.skip(f"time namespaces do not work here: {done.stderr.strip()}")


class Deployment:
    """The three nodes, and the bodies of their agents."""

    def __init__(self, hosts: Hosts, folder: Path) -> None:
        self.hosts = hosts
        self._folder = folder
        self._step = 0
        self._bodies: Bodies | None = None
        self.book = self._write_bundles()
        self._proxies = {
            node_routing_id("a").decode(): self._proxy(node_routing_id("a").decode(), 0.0),
            agent_routing_id(0).decode(): self._proxy(agent_routing_id(0).decode(), MESSAGES_S),
        }
        clocks = {"b": ("unshare", "--time", "--monotonic", str(AHEAD_S))}
        self.nodes = {
            name: self._node(hosts[name], clocks.get(name, ())) for name in self.book.names
        }

    @property
    def _body(self) -> str:
        return f"ipc://{self._folder}/body-{{agent}}"

    def _write_bundles(self) -> Book:
        names = ("a", "b", "c")
        file = self._folder / "hosts.yaml"
        lines = [f"  {name}: {{address: {self.hosts[name].address}}}\n" for name in names]
        file.write_text("hosts:\n" + "".join(lines))
        book = load_hosts(file, NUM_AGENTS)
        keys, policy = make_keys(book), RELAY_POLICY.read_bytes()
        options = DeployOptions(comm="sops", gate_mode="open", body=self._body)
        detour = Book(tuple(self._as_seen_by_b(place) for place in book.hosts), book.head)
        for folder, seen in (("bundles", book), ("bundles-b", detour)):
            write_bundles(
                *(self._folder / folder, seen, keys),
                policy=policy,
                options=options,
                deployment="figures",
            )
        return book

    def _as_seen_by_b(self, place: Place) -> Place:
        if place.name != "a":
            return place
        return dataclasses.replace(place, address=self.hosts["proxy"].address)

    def _proxy(self, identity: str, delay_s: float) -> "subprocess.Popen[str]":
        """Pass on what comes to the proxy's port of that name, messages with a delay."""
        to = self.book.endpoint(identity).removeprefix("tcp://")
        listen = f"{self.hosts['proxy'].address}:{to.rpartition(':')[2]}"
        host = self.hosts["proxy"]
        command = [host.python, "-m", "tests.process.delay_proxy", "--listen", listen, "--to", to]
        command += ["--delay-ms", str(1e3 * delay_s), "--delay-back-ms", "0"]
        proxy = host.popen(command, cwd=_PROJECT, talk=True)
        assert proxy.stdout is not None
        assert proxy.stdout.readline().startswith("listening")
        return proxy

    def delay_messages(self, delay_s: float) -> None:
        """Change the delay of what comes from b to agent 0 from now on."""
        proxy = self._proxies[agent_routing_id(0).decode()]
        assert proxy.stdin is not None
        assert proxy.stdout is not None
        proxy.stdin.write(f"delay {1e3 * delay_s} 0\n")
        proxy.stdin.flush()
        assert proxy.stdout.readline() == "ok\n"

    def _node(self, host: Host, clock: tuple[str, ...]) -> "subprocess.Popen[str]":
        bundles = "bundles-b" if host.name == "b" else "bundles"
        options = ("--bundle", str(self._folder / bundles / host.name))
        options += ("--runs-dir", str(self._folder / f"runs-{host.name}"))
        options += ("--metrics-port", str(METRICS_PORT), "--metrics-per-edge")
        command = [*clock, host.python, "-m", "runtime.node", *options]
        return host.popen(command, cwd=_PROJECT, output=self._folder / f"{host.name}.txt")

    def page(self, name: str) -> MetricsPage:
        return scrape(self.hosts[name], METRICS_PORT)

    def wait_until_acquainted(self) -> None:
        """Until bodies are served and every host has an idea of every other's clock."""
        self._bodies = Bodies(self._body, range(NUM_AGENTS), 60.0)

        def acquainted() -> bool:
            self.play(5)
            try:
                pages = [self.page(name) for name in self.book.names]
            except OSError:  # an exporter is not there yet
                return False
            return all(len(page.all("clock_offset_seconds")) == NUM_AGENTS - 1 for page in pages)

        wait_for("clocks to be compared", acquainted)

    def play(self, steps: int) -> None:
        """Have all agents act, twenty times a second; with open gates, each sends to each."""
        assert self._bodies is not None
        observation = np.zeros(relay_policy().spec.observation_dim, np.float32)
        observations = dict.fromkeys(range(NUM_AGENTS), observation)
        for _ in range(steps):
            due_s = time.monotonic() + STEP_S
            self._bodies.act(observations, step=self._step, first=False, patience_s=STEP_S)
            self._step += 1
            time.sleep(max(due_s - time.monotonic(), 0.0))

    def play_until(self, condition: Callable[[MetricsPage], bool]) -> MetricsPage:
        """Until host a's page says so, or for forty seconds; its newest page."""
        deadline = time.monotonic() + 40.0
        while True:
            page = self.page("a")
            if condition(page) or time.monotonic() > deadline:
                return page
            self.play(5)

    def latency_s(self, steps: int) -> float:
        """Mean latency of messages from agent 1 to agent 0 that are sent from now on; nan if host a
        does not publish any.
        """
        edge = {"src": "1", "dst": "0"}
        from_s = time.time() + 2 * MESSAGES_S  # what was under way has arrived by then

        def has_reported(page: MetricsPage) -> bool:
            reports_s = page.all("last_report_timestamp_seconds", agent="0").values()
            return max(reports_s, default=0.0) > from_s and page.has(LATENCY, **edge)

        before = self.play_until(has_reported)
        self.play(steps)
        after = self.page("a")
        if not (before.has(LATENCY, **edge) and after.has(LATENCY, **edge)):
            return math.nan
        messages, latency_s = (after(name, **edge) - before(name, **edge) for name in HEARD)
        return latency_s / messages

    def end(self) -> dict[str, dict[str, float]]:
        """Ctrl-C on all hosts; their summaries."""
        if self._bodies is not None:
            self._bodies.close()
        for name in self.nodes:
            self.hosts[name].kill_all(signal.SIGINT)
        for name, node in self.nodes.items():
            assert node.wait(20.0) == 0, (self._folder / f"{name}.txt").read_text()
        found = {name: self._folder.glob(f"runs-{name}/*/summary.json") for name in self.nodes}
        return {name: json.loads(next(paths).read_text()) for name, paths in found.items()}


@dataclass(frozen=True)
class Measured:
    """What was read while the deployment served, and what was left of it."""

    first: MetricsPage
    """Of host a: messages from b take 400 ms, everything from and to c 100 ms."""
    first_of_b: MetricsPage
    first_s: float
    """Mean latency of messages from b to a meanwhile."""
    later: MetricsPage
    """200 ms and 50 ms."""
    later_s: float
    lopsided: MetricsPage
    """10 ms from c, 30 ms to c."""
    summaries: dict[str, dict[str, float]]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    require_hosts()
    require_time_namespaces()
    with Hosts.create("a", "b", "c", "proxy") as hosts, hosts["c"].slow_link(SLOW_S) as cable:
        deployment = Deployment(hosts, tmp_path_factory.mktemp("latency"))
        deployment.wait_until_acquainted()
        first_s = deployment.latency_s(60)
        first = deployment.play_until(lambda page: follows(round_trip_s(page), 2 * SLOW_S))
        first_of_b = deployment.page("b")
        cable.delay_s = cable.delay_back_s = SLOW_S / 2
        deployment.delay_messages(LATER_S)
        later_s = deployment.latency_s(30)
        deployment.delay_messages(MESSAGES_S)
        later = deployment.play_until(lambda page: follows(round_trip_s(page), SLOW_S))
        cable.delay_s, cable.delay_back_s = LOPSIDED_S
        lopsided = deployment.play_until(lambda page: follows(round_trip_s(page), sum(LOPSIDED_S)))
        summaries = deployment.end()
        yield Measured(first, first_of_b, first_s, later, later_s, lopsided, summaries)


def follows(measured_s: float, delay_s: float) -> bool:
    return delay_s <= measured_s <= (1 + TOLERANCE) * delay_s


def round_trip_s(page: MetricsPage, peer: str = "c") -> float:
    return page("round_trip_seconds", peer=peer)


def test_one_way_latency_follows_a_delay_that_is_known(measured: Measured) -> None:
    print(f"messages from b: {measured.first_s} s of {MESSAGES_S}, {measured.later_s} of {LATER_S}")
    assert follows(measured.first_s, MESSAGES_S)
    assert follows(measured.later_s, LATER_S)


def test_the_median_of_a_host_follows_the_delay_too(measured: Measured) -> None:
    p50_ms = measured.summaries["a"]["message_latency_p50_ms"]
    print(f"median at host a: {p50_ms} ms of {1e3 * MESSAGES_S}")
    assert follows(p50_ms / 1e3, MESSAGES_S)


def test_a_clock_that_is_a_day_ahead_is_read_to_within_its_bound(measured: Measured) -> None:
    for page, peer, truth_s in (
        (measured.first, "b", -AHEAD_S),
        (measured.first_of_b, "a", AHEAD_S),
        (measured.first_of_b, "c", AHEAD_S),
    ):
        offset_s = page("clock_offset_seconds", peer=peer)
        error_s = page("clock_error_seconds", peer=peer)
        print(f"clock of {peer}: {offset_s} s, off by {offset_s - truth_s} s, bound {error_s} s")
        assert 0.0 < error_s < 2 * SLOW_S
        assert abs(offset_s - truth_s) <= error_s


def test_latency_is_published_where_the_clocks_are_known_to_a_fifth_of_it(
    measured: Measured,
) -> None:
    page = measured.first
    assert page("one_way_trusted", peer="b") == 1
    assert page("clock_error_seconds", peer="b") <= 0.2 * MESSAGES_S
    count = page("message_latency_seconds_count", source_host="b")
    # All but a few of the first, which came before the clocks had been compared.
    by_bucket = {
        bound: page("message_latency_seconds_bucket", source_host="b", le=bound)
        for bound in ("0.32768", "0.65536")
    }
    assert by_bucket["0.32768"] == 0
    assert by_bucket["0.65536"] > 0.9 * count > 0


def test_where_the_bound_is_too_wide_there_are_round_trips_and_no_one_way_figures(
    measured: Measured,
) -> None:
    for page, delay_s in ((measured.first, SLOW_S), (measured.later, SLOW_S / 2)):
        print(f"round trip to c: {round_trip_s(page)} s of {2 * delay_s}")
        assert follows(round_trip_s(page), 2 * delay_s)
        assert page("one_way_trusted", peer="c") == 0
        assert page("edge_received_messages_total", src="2", dst="0") > 0
        assert not page.has("message_latency_seconds_count", source_host="c")
        assert not page.has(LATENCY, src="2", dst="0")


def test_ways_of_different_length_deceive_the_estimate_and_not_its_bound(
    measured: Measured,
) -> None:
    page = measured.lopsided
    offset_s = page("clock_offset_seconds", peer="c")
    error_s = page("clock_error_seconds", peer="c")
    print(f"10 ms from c and 30 ms to c: offset {offset_s} s, bound {error_s} s, truth 0 s")
    assert follows(round_trip_s(page), sum(LOPSIDED_S))
    assert -0.0125 < offset_s < -0.0075, "half the difference is taken for one of the clocks"
    assert abs(offset_s) <= error_s < 0.023
    assert page("one_way_trusted", peer="c") == 0
