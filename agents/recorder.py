"""What an agent remembers of its episodes until it ships them.

observation, action and columns of each step -> Recorders -> Trajectory when an episode ends

All copies write into rows that are there already, one call for each array and step: with 32 copies
a list for each of them cost more than the policy.

Dimension key: E = copies, R = copies that record this step, L = steps, D = observation features.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from agents.events import Command, ToLearner
from agents.participation import Participation
from configs.columns import Column, by_agents
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

    Only an agent that was there from step 0 records: half an episode cannot be unrolled.
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
        self._names = tuple(column.name for column in by_agents(columns))
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

    def turn(self, now: wire.Observation, takes_part: Participation) -> list[Command]:
        """Ship what has ended with the last step, begin what starts with this one."""
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
            if self._steps_E[copy]:
                commands.append(ToLearner(self._trajectory(copy)))
        self._episodes_E[ends_E] = _NO_EPISODE
        self._steps_E[ends_E] = 0
        begins_E = now.steps == 0
        if self._ships != "all":
            begins_E &= takes_part.explores_E
        self._episodes_E[begins_E] = now.episodes[begins_E]
        records_E = self._episodes_E == now.episodes
        records_E &= takes_part.alive_E
        self._copies_R = np.flatnonzero(records_E)
        of_living_E = records_E[takes_part.alive_E]
        self._of_living_R = None if of_living_E.all() else np.flatnonzero(of_living_E)
        self._longest = int(self._steps_E.max())
        return commands

    def _trajectory(self, copy: int) -> wire.Trajectory:
        steps = int(self._steps_E[copy])
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
            },
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
