"""The body protocol: the agent's side and the reference client, over a real socket."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq

from agents.process.body_link import BodyLink, NewBody, Sensed, as_observation, overtaking
from runtime.body import BodyClient
from runtime.net import latency, wire
from runtime.net.edge_bits import edge_bits
from runtime.net.errors import BodyError, SetupError
from runtime.net.traffic import Traffic
from tests.agents_helpers import make_spec
from tests.process.runs import wait_for

AGENT = 7
SPEC = make_spec(observation_dim=6, num_actions=5)
ROW = np.array([0.0, 1.0, -1.0, 0.5, 0.25, 2.0], dtype=np.float32)
DOCUMENT = Path(__file__).parents[2] / "docs" / "body.md"


class Host:
    """An agent's side that does what the largest number of an observation says."""

    def __init__(self, folder: Path, rate_hz: float = 0.0) -> None:
        self.traffic = Traffic()
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.endpoint = f"ipc://{folder}/body"
        self.link = self.make_link(rate_hz)
        self.sensed: list[Sensed] = []
        self.bodies = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def make_link(self, rate_hz: float) -> BodyLink:
        return BodyLink(self.context, self.endpoint, AGENT, SPEC, rate_hz, self.traffic)

    def _serve(self) -> None:
        while not self._over.is_set():
            self.link.socket.poll(10)
            for news in self.link.take():
                if isinstance(news, NewBody):
                    self.bodies += 1
                    continue
                self.sensed.append(news)
                choice = int(np.argmax(news.packet.observation)) % SPEC.num_actions
                mask = np.zeros(1, dtype=np.uint16)
                actions, said = np.array([choice], dtype=np.uint8), np.zeros(1, dtype=np.uint8)
                self.link.act(news, wire.Action(1, 3, actions, mask, said))

    def __enter__(self) -> "Host":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.link.close()
        self.context.term()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Host(tmp_path) as host:
        yield host


@pytest.fixture
def body(host: Host) -> Iterator[BodyClient]:
    with BodyClient(host.endpoint, AGENT, timeout_s=10.0) as body:
        yield body


def test_a_body_learns_what_its_agent_takes_and_gives(tmp_path: Path) -> None:
    with Host(tmp_path, 12.5) as host, BodyClient(host.endpoint, AGENT, timeout_s=10.0) as body:
        assert (body.observation_dim, body.num_actions, body.rate_hz) == (6, 5, 12.5)


@pytest.mark.parametrize("dtype", ["float32", "float16", ">f4"])
def test_an_observation_arrives_as_it_was_sensed(host: Host, body: BodyClient, dtype: str) -> None:
    assert body.act(ROW.astype(dtype), step=3, first=True) == 5 % SPEC.num_actions
    assert body.act(-ROW.astype(dtype), step=4, alive=False) == 2
    first, second = (sensed.packet for sensed in host.sensed)
    np.testing.assert_array_equal(first.observation, ROW)
    assert (first.step, first.flags) == (3, wire.ALIVE | wire.FIRST)
    assert (second.step, second.flags) == (4, 0)
    wait_for("both to be counted", lambda: sum(host.link.latency) == 2, 10.0)


