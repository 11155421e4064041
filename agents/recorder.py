"""What an agent remembers of its episodes until it ships them.

observation, action and columns of each step -> Recorders -> Trajectory when an episode ends

Where rollouts have a fixed length, an episode is shipped in pieces: one ends with each rollout, and
the next begins with what the agent remembered then (agents/carry.py).

All copies write into rows that are there already, one call for each array and step: with 32 copies
a list for each of them cost more than the policy.

Dimension key: E = copies, R = copies that record this step, L = steps, D = observation features.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from agents.events import Command, ToLearner
from agents.participation import Participation
from configs.arrays import BoolArray, FloatArray
from configs.columns import CARRY, Column, by_agents
from runtime.net import wire

Ships = Literal["training", "all", "none"]
"""Episodes whose trajectories leave the agent."""

_NO_EPISODE = -1
_FIRST_STEPS = 32
"""Room for each copy at first; half as much again is made where it does not do."""


class Rows:
    """One array for every step of every copy: [E, L, …], of which each copy uses what it needs."""

    def __init__(self, copies: int) -> None:
        self._copies = copies
        self._values: NDArray[Any] = np.zeros((copies, 0))

    def write(
        self, copies_R: NDArray[np.intp], at_R: NDArray[np.intp], room: int, rows: NDArray[Any]
    ) -> None:
        """Keep a row of each of these copies, at its step, which is below `room`."""
        values = self._values
        if values.shape[1] < room or not (
            values.dtype == rows.dtype or np.can_cast(rows.dtype, values.dtype)
        ):
            values = self._values = self._with_room(room, rows)
        values[copies_R, at_R] = rows

    def _with_room(self, room: int, rows: NDArray[Any]) -> NDArray[Any]:
        old = self._values
        kept = old.shape[1]
        # A world that changes the type of what is seen loses nothing of what was seen before.
        dtype = np.result_type(old.dtype, rows.dtype) if kept else rows.dtype
        values: NDArray[Any] = np.zeros((self._copies, max(room, kept), *rows.shape[1:]), dtype)
        if kept:
            values[:, :kept] = old
        return values

    def read(self, copy: int, steps: int) -> NDArray[Any]:
        """[L, …] what a copy has written; the caller's own."""
        return self._values[copy, :steps].copy()


