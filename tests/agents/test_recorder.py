from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from agents.recorder import EpisodeRecorder
from runtime.net import wire

AGENT = 9


def recorder(*columns: str) -> EpisodeRecorder:
    return EpisodeRecorder(AGENT, ("gates", *columns))


def record(ours: EpisodeRecorder, step: int, *, version: int = 1) -> None:
    values: list[Any] = [np.uint16(1 << step), np.full(4, step, dtype=np.float32)]
    ours.record(
        np.array([step, -step], dtype=np.float16),
        action=np.uint8(step % 4),
        policy_version=version,
        values=values[: ours.num_columns],
    )


def finished(ours: EpisodeRecorder) -> wire.Trajectory:
    trajectory = ours.finish()
    assert trajectory is not None
    return trajectory


def test_a_trajectory_holds_every_step_in_order() -> None:
    ours = recorder()
    ours.begin(31)
    for step in range(3):
        record(ours, step, version=5 + step)
    trajectory = finished(ours)
    assert (trajectory.agent, trajectory.episode) == (AGENT, 31)
    assert (trajectory.first_version, trajectory.last_version) == (5, 7)
    assert trajectory.observations.dtype == np.float16
    assert_array_equal(trajectory.observations, np.array([[0, 0], [1, -1], [2, -2]]))
    assert_array_equal(trajectory.actions, [0, 1, 2])
    assert trajectory.actions.dtype == np.uint8
    assert_array_equal(trajectory.columns["gates"], [1, 2, 4])
    assert trajectory.columns["gates"].dtype == np.uint16


def test_columns_are_those_that_were_asked_for() -> None:
    for asked, names in (((), ["gates"]), (("q_values",), ["gates", "q_values"])):
        ours = recorder(*asked)
        ours.begin(0)
        record(ours, 0)
        record(ours, 1)
        assert list(finished(ours).columns) == names


def test_entries_of_a_column_are_those_of_the_steps() -> None:
    ours = recorder("q_values")
    ours.begin(0)
    record(ours, 2)
    record(ours, 3)
    assert_array_equal(finished(ours).columns["q_values"], [[2.0] * 4, [3.0] * 4])


def test_a_step_that_lacks_a_column_is_refused() -> None:
    ours = recorder("q_values")
    ours.begin(0)
    with pytest.raises(ValueError, match="shorter"):
        ours.record(np.zeros(2, np.float16), np.uint8(0), 1, [np.uint16(0)])


def test_a_trajectory_survives_the_wire() -> None:
    ours = recorder("q_values")
    ours.begin(0)
    record(ours, 1)
    decoded = wire.decode(wire.encode(finished(ours)))
    assert isinstance(decoded, wire.Trajectory)
    assert_array_equal(decoded.actions, [1])
    assert_array_equal(decoded.columns["q_values"], [[1.0] * 4])


def test_nothing_is_shipped_before_an_episode_begins_or_without_a_step() -> None:
    ours = recorder()
    assert ours.finish() is None
    ours.begin(3)
    assert ours.finish() is None


def test_an_episode_is_shipped_once() -> None:
    ours = recorder()
    ours.begin(3)
    record(ours, 1)
    finished(ours)
    assert ours.finish() is None
    assert not ours.is_recording(3)


def test_the_next_episode_begins_empty() -> None:
    ours = recorder("q_values")
    ours.begin(3)
    record(ours, 1)
    record(ours, 2)
    finished(ours)
    ours.begin(4)
    record(ours, 3)
    trajectory = finished(ours)
    assert trajectory.episode == 4
    assert_array_equal(trajectory.actions, [3])
    assert_array_equal(trajectory.columns["gates"], [8])
    assert trajectory.columns["q_values"].shape == (1, 4)


def test_it_records_the_episode_that_it_began_and_no_other() -> None:
    ours = recorder()
    assert not ours.is_recording(0)
    ours.begin(3)
    assert ours.is_recording(3)
    assert not ours.is_recording(4)
