"""Who is let in, under which name, and what it costs: keys, gatekeeper and secure sockets."""

import ast
import contextlib
import logging
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from runtime.net import wire
from runtime.net.doorbook import Doorbook
from runtime.net.errors import SetupError
from runtime.net.security import (
    KEY_CHARACTERS,
    CurveClient,
    CurveServer,
    Gatekeeper,
    KeyPair,
    Keyring,
    is_private,
    require_secure,
)
from runtime.net.tcp_info import TcpConnection, connections
from runtime.net.traffic import Traffic, curve_handshake_bytes, frame_zmtp_bytes
from runtime.net.transport import (
    CONTROL,
    Channel,
    Hub,
)
from tests.security_helpers import (
    DOMAIN,
    FAILED,
    UNLISTED,
    House,
    heard,
    heard_from,
    outcome,
    say,
    terminating_context,
    wait_until,
)
from tests.transport_helpers import Context, at_channel, wait_until_writable


@pytest.fixture
def context() -> Iterator[Context]:
    with terminating_context() as context:
        yield context


@pytest.fixture
def house(context: Context) -> Iterator[House]:
    house = House(context)
    yield house
    house.close()


def assert_heard_alone(house: House, hub: Hub) -> None:
    """A guest is heard, and nothing of what a stranger has said."""
    guest = house.guest(hub, "agent-1")
    say(guest, "a guest")
    assert heard(hub) == (b"agent-1", "a guest")
    assert list(hub.drain(wire.Stop)) == []


# --- keys -----------------------------------------------------------------------------------------


def test_keys_are_forty_characters_and_never_the_same_twice() -> None:
    pairs = [KeyPair.generate() for _ in range(5)]
    halves = {half for pair in pairs for half in (pair.public, pair.secret)}
    assert len(halves) == 10
    assert {len(half) for half in halves} == {KEY_CHARACTERS}


def test_secret_keys_do_not_show_in_anything_that_is_printed() -> None:
    pair = KeyPair.generate()
    keyring = Keyring("world", pair, {"world": pair.public, "learner": pair.public})
    for thing in (pair, keyring, keyring.client_of("learner"), keyring.server("world")):
        assert pair.secret not in f"{thing} {thing!r}"


def test_a_keyring_makes_both_ends_of_a_connection(context: Context) -> None:
    pairs = {name: KeyPair.generate() for name in ("agent-1", "world")}
    public = {name: pair.public for name, pair in pairs.items()}
    rings = {name: Keyring(name, pair, public) for name, pair in pairs.items()}
    gatekeeper = Gatekeeper(context)
    gatekeeper.admit("world", {"agent-1": public["agent-1"]})
    traffic = Traffic()
    server, client = rings["world"].server("world"), rings["agent-1"].client_of("world")
    hub = Hub(context, "tcp://127.0.0.1:*", traffic, CONTROL, curve=server)
    channel = Channel(context, hub.endpoint, b"", traffic, CONTROL, curve=client)
    wait_until_writable(channel)
    say(channel, "here")
    assert heard(hub) == (b"agent-1", "here")
    for end in (channel, hub, gatekeeper):
        end.close()


# --- the gatekeeper -------------------------------------------------------------------------------


def test_a_listed_key_is_let_in_and_known_by_its_name(house: House) -> None:
    hub = house.hub()
    for name in house.keys:
        say(house.guest(hub, name), f"I am {name}")
        assert heard(hub) == (name.encode(), f"I am {name}")
    assert house.gatekeeper.refused == 0


