"""What an agent keeps of its episodes: agents/recorder.py."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from agents.events import ToLearner
from agents.participation import Participants
from agents.recorder import Recorders, Ships
from configs.columns import Q_VALUES, Column
from runtime.net import wire

AGENT = 9
A = 4


class Recording:
    """One agent's recorders, and what it sees and does: all of it says when and where."""

    def __init__(
        self,
        copies: int = 1,
        *columns: Column,
        ships: Ships = "all",
        comes_back: bool = False,
        dtype: type[np.generic] = np.float16,
    ) -> None:
        self.ours = Recorders(AGENT, copies, ships, columns, comes_back=comes_back)
        self._participants = Participants(copies, relays=False)
        self._copies = copies
        self.dtype: type[np.generic] = dtype
        self.tick = 0

    def step(
        self,
        steps: Sequence[int],
        episodes: Sequence[int] | None = None,
        *,
        dead: Sequence[int] = (),
        rests: Sequence[int] = (),
        explores: bool = True,
        version: int = 1,
        computed: Mapping[str, Any] | None = None,
    ) -> list[wire.Trajectory]:
        """Play a step; what is shipped with it. Copy e sees [e, its step], does its step modulo A,
        and has open edge number step."""
        self.tick += 1
        flags = np.full(self._copies, wire.ALIVE | (wire.EXPLORE if explores else 0), np.uint8)
        flags[list(dead)] &= 0xFF ^ wire.ALIVE
        flags[list(rests)] = wire.REST
        takes_part = self._participants.of(flags)
        assert takes_part is not None
        seen = np.array([[copy, step] for copy, step in enumerate(steps)], self.dtype)
        none = np.zeros(self._copies, np.uint16)
        now = wire.Observation(
            tick=self.tick,
            epsilon=0.0,
            episodes=np.array(episodes or [0] * self._copies, np.uint32),
            steps=np.array(steps, np.uint16),
            flags=flags,
            in_masks=none,
            peer_masks=none,
            beacon_masks=none,
            observations=seen[takes_part.alive_E],
        )
        commands = self.ours.turn(now, takes_part)
        actions = np.array([step % A for step in steps], np.uint8)
        values = {
            "gates": np.array([1 << (step % 16) for step in steps], np.uint16),
            "q_values": np.array([[step] * A for step in steps], np.float32),
        }
        self.ours.record(now, takes_part, actions, version, computed or values)
        shipped = [c.packet for c in commands if isinstance(c, ToLearner)]
        assert len(shipped) == len(commands)
        return shipped


def test_a_trajectory_holds_every_step_in_order() -> None:
    recording = Recording()
    for step in range(3):
        assert recording.step([step], [31], version=5 + step) == []
    (trajectory,) = recording.step([0], [32])
    assert (trajectory.agent, trajectory.episode) == (AGENT, 31)
    assert (trajectory.first_version, trajectory.last_version) == (5, 7)
    assert trajectory.observations.dtype == np.float16
    assert_array_equal(trajectory.observations, [[0, 0], [0, 1], [0, 2]])
    assert_array_equal(trajectory.actions, [0, 1, 2])
    assert trajectory.actions.dtype == np.uint8
    assert_array_equal(trajectory.columns["gates"], [1, 2, 4])
    assert trajectory.columns["gates"].dtype == np.uint16


def test_columns_are_those_that_were_asked_for() -> None:
    for asked, names in (((), ["gates"]), ((Q_VALUES,), ["gates", "q_values"])):
        recording = Recording(1, *asked)
        recording.step([0])
        recording.step([1])
        (trajectory,) = recording.step([0], [1])
        assert list(trajectory.columns) == names
        if asked:
            assert_array_equal(trajectory.columns["q_values"], [[0.0] * A, [1.0] * A])
            assert trajectory.columns["q_values"].dtype == np.float32


def test_a_column_that_the_agent_does_not_compute_is_refused() -> None:
    recording = Recording(1, Q_VALUES)
    with pytest.raises(KeyError, match="q_values"):
        recording.step([0], computed={"gates": np.zeros(1, np.uint16)})


def test_a_trajectory_survives_the_wire() -> None:
    recording = Recording(1, Q_VALUES)
    recording.step([0])
    (trajectory,) = recording.step([0], [1])
    decoded = wire.decode(wire.encode(trajectory))
    assert isinstance(decoded, wire.Trajectory)
    assert_array_equal(decoded.actions, [0])
    assert_array_equal(decoded.columns["q_values"], [[0.0] * A])


