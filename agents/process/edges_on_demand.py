"""Edges of an agent whose neighbours change: a connection is opened when first something is sent.

    SendMessage -> is its edge open? -> open, greet -> send -> too many open? -> close the idlest

An edge that was opened stays open, since who was near will be near again; `most_edges` bounds how
many there are. What is sent before a connection stands waits for it, so nothing is lost. The start
of a run waits for no edge: nobody has asked for one.
"""

import time

import zmq

from agents.events import SendMessage
from agents.process.edges import GREET_PERIOD_S, Edges
from agents.process.setup import ShellSetup
from runtime.net import ticks
from runtime.net.traffic import Traffic

_LINGER_MS = 1000
"""That a connection may take to hand over what is left, when it is closed."""
_OPENINGS = 1 << 16
"""Connections to a neighbour that are told apart; then they are counted from 0 again."""


class EdgesOnDemand(Edges):
    """Both ends of those of its edges that an agent has needed."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], setup: ShellSetup, traffic: Traffic
    ) -> None:
        """As `Edges`."""
        super().__init__(context, setup, traffic)
        self._unwelcomed = set()
        self._endpoints: tuple[str, ...] = ()
        self._most = setup.rules.most_edges
        self._used_at: dict[int, int] = {}
        """By offset of an open edge, the tick in which something was sent over it last."""
        self._openings: dict[int, int] = {}
        """By offset, how often the edge has been opened."""

    @property
    def all_in_neighbours_greeted(self) -> bool:
        return True

    def connect(self, endpoints: tuple[str, ...]) -> None:
        """Learn where the out-neighbours are."""
        self._endpoints = endpoints

    def move(self, endpoints: tuple[str, ...]) -> None:
        self._endpoints = endpoints
        super().move(endpoints)

    def send_message(self, command: SendMessage) -> None:
        if self._endpoints:
            for k in command.edges:
                if k not in self._out:
                    self._open_and_greet(k)
                self._used_at[k] = command.tick
            if len(self._out) > self._most:
                self._close_idle(command.tick)
        super().send_message(command)

    def _life_of(self, k: int) -> int:
        return self._setup.incarnation * _OPENINGS + self._openings[k] % _OPENINGS

    def _open_and_greet(self, k: int) -> None:
        self._open(k, self._endpoints[k], queues=True)
        self._openings[k] = self._openings.get(k, 0) + 1
        if not self._unwelcomed:
            self._greet_again_s = time.monotonic() + GREET_PERIOD_S
            self._greet_period_s = GREET_PERIOD_S
        self._unwelcomed.add(k)
        self._say_hello(k)

    def _close_idle(self, tick: int) -> None:
        """Close the edges that were not used for longest.

        What was sent in the step before may not have been read yet, and would be lost if the edge
        were opened again: those edges stay, even if there are too many of them.
        """
        idle_for = {k: ticks.ahead(tick, used_at) for k, used_at in self._used_at.items()}
        idle = sorted((k for k, idle in idle_for.items() if idle > 1), key=lambda k: -idle_for[k])
        idle = idle[: len(self._out) - self._most]
        if idle:
            self.update_counters()  # the kernel forgets what it has counted of a connection
        for k in idle:
            self._out.pop(k).close(_LINGER_MS)
            del self._used_at[k]
            self._unwelcomed.discard(k)
            self._ungreeted.discard(k)
