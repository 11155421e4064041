"""What an agent remembers of its episodes until it ships them.

observation, action, gates, q of each step -> EpisodeRecorder -> Trajectory at the end
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from agents.edge_masks import MaskArray
from agents.events import Command, ToLearner
from agents.participation import Participation
from configs.arrays import FloatArray
from runtime.net import wire

Ships = Literal["training", "all", "none"]
"""Episodes whose trajectories leave the agent."""


class EpisodeRecorder:
    """One copy's episode in progress.

    Only an agent that was there from step 0 records: half an episode cannot be unrolled.
    """

    def __init__(
        self,
        agent: int,
        *,
        record_q: bool,
        mask_dtype: type[np.unsignedinteger[Any]] = np.uint16,
    ) -> None:
        self._agent = agent
        self._mask_dtype = mask_dtype
        self._record_q = record_q
        self._episode: int | None = None
        self._observations: list[NDArray[Any]] = []
        self._actions: list[int] = []
        self._gates: list[int] = []
        self._q_values: list[FloatArray] = []
        self._versions: list[int] = []

    def begin(self, episode: int) -> None:
        self._episode = episode

    def is_recording(self, episode: int) -> bool:
        return self._episode == episode

    def record(
        self,
        observation_D: NDArray[Any],
        action: int,
        gates: int,
        q_A: FloatArray,
        policy_version: int,
    ) -> None:
        self._observations.append(observation_D)
        self._actions.append(action)
        self._gates.append(gates)
        self._versions.append(policy_version)
        if self._record_q:
            self._q_values.append(q_A)

    def finish(self) -> wire.Trajectory | None:
        """Close the episode; None if there is nothing to ship."""
        episode, self._episode = self._episode, None
        trajectory = None
        if episode is not None and self._actions:
            q_LA = (
                np.array(self._q_values, dtype=np.float32)
                if self._q_values
                else np.empty((0, 0), dtype=np.float32)
            )
            trajectory = wire.Trajectory(
                agent=self._agent,
                episode=episode,
                first_version=self._versions[0],
                last_version=self._versions[-1],
                observations=np.array(self._observations),
                actions=np.array(self._actions, dtype=np.uint8),
                gates=np.array(self._gates, dtype=self._mask_dtype),
                q_values=q_LA,
            )
        for column in (
            self._observations,
            self._actions,
            self._gates,
            self._q_values,
            self._versions,
        ):
            column.clear()
        return trajectory


class Recorders:
    """The episodes in progress of one agent, one for each copy."""

    def __init__(
        self,
        agent: int,
        copies: int,
        ships: Ships,
        *,
        record_q: bool,
        mask_dtype: type[np.unsignedinteger[Any]] = np.uint16,
    ) -> None:
        """
        Args:
            ships: which episodes are recorded: those of training, all, or none.
            mask_dtype: of the masks of open edges.
        """
        self._ships = ships
        self._recorders = [
            EpisodeRecorder(agent, record_q=record_q, mask_dtype=mask_dtype) for _ in range(copies)
        ]

    def turn(self, now: wire.Observation, takes_part: Participation) -> list[Command]:
        """Ship what has ended with the last step, begin what starts with this one."""
        commands: list[Command] = []
        if self._ships == "none":
            return commands
        for copy, recorder in enumerate(self._recorders):
            episode = int(now.episodes[copy])
            if not recorder.is_recording(episode) or not takes_part.alive_E[copy]:
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
        actions_E: NDArray[np.uint8],
        out_masks: MaskArray,
        q_EA: FloatArray,
        policy_version: int,
    ) -> None:
        """Note a step in the copies in which the agent is alive."""
        if self._ships == "none":
            return
        for row, copy in enumerate(np.flatnonzero(takes_part.alive_E).tolist()):
            recorder = self._recorders[copy]
            if recorder.is_recording(int(now.episodes[copy])):
                recorder.record(
                    now.observations[row],
                    int(actions_E[copy]),
                    int(out_masks[copy]),
                    q_EA[copy],
                    policy_version,
                )