def test_copies_keep_their_steps_apart_wherever_their_episodes_stand() -> None:
    recording = Recording(3, Q_VALUES)
    recording.step([0, 0, 5], [1, 2, 3])  # the third was begun before we came: nobody records it
    recording.step([1, 1, 6], [1, 2, 3])
    (first,) = recording.step([2, 0, 7], [1, 4, 3])
    assert first.episode == 2
    assert_array_equal(first.observations, [[1, 0], [1, 1]])
    second, third = recording.step([0, 0, 0], [5, 6, 7])
    assert (second.episode, third.episode) == (1, 4)
    assert_array_equal(second.observations, [[0, 0], [0, 1], [0, 2]])
    assert_array_equal(second.columns["q_values"][:, 0], [0, 1, 2])
    assert_array_equal(third.observations, [[1, 0]])


def test_an_episode_leaves_when_the_agent_dies_and_the_others_go_on() -> None:
    recording = Recording(2)
    recording.step([0, 0], [1, 2])
    (trajectory,) = recording.step([1, 1], [1, 2], dead=[0])
    assert (trajectory.episode, len(trajectory.actions)) == (1, 1)
    assert recording.step([2, 2], [1, 2], dead=[0]) == []
    (other,) = recording.step([3, 0], [1, 3], dead=[0])
    assert_array_equal(other.observations, [[1, 0], [1, 1], [1, 2]])


def test_where_an_agent_comes_back_its_episode_leaves_at_its_end_with_the_steps_it_lived() -> None:
    recording = Recording(1, comes_back=True)
    recording.step([0], [1])
    assert recording.step([1], [1], dead=[0]) == []
    assert recording.step([2], [1]) == []
    (trajectory,) = recording.step([0], [2])
    assert_array_equal(trajectory.observations, [[0, 0], [0, 2]])


@pytest.mark.parametrize("comes_back", [False, True])
def test_an_episode_leaves_as_soon_as_its_copy_rests(comes_back: bool) -> None:
    """The world begins no other before the learner has it: it would wait for ever."""
    recording = Recording(2, comes_back=comes_back)
    recording.step([0, 0], [1, 2])
    (trajectory,) = recording.step([1, 1], [1, 2], rests=[0])
    assert (trajectory.episode, len(trajectory.actions)) == (1, 1)
    assert recording.step([1, 2], [1, 2], rests=[0]) == []
    (other,) = recording.step([0, 3], [3, 2], rests=[1])
    assert (other.episode, len(other.actions)) == (2, 3)


def test_nothing_is_shipped_without_a_step() -> None:
    recording = Recording()
    assert recording.step([0], [3], dead=[0]) == []
    assert recording.step([1], [3], dead=[0]) == []
    assert recording.step([0], [4]) == []


@pytest.mark.parametrize(("ships", "explores", "leaves"), [
    ("all", False, True), ("training", False, False), ("training", True, True),
    ("none", True, False),
])  # fmt: skip
def test_which_episodes_leave(ships: Ships, explores: bool, leaves: bool) -> None:
    recording = Recording(ships=ships)
    recording.step([0], [1], explores=explores)
    assert bool(recording.step([0], [2], explores=explores)) == leaves


def test_a_long_episode_is_kept_whole_and_the_next_begins_empty() -> None:
    recording = Recording(2, Q_VALUES)
    for step in range(300):
        recording.step([step, min(step, 1)], [1, 2])
    long, _ = recording.step([0, 0], [3, 4])
    assert_array_equal(long.observations[:, 1], np.arange(300, dtype=np.float16))
    assert_array_equal(long.columns["q_values"][:, 0], np.arange(300))
    (short, _) = recording.step([0, 0], [5, 6])
    assert short.observations.shape == (1, 2)


def test_what_was_shipped_does_not_change_with_the_next_episode() -> None:
    recording = Recording()
    recording.step([0], [1])
    recording.step([1], [1])
    (trajectory,) = recording.step([0], [2])
    recording.step([7], [2])
    assert_array_equal(trajectory.observations, [[0, 0], [0, 1]])


def test_a_world_that_changes_the_type_of_what_is_seen_loses_nothing() -> None:
    recording = Recording()
    recording.step([0], [1])
    recording.dtype = np.float32
    recording.step([40_001], [1])
    recording.dtype = np.float16
    recording.step([2], [1])
    (trajectory,) = recording.step([0], [2])
    assert trajectory.observations.dtype == np.float32
    assert_array_equal(trajectory.observations, [[0, 0], [0, 40_001], [0, 2]])
