"""Shards: the copies shared out among processes, so that they step at the same time.

    actions [E, N], opponents [E] ─┐  shared   ┌─ shard 0: Copies 0 … a-1
    a byte to every shard          ├─ memory ──┼─ shard 1: Copies a … b-1
    a byte from every shard        │           └─ …
    snapshots, rewards, ends      ─┘

A shard builds its environments and plays their opponents itself; nothing is pickled, and what is
played does not depend on how many shards there are: seeds belong to copies. The memory has no name
and shards die with whoever started them, a stopped one included, so that nothing can be left over.

Dimension key: E = copies, N = agents, D = observation features, S = state.
"""

import ctypes
import mmap
import multiprocessing
import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from itertools import pairwise
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import numpy as np
import setproctitle
from numpy.typing import NDArray

from configs.arrays import BoolArray, FloatArray, IntArray
from configs.cpus import usable_cpus
from configs.schema import EnvConfig
from envs import registry
from envs.base import ActionArray, EnvSpec, ObservationArray, Snapshot, Transition
from envs.copies import Copies, CopyStep, EnvCopies, EnvFailure

_RESET, _STEP = b"r", b"s"
_DONE, _FAILED = b".", b"!"
_LONGEST_REPORT = 1 << 16
_CORES_PER_SHARD = 4
_BUILD_S = 60.0
"""Seconds that shards have at least to import an engine, however busy the machine is."""
_PR_SET_PDEATHSIG = 1

MakeShare = Callable[[range], Copies]
"""Builds the copies of these numbers; called in the process that is to play them."""


class ShardError(Exception):
    """A shard has died, hangs or cannot go on: none of the copies can be played any further."""