class Recorders:
    """The episodes in progress of one agent, one for each copy.

    Only an agent that was there from step 0, or from the beginning of a piece, records: half an
    episode cannot be unrolled.
    """

    def __init__(
        self,
        agent: int,
        copies: int,
        ships: Ships,
        columns: Sequence[Column] = (),
        *,
        comes_back: bool = False,
    ) -> None:
        """
        Args:
            ships: which episodes are recorded: those of training, all, or none.
            columns: what is kept of every step beside observation, action and gates.
            comes_back: the agent may live again after its death: what it has recorded leaves when
                the episode ends, and not when it dies.
        """
        self._agent = agent
        self._comes_back = comes_back
        self._ships = ships
        self.records = ships != "none"
        """Whether it ever keeps anything."""
        self._names = tuple(column.name for column in by_agents(columns) if not column.once)
        self._in_pieces = CARRY in columns
        self._carry_EX: FloatArray = np.zeros((copies, 0), dtype=np.float32)
        """What each copy's piece began with."""
        self._carried_E: BoolArray = np.zeros(copies, dtype=np.bool_)
        """Pieces that began within their episode: what they began with counts, whatever follows."""
        self._active_E: BoolArray = np.zeros(copies, dtype=np.bool_)
        """Where the agent took part in the last step of the rollout before."""
        self._turns = False
        """A rollout has ended with the step before, and pieces begin in all copies."""
        self._episodes_E = np.full(copies, _NO_EPISODE, dtype=np.int64)
        """Those that are recorded."""
        self._steps_E = np.zeros(copies, dtype=np.intp)
        """Steps that are kept of them."""
        self._room = _FIRST_STEPS
        self._first_versions_E = np.zeros(copies, dtype=np.int64)
        self._last_versions_E = np.zeros(copies, dtype=np.int64)
        self._observations, self._actions = Rows(copies), Rows(copies)
        self._columns = [Rows(copies) for _ in self._names]
        self._seen: tuple[Participation | None, bytes] = (None, b"")
        """Who took part in which episodes a step before: while that stays, nothing ends."""
        self._copies_R = np.zeros(0, dtype=np.intp)
        """Copies that keep this step."""
        self._of_living_R: NDArray[np.intp] | None = None
        """Their rows among those of the copies in which the agent lives; None: they are all."""
        self._longest = 0
        """Steps that a copy has kept at most."""

    def turn(
        self,
        now: wire.Observation,
        takes_part: Participation,
        policy_version: int = 0,
        carry: Callable[[], FloatArray] | None = None,
    ) -> list[Command]:
        """Ship what has ended with the last step, begin what starts with this one.

        Args:
            policy_version: of this step.
            carry: [E, X] what the agent remembers before this step; asked for where pieces begin.
        """
        commands: list[Command] = []
        if not self.records:
            return commands
        seen = (takes_part, now.episodes.tobytes())
        if seen == self._seen and 0 not in now.steps.tolist():
            return commands
        self._seen = seen
        ends_E = self._episodes_E != now.episodes
        ends_E |= takes_part.rests_E if self._comes_back else ~takes_part.alive_E
        ends_E &= self._episodes_E != _NO_EPISODE
        for copy in np.flatnonzero(ends_E).tolist():
            commands += self._shipped(copy, now)
        self._episodes_E[ends_E] = _NO_EPISODE
        self._steps_E[ends_E] = 0
        self._carried_E[ends_E] = False
        begins_E = (now.steps == 0) | self._turns
        self._turns = False
        if self._ships != "all":
            begins_E &= takes_part.explores_E
        self._episodes_E[begins_E] = now.episodes[begins_E]
        if self._in_pieces and begins_E.any():
            assert carry is not None, "pieces begin with what the agent remembers"
            self._first_versions_E[begins_E] = self._last_versions_E[begins_E] = policy_version
            self._begin_pieces(begins_E, now, carry())
        records_E = self._episodes_E == now.episodes
        records_E &= takes_part.alive_E
        self._copies_R = np.flatnonzero(records_E)
        of_living_E = records_E[takes_part.alive_E]
        self._of_living_R = None if of_living_E.all() else np.flatnonzero(of_living_E)
        self._longest = int(self._steps_E.max())
        return commands

    def _begin_pieces(
        self, begins_E: BoolArray, now: wire.Observation, carry_EX: FloatArray
    ) -> None:
        """Keep what pieces begin with. It counts also where the agent has died with the step
        before, for its last message may still be heard.
        """
        carry_EX[now.steps == 0] = 0.0
        if self._carry_EX.shape != carry_EX.shape:
            self._carry_EX = np.zeros_like(carry_EX)
        self._carry_EX[begins_E] = carry_EX[begins_E]
        carried_E = begins_E & (now.steps > 0) & (self._active_E | self._comes_back)
        self._carried_E[begins_E] = carried_E[begins_E]

    def rollout_ends(self, now: wire.Observation, takes_part: Participation) -> list[Command]:
        """Ship everything: a rollout of fixed length ends with the step that was just recorded."""
        commands: list[Command] = []
        for copy in np.flatnonzero(self._episodes_E != _NO_EPISODE).tolist():
            commands += self._shipped(copy, now)
        self._episodes_E[:] = _NO_EPISODE
        self._steps_E[:] = 0
        self._carried_E[:] = False
        self._seen = (None, b"")
        self._active_E, self._turns = takes_part.active_E, True
        return commands

    def _shipped(self, copy: int, now: wire.Observation) -> list[Command]:
        """What there is to say of a copy: steps, or at least what its piece began with."""
        if self._steps_E[copy]:
            return [ToLearner(self._trajectory(copy))]
        if self._carried_E[copy]:
            return [ToLearner(self._without_steps(copy, now.observations[:0]))]
        return []

    def _without_steps(self, copy: int, nothing: NDArray[Any]) -> wire.Trajectory:
        """Of a piece in which the agent lived in no step."""
        return wire.Trajectory(
            agent=self._agent,
            episode=int(self._episodes_E[copy]),
            first_version=int(self._first_versions_E[copy]),
            last_version=int(self._first_versions_E[copy]),
            observations=nothing,
            actions=np.zeros(0, dtype=np.uint8),
            columns={CARRY.name: self._carry_EX[copy : copy + 1].copy()},
        )

    def _trajectory(self, copy: int) -> wire.Trajectory:
        steps = int(self._steps_E[copy])
        once = {CARRY.name: self._carry_EX[copy : copy + 1].copy()} if self._in_pieces else {}
        return wire.Trajectory(
            agent=self._agent,
            episode=int(self._episodes_E[copy]),
            first_version=int(self._first_versions_E[copy]),
            last_version=int(self._last_versions_E[copy]),
            observations=self._observations.read(copy, steps),
            actions=self._actions.read(copy, steps),
            columns={
                name: rows.read(copy, steps)
                for name, rows in zip(self._names, self._columns, strict=True)
            }
            | once,
        )

    def record(
        self,
        now: wire.Observation,
        takes_part: Participation,
        actions_E: NDArray[Any],
        policy_version: int,
        computed: Mapping[str, NDArray[Any]],
    ) -> None:
        """Keep a step in the copies in which the agent is alive.

        Args:
            computed: [E, …] by name: what the agent has worked out in this step; of this, what is
                asked for is kept.

        Raises:
            KeyError: a column is asked for that this agent does not compute.
        """
        if not self.records:
            return
        columns = [computed[name] for name in self._names]
        copies_R = self._copies_R
        if not len(copies_R):
            return
        at_R = self._steps_E[copies_R]
        self._longest += 1
        while self._room < self._longest:
            self._room += self._room // 2
        room, rows_RD = self._room, now.observations
        if self._of_living_R is not None:
            rows_RD = rows_RD[self._of_living_R]
        self._observations.write(copies_R, at_R, room, rows_RD)
        self._actions.write(copies_R, at_R, room, actions_E[copies_R])
        for rows, column in zip(self._columns, columns, strict=True):
            rows.write(copies_R, at_R, room, column[copies_R])
        self._last_versions_E[copies_R] = policy_version
        self._first_versions_E[copies_R[at_R == 0]] = policy_version
        self._steps_E[copies_R] = at_R + 1
