"""Which hosts are here: who has joined, who is ready, who has fallen silent, who is back.

    join, ready, agent states, silence  ->  Attendance  ->  Assign, ToHost, ToWorld, AllReady, Moved

A host that falls silent loses nothing but time: its agents count as gone, the world plays no-ops
for them, and when it speaks again it is asked who of them is up. So it is when it counts other
agents than we do: what it said may have died with a connection. A host that starts anew joins
again, with incarnations above all that were seen of it. Two that claim the same host cannot both
have it: whoever speaks keeps it.

Where the run rebalances, a host that stays away for long loses its agents to the others. When it
speaks again it is told to end; it may join anew, without agents, and gets some when another leaves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runtime.host.rebalance import Taker, share_out
from runtime.net import wire


@dataclass(frozen=True, slots=True)
class Assign:
    """Tell a host that has joined what to run."""

    host: str
    first_incarnation: int


@dataclass(frozen=True, slots=True)
class ToHost:
    host: str
    packet: wire.Instruction | wire.Stop


@dataclass(frozen=True, slots=True)
class ToWorld:
    packet: wire.AgentState


@dataclass(frozen=True, slots=True)
class AllReady:
    """Every agent of every host has opened its edges."""


@dataclass(frozen=True, slots=True)
class HostLost:
    """For the log and the view: a host has fallen silent."""

    host: str
    silent_s: float


@dataclass(frozen=True, slots=True)
class Moved:
    """A host has been away for too long: its agents live elsewhere from now on."""

    host: str
    away_s: float
    homes: Mapping[int, str]
    """Where its agents live now, except those that no host has ports for."""
    incarnation: int
    """Of their first lives there, above all that were seen of them."""


@dataclass(frozen=True, slots=True)
class Rebalancing:
    """When hosts count as gone for good, and how many agents each can take."""

    after_s: float
    """Seconds without a host."""
    room: Mapping[str, int]
    """Agents that each host has ports for."""


@dataclass(frozen=True, slots=True)
class Refused:
    """What a host has said is not for it to say, or cannot be."""

    reason: str


AttendanceCommand = Assign | ToHost | ToWorld | AllReady | HostLost | Moved | Refused

_MOST_LIVES = 1_000_000
"""Lives that an agent can have had since its host joined: a host that lies must not use up the
numbers."""


@dataclass(slots=True)
class _Host:
    agents: frozenset[int]
    share: int
    """Agents that it had at first."""
    joined: bool = False
    waiting: bool = False
    """It has asked to join and could not be told anything yet."""
    ready: bool = False
    """All its agents have opened their edges since it joined."""
    lost: bool = False
    evicted: bool = False
    """Its agents live elsewhere, and it has not joined since."""
    heard_s: float = 0.0
    first_incarnation: int = 0
    """Where its agents' incarnations began when it joined."""
    incarnation: int = -1
    """Highest of its agents so far."""
    up: dict[int, int] = field(default_factory=dict[int, int])
    """Incarnation of each agent that is up."""


