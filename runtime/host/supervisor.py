"""The watch over one host's agents, without its processes.

    hello, ready, exited, kill, time  ->  Supervisor  ->  Spawn, SendBook, Announce, AllReady, Kill,
    GiveUp

An agent that dies is started again under the same identity as a new incarnation, later each time
(back-off). A death before everybody was ready ends the run: something is wrong that a restart will
not mend.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from runtime.host.start_patience import StartPatience
from runtime.net.topology import Graph, exponential

_BACKOFF_FIRST_S = 0.2
_BACKOFF_LONGEST_S = 10.0
_MOST_DOUBLINGS = 6
_FORGIVEN_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class Spawn:
    agent: int
    incarnation: int
    endpoint: str
    """Where it must listen: its former endpoint after a restart, empty for a free choice."""


@dataclass(frozen=True, slots=True)
class SendBook:
    """Tell an agent where its out-neighbours listen, by offset."""

    agent: int
    endpoints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the launcher (and so the world) that an agent is ready or gone."""

    agent: int
    incarnation: int
    up: bool


@dataclass(frozen=True, slots=True)
class AllReady:
    pass


@dataclass(frozen=True, slots=True)
class Kill:
    """End an agent's process at once (SIGKILL)."""

    agent: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """What an agent has said is not of its present life, or out of turn."""

    reason: str


SupervisorCommand = Spawn | SendBook | Announce | AllReady | Kill | GiveUp | Refused


class _State(Enum):
    STARTING = auto()
    CONNECTING = auto()
    READY = auto()
    AWAITING_RESTART = auto()
    GONE = auto()
    """Killed on purpose, for good."""


@dataclass(slots=True)
class _Life:
    incarnation: int = 0
    state: _State = _State.STARTING
    endpoint: str = ""
    restarts: int = 0
    recent: int = 0
    """Deaths in a row, forgotten after a quiet minute; the back-off grows with it."""
    last_death_s: float = float("-inf")
    restart_at_s: float = float("inf")
    was_not_started: bool = False
    """Its last start came to nothing, so the next one is of the same incarnation."""
    is_doomed: bool = False
    """Killed on purpose: its death is no accident, and nobody takes its place."""


