"""Replace the policy of running nodes: on all of them, at one tick, or on none.

    offer -> all have checked it -> look -> swap at one tick -> look -> keep -> done
                  │                             └───────┴───────┴──▶ back, everywhere
                  └─ one refuses: nothing has changed

The head's key opens the door (runtime/host/update_door.py): CURVE proves to a node that it talks to
the holder of that key, and seals each packet for this one connection. A node's own part is in
runtime/host/updates.py.
"""

import math
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import numpy as np
import zmq
from zmq.utils.monitor import recv_monitor_message

from runtime.deployment.bundle import Bundle
from runtime.net import ticks, wire
from runtime.net.report_period import report_period_s
from runtime.net.traffic import Traffic
from runtime.net.transport import CONTROL, LAUNCHER, Channel, node_routing_id

_ASK_AGAIN_S = 1.0
_LOOK_S = 0.5
_LEASES = 4.0
"""A host goes back by itself after so many times the pusher's patience. Within that time the pusher
asks all other hosts, and tells them to go back."""
_REPORTS = 3
"""Reports of each agent that a look waits for at least."""
_MORE_MISSED = 0.1
"""Share of ticks that may be missed beyond what was missed before."""
_UNKNOWN_KEY = "does not know this key of the head: the bundle is stale, or of another deployment"


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """How an update is judged."""

    watch_s: float
    """Seconds that the hosts are looked at, before the swap and after it."""
    timeout_s: float
    """Seconds that a host may take to answer."""


_BRIEFLY = Terms(watch_s=0.0, timeout_s=1.0)
"""For hosts that have swapped nothing, and drop what they were offered if they hear no more."""


class PushFailed(Exception):
    """The version before is in use, on all hosts (or nobody knows: `certain` is False)."""

    def __init__(self, reason: str, *, swapped: bool, certain: bool = True) -> None:
        super().__init__(reason)
        self.swapped = swapped
        """Whether some agent may have acted by the new version."""
        self.certain = certain


class _Refused(Exception):
    """A host has said no, or nothing."""


class Nodes:
    """The doors of all hosts of a deployment."""

    def __init__(self, bundle: Bundle) -> None:
        """Connect to all of them, with the head's key.

        Raises:
            KeyError: the bundle is not the head's.
        """
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._push = secrets.randbits(64)
        self._sequence = 0
        hosts, keyring = bundle.book.hosts, bundle.keyring(LAUNCHER)
        self._channels: dict[str, Channel] = {}
        self._monitors: dict[str, zmq.Socket[bytes]] = {}
        for name in hosts.names:
            channel = Channel(
                self._context,
                hosts.update_endpoint(name),
                LAUNCHER.encode(),
                Traffic(),
                CONTROL,
                curve=keyring.client_of(node_routing_id(name).decode()),
            )
            self._channels[name] = channel
            self._monitors[name] = channel.socket.get_monitor_socket(
                zmq.EVENT_HANDSHAKE_FAILED_AUTH
                | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
                | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            )
        self._endpoints = {name: hosts.update_endpoint(name) for name in hosts.names}

    def offer(self, content: bytes, terms: Terms) -> dict[str, wire.UpdateState | str]:
        """Hand everybody a policy file; what they answer, or why they do not."""
        octets = np.frombuffer(content, np.uint8)
        lease_s = _LEASES * terms.timeout_s
        return self._ask(
            lambda number: wire.PolicyOffer(self._push, number, lease_s, octets), terms.timeout_s
        )

    def order(self, name: str, terms: Terms, tick: int = 0) -> dict[str, wire.UpdateState | str]:
        """Give everybody an order; what they answer, or why they do not."""
        return self._ask(
            lambda number: wire.UpdateOrder(self._push, number, name, tick), terms.timeout_s
        )

    def _ask(
        self, question: Callable[[int], wire.Packet], timeout_s: float
    ) -> dict[str, wire.UpdateState | str]:
        self._sequence += 1
        packet = question(self._sequence)
        poller = zmq.Poller()
        for channel in self._channels.values():
            poller.register(channel.socket, zmq.POLLIN)
        until_s = time.monotonic() + timeout_s
        ask_at = dict.fromkeys(self._channels, 0.0)
        silent = {
            name: f"does not answer at {self._endpoints[name]} within {timeout_s:g} s"
            for name in self._channels
        }
        found: dict[str, wire.UpdateState | str] = {}
        while len(found) < len(self._channels) and (now_s := time.monotonic()) < until_s:
            for name, channel in self._channels.items():
                if name not in found and now_s >= ask_at[name] and channel.is_writable:
                    channel.send(packet)
                    ask_at[name] = now_s + _ASK_AGAIN_S
            poller.poll(20)
            for name, channel in self._channels.items():
                for answer in channel.drain(wire.UpdateState):
                    assert isinstance(answer, wire.UpdateState)
                    if (answer.push, answer.sequence) == (self._push, self._sequence):
                        found[name] = answer
                if _is_turned_away(self._monitors[name]):
                    silent[name] = _UNKNOWN_KEY
        return {name: found.get(name, silent[name]) for name in self._channels}

    def close(self) -> None:
        for name, channel in self._channels.items():
            channel.socket.disable_monitor()
            self._monitors[name].close(0)
            channel.close()
        self._context.term()


