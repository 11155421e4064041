"""Replay: the newest episodes, whole and compact, and windows drawn from them.

    Episode -> Replay (a ring) -> choose -> Windows -> gather -> WindowBatch, time first

Dimension key: T = steps of the window, B = batch, N = agents, D = observation features, S = state.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from configs.arrays import BoolArray, FloatArray
from learner.experience.episode import Episode


class Zeros(Protocol):
    """Where the arrays of a batch lie: `np.zeros`, or memory that a GPU reads by itself."""

    def __call__(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]: ...


@dataclass(frozen=True, slots=True)
class Rows:
    """Which rows of a part of a batch somebody works off."""

    begin: int
    end: int
    of: int
    """Rows of the whole part."""

    @property
    def slice(self) -> slice:
        return slice(self.begin, self.end)


@dataclass(frozen=True, slots=True, eq=False)
class WindowBatch:
    """B windows of T steps and the moment after each, padded with zeros behind an episode's end."""

    observations: NDArray[Any]
    """[T + 1, B, N, D] float16, float32 or uint8."""
    actions: NDArray[Any]
    """[T, B, N] int64, or [T, B, N, n] float32 where actions are numbers."""
    rewards: FloatArray
    """[T, B, N]"""
    states: FloatArray
    """[T + 1, B, S]"""
    alive: NDArray[np.bool_]
    """[T + 1, B, N]"""
    filled: NDArray[np.bool_]
    """[T, B] steps that were played."""
    terminated: NDArray[np.bool_]
    """[T, B] the task ended with this step."""
    truncated: NDArray[np.bool_]
    """[T, B] time ran out with this step."""
    starts: NDArray[np.int64]
    """[B] step of its episode that a window begins with."""
    returns_after: FloatArray
    """[B] the team's discounted rewards behind the window; zeros unless asked for."""
    columns: Mapping[str, NDArray[Any]]
    """[T, B, N, …], [T + 1, B, N, …] or [1, B, N, …] by name (configs/columns.py)."""

    @property
    def size(self) -> int:
        """B"""
        return len(self.starts)

    def at(self, rows: slice) -> "WindowBatch":
        """Some of the rows, not copied."""
        return WindowBatch(
            observations=self.observations[:, rows],
            actions=self.actions[:, rows],
            rewards=self.rewards[:, rows],
            states=self.states[:, rows],
            alive=self.alive[:, rows],
            filled=self.filled[:, rows],
            terminated=self.terminated[:, rows],
            truncated=self.truncated[:, rows],
            starts=self.starts[rows],
            returns_after=self.returns_after[rows],
            columns={name: array[:, rows] for name, array in self.columns.items()},
        )


@dataclass(frozen=True, slots=True)
class Discounting:
    """How rewards make up a return: the mean of the agents', clipped, step after step."""

    gamma: float
    reward_clip: float
    """Largest reward that counts; infinity lets all count."""
    death_cost: float = 0.0
    """Of an agent's own death."""

    def total(self, rewards_TN: FloatArray, alive_TN: BoolArray) -> float:
        """Of all steps, seen from the first one.

        Args:
            alive_TN: [T + 1, N] before each step and at the end.
        """
        powers_T = self.gamma ** np.arange(len(rewards_TN))
        died_TN = alive_TN[:-1] & ~alive_TN[1:]
        rewards_TN = rewards_TN.clip(max=self.reward_clip) - self.death_cost * died_TN
        return float(powers_T @ rewards_TN.mean(axis=-1))