class Supervisor:
    """States of all agents of one host."""

    def __init__(
        self,
        agents: Sequence[int],
        num_agents: int,
        *,
        max_restarts: int,
        patience: StartPatience,
        more_time: str = "--runtime.start-timeout-s",
        endpoints: Mapping[int, str] | None = None,
        first_incarnation: int = 0,
        graph: Graph | None = None,
    ) -> None:
        """Watch `agents`.

        Args:
            patience: how long the start may take.
            more_time: option that gives more of it, for the message.
            endpoints: where the agents of all hosts listen, if that is settled beforehand; else
                there is one host, and every agent chooses for itself.
            first_incarnation: above those of this host's earlier lives.
            graph: edges that exist; None: the exponential graph.
        """
        self._are_settled = endpoints is not None
        self._endpoints = dict(endpoints or {})
        self._lives = {agent: _Life(incarnation=first_incarnation) for agent in agents}
        self._graph = exponential(num_agents) if graph is None else graph
        self._max_restarts = max_restarts
        self._patience = patience
        self._more_time = more_time
        self._started = not agents  # a host without agents waits for nobody
        self._stopping = False
        # Counted, because looking through everybody whenever somebody is there costs N² in all.
        self._num_heard = 0
        """Agents that have ever said where they listen."""
        self._num_ready = 0

    @property
    def restarts(self) -> int:
        return sum(life.restarts for life in self._lives.values())

    @property
    def has_started(self) -> bool:
        """Whether everybody has been ready at once."""
        return self._started

    @property
    def num_ready(self) -> int:
        return self._num_ready

    @property
    def num_heard(self) -> int:
        """Agents that have said where they listen."""
        return self._num_heard

    def forgive(self, now_s: float) -> None:
        """We could not listen until now: a start that has not moved may have."""
        self._patience.forgive(now_s)

    @property
    def ready(self) -> list[int]:
        return [agent for agent, life in self._lives.items() if life.state is _State.READY]

    def announce_all(self) -> list[SupervisorCommand]:
        """Say again who is up and who is not, for a launcher that had lost sight of this host."""
        return [
            Announce(agent, life.incarnation, up=life.state is _State.READY)
            for agent, life in self._lives.items()
        ]

    def is_doomed(self, agent: int) -> bool:
        """Whether it has been killed on purpose, or is to be."""
        return self._lives[agent].is_doomed

    def restarts_of(self, agent: int) -> int:
        return self._lives[agent].restarts

    def incarnation_of(self, agent: int) -> int:
        """Which of its lives an agent of ours is in."""
        return self._lives[agent].incarnation

    def start(self) -> list[SupervisorCommand]:
        return [
            Spawn(agent, life.incarnation, self._endpoints.get(agent, ""))
            for agent, life in self._lives.items()
        ]

    def move(
        self, endpoints: Mapping[int, str], arrivals: Mapping[int, int] | None = None
    ) -> list[SupervisorCommand]:
        """Agents of other hosts listen elsewhere now: ours that know where they were are told.

        Args:
            arrivals: first incarnation of each agent that is ours now; those that are new are
                started.
        """
        moved = {agent for agent, where in endpoints.items() if self._endpoints[agent] != where}
        self._endpoints.update(endpoints)
        books = [
            self._book(agent)
            for agent, life in self._lives.items()
            if life.state in (_State.CONNECTING, _State.READY)
            and not moved.isdisjoint(self._graph.out_neighbours(agent))
        ]
        new = {a: first for a, first in (arrivals or {}).items() if a not in self._lives}
        self._lives |= {agent: _Life(incarnation=first) for agent, first in new.items()}
        return [*books, *(Spawn(agent, first, endpoints[agent]) for agent, first in new.items())]

    def stop(self) -> None:
        """From now on deaths are expected."""
        self._stopping = True

    def hello(self, agent: int, incarnation: int, endpoint: str) -> list[SupervisorCommand]:
        """A process of ours says where it listens; if that is settled, nobody asks it."""
        life = self._lives.get(agent)
        if life is None or life.incarnation != incarnation or life.state is not _State.STARTING:
            return [Refused("stale")]
        if self._are_settled:
            endpoint = self._endpoints[agent]
        self._num_heard += not life.endpoint
        life.endpoint, life.state = endpoint, _State.CONNECTING
        self._endpoints[agent] = endpoint
        if self._started:
            return [self._book(agent)]
        if self._num_heard == len(self._lives):
            return [self._book(agent) for agent in self._lives]
        return []

    def agent_ready(self, agent: int, incarnation: int) -> list[SupervisorCommand]:
        """Its edges are open."""
        life = self._lives.get(agent)
        if life is None or life.incarnation != incarnation or life.state is not _State.CONNECTING:
            return [Refused("stale")]
        life.state = _State.READY
        self._num_ready += 1
        commands: list[SupervisorCommand] = [Announce(agent, incarnation, up=True)]
        if not self._started and self._num_ready == len(self._lives):
            self._started = True
            commands.append(AllReady())
        return commands

    def exited(self, agent: int, exit_code: int | None, now_s: float) -> list[SupervisorCommand]:
        """A process has ended; a negative exit code is the signal that ended it."""
        life = self._lives[agent]
        if self._stopping:
            return []
        cause = f"agent {agent} {_describe(exit_code)}"
        if not self._started:
            return [GiveUp(f"{cause} before the run began, see its log")]
        was_up = life.state is _State.READY
        self._num_ready -= was_up
        if life.is_doomed:
            life.state = _State.GONE
            return [Announce(agent, life.incarnation, up=False)] if was_up else []
        if life.restarts >= self._max_restarts:
            return [GiveUp(f"{cause} after {life.restarts} restarts (runtime.max_restarts)")]
        self._await_restart(life, now_s)
        return [Announce(agent, life.incarnation, up=False)] if was_up else []

    def not_started(self, agent: int, now_s: float) -> None:
        """A process could not be started (no descriptor, no memory): try again, also before the
        run has begun, and count no restart. Nobody has died.
        """
        life = self._lives[agent]
        if life.is_doomed:
            life.state = _State.GONE
        elif not self._stopping:
            life.was_not_started = True
            self._await_restart(life, now_s)

    def _await_restart(self, life: _Life, now_s: float) -> None:
        if now_s - life.last_death_s > _FORGIVEN_AFTER_S:
            life.recent = 0
        backoff_s = min(
            _BACKOFF_FIRST_S * 2 ** min(life.recent, _MOST_DOUBLINGS), _BACKOFF_LONGEST_S
        )
        life.recent += 1
        life.last_death_s = now_s
        life.state, life.restart_at_s = _State.AWAITING_RESTART, now_s + backoff_s

    def kill(self, agent: int) -> list[SupervisorCommand]:
        """End an agent for good: it is not started again, and its death is no fault."""
        life = self._lives.get(agent)
        if life is None or life.is_doomed:
            return []
        life.is_doomed = True
        if life.state is _State.AWAITING_RESTART:
            life.state = _State.GONE
            return []
        return [Kill(agent)]

    def due(self, now_s: float) -> list[SupervisorCommand]:
        """What time has brought: restarts, or the end of the patience at start."""
        if self._stopping:
            return []
        self._patience.look(self._num_heard + self._num_ready, now_s)
        if not self._started and self._patience.is_over(now_s):
            missing = [
                agent for agent, life in self._lives.items() if life.state is not _State.READY
            ]
            shown = ", ".join(map(str, missing[:20])) + (" …" if len(missing) > 20 else "")
            total, silent = len(self._lives), len(self._lives) - self._num_heard
            why = (
                f"{silent} have not started" if silent else "they wait for their neighbours' edges"
            )
            return [
                GiveUp(
                    f"not ready in time: {total - len(missing)} of {total} agents are up, {why}; "
                    f"missing: {shown}; {self._patience.words(self._num_heard, now_s)} "
                    f"({self._more_time} gives more time, fewer agents need less)"
                )
            ]
        commands: list[SupervisorCommand] = []
        for agent, life in self._lives.items():
            if life.state is _State.AWAITING_RESTART and now_s >= life.restart_at_s:
                if life.was_not_started:
                    life.was_not_started = False
                else:
                    life.incarnation += 1
                    life.restarts += 1
                life.state, life.restart_at_s = _State.STARTING, float("inf")
                endpoint = life.endpoint or self._endpoints.get(agent, "")
                commands.append(Spawn(agent, life.incarnation, endpoint))
        return commands

    def _book(self, agent: int) -> SendBook:
        outs = self._graph.out_neighbours(agent)
        return SendBook(agent, tuple(self._endpoints[peer] for peer in outs))


def _describe(exit_code: int | None) -> str:
    if exit_code is None:
        return "is gone"
    if exit_code < 0:
        return f"was ended by signal {-exit_code}"
    return f"ended with exit code {exit_code}"
