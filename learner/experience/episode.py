"""Whole episodes, put together from what the agents and the world send.

    Trajectory (one per agent), EpisodeRecord (the world's) -> EpisodeJoiner -> Episode
    Episode -> parts_of -> the same packets again (learner/experience/journal.py)

Packets come in any order, late, twice or never. The joiner never raises: what does not fit is
dropped and counted by reason, and its memory is bounded. Who waits for an acknowledgement that can
only be "forget it" is told by `take_released`. numpy only, no torch.

Dimension key: T = steps of the episode, L = steps an agent lived, N = agents, D = observation
features, A = actions, S = state.
"""

import heapq
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.rounding import is_plausible
from configs.arrays import FloatArray
from runtime.net import wire


@dataclass(frozen=True, kw_only=True, slots=True)
class Dimensions:
    """Sizes of the task that learner and packets must agree on."""

    num_agents: int
    observation_dim: int
    num_actions: int
    state_dim: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Episode:
    """One whole episode of T steps, as compact as it was sent."""

    number: int
    env_steps: int
    """Training steps taken by all copies when the episode ended."""
    observations: NDArray[Any]
    """[T + 1, N, D] float16 or float32 as the agents saw them; zeros after death. Entry T is what
    would be seen next, to bootstrap from after a truncation."""
    actions: NDArray[np.uint8]
    """[T, N] 0 after death."""
    rewards: FloatArray
    """[T, N] individual rewards."""
    states: FloatArray
    """[T + 1, S]"""
    lifetimes: NDArray[np.uint16]
    """[N] moments of 0..T at which the agent was alive: T + 1 means it saw the end."""
    terminated: bool
    """The task itself ended; otherwise time ran out."""
    gates: NDArray[np.unsignedinteger[Any]]
    """[T, N] bit k: the edge to out-neighbour k was used."""
    q_values: FloatArray | None
    """[T, N, A] as the agents computed them, zeros after death; None if they were not recorded."""
    first_version: int
    """Oldest policy version that any agent began with."""
    last_version: int
    """Newest policy version that any agent ended with."""

    @property
    def length(self) -> int:
        """T"""
        return len(self.actions)

    @property
    def alive(self) -> NDArray[np.bool_]:
        """[T + 1, N] derived from the lifetimes."""
        return np.arange(self.length + 1)[:, None] < self.lifetimes

    @property
    def size_bytes(self) -> int:
        arrays = (self.observations, self.actions, self.rewards, self.states, self.gates)
        recorded = 0 if self.q_values is None else self.q_values.nbytes
        return sum(array.nbytes for array in arrays) + self.lifetimes.nbytes + recorded


class Part(NamedTuple):
    """Who sent what: one agent's part of an episode, or the world's."""

    episode: int
    agent: int | None
    """None: the world's."""


@dataclass(slots=True)
class _Pending:
    """An episode of which something is still missing."""

    record: wire.EpisodeRecord | None = None
    trajectories: dict[int, wire.Trajectory] = field(default_factory=dict[int, wire.Trajectory])
    overtaken: int = 0
    """Newer episodes that have been completed meanwhile."""
    whole_since_s: float | None = None
    """Clock reading at which its record was first seen here; see `EpisodeJoiner.expire`."""


