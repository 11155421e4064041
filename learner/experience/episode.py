"""Whole episodes, put together from what the agents and the world send.

    Trajectory (one per agent), EpisodeRecord (the world's) -> EpisodeJoiner -> Episode
    Episode -> parts_of -> the same packets again (learner/experience/journal.py)

Packets come in any order, late, twice or never. The joiner never raises: what does not fit is
dropped and counted by reason, and its memory is bounded. Senders that wait for an acknowledgement
which can only be "forget it" are told by `take_released`. numpy only, no torch.

Dimension key: T = steps of the episode, L = steps an agent lived, N = agents, D = observation
features, A = actions, n = numbers of an action, S = state.
"""

import heapq
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.rounding import LARGEST_OBSERVATION, is_plausible
from configs.arrays import FloatArray
from configs.columns import ACTION_MASK, GATES, PIECE, PRESENT, Column
from envs.base import EnvSpec
from runtime.net import wire
from runtime.net.codecs import LARGEST
from runtime.net.topology import Graph


@dataclass(frozen=True, kw_only=True, slots=True)
class Dimensions:
    """Sizes of the task that learner and packets must agree on."""

    num_agents: int
    observation_dim: int
    num_actions: int
    """A; where actions are numbers, how many make up one."""
    state_dim: int
    action_dim: int = 0
    """Numbers that make up an action; 0 where actions are chosen from a list."""
    comes_back: bool = False
    """Whether an agent that has died may live again in the same episode."""
    carry_dim: int = 0
    """Numbers that an agent remembers from step to step (agents/carry.py)."""
    mask_shape: tuple[int, ...] = ()
    """Of a mask of an agent's edges (runtime/net/edge_bits.py)."""
    columns: tuple[Column, ...] = (GATES,)
    """What is kept of every step beside observation and action; others that come are left out."""

    @classmethod
    def of(
        cls,
        spec: EnvSpec,
        columns: Iterable[Column] = (),
        carry_dim: int = 0,
        graph: Graph | None = None,
    ) -> "Dimensions":
        """Those of an environment, and of what is recorded in it.

        Args:
            graph: along which agents speak; None: one whose masks are one number each.
        """
        masks = (ACTION_MASK,) if spec.has_action_masks else ()
        return cls(
            num_agents=spec.num_agents,
            observation_dim=spec.observation_dim,
            num_actions=spec.num_actions,
            state_dim=spec.state_dim,
            action_dim=spec.num_actions if spec.is_continuous else 0,
            comes_back=spec.comes_back,
            carry_dim=carry_dim,
            mask_shape=() if graph is None else graph.edge_bits.shape,
            columns=tuple(dict.fromkeys((GATES, *masks, *columns))),
        )

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Extents of one agent's action."""
        return (self.action_dim,) if self.action_dim else ()

    def extents(self, column: Column) -> tuple[int, ...]:
        """Extents of one agent's entry in a column.

        Raises:
            KeyError: the column goes by a size that no task has.
        """
        return column.extents(
            {
                "num_agents": self.num_agents,
                "observation_dim": self.observation_dim,
                "num_actions": self.num_actions,
                # What a policy's head says; see PolicySpec.outputs.
                "num_outputs": 2 * self.action_dim or self.num_actions,
                "state_dim": self.state_dim,
                "carry_dim": self.carry_dim,
                "mask_shape": self.mask_shape,
            }
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Episode:
    """One whole episode of T steps, as compact as it was sent; or a piece of one."""

    dimensions: Dimensions
    """What its parts were held against."""
    number: int
    env_steps: int
    """Training steps taken by all copies when the episode ended."""
    observations: NDArray[Any]
    """[T + 1, N, D] float16, float32 or uint8 as the agents saw them; zeros for the dead. Entry T
    is what would be seen next, to bootstrap from after a truncation."""
    actions: NDArray[Any]
    """[T, N] or [T, N, n] as they were played; 0 for the dead."""
    rewards: FloatArray
    """[T, N] individual rewards."""
    states: FloatArray
    """[T + 1, S]"""
    alive: NDArray[np.bool_]
    """[T + 1, N]"""
    terminated: bool
    """The task itself ended; otherwise time ran out."""
    columns: Mapping[str, NDArray[Any]]
    """[T, N, …], [T + 1, N, …] or [1, N, …] by name, zeros for the dead (configs/columns.py)."""
    first_versions: NDArray[np.uint32]
    """[N] policy version that each agent began with; 0 for one that never lived."""
    last_versions: NDArray[np.uint32]
    """[N] policy version that each agent ended with."""

    def with_column(self, column: Column, values: NDArray[Any]) -> "Episode":
        """The same with one column more, or another in place of it, which stays in this process."""
        columns = tuple(dict.fromkeys((*self.dimensions.columns, column)))
        return replace(
            self,
            dimensions=replace(self.dimensions, columns=columns),
            columns={**self.columns, column.name: values},
        )

    @property
    def length(self) -> int:
        """T"""
        return len(self.actions)

    @property
    def piece(self) -> "Piece":
        """Which part of which episode this is."""
        return Piece.of(self.columns)

    @property
    def lifetimes(self) -> NDArray[np.int64]:
        """[N] moments of 0..T at which the agent was alive."""
        return self.alive.sum(axis=0)

    @property
    def first_version(self) -> int:
        """Oldest policy version that any agent began with."""
        lived_N = self.alive.any(axis=0)
        return int(self.first_versions[lived_N].min()) if lived_N.any() else 0

    @property
    def last_version(self) -> int:
        """Newest policy version that any agent ended with."""
        return int(self.last_versions.max())

    @property
    def changes_policy(self) -> bool:
        """Whether an agent changed its policy within the episode."""
        return bool((self.first_versions != self.last_versions).any())

    @property
    def size_bytes(self) -> int:
        arrays = (self.observations, self.actions, self.rewards, self.states, self.alive)
        columns = sum(array.nbytes for array in self.columns.values())
        return sum(array.nbytes for array in arrays) + columns


class Piece(NamedTuple):
    """Where an episode that was cut at the end of a rollout belongs."""

    rollout: int
    copy: int
    start: int
    """Step of the episode with which it begins."""
    goes_on: bool
    """The episode has not ended with it."""

    @classmethod
    def of(cls, columns: Mapping[str, NDArray[Any]]) -> "Piece":
        """By the world's column; a whole episode where there is none."""
        if PIECE.name not in columns:
            return cls(0, 0, 0, False)
        rollout, copy, start, goes_on = columns[PIECE.name][0, 0].tolist()
        return cls(rollout, copy, start, bool(goes_on))


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
        self.lost_pieces: list[tuple[Piece, int]] = []
        """Of dropped episodes, as far as their records have come, and their lengths; for the caller
        to take."""
        self.dropped_packets: Counter[str] = Counter()
        """Packets by reason: shape, dtype, range, duplicate, late or full."""
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

    @property
    def awaits_parts(self) -> bool:
        """Whether an episode that is over lacks a trajectory."""
        return any(pending.record is not None for pending in self._pending.values())

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
        if packet.observations.shape != (length, known.observation_dim):
            return "shape"
        if not is_plausible(packet.observations, LARGEST_OBSERVATION):
            return "range"
        by_agents = [column for column in known.columns if column.by == "agent"]
        if not length:  # it has lived in no step, and says what its last message was
            wanted = [column for column in by_agents if column.once]
            return _fault_of_columns(packet.columns, wanted, known, (0,))
        return _fault_of_actions(packet.actions, known, (length,)) or _fault_of_columns(
            packet.columns, by_agents, known, (length,)
        )

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
            if PIECE.name in pending.record.columns:
                piece = Piece.of(pending.record.columns)
                self.lost_pieces.append((piece, len(pending.record.rewards)))
        self.close(episode)
        if reason is not None:
            self.dropped_episodes[reason] += 1

    def _complete(self, number: int, pending: _Pending) -> Episode | None:
        record = pending.record
        if record is None:
            return None
        lived_N = record.alive[:-1].sum(axis=0, dtype=np.int64)
        tell = _who_tells(record.alive, record.columns, self._dimensions)
        if any(agent not in pending.trajectories for agent in tell):
            return None
        if any(
            len(trajectory.actions) != lived_N[agent]
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
        return _join(record, pending.trajectories, self._dimensions)


def _who_tells(
    alive: NDArray[Any], columns: Mapping[str, NDArray[Any]], known: Dimensions
) -> list[int]:
    """Agents that have something to tell: those that lived in one of the steps; and in a piece that
    begins within its episode those that were there before it, for their last message is heard. Who
    may live again is always there.
    """
    tell_N: NDArray[np.bool_] = np.logical_or.reduce(alive[:-1], axis=0)
    if Piece.of(columns).start:
        tell_N = tell_N | (columns[PRESENT.name][0] != 0) | known.comes_back
    return np.flatnonzero(tell_N).tolist()


def _size_bytes(packet: wire.Trajectory) -> int:
    arrays = (packet.observations, packet.actions, *packet.columns.values())
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
    risen = not known.comes_back and (record.alive[1:] > record.alive[:-1]).any()
    if flags > 1 or risen:
        return "range"
    wanted = [column for column in known.columns if column.by == "world"]
    return _fault_of_actions(
        record.actions, known, (length, known.num_agents)
    ) or _fault_of_columns(record.columns, wanted, known, (length, known.num_agents))


def _fault_of_actions(
    actions: NDArray[Any], known: Dimensions, leading: tuple[int, ...]
) -> str | None:
    if actions.shape != (*leading, *known.action_shape):
        return "shape"
    if known.action_dim:
        if actions.dtype != np.float32:
            return "dtype"
        return None if is_plausible(actions, LARGEST_OBSERVATION) else "range"
    if actions.dtype == np.float32:
        return "dtype"
    return "range" if actions.size and int(actions.max()) >= known.num_actions else None


def _fault_of_columns(
    columns: Mapping[str, NDArray[Any]],
    wanted: Sequence[Column],
    known: Dimensions,
    leading: tuple[int, ...],
) -> str | None:
    for column in wanted:
        array = columns.get(column.name)
        if array is None:
            return "shape"
        if array.shape != (column.entries(leading[0]), *leading[1:], *known.extents(column)):
            return "shape"
        if array.dtype.name not in column.dtypes:
            return "dtype"
        if array.dtype.kind == "f" and array.size and np.abs(array).max() > LARGEST:
            return "range"
    return None


def _join(
    record: wire.EpisodeRecord, trajectories: dict[int, wire.Trajectory], known: Dimensions
) -> Episode:
    time, agents = record.rewards.shape
    alive_TN = record.alive.astype(np.bool_)
    given = [*(t.observations.dtype for t in trajectories.values())]
    dtype = np.result_type(record.final_observations.dtype, *given)
    observations = np.zeros((time + 1, agents, known.observation_dim), dtype=dtype)
    columns: dict[str, NDArray[Any]] = {}
    for column in known.columns:
        if column.by == "world":
            columns[column.name] = record.columns[column.name].copy()
            continue
        with_it = [t for t in trajectories.values() if column.once or len(t.actions)]
        found = [t.columns[column.name].dtype for t in with_it]
        dtype = np.result_type(*found) if found else np.dtype(column.dtypes[0])
        shape = (column.entries(time), agents, *known.extents(column))
        columns[column.name] = np.zeros(shape, dtype=dtype)
    by_agents = [column for column in known.columns if column.by == "agent"]
    first_versions, last_versions = np.zeros((2, agents), dtype=np.uint32)
    for agent, trajectory in trajectories.items():
        first_versions[agent] = trajectory.first_version
        last_versions[agent] = trajectory.last_version
        # Its rows are of the steps that it lived, in their order.
        steps: slice | NDArray[np.bool_] = slice(len(trajectory.actions))
        if known.comes_back:
            steps = alive_TN[:-1, agent]
        observations[:-1][steps, agent] = trajectory.observations
        for column in by_agents:
            if not (column.once or len(trajectory.actions)):
                continue
            entries = slice(None) if column.once else steps
            columns[column.name][entries, agent] = trajectory.columns[column.name]
    sees_end_N = alive_TN[time]
    observations[time, sees_end_N] = record.final_observations[sees_end_N]
    actions = record.actions.copy()
    actions[~alive_TN[:-1]] = 0
    return Episode(
        dimensions=known,
        number=record.episode,
        env_steps=record.env_steps,
        observations=observations,
        actions=actions,
        # Copies: views of a frame would keep all of its bytes alive.
        rewards=record.rewards.astype(np.float32),
        states=record.states.astype(np.float32),
        alive=alive_TN,
        terminated=bool(record.terminated),
        columns=columns,
        first_versions=first_versions,
        last_versions=last_versions,
    )


def parts_of(episode: Episode) -> list[wire.Trajectory | wire.EpisodeRecord]:
    """The packets that a joiner makes this very episode of."""
    parts: list[wire.Trajectory | wire.EpisodeRecord] = []
    known = episode.dimensions
    by_agents = [column for column in known.columns if column.by == "agent"]
    by_world = [column.name for column in known.columns if column.by == "world"]
    lived_N = episode.alive[:-1].sum(axis=0, dtype=np.int64)
    for agent in _who_tells(episode.alive, episode.columns, known):
        steps = episode.alive[:-1, agent] if known.comes_back else slice(int(lived_N[agent]))
        parts.append(
            wire.Trajectory(
                agent=agent,
                episode=episode.number,
                first_version=int(episode.first_versions[agent]),
                last_version=int(episode.last_versions[agent]),
                observations=episode.observations[:-1][steps, agent],
                actions=episode.actions[steps, agent],
                columns={
                    column.name: episode.columns[column.name][
                        slice(None) if column.once else steps, agent
                    ]
                    for column in by_agents
                },
            )
        )
    record = wire.EpisodeRecord(
        episode=episode.number,
        env_steps=episode.env_steps,
        states=episode.states,
        actions=episode.actions,
        rewards=episode.rewards,
        alive=episode.alive.astype(np.uint8),
        terminated=int(episode.terminated),
        complete=1,
        final_observations=episode.observations[episode.length],
        columns={name: episode.columns[name] for name in by_world},
    )
    return [*parts, record]


def senders_of(episode: Episode) -> list[Part]:
    """All that have sent a part of it."""
    agents = _who_tells(episode.alive, episode.columns, episode.dimensions)
    return [*(Part(episode.number, agent) for agent in agents), Part(episode.number, None)]