def test_an_unlisted_key_is_refused_counted_and_named_in_the_log(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    hub = house.hub()
    with caplog.at_level(logging.WARNING):
        assert outcome(hub, lambda: house.dealer(hub, KeyPair.generate())) == UNLISTED
    assert house.gatekeeper.refused >= 1
    assert f"{DOMAIN}: refused a connection from 127.0.0.1" in caplog.text
    assert_heard_alone(house, hub)


def test_a_key_is_good_for_the_domains_that_list_it_and_no_others(house: House) -> None:
    house.admit("agent-2", domain="elsewhere")
    there = house.hub(domain="elsewhere")
    assert outcome(there, lambda: house.dealer(there, house.keys["agent-1"])) == UNLISTED
    say(house.guest(there, "agent-2"), "I am expected")
    assert heard(there) == (b"agent-2", "I am expected")


def test_a_domain_that_lists_nobody_lets_nobody_in(house: House) -> None:
    hub = house.hub(domain="empty")
    assert outcome(hub, lambda: house.dealer(hub, house.keys["agent-1"])) == UNLISTED


def test_a_client_without_keys_is_refused(house: House) -> None:
    hub = house.hub()
    assert outcome(hub, lambda: house.dealer(hub, None)) in FAILED
    assert_heard_alone(house, hub)


def test_a_client_that_has_the_wrong_key_of_the_server_does_not_talk_to_it(house: House) -> None:
    hub = house.hub()
    other_key = KeyPair.generate().public
    agent_1 = house.keys["agent-1"]
    assert outcome(hub, lambda: house.dealer(hub, agent_1, server_key=other_key)) in FAILED
    assert_heard_alone(house, hub)


def test_without_a_gatekeeper_nobody_is_let_in(context: Context) -> None:
    own, guest = KeyPair.generate(), KeyPair.generate()
    server, client = CurveServer(own, DOMAIN), CurveClient(guest, own.public)
    hub = Hub(context, "tcp://127.0.0.1:*", Traffic(), CONTROL, curve=server)
    channels: list[Channel] = []

    def connect() -> None:
        channels.append(Channel(context, hub.endpoint, b"", Traffic(), CONTROL, curve=client))

    assert outcome(hub, connect) in FAILED
    for end in (*channels, hub):
        end.close()


def test_rotation_refuses_the_old_key_and_takes_the_new_one_at_once(house: House) -> None:
    hub = house.hub()
    old = house.guest(hub, "agent-1")
    old_keys, house.keys["agent-1"] = house.keys["agent-1"], KeyPair.generate()
    house.admit("agent-1", "agent-2")
    say(house.guest(hub, "agent-1"), "the new key")
    assert heard(hub) == (b"agent-1", "the new key")
    assert outcome(hub, lambda: house.dealer(hub, old_keys)) == UNLISTED
    # What stood before stands until it falls; but a newer connection has the name.
    say(old, "the old key")
    wait_until(lambda: not list(hub.drain(wire.Stop)) and _dropped(house, "duplicate") == 1, "drop")


def test_a_new_key_that_comes_before_word_of_it_gets_in_later_where_we_are_patient(
    context: Context,
) -> None:
    house = House(context, is_patient=True)
    try:
        hub = house.hub()
        house.admit("agent-2")
        early = house.channel(hub, house.keys["agent-1"])
        wait_until(lambda: house.gatekeeper.refused > 0, "a refusal")
        house.admit("agent-1", "agent-2")
        wait_until_writable(early)
        say(early, "here")
        assert heard(hub) == (b"agent-1", "here")
    finally:
        house.close()


def _dropped(house: House, reason: str) -> int:
    return house.traffic[f"dropped_{reason}"]


def test_a_flood_of_strangers_is_counted_and_does_not_fill_the_log(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    hub = house.hub()
    with caplog.at_level(logging.WARNING):
        for _ in range(30):
            house.dealer(hub, KeyPair.generate())
        wait_until(lambda: house.gatekeeper.refused >= 30, "thirty refusals")
    lines = [line for line in caplog.messages if "refused a connection" in line]
    assert len(lines) == 20
    assert_heard_alone(house, hub)


def test_a_gatekeeper_can_be_closed_and_another_takes_its_place(context: Context) -> None:
    for _ in range(2):
        house = House(context)
        hub = house.hub()
        assert_heard_alone(house, hub)
        house.close()


# --- who is speaking ------------------------------------------------------------------------------


@pytest.mark.parametrize("claim", [b"agent-1", b"world", b"\x00\x01\x02\x03\x04", b"x" * 200])
def test_a_name_is_the_keys_whatever_routing_id_is_claimed(house: House, claim: bytes) -> None:
    hub = house.hub()
    honest = house.guest(hub, "agent-1")
    say(honest, "first")
    assert heard(hub) == (b"agent-1", "first")
    liar = house.dealer(hub, house.keys["agent-2"], routing_id=claim)
    liar.send(wire.encode(wire.Stop("I am agent 1")))
    assert heard(hub) == (b"agent-2", "I am agent 1")
    assert hub.send(b"agent-1", wire.Stop("for agent 1 alone"))
    assert at_channel(honest) == [wire.Stop("for agent 1 alone")]
    assert not liar.poll(50)


def test_the_routing_id_of_a_connection_that_is_gone_makes_nobody_its_owner(house: House) -> None:
    hub = house.hub()
    owner = house.dealer(hub, house.keys["agent-1"], routing_id=b"\x00abcd")
    owner.send(wire.encode(wire.Stop("mine")))
    assert heard(hub) == (b"agent-1", "mine")
    owner.close()

    def claim() -> None:  # refused by ZeroMQ itself for as long as the owner is there
        liar = house.dealer(hub, house.keys["agent-2"], routing_id=b"\x00abcd")
        assert liar.poll(10_000, zmq.POLLOUT)
        liar.send(wire.encode(wire.Stop("mine now")))

    assert heard_from(hub, claim) == (b"agent-2", "mine now")


def test_of_several_connections_with_one_key_the_newest_speaks(house: House) -> None:
    hub = house.hub()
    older = house.guest(hub, "agent-1")
    say(older, "older")
    assert heard(hub) == (b"agent-1", "older")
    newer = house.guest(hub, "agent-1")
    say(newer, "newer")
    assert heard(hub) == (b"agent-1", "newer")

    say(older, "still here")
    wait_until(
        lambda: not list(hub.drain(wire.Stop)) and _dropped(house, "duplicate") == 1, "a duplicate"
    )
    assert hub.send(b"agent-1", wire.Stop("for the newest"))
    assert at_channel(newer) == [wire.Stop("for the newest")]
    assert list(older.drain(wire.Stop)) == []

    newer.close()
    assert heard_from(hub, lambda: older.send(wire.Stop("again"))) == (b"agent-1", "again")
    assert hub.send(b"agent-1", wire.Stop("welcome back"))
    assert at_channel(older) == [wire.Stop("welcome back")]


def test_the_first_of_many_connections_with_one_key_is_heard_when_the_others_have_gone(
    house: House,
) -> None:
    hub = house.hub()
    first = house.guest(hub, "agent-1")
    say(first, "first")
    assert heard(hub) == (b"agent-1", "first")
    others: list[Channel] = []
    for _ in range(8):
        others.append(house.guest(hub, "agent-1"))
        say(others[-1], "other")
        assert heard(hub) == (b"agent-1", "other")
    say(first, "not now")
    wait_until(
        lambda: not list(hub.drain(wire.Stop)) and _dropped(house, "duplicate") == 1, "a duplicate"
    )
    for other in others:
        other.close()
    assert heard_from(hub, lambda: first.send(wire.Stop("now"))) == (b"agent-1", "now")


def test_of_a_name_no_more_than_four_connections_are_remembered() -> None:
    book = Doorbook()
    for number in range(1000):
        book.enter(b"\x00" + number.to_bytes(4, "big"), b"agent-1")
    assert book.connection_of(b"agent-1") == b"\x00" + (999).to_bytes(4, "big")
    remembered = vars(book)["_names"]
    assert len(remembered) == 4


def test_connections_are_ordered_when_their_numbers_wrap() -> None:
    book = Doorbook()
    last, first = b"\x00\xff\xff\xff\xff", b"\x00\x00\x00\x00\x00"
    for connection in (first, last):
        book.enter(connection, b"agent-1")
    assert book.connection_of(b"agent-1") == first
    assert book.newer_than(last) == first
    assert book.newer_than(first) is None


def bound_again(house: House, endpoint: str) -> Hub:
    """ZeroMQ lets go of a port some time after its socket was closed."""
    hubs: list[Hub] = []

    def bind() -> bool:
        with contextlib.suppress(SetupError):
            hubs.append(house.hub(endpoint))
        return bool(hubs)

    wait_until(bind, "bound again")
    return hubs[0]


def test_a_guest_finds_a_server_that_was_started_again(house: House) -> None:
    hub = house.hub()
    guest = house.guest(hub, "agent-1")
    say(guest, "before")
    assert heard(hub) == (b"agent-1", "before")
    endpoint = hub.endpoint
    hub.close()
    again = bound_again(house, endpoint)
    assert heard_from(again, lambda: guest.send(wire.Stop("after"))) == (b"agent-1", "after")
    assert again.send(b"agent-1", wire.Stop("and back"))
    assert at_channel(guest) == [wire.Stop("and back")]


def test_empty_frames_are_nobodys_business(house: House) -> None:
    hub = house.hub()
    guest = house.guest(hub, "agent-1")
    for _ in range(3):
        guest.socket.send(b"")
    say(guest, "something")
    assert heard(hub) == (b"agent-1", "something")
    assert hub.send_frame(b"agent-1", b"", None)
    assert hub.send(b"agent-1", wire.Stop("something"))
    assert at_channel(guest) == [wire.Stop("something")]
    assert house.traffic.dropped_total == 0


def test_a_name_that_has_not_come_is_unreachable_and_counted(house: House) -> None:
    hub = house.hub()
    assert not hub.send(b"agent-1", wire.Stop("anybody?"))
    assert _dropped(house, "unreachable") == 1


def test_a_name_that_has_gone_becomes_unreachable(house: House) -> None:
    hub = house.hub()
    guest = house.guest(hub, "agent-1")
    say(guest, "here")
    assert heard(hub) == (b"agent-1", "here")
    guest.close()
    wait_until(lambda: not hub.send(b"agent-1", wire.Stop("still there?")), "unreachable")
    assert _dropped(house, "unreachable") == 1


# --- what must not be open ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "endpoint",
    [
        "ipc:///anywhere/at/all",
        "inproc://here",
        "tcp://127.0.0.1:7400",
        "tcp://127.0.0.1:*",
        "tcp://127.9.8.7:1",
        "tcp://[::1]:7400",
        "tcp://localhost:7400",
    ],
)
def test_what_only_this_machine_reaches_needs_no_keys(endpoint: str) -> None:
    assert is_private(endpoint)
    require_secure(endpoint, None)


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://0.0.0.0:7400",
        "tcp://*:7400",
        "tcp://[::]:7400",
        "tcp://10.0.0.1:7400",
        "tcp://192.168.1.1:*",
        "tcp://[fe80::1]:7400",
        "tcp://[::2]:7400",
        "tcp://eth0:7400",
        "tcp://lo:7400",
        "tcp://a.name.somewhere:7400",
        "tcp://localhost.somewhere:7400",
        "tcp://10.0.0.1:7400;127.0.0.1:7400",
        "tcp://127.0.0.1:7400;10.0.0.1:7400",
        "udp://10.0.0.1:7400",
        "pgm://eth0;239.192.1.1:5555",
        "",
    ],
)
def test_what_others_could_reach_is_refused_without_keys(endpoint: str, context: Context) -> None:
    assert not is_private(endpoint)
    with pytest.raises(SetupError, match="it needs CURVE keys"):
        require_secure(endpoint, None)
    with pytest.raises(SetupError, match="can be reached from other machines"):
        Hub(context, endpoint, Traffic(), CONTROL)
    with pytest.raises(SetupError, match="can be reached from other machines"):
        Channel(context, endpoint, b"agent-1", Traffic(), CONTROL)