def share_out(num_copies: int, num_shards: int) -> list[range]:
    """Contiguous shares that differ by one copy at most: 5 copies on 2 shards are 0-1 and 2-4."""
    ends = [num_copies * shard // num_shards for shard in range(num_shards + 1)]
    return [range(begin, end) for begin, end in pairwise(ends)]


def num_shards(config: EnvConfig) -> int:
    """Shards of a run on this machine; 1 stands for none: all copies in the world's own process.

    Unless `env.shards` says otherwise, one for every four cores that we may use, from eight on:
    agents and learner need the others. A light environment is not worth a process.
    """
    wanted = config.shards
    if wanted == 0:
        is_heavy = registry.family_of(config.name).is_heavy
        wanted = max(usable_cpus() // _CORES_PER_SHARD, 1) if is_heavy else 1
    return min(wanted, config.copies)


def open_copies(
    config: EnvConfig,
    num_agents: int,
    seed: int,
    first_episode: int,
    timeout_s: float,
    life: int = 0,
) -> EnvCopies:
    """The configured copies, here or in shards; see `registry.make_copies` and `Shards`.

    Raises:
        ValueError: as `registry.check`.
        ShardError: a shard could not build its environments.
    """

    def make(share: range | None = None) -> Copies:
        return registry.make_copies(config, num_agents, seed, first_episode, share, life)

    shards = num_shards(config)
    if shards == 1:
        return make()
    registry.check(config, num_agents)
    spec = registry.spec_of(config, num_agents)
    return Shards(make, spec, share_out(config.copies, shards), timeout_s)


class _Board(NamedTuple):
    """What world and shards have in common; every shard writes the rows of its own copies."""

    actions_EN: ActionArray
    opponents_E: IntArray
    rests_E: BoolArray
    observations_END: ObservationArray
    """Of what is seen now."""
    states_ES: FloatArray
    alive_EN: BoolArray
    masks_ENA: BoolArray
    """[E, N, 0] where the environment has none."""
    neighbours_ENN: BoolArray
    """[E, N, 0] where the environment has none."""
    rewards_EN: FloatArray
    terminated_E: BoolArray
    truncated_E: BoolArray
    won_E: BoolArray
    last_observations_END: ObservationArray
    """Of the end of the episodes that have ended with this step, as are the next five."""
    last_states_ES: FloatArray
    last_alive_EN: BoolArray
    last_masks_ENA: BoolArray
    last_neighbours_ENN: BoolArray
    metrics_EM: NDArray[np.float64]

    @classmethod
    def make(cls, num_copies: int, spec: EnvSpec) -> "_Board":
        """Lay it out in memory that processes forked from this one share."""
        per_agent, per_copy = (num_copies, spec.num_agents), (num_copies,)
        rows, states = (*per_agent, spec.observation_dim), (*per_copy, spec.state_dim)
        actions = (*per_agent, spec.num_actions) if spec.is_continuous else per_agent
        masks = (*per_agent, spec.num_actions if spec.has_action_masks else 0)
        pairs = (*per_agent, spec.num_agents if spec.has_neighbours else 0)
        layout: list[tuple[Any, tuple[int, ...]]] = [
            (np.float32 if spec.is_continuous else np.int64, actions),
            (np.int64, per_copy),
            (np.bool_, per_copy),
            (spec.observation_dtype, rows),
            (np.float32, states),
            (np.bool_, per_agent),
            (np.bool_, masks),
            (np.bool_, pairs),
            (np.float32, per_agent),
            *[(np.bool_, per_copy)] * 3,
            (spec.observation_dtype, rows),
            (np.float32, states),
            (np.bool_, per_agent),
            (np.bool_, masks),
            (np.bool_, pairs),
            (np.float64, (*per_copy, len(spec.metrics))),
        ]
        sizes = [-(-np.dtype(t).itemsize * int(np.prod(shape)) // 64) * 64 for t, shape in layout]
        memory = mmap.mmap(-1, sum(sizes))
        begins = np.cumsum([0, *sizes[:-1]]).tolist()
        arrays: list[NDArray[Any]] = [
            np.ndarray(shape, kind, memory, begin)
            for (kind, shape), begin in zip(layout, begins, strict=True)
        ]
        return cls(*arrays)

    def rows_of(self, share: range) -> "_Board":
        """The part of these copies."""
        arrays: list[NDArray[Any]] = [array[share.start : share.stop] for array in self]
        return _Board(*arrays)


class Shards:
    """E copies in processes of their own, as if they were here."""

    def __init__(
        self, make: MakeShare, spec: EnvSpec, shares: Sequence[range], timeout_s: float
    ) -> None:
        """Start the processes and wait until they have built their environments.

        They are forked: call it before anything has started a thread.

        Args:
            make: builds a share, in its shard.
            spec: of the environments that `make` builds.
            shares: the copies of each shard, all numbers from 0 once and in order.
            timeout_s: silence after which a shard counts as hung, while it is waited for.

        Raises:
            ShardError: a shard could not build its environments.
        """
        assert [copy for share in shares for copy in share] == list(range(shares[-1].stop))
        self._spec = spec
        self._timeout_s = timeout_s
        self._num_copies = shares[-1].stop
        self._board = _Board.make(self._num_copies, spec)
        self._lines: list[socket.socket] = []
        self._processes: list[BaseProcess] = []
        context = multiprocessing.get_context("fork")
        parent = os.getpid()
        for shard, share in enumerate(shares):
            ours, theirs = socket.socketpair()
            inherited = [*self._lines, ours]
            process = context.Process(
                target=_serve,
                args=(shard, share, make, self._board, theirs, inherited, parent),
                name=f"world shard {shard}",
                daemon=True,
            )
            process.start()
            theirs.close()
            self._lines.append(ours)
            self._processes.append(process)
        self._poller = select.poll()
        for line in self._lines:
            self._poller.register(line, select.POLLIN)
        try:
            self._await_all(max(timeout_s, _BUILD_S))
        except ShardError:
            self.close()
            raise

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    @property
    def pids(self) -> list[int]:
        """Process id of each shard."""
        return [process.pid or 0 for process in self._processes]

    def reset(self) -> tuple[Snapshot, ...]:
        """Begin the next episode of every copy.

        Raises:
            ShardError: a shard is gone, hangs or has failed.
        """
        self._ask(_RESET)
        return self._now()

    def step(
        self,
        actions_EN: ActionArray,
        opponents_E: IntArray | None = None,
        rests_E: BoolArray | None = None,
    ) -> tuple[CopyStep, ...]:
        """Play one step in every copy; as `Copies.step`.

        Raises:
            ValueError: not one row of actions for each copy.
            ShardError: a shard is gone, hangs or has failed.
        """
        board = self._board
        if actions_EN.shape != board.actions_EN.shape:
            raise ValueError(
                f"copies play actions {board.actions_EN.shape}, got shape {actions_EN.shape}"
            )
        board.actions_EN[:] = actions_EN
        board.opponents_E[:] = 0 if opponents_E is None else opponents_E
        board.rests_E[:] = False if rests_E is None else rests_E
        self._ask(_STEP)
        rewards_EN = board.rewards_EN.copy()
        terminated, truncated = board.terminated_E.tolist(), board.truncated_E.tolist()
        steps: list[CopyStep] = []
        for copy, now in enumerate(self._now()):
            after, metrics = now, dict[str, float]()
            if terminated[copy] or truncated[copy]:
                after = Snapshot(
                    observations_ND=board.last_observations_END[copy].copy(),
                    state_S=board.last_states_ES[copy].copy(),
                    alive_N=board.last_alive_EN[copy].copy(),
                    action_masks_NA=_stated(board.last_masks_ENA[copy].copy()),
                    neighbours_NN=_stated(board.last_neighbours_ENN[copy].copy()),
                )
                numbers = board.metrics_EM[copy].tolist()
                metrics = dict(zip(self._spec.metrics, numbers, strict=True))
            transition = Transition(
                after=after,
                rewards_N=rewards_EN[copy],
                terminated=terminated[copy],
                truncated=truncated[copy],
                won=bool(board.won_E[copy]),
                metrics=metrics,
            )
            steps.append(CopyStep(transition, now))
        return tuple(steps)

    def close(self) -> None:
        """End the processes; nobody is asked, because they hold nothing."""
        for line in self._lines:
            line.close()
        for process in self._processes:
            process.kill()
            process.join()

    def _now(self) -> tuple[Snapshot, ...]:
        """What is seen now: copies, since the shards write over it with the next step."""
        board = self._board
        rows_END = board.observations_END.copy()
        states_ES, alive_EN = board.states_ES.copy(), board.alive_EN.copy()
        masks = map(_stated, board.masks_ENA.copy())
        pairs = map(_stated, board.neighbours_ENN.copy())
        return tuple(map(Snapshot, rows_END, states_ES, alive_EN, masks, pairs))

    def _ask(self, what: bytes) -> None:
        for shard, line in enumerate(self._lines):
            try:
                line.send(what)
            except OSError:
                raise self._lost(shard) from None
        self._await_all(self._timeout_s)

    def _await_all(self, timeout_s: float) -> None:
        """Take one answer from every shard."""
        shards = {line.fileno(): shard for shard, line in enumerate(self._lines)}
        deadline = time.monotonic() + timeout_s
        while shards:
            left_s = deadline - time.monotonic()
            if left_s <= 0.0:
                shard = min(shards.values())
                raise ShardError(f"shard {shard} has not answered for {timeout_s:.0f} s")
            for descriptor, _ in self._poller.poll(int(1000 * left_s) + 1):
                if descriptor in shards:
                    self._take_answer(shards.pop(descriptor))

    def _take_answer(self, shard: int) -> None:
        try:
            answer = self._lines[shard].recv(_LONGEST_REPORT)
        except ConnectionResetError:  # it has died with our question unread
            answer = b""
        if answer == _DONE:
            return
        if answer[:1] == _FAILED:
            report = answer[1:].decode(errors="replace")
            raise ShardError(f"shard {shard} cannot go on: {report}")
        raise self._lost(shard)

    def _lost(self, shard: int) -> ShardError:
        process = self._processes[shard]
        process.join(1.0)
        code = process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return ShardError(f"shard {shard} died ({how})")


def _serve(
    shard: int,
    share: range,
    make: MakeShare,
    board: _Board,
    line: socket.socket,
    inherited: Sequence[socket.socket],
    parent: int,
) -> None:
    """Play one share for as long as the world asks for it: the body of a shard."""
    setproctitle.setproctitle(f"murmuration: world shard {shard}")
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the world, which ends us
    for theirs in inherited:
        theirs.close()
    part = board.rows_of(share)
    try:
        copies = make(share)
        line.send(_DONE)
        while what := line.recv(1):
            if what == _RESET:
                for copy, snapshot in enumerate(copies.reset()):
                    _write_now(part, copy, snapshot)
            else:
                steps = copies.step(part.actions_EN, part.opponents_E, part.rests_E)
                _write(part, steps, copies.spec.metrics)
            line.send(_DONE)
    except ConnectionError:  # the world has left without a word
        pass
    except Exception as error:  # the process edge: the world says it in its log
        named = "" if isinstance(error, EnvFailure) else f"{type(error).__name__}: "
        report = f"{named}{error}\n{traceback.format_exc()[-_LONGEST_REPORT // 8 :]}"
        line.send(_FAILED + report.encode())


def _write(part: _Board, steps: Sequence[CopyStep], metrics: Sequence[str]) -> None:
    for copy, (transition, now) in enumerate(steps):
        _write_now(part, copy, now)
        part.rewards_EN[copy] = transition.rewards_N
        part.terminated_E[copy] = transition.terminated
        part.truncated_E[copy] = transition.truncated
        part.won_E[copy] = transition.won
        if transition.terminated or transition.truncated:
            last = transition.after
            part.last_observations_END[copy] = last.observations_ND
            part.last_states_ES[copy] = last.state_S
            part.last_alive_EN[copy] = last.alive_N
            if last.action_masks_NA is not None:
                part.last_masks_ENA[copy] = last.action_masks_NA
            if last.neighbours_NN is not None:
                part.last_neighbours_ENN[copy] = last.neighbours_NN
            for i, name in enumerate(metrics):
                part.metrics_EM[copy, i] = transition.metrics[name]


def _write_now(part: _Board, copy: int, now: Snapshot) -> None:
    part.observations_END[copy] = now.observations_ND
    part.states_ES[copy] = now.state_S
    part.alive_EN[copy] = now.alive_N
    if now.action_masks_NA is not None:
        part.masks_ENA[copy] = now.action_masks_NA
    if now.neighbours_NN is not None:
        part.neighbours_ENN[copy] = now.neighbours_NN


def _stated(flags: BoolArray) -> BoolArray | None:
    """What a snapshot says of allowed actions or of neighbours; None where the environment says
    nothing.
    """
    return flags if flags.size else None


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the one that started it has gone, however it went."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before that was said
        os._exit(1)
