"""Agents that have moved to another host: where each lives now, and its new key.

    launcher ─ Moves ─▶ nodes (for agents that they are given: secrets as well) ─▶ their agents
                     ─▶ world, learner

A moved agent gets a new pair of keys. The old pair stays on the host that is gone, and opens
nothing any more: a thief of it is not taken for the agent. Every packet holds all moves of the run,
so one that was lost does no harm.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from runtime.net import wire
from runtime.net.packet import MOST_HOSTS
from runtime.net.security import KEY_CHARACTERS, Keyring
from runtime.net.transport import agent_routing_id

_KEY = re.compile(rf"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{{}}@%$#]{{{KEY_CHARACTERS}}}")
"""Z85 (RFC 32)."""


class Move(NamedTuple):
    """An agent that does not live where the bundles say."""

    agent: int
    host: int
    """Index in the address book of the host where it lives now."""
    incarnation: int
    """Of its first life there."""
    public: str
    secret: str = ""
    """Empty for all but the host where it lives."""

    @property
    def name(self) -> str:
        return agent_routing_id(self.agent).decode()

    def __repr__(self) -> str:  # a secret must not show in logs
        return f"Move({self.agent}, {self.host}, {self.incarnation})"


def packed(moves: Iterable[Move], host: int | None = None) -> wire.Moves:
    """What the node of that host is told; None: what everybody else is told, without a secret."""
    listed = tuple(moves)
    rows = [[move.agent, move.host, move.incarnation] for move in listed]
    return wire.Moves(
        np.array(rows, dtype=np.uint32).reshape(len(rows), 3),
        tuple(move.public for move in listed),
        tuple(move.secret if move.host == host else "" for move in listed),
    )


def unpacked(packet: wire.Moves, num_agents: int, num_hosts: int) -> tuple[Move, ...]:
    """The moves of a packet, in the order in which they took place.

    Raises:
        ValueError: an agent or a host that there is not, one agent twice, or a key that is none.
    """
    rows: list[list[int]] = packet.moved.tolist()
    if packet.moved.shape[1:] != (3,) or not len(rows) == len(packet.public) == len(packet.secret):
        raise ValueError("moves whose parts do not fit together")
    moves = tuple(
        Move(agent, host, incarnation, public, secret)
        for (agent, host, incarnation), public, secret in zip(
            rows, packet.public, packet.secret, strict=True
        )
    )
    for move in moves:
        if move.agent >= num_agents or move.host >= num_hosts:
            raise ValueError(f"agent {move.agent} on host {move.host}")
        if not _KEY.fullmatch(move.public) or (move.secret and not _KEY.fullmatch(move.secret)):
            raise ValueError(f"agent {move.agent}: no key")
    if len({move.agent for move in moves}) < len(moves):
        raise ValueError("an agent that has moved twice")
    return moves


def keys_after(packet: wire.Moves, keyring: Keyring | None, num_agents: int) -> dict[str, str]:
    """Public keys by name when these agents have moved.

    Raises:
        ValueError: as `unpacked`; or there are no keys, so nobody can have moved.
    """
    if keyring is None:
        raise ValueError("moves in a run on one machine")
    return renewed(keyring.public, unpacked(packet, num_agents, MOST_HOSTS))


def renewed(public: Mapping[str, str], moves: Iterable[Move]) -> dict[str, str]:
    """Public keys by name, with those of agents that have moved in the place of their old ones."""
    return {**public, **{move.name: move.public for move in moves}}