def test_with_keys_any_address_will_do() -> None:
    pair = KeyPair.generate()
    require_secure("tcp://0.0.0.0:7400", CurveServer(pair, DOMAIN))
    require_secure("tcp://10.0.0.1:7400", CurveClient(pair, pair.public))


def test_guests_are_let_in_over_ipv6(house: House) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    assert_heard_alone(house, house.hub("tcp://[::1]:*"))


# --- what it costs --------------------------------------------------------------------------------


def test_framing_costs_35_octets_up_to_222_and_42_from_there() -> None:
    assert frame_zmtp_bytes(222, curve=True) == 222 + 35
    assert frame_zmtp_bytes(223, curve=True) == 223 + 42


def _both_ends(hub: Hub) -> tuple[TcpConnection, TcpConnection]:
    """The client's and the server's end of the only connection."""
    address = hub.endpoint.removeprefix("tcp://")
    found = connections()
    (client,) = (c for c in found if c.peer == address)
    (server,) = (c for c in found if c.local == address)
    return client, server


def test_both_ends_of_a_handshake_send_what_the_formula_says(house: House) -> None:
    hub = house.hub()
    guest = house.guest(hub, "agent-1")
    say(guest, "in")
    assert heard(hub) == (b"agent-1", "in")
    said = guest.framed(len(wire.encode(wire.Stop("in"))))
    client, server = _both_ends(hub)
    assert client.bytes_sent == guest.handshake_bytes + said
    assert server.bytes_sent == hub.handshake_bytes
    probe = frame_zmtp_bytes(0, curve=True)
    assert guest.handshake_bytes == curve_handshake_bytes(is_server=False) + probe == 567 + 35
    assert hub.handshake_bytes == curve_handshake_bytes(is_server=True) == 301


