"""Several bodies of one process, in step with each other and with those on other hosts.

    environment -> observations -> Bodies ⇄ the agents of this host -> actions -> environment
                                     ▲
                            Pace: when a step is due

Hosts that share a start and a rate, and whose clocks agree, need not talk: every one of them knows
which step is due.
"""

import math
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import zmq
from numpy.typing import NDArray

from configs.schema import MAX_AGENTS
from runtime.body import BodyClient
from runtime.deployment.body_endpoint import body_endpoint
from runtime.net import wire
from runtime.net.errors import BodyError


def parse_agents(text: str) -> tuple[int, ...]:
    """The agents that "0-5" or "0,2,7-9" names.

    Raises:
        ValueError: it names none.
    """
    agents: list[int] = []
    for part in text.split(","):
        named = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part)
        if named is None:
            raise ValueError(f"agents are written as 0-5 or 0,2,7, got {text!r}")
        first, last = int(named[1]), int(named[2] or named[1])
        if last >= MAX_AGENTS:
            raise ValueError(f"agents have numbers below {MAX_AGENTS}, got {text!r}")
        agents += range(first, last + 1)
    if not agents:
        raise ValueError(f"agents are written as 0-5 or 0,2,7, got {text!r}")
    return tuple(dict.fromkeys(agents))


class Bodies:
    """The bodies of some agents of this host."""

    def __init__(self, template: str, agents: Sequence[int], timeout_s: float) -> None:
        """Connect to all of them.

        Args:
            template: endpoint with {agent} or {port} in it.

        Raises:
            BodyError: one of them does not answer, or is somebody else, or they are not alike.
            ValueError: something else than {agent} or {port} stands in braces.
        """
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._stack = ExitStack()
        self._stack.callback(self._context.term)
        self._clients: dict[int, BodyClient] = {}
        self._poller = zmq.Poller()
        self.missing = 0
        """Observations that got no action in time."""
        try:
            for agent in agents:
                endpoint = body_endpoint(template, agent)
                client = BodyClient(endpoint, agent, timeout_s, context=self._context)
                self._stack.enter_context(client)
                self._clients[agent] = client
                self._poller.register(client.socket, zmq.POLLIN)
            rates = {client.rate_hz for client in self._clients.values()}
            if len(rates) > 1:
                raise BodyError(f"agents of one deployment tick alike, these at {sorted(rates)} Hz")
        except BaseException:
            self.close()
            raise
        self.rate_hz: float = rates.pop()
        """Of the agents' clocks; 0.0 if every observation is a tick."""

    @property
    def agents(self) -> tuple[int, ...]:
        return tuple(self._clients)

    def require(self, observation_dim: int, num_actions: int) -> None:
        """Refuse agents that were trained for something else.

        Raises:
            BodyError: other dimensions.
        """
        for agent, client in self._clients.items():
            if (client.observation_dim, client.num_actions) != (observation_dim, num_actions):
                raise BodyError(
                    f"agent {agent} takes {client.observation_dim} numbers and knows "
                    f"{client.num_actions} actions, here are {observation_dim} and {num_actions}"
                )

    def act(
        self,
        observations: Mapping[int, NDArray[Any]],
        *,
        step: int,
        first: bool,
        patience_s: float,
    ) -> dict[int, int]:
        """Hand out one moment's observations; the actions that came back in time, by agent."""
        waiting: set[int] = set()
        for agent, observation in observations.items():
            if self._clients[agent].send(observation, step=step, first=first):
                waiting.add(agent)
        actions: dict[int, int] = {}
        until_s = time.monotonic() + patience_s
        while waiting and (left_s := until_s - time.monotonic()) > 0.0:
            self._poller.poll(int(1000 * left_s) + 1)
            for agent in tuple(waiting):
                while (answer := self._clients[agent].receive()) is not None:
                    if not isinstance(answer, wire.BodyAction):
                        continue  # real numbers: these bodies choose from a list
                    if answer.step == step % (1 << 32):
                        actions[agent] = answer.action
                        waiting.discard(agent)
        self.missing += len(observations) - len(actions)
        return actions

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()


class Pace:
    """When the steps of a common schedule are due, by the wall clock.

    Step i has the number of its moment, floor(unix time × rate). Agents that tick by themselves get
    their observation half a period before they do.
    """

    def __init__(self, rate_hz: float, start_at: float, *, agents_tick: bool) -> None:
        """Begin with the first moment at or after `start_at` (unix time)."""
        self._rate_hz = rate_hz
        self._lead = 0.5 if agents_tick else 0.0
        self._first = math.ceil(start_at * rate_hz)

    def number(self, i: int) -> int:
        return self._first + i

    def due_s(self, i: int) -> float:
        """Unix time at which the observation of step i is to be sent."""
        return (self._first + i - self._lead) / self._rate_hz

    def wait(self, i: int) -> float:
        """Sleep until step i is due; returns the seconds that its actions may take."""
        time.sleep(max(self.due_s(i) - time.time(), 0.0))
        # A twentieth of a period is left for whatever else is to be done before the next step.
        return max(self.due_s(i + 1) - time.time() - 0.05 / self._rate_hz, 0.0)