class Replay:
    """A ring of whole episodes; the oldest leave first."""

    def __init__(self, capacity: int) -> None:
        self.size_bytes: int = 0
        """Bytes of all episodes held."""
        self.capacity = capacity
        """Episodes held at most."""
        self.annotated: Callable[[Episode], Episode] = lambda episode: episode
        """Adds to an episode, before it is kept, what losses need beside what was recorded."""
        self._episodes: deque[Episode] = deque()

    def __len__(self) -> int:
        return len(self._episodes)

    def add(self, episode: Episode) -> None:
        if len(self._episodes) == self.capacity:
            self.drop_oldest(1)
        episode = self.annotated(episode)
        self._episodes.append(episode)
        self.size_bytes += episode.size_bytes

    def remember(self, episode: Episode) -> None:
        """Take up an episode again whose updates have been taken, or are counted as owed."""
        self.add(episode)

    def stepped(self) -> None:
        """Called after each gradient step."""

    @property
    def draws_ahead(self) -> bool:
        """Whether the next batch may be drawn before the gradient step of this one."""
        return True

    def drop_oldest(self, count: int) -> None:
        for _ in range(count):
            self.size_bytes -= self._episodes.popleft().size_bytes

    def oldest(self, count: int) -> "Windows":
        """Whole episodes, the oldest first; fewer if the replay holds fewer."""
        episodes = list(islice(self._episodes, count))
        return Windows(episodes, [0] * len(episodes), [e.length for e in episodes])

    def choose(self, rng: np.random.Generator, batch_size: int, window: int = 0) -> "Windows":
        """Draw episodes uniformly, none twice, and a window with a random start from each.

        Args:
            rng: source of the draw.
            batch_size: windows; fewer if the replay holds fewer episodes.
            window: steps of a window; 0 takes whole episodes.

        Raises:
            ValueError: the replay is empty.
        """
        if not self._episodes:
            raise ValueError("cannot sample from an empty replay")
        episodes = [self._episodes[index] for index in self._draw(rng, batch_size)]
        lengths = [min(e.length, window) if window else e.length for e in episodes]
        starts = [
            int(rng.integers(0, e.length - length + 1))
            for e, length in zip(episodes, lengths, strict=True)
        ]
        return Windows(episodes, starts, lengths)

    def _draw(self, rng: np.random.Generator, batch_size: int) -> list[int]:
        """Positions of a batch's episodes, the oldest of all being 0."""
        count = min(batch_size, len(self._episodes))
        return rng.choice(len(self._episodes), size=count, replace=False).tolist()

    def sample(self, rng: np.random.Generator, batch_size: int, window: int = 0) -> WindowBatch:
        """`choose` and `gather` at once."""
        return self.choose(rng, batch_size, window).gather()


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Windows that were drawn and whose contents still lie in their episodes."""

    episodes: list[Episode]
    starts: list[int]
    lengths: list[int]

    def gather(
        self, discounting: Discounting | None = None, zeros: Zeros = np.zeros
    ) -> WindowBatch:
        """Copy the contents side by side; touches nothing that the replay changes, so any thread
        may do it.

        Args:
            discounting: what returns behind the windows are made by; None: nobody needs them.
            zeros: makes the large arrays.
        """
        batch = _gather(self.episodes, self.starts, self.lengths, zeros)
        if discounting is not None:
            ends = np.add(self.starts, self.lengths)
            for b, (episode, end) in enumerate(zip(self.episodes, ends, strict=True)):
                batch.returns_after[b] = discounting.total(
                    episode.rewards[end:], episode.alive[end:]
                )
        return batch


def _gather(
    episodes: list[Episode], starts: list[int], lengths: list[int], zeros: Zeros
) -> WindowBatch:
    time, batch = max(lengths), len(episodes)
    first = episodes[0]
    _, agents, features = first.observations.shape
    dtype = np.result_type(*(e.observations.dtype for e in episodes))
    actions_dtype = np.float32 if first.actions.dtype == np.float32 else np.int64
    columns: dict[str, NDArray[Any]] = {}
    for column in first.dimensions.columns:
        given = [e.columns[column.name] for e in episodes]
        shape = (column.entries(time), batch, *given[0].shape[1:])
        columns[column.name] = zeros(shape, dtype=np.result_type(*(x.dtype for x in given)))
    batch_of = WindowBatch(
        observations=zeros((time + 1, batch, agents, features), dtype=dtype),
        actions=zeros((time, batch, *first.actions.shape[1:]), dtype=actions_dtype),
        rewards=zeros((time, batch, agents), dtype=np.float32),
        states=zeros((time + 1, batch, first.states.shape[1]), dtype=np.float32),
        alive=zeros((time + 1, batch, agents), dtype=np.bool_),
        filled=zeros((time, batch), dtype=np.bool_),
        terminated=zeros((time, batch), dtype=np.bool_),
        truncated=zeros((time, batch), dtype=np.bool_),
        starts=np.add(starts, [e.piece.start for e in episodes], dtype=np.int64),
        returns_after=zeros((batch,), dtype=np.float32),
        columns=columns,
    )
    for b, (episode, start, length) in enumerate(zip(episodes, starts, lengths, strict=True)):
        stop = start + length
        batch_of.observations[: length + 1, b] = episode.observations[start : stop + 1]
        batch_of.actions[:length, b] = episode.actions[start:stop]
        batch_of.rewards[:length, b] = episode.rewards[start:stop]
        batch_of.states[: length + 1, b] = episode.states[start : stop + 1]
        batch_of.alive[: length + 1, b] = episode.alive[start : stop + 1]
        for column in first.dimensions.columns:
            steps = slice(0, 1) if column.once else slice(start, stop + column.moments)
            given_steps = episode.columns[column.name][steps]
            columns[column.name][: len(given_steps), b] = given_steps
        batch_of.filled[:length, b] = True
        if stop == episode.length and not episode.piece.goes_on:
            ending = batch_of.terminated if episode.terminated else batch_of.truncated
            ending[length - 1, b] = True
    return batch_of
