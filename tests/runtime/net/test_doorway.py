"""Connections beyond a listening socket's bound, over plain TCP."""

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from runtime.net.doorway import Doorway, most_connections
from runtime.net.traffic import curve_handshake_bytes

Ends = tuple[socket.socket, socket.socket]


class Street:
    """A listening socket, and both ends of whatever has connected to it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.address: tuple[str, int] = self._listener.getsockname()

    def arrive(self, *, with_key: bool = False) -> Ends:
        theirs = self._stack.enter_context(socket.create_connection(self.address))
        ours, _ = self._listener.accept()
        self._stack.enter_context(ours)
        theirs.settimeout(10.0)
        if with_key:
            ours.sendall(bytes(curve_handshake_bytes(is_server=True)))
        return ours, theirs

    def doorway(self, most: int) -> Doorway:
        return Doorway(f"tcp://127.0.0.1:{self.address[1]}", most)


@pytest.fixture
def street() -> Iterator[Street]:
    with ExitStack() as stack:
        yield Street(stack)


def enter(doorway: Doorway, *arrivals: Ends) -> None:
    for ours, _ in arrivals:
        doorway.opened(ours.fileno())


def is_cut(ends: Ends) -> bool:
    """Whether the visitor's end has been closed by us."""
    _, theirs = ends
    theirs.setblocking(False)
    try:
        while theirs.recv(1000):
            pass
    except BlockingIOError:
        return False
    return True


def test_the_oldest_connection_that_has_shown_no_key_is_cut(street: Street) -> None:
    doorway = street.doorway(3)
    guest, first, second = street.arrive(with_key=True), street.arrive(), street.arrive()
    enter(doorway, guest, first, second)
    assert (len(doorway), doorway.cut) == (3, 0)
    newest = street.arrive()
    enter(doorway, newest)
    assert [is_cut(ends) for ends in (guest, first, second, newest)] == [False, True, False, False]
    assert (len(doorway), doorway.cut) == (3, 1)


def test_a_newcomer_is_cut_where_everybody_has_shown_a_key(street: Street) -> None:
    doorway = street.doorway(2)
    guests = [street.arrive(with_key=True) for _ in range(2)]
    newest = street.arrive(with_key=True)
    enter(doorway, *guests, newest)
    assert [is_cut(ends) for ends in (*guests, newest)] == [False, False, True]


def test_connections_that_have_ended_make_room(street: Street) -> None:
    doorway = street.doorway(2)
    first, second, third = (street.arrive() for _ in range(3))
    enter(doorway, first, second)
    doorway.closed(first[0].fileno())
    enter(doorway, third)
    assert not any(map(is_cut, (first, second, third)))
    assert doorway.cut == 0


def test_a_descriptor_that_is_somebody_elses_by_now_is_left_alone(street: Street) -> None:
    other = socket.socketpair()
    try:
        doorway = street.doorway(1)
        doorway.opened(other[0].fileno())
        arrival = street.arrive()
        enter(doorway, arrival)
        other[0].sendall(b"still here")
        assert other[1].recv(100) == b"still here"
        assert not is_cut(arrival)
        assert (len(doorway), doorway.cut) == (1, 0)
    finally:
        for end in other:
            end.close()


@pytest.mark.parametrize(
    ("soft", "guests", "most"),
    [(20_000, 7, 92), (1024, 300, 512), (1024, 600, 664), (resource.RLIM_INFINITY, 1000, 4064)],
)
def test_the_bound_leaves_half_of_the_open_files_and_room_for_every_guest(
    soft: int, guests: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def getrlimit(_: int) -> tuple[int, int]:
        return soft, soft

    monkeypatch.setattr(resource, "getrlimit", getrlimit)
    assert most_connections(guests) == most