def _is_turned_away(monitor: "zmq.Socket[bytes]") -> bool:
    is_turned_away = False
    while monitor.poll(0):
        recv_monitor_message(monitor)
        is_turned_away = True
    return is_turned_away


class Push:
    """One update from offer to verdict."""

    def __init__(
        self, nodes: Nodes, bundle: Bundle, terms: Terms, say: Callable[[str], None]
    ) -> None:
        """Nothing is sent yet.

        Args:
            say: takes a line about how far it is.
        """
        assert bundle.options is not None
        self._nodes, self._terms, self._say = nodes, terms, say
        self._rate_hz = bundle.options.rate_hz
        hosts = bundle.book.hosts
        self._agents = {host.name: len(host.agents) for host in hosts.hosts}
        self._watch_s = max(terms.watch_s, _REPORTS * report_period_s(hosts.num_agents))
        self._restarts: dict[str, float] = {}
        """Of each host's agents, when it was looked at first: before the swap."""
        self._before: dict[str, int] = {}
        """Version that each host acted by when all had checked the new one."""

    def run(self, content: bytes, version: int) -> None:
        """Have all hosts act by this version, and keep it.

        Args:
            content: a policy file of that version, addressed to the deployment.

        Raises:
            PushFailed: the version before is in use.
        """
        has_swapped = False
        try:
            states = self._all(self._nodes.offer(content, self._terms))
            self._before = {host: state.version for host, state in states.items()}
            before = ", ".join(map(str, sorted(set(self._before.values()))))
            self._say(
                f"version {version} is on {len(states)} hosts, which act by {before}: looking at "
                f"them for {self._watch_s:g} s"
            )
            usual = self._watch(None)
            has_swapped = True
            tick = self._swap()
            self._say(
                f"{sum(self._agents.values())} agents act by version {version} "
                + (f"from tick {tick} on" if self._rate_hz else "from their next observation on")
                + f": looking at them for {self._watch_s:g} s"
            )
            now = self._watch(version)
            if worse := what_is_worse(usual, now):
                raise _Refused(worse)
            self._all(self._nodes.order("keep", self._terms))
        except _Refused as error:
            unsure = self._go_back(self._terms if has_swapped else _BRIEFLY)
            reason = f"{error}"
            certain = unsure is None or not has_swapped
            if not certain:
                reason += f"; {unsure}"
            raise PushFailed(reason, swapped=has_swapped, certain=certain) from error
        except BaseException:  # a Ctrl-C: the hosts would go back by themselves, only later
            self._go_back(self._terms)
            raise
        with suppress(KeyboardInterrupt):  # all hosts have kept it, and end the push by themselves
            self._nodes.order("done", self._terms)

    def _swap(self) -> int:
        # Far enough ahead that everybody has heard of it.
        ahead_s = 2.0 * _ASK_AGAIN_S
        tick = math.floor((time.time() + ahead_s) * self._rate_hz) % ticks.MODULUS
        self._all(self._nodes.order("swap", self._terms, tick))
        time.sleep(ahead_s if self._rate_hz else 0.0)
        return tick

    def _watch(self, version: int | None) -> Mapping[str, float]:
        """Look at the hosts for a while.

        Args:
            version: that agents must act by at the end; None: any.

        Returns:
            Share of ticks that each host's agents have missed meanwhile.

        Raises:
            _Refused: one does not answer, or its agents are not all up, or one was started again.
        """
        first = self._look(version)
        until_s = time.monotonic() + self._watch_s
        last = first
        while (left_s := until_s - time.monotonic()) > 0.0:
            time.sleep(min(_LOOK_S, left_s))
            last = self._look(version)
        for host, figures in last.items():
            found = {int(figures[f"policy_version_{end}"]) for end in ("min", "max")}
            if version is not None and found != {version}:
                raise _Refused(
                    f"host {host}: after {self._watch_s:g} s agents act by version "
                    f"{' and '.join(map(str, sorted(found)))}, not {version}"
                )
        return {host: missed_share(first[host], last[host]) for host in last}

    def _look(self, version: int | None) -> dict[str, Mapping[str, float]]:
        states = self._all(self._nodes.order("look", self._terms))
        for host, state in states.items():
            wanted = "offered" if version is None else "swapped"
            if state.phase != wanted:
                raise _Refused(f"host {host}: it was started again, or has gone back by itself")
            for figure, what in (("agents_ready", "are up"), ("agents_reporting", "report")):
                if (count := int(state.figures.get(figure, 0.0))) < self._agents[host]:
                    raise _Refused(f"host {host}: {count} of {self._agents[host]} agents {what}")
            restarts = state.figures["restarts"]
            if restarts > self._restarts.setdefault(host, restarts):
                raise _Refused(f"host {host}: an agent was started again")
        return {host: state.figures for host, state in states.items()}

    def _all(self, answers: Mapping[str, wire.UpdateState | str]) -> dict[str, wire.UpdateState]:
        """Everybody's answer.

        Raises:
            _Refused: one has refused, or says nothing.
        """
        for host, answer in answers.items():
            why = answer if isinstance(answer, str) else answer.refusal
            if why:
                raise _Refused(f"host {host}: {why}" if why is not answer else f"host {host} {why}")
        return cast("dict[str, wire.UpdateState]", dict(answers))

    def _go_back(self, terms: Terms) -> str | None:
        """Have everybody act by the version before; what cannot be known."""
        answers = self._nodes.order("back", terms)
        for host, answer in answers.items():
            if isinstance(answer, str):
                return (
                    f"host {host} does not answer: unless it has kept the new version it goes back "
                    "by itself, look at its metrics or push again"
                )
            if answer.version != self._before.get(host, answer.version):
                # It forgot this push when it was started again, and began with what it had kept.
                return f"host {host} acts by version {answer.version}: push again"
        return None


def missed_share(before: Mapping[str, float], now: Mapping[str, float]) -> float:
    """Share of ticks between two looks that found nothing new to see, of agents with a body."""
    missed = now["ticks_missed"] - before["ticks_missed"]
    steps = now["agent_steps"] - before["agent_steps"]
    return missed / (missed + steps) if missed + steps > 0 else 0.0


def what_is_worse(usual: Mapping[str, float], now: Mapping[str, float]) -> str:
    """The first host whose agents miss more ticks than before, by a margin; empty: none does.

    Args:
        usual: by host, `missed_share` before the swap.
        now: after it.
    """
    for host, missed in now.items():
        if missed > usual[host] + _MORE_MISSED:
            return f"host {host}: {missed:.0%} of ticks were missed, {usual[host]:.0%} before"
    return ""