def test_steps_count_on_where_their_numbers_wrap(host: Host, body: BodyClient) -> None:
    for step in ((1 << 32) - 1, 1 << 32, (1 << 32) + 1):
        body.act(ROW, step=step)
    assert [sensed.packet.step for sensed in host.sensed] == [(1 << 32) - 1, 0, 1]


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        (np.zeros(5, np.float32), r"agent 7 takes observations of 6 numbers, got shape \(5,\)"),
        (np.zeros((1, 6), np.float32), r"got shape \(1, 6\)"),
        (np.zeros(6), "float32, float16 or uint8, got float64"),
        (np.full(6, np.inf, np.float32), "must be finite"),
    ],
)
def test_what_the_agent_would_refuse_is_not_sent(
    body: BodyClient, observation: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        body.send(observation, step=0)


def test_nobody_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(BodyError, match=r"agent 7 at ipc:.*: no answer in 0\.2 s"):
        BodyClient(f"ipc://{tmp_path}/nobody", AGENT, timeout_s=0.2)


def test_another_agent_is_refused(host: Host) -> None:
    with pytest.raises(BodyError, match="this is agent 7, not agent 8"):
        BodyClient(host.endpoint, 8, timeout_s=10.0)
    assert host.traffic["dropped_unknown_sender"] == 1


def test_an_agent_that_does_not_answer_in_time_is_named(tmp_path: Path) -> None:
    with Host(tmp_path) as host:
        body = BodyClient(host.endpoint, AGENT, timeout_s=0.3)
        usurper = BodyClient(host.endpoint, AGENT, timeout_s=10.0)
        with pytest.raises(BodyError, match=r"agent 7 at .*: no action for step 1 in 0\.3 s"):
            body.act(ROW, step=1)
        usurper.act(ROW, step=1)
        for client in (body, usurper):
            client.close()


def test_the_newest_body_is_the_body(host: Host, body: BodyClient) -> None:
    body.act(ROW, step=100)
    with BodyClient(host.endpoint, AGENT, timeout_s=10.0) as other:
        other.act(ROW, step=1)  # numbers of its own
        body.send(ROW, step=101)
        other.act(ROW, step=2)
    assert host.bodies == 2
    assert [sensed.packet.step for sensed in host.sensed] == [100, 1, 2]
    assert host.traffic["dropped_unknown_sender"] == 1


def test_a_second_hello_of_the_same_body_changes_nothing(host: Host, body: BodyClient) -> None:
    body.act(ROW, step=5)
    body.socket.send(wire.encode(wire.BodyHello(AGENT)))
    body.act(ROW, step=6)
    assert host.bodies == 1


def test_what_does_not_fit_is_counted_and_dropped(host: Host, body: BodyClient) -> None:
    body.act(ROW, step=5)
    for packet in (
        wire.BodyObservation(6, 1, 0, np.zeros(7, np.float32)),
        wire.BodyObservation(6, 1, 0, np.full(6, np.nan, np.float32)),
        wire.BodyObservation(5, 1, 0, ROW),
        wire.BodyObservation(4, 1, 0, ROW),
        wire.BodyAction(6, 1, 1),
    ):
        body.socket.send(wire.encode(packet))
    body.socket.send_multipart([b"two", b"parts"])
    body.act(ROW, step=6)
    counted = {
        name: host.traffic[f"dropped_{name}"]
        for name in ("shape", "nonfinite", "stale", "kind", "decode")
    }
    assert counted == {"shape": 1, "nonfinite": 1, "stale": 2, "kind": 1, "decode": 1}
    assert len(host.sensed) == 2


@pytest.mark.parametrize("endpoint", ["tcp://0.0.0.0:9000", "tcp://*:9000", "tcp://10.0.0.1:9000"])
def test_a_body_sits_on_its_agents_host(endpoint: str, tmp_path: Path) -> None:
    with (
        zmq.Context() as context,
        pytest.raises(SetupError, match="a body sits on its agent's host"),
    ):
        BodyLink(context, endpoint, AGENT, SPEC, 0.0, Traffic())


@pytest.mark.parametrize("sent_ns", [0, 1, (1 << 64) - 1])
def test_a_stamp_of_another_clock_is_not_believed(
    host: Host, body: BodyClient, sent_ns: int
) -> None:
    body.socket.send(wire.encode(wire.BodyObservation(1, wire.ALIVE, sent_ns, ROW)))
    body.act(ROW, step=2)
    seconds = [latency.upper_bound_ns(i) / 1e9 for i, n in enumerate(host.link.latency) if n]
    assert max(seconds) < 10.0


def test_an_observation_becomes_what_a_world_would_hand_out() -> None:
    packet = wire.BodyObservation(9, wire.ALIVE | wire.FIRST, 0, ROW)
    observation = as_observation(packet, 77, 0, edge_bits(3))
    assert (observation.tick, observation.steps.tolist()) == (77, [0])
    assert observation.flags.tolist() == [wire.ALIVE], "what the first of an episode is, steps say"
    np.testing.assert_array_equal(observation.observations, ROW[None])
    dead = as_observation(wire.BodyObservation(9, 0, 0, ROW), 78, 70_000, edge_bits(3))
    assert (dead.observations.shape, dead.steps.tolist()) == ((0, 6), [65_535])
    assert as_observation(packet, 77, 0, edge_bits(70)).in_masks.shape == (1, 2)


@pytest.mark.parametrize(
    ("older", "newer", "flags"),
    [
        (None, wire.ALIVE, wire.ALIVE),
        (wire.ALIVE, wire.ALIVE, wire.ALIVE),
        (wire.ALIVE | wire.FIRST, wire.ALIVE, wire.ALIVE | wire.FIRST),
        (wire.ALIVE | wire.FIRST, 0, wire.FIRST),
        (wire.ALIVE, wire.ALIVE | wire.FIRST, wire.ALIVE | wire.FIRST),
    ],
)
def test_an_episode_whose_first_observation_no_tick_has_seen_begins_with_the_next(
    older: int | None, newer: int, flags: int
) -> None:
    def sensed(step: int, flags: int) -> Sensed:
        return Sensed(wire.BodyObservation(step, flags, 0, ROW), 0)

    left = overtaking(None if older is None else sensed(1, older), sensed(2, newer))
    assert (left.packet.step, left.packet.flags) == (2, flags)


# --- the document ---------------------------------------------------------------------------------


DUMPED: dict[str, wire.Packet] = {
    "hello": wire.BodyHello(agent=3),
    "welcome": wire.BodyWelcome(agent=3, observation_dim=6, num_actions=4, rate_hz=0.0),
    "observation": wire.BodyObservation(
        step=1000,
        flags=wire.ALIVE | wire.FIRST,
        sent_ns=123_456_789_000,
        observation=np.array([1.0, 0.0, 0.0, 1.0, 0.0, 0.0], dtype=np.float32),
    ),
    "action": wire.BodyAction(step=1000, action=2, policy_version=205),
}


def dump(packet: wire.Packet) -> str:
    """Sixteen octets to a line, as in the document."""
    octets = [f"{octet:02x}" for octet in wire.encode(packet)]
    return "\n".join(" ".join(octets[at : at + 16]) for at in range(0, len(octets), 16))


@pytest.mark.parametrize("name", DUMPED)
def test_the_document_shows_what_is_sent(name: str) -> None:
    shown = re.search(
        rf"<!-- dump: {name} -->\n```\n(.*?)\n```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL
    )
    assert shown is not None, f"docs/body.md has no dump of the {name}"
    assert shown[1] == dump(DUMPED[name])


def test_the_document_names_every_field_and_kind() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for packet in DUMPED.values():
        assert f"{type(packet).__name__} (kind {packet.KIND})" in text
        for field in packet.__dataclass_fields__:  # type: ignore[attr-defined]  # all are dataclasses
            assert f"`{field}`" in text


class RealHost(Host):
    """An agent's side that hands back the first two numbers of an observation."""

    def _serve(self) -> None:
        while not self._over.is_set():
            self.link.socket.poll(10)
            for news in self.link.take():
                if isinstance(news, Sensed):
                    action = news.packet.observation[None, :2].astype(np.float32)
                    none = np.zeros(1, dtype=np.uint16)
                    self.link.act(news, wire.Action(1, 3, action, none, none.astype(np.uint8)))


def test_an_action_of_real_numbers_reaches_the_body(tmp_path: Path) -> None:
    with (
        RealHost(tmp_path) as host,
        BodyClient(host.endpoint, AGENT, timeout_s=10.0) as body,
    ):
        action = body.act_reals(ROW, step=1, first=True)
        np.testing.assert_array_equal(action, ROW[:2])
        with pytest.raises(BodyError, match="2 real numbers, ask it by act_reals"):
            body.act(ROW, step=2)


def test_an_action_from_a_list_is_no_real_number(body: BodyClient) -> None:
    with pytest.raises(BodyError, match="chosen from 5, ask it by act"):
        body.act_reals(ROW, step=1)


def test_a_number_of_an_action_may_have_16_bits() -> None:
    frame = wire.encode(wire.BodyAction(1, 700, 3))
    assert wire.decode(frame, wire.BodyAction) == wire.BodyAction(1, 700, 3)