class EpisodeJoiner:
    """Joins packets by episode number.

    Args:
        dimensions: what every packet is held against.
        limit: newer episodes that may be completed before an older one is given up.
        most_pending: episodes in progress at most; the oldest leave first.
        patience_s: seconds that an episode which is over may lack a trajectory; see `expire`.
    """

    REMEMBERED = 4096
    """Closed episodes that are remembered one by one, so that a late packet does not open them
    again. Episodes are numbered in the order in which they began: what is older than all of these
    and not in progress is closed as well."""
    MOST_BYTES = 32 << 20
    """Of one agent, in episodes in progress: twice what it keeps unacknowledged itself
    (runtime/net/delivery.py). Who sends more than that is broken, or means harm."""

    def __init__(
        self,
        dimensions: Dimensions,
        *,
        limit: int = 64,
        most_pending: int = 2048,
        patience_s: float = 90.0,
    ) -> None:
        self.dropped_episodes: Counter[str] = Counter()
        """Episodes by reason: incomplete, missing, mismatch or full."""
        self.dropped_packets: Counter[str] = Counter()
        """Packets by reason: shape, range, duplicate, late or full."""
        self._dimensions = dimensions
        self._limit = limit
        self._most_pending = most_pending
        self._patience_s = patience_s
        self._pending: OrderedDict[int, _Pending] = OrderedDict()
        self._closed: set[int] = set()
        self._oldest_closed: list[int] = []
        """The same numbers as a heap."""
        self._forgotten = -1
        """Newest of the closed episodes that are no longer remembered one by one."""
        self._released: list[Part] = []
        self._held_bytes: Counter[int] = Counter()
        """By agent: what it has sent for episodes in progress."""

    def __len__(self) -> int:
        """Episodes in progress."""
        return len(self._pending)

    def add(self, packet: wire.Trajectory | wire.EpisodeRecord) -> Episode | None:
        """Take one packet; returns the episode that it completes, if it does."""
        trajectory = packet if isinstance(packet, wire.Trajectory) else None
        record = packet if isinstance(packet, wire.EpisodeRecord) else None
        part = Part(packet.episode, None if trajectory is None else trajectory.agent)
        fault = (trajectory and self._fault_of(trajectory)) or (
            record and _fault_of(record, self._dimensions)
        )
        if fault or self.is_closed(packet.episode):
            self.dropped_packets[fault or "late"] += 1
            self._released.append(part)
            return None
        size = 0 if trajectory is None else _size_bytes(trajectory)
        if trajectory is not None and self._held_bytes[trajectory.agent] + size > self.MOST_BYTES:
            self.dropped_packets["full"] += 1
            self._released.append(part)
            return None
        pending = self._open(packet.episode)
        if record is not None:
            if pending.record is not None:
                self.dropped_packets["duplicate"] += 1
                return None
            pending.record = record
            if not record.complete:
                self._drop(packet.episode, "incomplete")
                return None
        if trajectory is not None:
            if trajectory.agent in pending.trajectories:
                self.dropped_packets["duplicate"] += 1
                return None
            pending.trajectories[trajectory.agent] = trajectory
            self._held_bytes[trajectory.agent] += size
        return self._complete(packet.episode, pending)

    def is_closed(self, episode: int) -> bool:
        """Whether an episode has been joined or dropped, so that nothing more is made of it."""
        if episode in self._closed:
            return True
        return episode <= self._forgotten and episode not in self._pending

    def close(self, episode: int) -> None:
        """Count an episode as joined: somebody has it already."""
        pending = self._pending.pop(episode, None)
        for agent, trajectory in pending.trajectories.items() if pending is not None else ():
            self._held_bytes[agent] -= _size_bytes(trajectory)
        if episode <= self._forgotten or episode in self._closed:
            return
        self._closed.add(episode)
        heapq.heappush(self._oldest_closed, episode)
        if len(self._closed) > self.REMEMBERED:
            self._forgotten = heapq.heappop(self._oldest_closed)
            self._closed.discard(self._forgotten)

    def expire(self, now_s: float) -> None:
        """Drop episodes that have been over for long and still lack a trajectory.

        Its agent has died with it. Newer episodes overtake such a one sooner or later, but a world
        that waits for the learner plays none. An episode whose record is missing is still being
        played as far as anybody knows.
        """
        for number, pending in list(self._pending.items()):
            if pending.record is None:
                continue
            if pending.whole_since_s is None:
                pending.whole_since_s = now_s
            elif now_s - pending.whole_since_s >= self._patience_s:
                self._drop(number, "missing")

    def abandon(self) -> None:
        """Let go of whatever is in progress: nothing more is played.

        An episode that was cut off when training ended is no loss and is not counted. One that has
        been played to its end and lacks a trajectory is.
        """
        for number, pending in list(self._pending.items()):
            self._drop(number, None if pending.record is None else "missing")

    def take_released(self) -> list[Part]:
        """Parts to acknowledge, since the last call: nothing is (or will be) made of them.

        Their episode was dropped, or is closed already, or they do not fit the task. A part that
        came twice for an episode in progress is not among them: its turn is yet to come.
        """
        released, self._released = self._released, []
        return released

    def _fault_of(self, packet: wire.Trajectory) -> str | None:
        """Why a trajectory cannot be used; None if it can."""
        known = self._dimensions
        length = len(packet.actions)
        if packet.agent >= known.num_agents:
            return "range"
        if length > 0 and int(packet.actions.max()) >= known.num_actions:
            return "range"
        if not is_plausible(packet.observations, "observation"):
            return "range"
        fits = (
            packet.observations.shape == (length, known.observation_dim)
            and packet.gates.shape == (length,)
            and (len(packet.q_values) == 0 or packet.q_values.shape == (length, known.num_actions))
        )
        return None if fits else "shape"

    def _open(self, episode: int) -> _Pending:
        pending = self._pending.get(episode)
        if pending is None:
            if len(self._pending) >= self._most_pending:
                self._drop(next(iter(self._pending)), "full")
            pending = self._pending[episode] = _Pending()
        return pending

    def _drop(self, episode: int, reason: str | None) -> None:
        """Make nothing of an episode; without a reason it is not counted."""
        pending = self._pending[episode]
        self._released += [Part(episode, agent) for agent in pending.trajectories]
        if pending.record is not None:
            self._released.append(Part(episode, None))
        self.close(episode)
        if reason is not None:
            self.dropped_episodes[reason] += 1

    def _complete(self, number: int, pending: _Pending) -> Episode | None:
        record = pending.record
        if record is None:
            return None
        # Only who lived at step 0 or later has something to tell.
        lifetimes_N = record.alive.sum(axis=0, dtype=np.uint16)
        if any(agent not in pending.trajectories for agent in np.flatnonzero(lifetimes_N).tolist()):
            return None
        if any(
            len(trajectory.actions) != min(int(lifetimes_N[agent]), len(record.rewards))
            for agent, trajectory in pending.trajectories.items()
        ):
            self._drop(number, "mismatch")
            return None
        self.close(number)
        for other, waiting in list(self._pending.items()):
            if other < number:
                waiting.overtaken += 1
                if waiting.overtaken >= self._limit:
                    self._drop(other, "missing")
        return _join(record, pending.trajectories, lifetimes_N, self._dimensions)


