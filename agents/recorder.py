"""What an agent remembers of its episodes until it ships them.

observation, action and columns of each step -> EpisodeRecorder -> Trajectory at the end
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


class EpisodeRecorder:
    """One copy's episode in progress.

    Only an agent that was there from step 0 records: half an episode cannot be unrolled.

    Args:
        agent: whose episode it is.
        columns: names of what is kept of a step beside observation and action.
    """

    def __init__(self, agent: int, columns: Sequence[str]) -> None:
        self._agent = agent
        self._episode: int | None = None
        self._observations: list[NDArray[Any]] = []
        self._actions: list[Any] = []
        self._versions: list[int] = []
        self._columns: dict[str, list[Any]] = {name: [] for name in columns}
        self._values = tuple(self._columns.values())

    @property
    def num_columns(self) -> int:
        return len(self._values)

    def begin(self, episode: int) -> None:
        self._episode = episode

    def is_recording(self, episode: int) -> bool:
        return self._episode == episode

    def record(
        self,
        observation_D: NDArray[Any],
        action: Any,
        policy_version: int,
        values: Sequence[Any],
    ) -> None:
        """Keep a step.

        Args:
            action: a number of numpy's, or an array of them.
            values: of the columns, in their order; numpy's, whose type is the column's.
        """
        self._observations.append(observation_D)
        self._actions.append(action)
        self._versions.append(policy_version)
        for column, value in zip(self._values, values, strict=True):
            column.append(value)

    def finish(self) -> wire.Trajectory | None:
        """Close the episode; None if there is nothing to ship."""
        episode, self._episode = self._episode, None
        trajectory = None
        if episode is not None and self._actions:
            trajectory = wire.Trajectory(
                agent=self._agent,
                episode=episode,
                first_version=self._versions[0],
                last_version=self._versions[-1],
                observations=np.array(self._observations),
                actions=np.array(self._actions),
                columns={name: np.array(values) for name, values in self._columns.items()},
            )
        for kept in (self._observations, self._actions, self._versions, *self._values):
            kept.clear()
        return trajectory


class Recorders:
    """The episodes in progress of one agent, one for each copy."""

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
        self._comes_back = comes_back
        self._ships = ships
        self._names = tuple(column.name for column in by_agents(columns))
        self._recorders = [EpisodeRecorder(agent, self._names) for _ in range(copies)]

    def turn(self, now: wire.Observation, takes_part: Participation) -> list[Command]:
        """Ship what has ended with the last step, begin what starts with this one."""
        commands: list[Command] = []
        if self._ships == "none":
            return commands
        for copy, recorder in enumerate(self._recorders):
            episode = int(now.episodes[copy])
            is_over = not takes_part.alive_E[copy] and not self._comes_back
            if is_over or not recorder.is_recording(episode):
                trajectory = recorder.finish()
                if trajectory is not None:
                    commands.append(ToLearner(trajectory))
            explores = bool(now.flags[copy] & wire.EXPLORE)
            if now.steps[copy] == 0 and (explores or self._ships == "all"):
                recorder.begin(episode)
        return commands

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
        if self._ships == "none":
            return
        columns = [computed[name] for name in self._names]
        for row, copy in enumerate(takes_part.living):
            recorder = self._recorders[copy]
            if recorder.is_recording(int(now.episodes[copy])):
                recorder.record(
                    now.observations[row],
                    actions_E[copy],
                    policy_version,
                    [column[copy] for column in columns],
                )