@pytest.mark.parametrize("payload", [4, 128, 221, 222, 223, 224, 5_000, 70_000])
def test_a_frame_costs_what_the_formula_says_both_ways(house: House, payload: int) -> None:
    hub = house.hub()
    guest = house.guest(hub, "agent-1")
    say(guest, "in")
    assert heard(hub) == (b"agent-1", "in")
    before, frame = _both_ends(hub), b"\xc1" * payload
    assert guest.send_frame(frame, None)
    assert hub.send_frame(b"agent-1", frame, None)
    assert guest.socket.poll(10_000)
    assert hub.socket.poll(10_000)
    list(hub.drain(wire.Stop))
    list(guest.drain(wire.Stop))
    deadline_s = time.monotonic() + 10.0
    after = _both_ends(hub)
    while after[0].bytes_received < before[0].bytes_received + payload:
        assert time.monotonic() < deadline_s
        after = _both_ends(hub)
    sent = [end.bytes_sent - first.bytes_sent for first, end in zip(before, after, strict=True)]
    assert sent == [frame_zmtp_bytes(payload, curve=True)] * 2 == [guest.framed(payload)] * 2


# --- the threat model -----------------------------------------------------------------------------


_REPOSITORY = Path(__file__).parents[3]
_THREAT_MODEL = (_REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")
_CLAIMS = re.findall(r"^\| (\d+) \| (.+) \| (.+) \|$", _THREAT_MODEL, re.MULTILINE)


def test_claims_of_the_threat_model_are_numbered_without_a_gap() -> None:
    numbers = [int(number) for number, _, _ in _CLAIMS]
    assert numbers == list(range(1, len(_CLAIMS) + 1))
    assert len(numbers) > 30


@pytest.mark.parametrize(
    ("number", "tests"),
    [pytest.param(number, tests, id=number) for number, _, tests in _CLAIMS],
)
def test_every_claim_of_the_threat_model_names_tests_that_exist(number: str, tests: str) -> None:
    named = re.findall(r"`([^`]*)`", tests)
    assert named, f"claim {number} names no test"
    for name in named:
        path, _, function = name.partition("::")
        tree = ast.parse((_REPOSITORY / path).read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert function in functions, f"claim {number}: there is no {name}"