def _size_bytes(packet: wire.Trajectory) -> int:
    arrays = (packet.observations, packet.actions, packet.gates, packet.q_values)
    return sum(array.nbytes for array in arrays)


def _fault_of(record: wire.EpisodeRecord, known: Dimensions) -> str | None:
    """Why a record cannot be used; None if it can."""
    length = len(record.rewards)
    fits = (
        length >= 1
        and record.rewards.shape == (length, known.num_agents)
        and record.states.shape == (length + 1, known.state_dim)
        and record.alive.shape == (length + 1, known.num_agents)
        and record.final_observations.shape == (known.num_agents, known.observation_dim)
    )
    if not fits:
        return "shape"
    flags = max(int(record.alive.max()), record.terminated, record.complete)
    # Nobody comes back to life: masks are derived from the number of living steps.
    risen = (record.alive[1:] > record.alive[:-1]).any()
    return "range" if flags > 1 or risen else None


def _join(
    record: wire.EpisodeRecord,
    trajectories: dict[int, wire.Trajectory],
    lifetimes_N: NDArray[np.uint16],
    known: Dimensions,
) -> Episode:
    time, agents = record.rewards.shape
    given = [*(t.observations.dtype for t in trajectories.values())]
    dtype = np.result_type(record.final_observations.dtype, *given)
    observations = np.zeros((time + 1, agents, known.observation_dim), dtype=dtype)
    actions = np.zeros((time, agents), dtype=np.uint8)
    widths = [t.gates.dtype for t in trajectories.values()]
    gates = np.zeros((time, agents), dtype=np.result_type(np.uint16, *widths))
    with_q = any(len(t.q_values) > 0 for t in trajectories.values())
    q_values = np.zeros((time, agents, known.num_actions), dtype=np.float32) if with_q else None
    for agent, trajectory in trajectories.items():
        steps = len(trajectory.actions)
        observations[:steps, agent] = trajectory.observations
        actions[:steps, agent] = trajectory.actions
        gates[:steps, agent] = trajectory.gates
        if q_values is not None and len(trajectory.q_values) > 0:
            q_values[:steps, agent] = trajectory.q_values
    sees_end_N = lifetimes_N == time + 1
    observations[time, sees_end_N] = record.final_observations[sees_end_N]
    versions = [(t.first_version, t.last_version) for t in trajectories.values()] or [(0, 0)]
    return Episode(
        number=record.episode,
        env_steps=record.env_steps,
        observations=observations,
        actions=actions,
        # Copies: views of a frame would keep all of its bytes alive.
        rewards=record.rewards.astype(np.float32),
        states=record.states.astype(np.float32),
        lifetimes=lifetimes_N,
        terminated=bool(record.terminated),
        gates=gates,
        q_values=q_values,
        first_version=min(first for first, _ in versions),
        last_version=max(last for _, last in versions),
    )


def parts_of(episode: Episode) -> list[wire.Trajectory | wire.EpisodeRecord]:
    """The packets that a joiner makes this very episode of.

    Versions are the exception that proves it: all trajectories carry those of the whole episode.
    """
    parts: list[wire.Trajectory | wire.EpisodeRecord] = []
    for agent, lifetime in enumerate(episode.lifetimes.tolist()):
        steps = min(lifetime, episode.length)
        if steps == 0:
            continue
        q_values = np.empty((0, 0), dtype=np.float32)
        if episode.q_values is not None:
            q_values = episode.q_values[:steps, agent]
        parts.append(
            wire.Trajectory(
                agent=agent,
                episode=episode.number,
                first_version=episode.first_version,
                last_version=episode.last_version,
                observations=episode.observations[:steps, agent],
                actions=episode.actions[:steps, agent],
                gates=episode.gates[:steps, agent],
                q_values=q_values,
            )
        )
    record = wire.EpisodeRecord(
        episode=episode.number,
        env_steps=episode.env_steps,
        states=episode.states,
        rewards=episode.rewards,
        alive=episode.alive.astype(np.uint8),
        terminated=int(episode.terminated),
        complete=1,
        final_observations=episode.observations[episode.length],
    )
    return [*parts, record]


def senders_of(episode: Episode) -> list[Part]:
    """Everybody who has sent a part of it."""
    agents = np.flatnonzero(episode.lifetimes).tolist()
    return [*(Part(episode.number, agent) for agent in agents), Part(episode.number, None)]