class Attendance:
    """States of all hosts of a run."""

    def __init__(
        self,
        agents_of: Mapping[str, Sequence[int]],
        local: str,
        host_timeout_s: float,
        rebalancing: Rebalancing | None = None,
    ) -> None:
        """Expect these hosts.

        Args:
            agents_of: each host's share.
            local: the launcher's own host, whose node is its child and needs no clock.
            host_timeout_s: silence after which a host counts as gone.
            rebalancing: None keeps all agents where they are.
        """
        self._hosts = {
            host: _Host(frozenset(agents), len(agents)) for host, agents in agents_of.items()
        }
        self._local = local
        self._timeout_s = host_timeout_s
        self._rebalancing = rebalancing
        self._open = False
        self._all_ready = False

    @property
    def missing(self) -> list[str]:
        """Hosts that have not joined, or not brought up their agents."""
        return [name for name, host in self._hosts.items() if not host.ready]

    @property
    def unjoined(self) -> list[str]:
        return [
            name
            for name, host in self._hosts.items()
            if not (host.joined or host.waiting or name == self._local)
        ]

    def waited_for(self, listening: int) -> list[str]:
        """What a start waits for, in words.

        Args:
            listening: agents of all hosts that have said where they listen.
        """
        if self.unjoined:
            return [f"host {name} has not joined" for name in self.unjoined]
        hosts = [(name, self._hosts[name]) for name in self.missing]
        words = [f"host {name}: {len(h.up)} of {len(h.agents)} agents are up" for name, h in hosts]
        silent = sum(len(host.agents) for host in self._hosts.values()) - listening
        if words and silent > 0:
            words.append(f"{silent} have not started, and the others wait for them")
        elif words:
            words.append("the others wait for their neighbours' edges")
        return words

    @property
    def remote(self) -> list[str]:
        """Hosts other than the launcher's that take part now."""
        return [name for name in self._hosts if name != self._local and self._is_here(name)]

    def open(self, now_s: float) -> list[AttendanceCommand]:
        """World and learner are there: whoever has come meanwhile can be told what to do."""
        self._open = True
        waiting = [(name, host) for name, host in self._hosts.items() if host.waiting]
        return [self._assign(name, host, now_s) for name, host in waiting]

    def join(self, name: str, now_s: float) -> list[AttendanceCommand]:
        """A node asks to be taken in."""
        host = self._hosts.get(name)
        if host is None or name == self._local:
            return [ToHost(name, wire.Stop(f"host {name} is not expected to join"))]
        if host.joined and now_s - host.heard_s <= self._timeout_s:
            return [ToHost(name, wire.Stop(f"{TAKEN}: host {name} takes part already"))]
        commands = self._leave(host)
        host.waiting = True
        return [*commands, self._assign(name, host, now_s)] if self._open else commands

    def heard(self, name: str, now_s: float) -> list[AttendanceCommand]:
        """A node that takes part has said something, or one that does not know that it is out."""
        host = self._member(name)
        if host is None:
            return [ToHost(name, wire.Stop(wire.EVICTED))] if self.is_evicted(name) else []
        host.heard_s = now_s
        if not host.lost:
            return []
        host.lost = False
        return [ToHost(name, wire.Instruction("announce"))]

    def ready(self, name: str) -> list[AttendanceCommand]:
        """All agents of a host have opened their edges."""
        host = self._member(name)
        if host is None:
            return []
        host.ready = True
        if self._all_ready or self.missing:
            return []
        self._all_ready = True
        return [AllReady()]

    def agent_state(self, name: str, state: wire.AgentState) -> list[AttendanceCommand]:
        """A node announces one of its own agents; of others' it has nothing to say."""
        host = self._member(name)
        if host is None or state.agent not in host.agents:
            return [Refused("unknown_sender")]
        if state.incarnation > host.first_incarnation + _MOST_LIVES:
            return [Refused("range")]
        host.incarnation = max(host.incarnation, state.incarnation)
        known = host.up.pop(state.agent, None)
        if state.up:
            host.up[state.agent] = state.incarnation
        if known == host.up.get(state.agent):
            return []
        if known is None:
            return [ToWorld(state)]
        gone = ToWorld(wire.AgentState(state.agent, known, 0))
        # Of a death whose word was lost the next life tells: the episode has a hole all the same.
        return [gone, ToWorld(state)] if state.up else [gone]

    def counted(self, name: str, ready: int) -> list[AttendanceCommand]:
        """A node reports how many of its agents are up; word of some may have been lost."""
        host = self._member(name)
        if host is None or ready == len(host.up):
            return []
        return [ToHost(name, wire.Instruction("announce"))]

    def left(self, name: str) -> list[AttendanceCommand]:
        """A node says that it ends; it may be started again at once."""
        host = self._hosts.get(name)
        if host is None or name == self._local:
            return []
        host.joined = host.waiting = host.lost = False
        return self._leave(host)

    def is_evicted(self, name: str) -> bool:
        """Whether a host has lost its agents to others and has not joined since: what it says is
        of the past.
        """
        host = self._hosts.get(name)
        return host is not None and host.evicted

    def is_ready(self, name: str) -> bool:
        """Whether a host has got all its agents up since it joined."""
        host = self._hosts.get(name)
        return host is not None and host.ready

    def forgive(self, now_s: float) -> None:
        """This process was suspended, so silence proves nothing about the others."""
        for host in self._hosts.values():
            host.heard_s = now_s

    def due(self, now_s: float) -> list[AttendanceCommand]:
        """What silence has brought."""
        commands: list[AttendanceCommand] = []
        for name, host in self._hosts.items():
            silent_s = now_s - host.heard_s
            if name == self._local or host.lost or not host.joined or silent_s <= self._timeout_s:
                continue
            commands.append(HostLost(name, silent_s))
            commands += self._leave(host)
            host.lost = True
        return [*commands, *self._moves(now_s)]

    def _moves(self, now_s: float) -> list[AttendanceCommand]:
        """Agents of hosts that have stayed away for too long go to the others."""
        rebalancing = self._rebalancing
        if rebalancing is None or not self._all_ready:
            return []
        commands: list[AttendanceCommand] = []
        for name, host in self._hosts.items():
            away_s = now_s - host.heard_s
            if self._is_here(name) or not host.agents or away_s <= rebalancing.after_s:
                continue
            agents = sorted(host.agents)
            takers = [
                Taker(n, len(h.agents), h.share, rebalancing.room[n])
                for n, h in self._hosts.items()
                if self._is_here(n)
            ]
            homes, first = share_out(agents, takers), host.incarnation + 1
            if not homes:
                continue
            for agent, home in homes.items():
                taker = self._hosts[home]
                taker.agents |= {agent}
                taker.incarnation = max(taker.incarnation, first)
                taker.first_incarnation = max(taker.first_incarnation, first)
            host.agents -= homes.keys()
            host.joined = host.waiting = host.lost = host.ready = False
            host.evicted = True
            commands.append(Moved(name, away_s, homes, first))
        return commands

    def _is_here(self, name: str) -> bool:
        host = self._hosts[name]
        return name == self._local or (host.joined and not host.lost)

    def _member(self, name: str) -> _Host | None:
        """The host, if it takes part: one that has not joined has nothing to say."""
        host = self._hosts.get(name)
        return host if host is not None and (host.joined or name == self._local) else None

    def _assign(self, name: str, host: _Host, now_s: float) -> Assign:
        host.joined, host.waiting, host.lost, host.evicted = True, False, False, False
        host.ready = not host.agents  # nobody to wait for
        host.heard_s = now_s  # until now it had nothing to say
        host.first_incarnation = host.incarnation + 1
        return Assign(name, host.first_incarnation)

    def _leave(self, host: _Host) -> list[AttendanceCommand]:
        gone = [ToWorld(wire.AgentState(agent, life, 0)) for agent, life in host.up.items()]
        host.up.clear()
        return list(gone)


TAKEN = "taken"
"""How the refusal of a host that takes part already begins: whoever waits may try again."""
