"""Agents that have moved, as everybody hears of them."""

import numpy as np
import pytest

from runtime.net import wire
from runtime.net.moves import Move, keys_after, packed, renewed, unpacked
from runtime.net.security import KeyPair, Keyring

PAIRS = [KeyPair.generate() for _ in range(3)]
MOVES = (
    Move(4, 1, 3, PAIRS[0].public, PAIRS[0].secret),
    Move(2, 0, 7, PAIRS[1].public, PAIRS[1].secret),
)


def crossed(packet: wire.Moves) -> wire.Moves:
    arrived = wire.decode(wire.encode(packet), wire.Moves)
    assert isinstance(arrived, wire.Moves)
    return arrived


def test_a_host_gets_the_secrets_of_its_own_agents_and_nobody_elses() -> None:
    moves = unpacked(crossed(packed(MOVES, host=1)), num_agents=6, num_hosts=2)
    assert moves == (MOVES[0], MOVES[1]._replace(secret=""))


def test_everybody_else_gets_no_secret() -> None:
    moves = unpacked(crossed(packed(MOVES)), num_agents=6, num_hosts=2)
    assert moves == tuple(move._replace(secret="") for move in MOVES)


def test_no_moves_cross_as_well() -> None:
    assert unpacked(crossed(packed(())), 6, 2) == ()


def test_secrets_do_not_show_in_what_is_printed() -> None:
    packet = packed(MOVES, host=1)
    shown = repr(packet) + repr(MOVES) + str(MOVES[0])
    assert PAIRS[0].secret not in shown
    assert PAIRS[1].secret not in shown


def test_keys_of_agents_that_have_moved_take_the_place_of_their_old_ones() -> None:
    old = {"agent-2": "x", "agent-3": "y", "node-b": "z"}
    new = {"agent-2": PAIRS[1].public, "agent-3": "y", "node-b": "z", "agent-4": PAIRS[0].public}
    assert renewed(old, MOVES) == new
    assert keys_after(packed(MOVES), Keyring("world", PAIRS[2], old), 6) == new
    with pytest.raises(ValueError, match="one machine"):
        keys_after(packed(MOVES), None, 6)


def odd(rows: list[list[int]], public: tuple[str, ...], secret: tuple[str, ...]) -> wire.Moves:
    return wire.Moves(np.array(rows, dtype=np.uint32), public, secret)


KEY = PAIRS[0].public


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(odd([[6, 0, 1]], (KEY,), ("",)), id="no such agent"),
        pytest.param(odd([[1, 2, 1]], (KEY,), ("",)), id="no such host"),
        pytest.param(odd([[1, 0, 1], [1, 1, 1]], (KEY, KEY), ("", "")), id="an agent twice"),
        pytest.param(odd([[1, 0, 1]], ("",), ("",)), id="no key"),
        pytest.param(odd([[1, 0, 1]], (KEY[1:],), ("",)), id="a short key"),
        pytest.param(odd([[1, 0, 1]], ("ä" * 40,), ("",)), id="not the characters of a key"),
        pytest.param(odd([[1, 0, 1]], (KEY,), ("x",)), id="no secret key"),
        pytest.param(odd([[1, 0, 1]], (KEY, KEY), ("", "")), id="more keys than agents"),
        pytest.param(odd([[1, 0]], (KEY,), ("",)), id="two columns"),
    ],
)
def test_what_cannot_be_is_refused(packet: wire.Moves) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpacked(packet, num_agents=6, num_hosts=2)
