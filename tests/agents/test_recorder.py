import numpy as np
from numpy.testing import assert_array_equal

from agents.recorder import EpisodeRecorder
from runtime.net import wire

AGENT = 9


def recorder(*, record_q: bool = False) -> EpisodeRecorder:
    return EpisodeRecorder(AGENT, record_q=record_q)


def record(ours: EpisodeRecorder, step: int, *, version: int = 1) -> None:
    ours.record(
        np.array([step, -step], dtype=np.float16),
        action=step % 4,
        gates=1 << step,
        q_A=np.full(4, step, dtype=np.float32),
        policy_version=version,
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
    assert_array_equal(trajectory.gates, [1, 2, 4])


def test_q_values_are_kept_only_if_asked_for() -> None:
    for record_q, shape in ((False, (0, 0)), (True, (2, 4))):
        ours = recorder(record_q=record_q)
        ours.begin(0)
        record(ours, 0)
        record(ours, 1)
        assert finished(ours).q_values.shape == shape


def test_q_values_are_those_of_the_steps() -> None:
    ours = recorder(record_q=True)
    ours.begin(0)
    record(ours, 2)
    record(ours, 3)
    assert_array_equal(finished(ours).q_values, [[2.0] * 4, [3.0] * 4])


def test_a_trajectory_survives_the_wire() -> None:
    ours = recorder()
    ours.begin(0)
    record(ours, 1)
    decoded = wire.decode(wire.encode(finished(ours)))
    assert isinstance(decoded, wire.Trajectory)
    assert_array_equal(decoded.actions, [1])


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
    ours = recorder(record_q=True)
    ours.begin(3)
    record(ours, 1)
    record(ours, 2)
    finished(ours)
    ours.begin(4)
    record(ours, 3)
    trajectory = finished(ours)
    assert trajectory.episode == 4
    assert_array_equal(trajectory.actions, [3])
    assert_array_equal(trajectory.gates, [8])
    assert trajectory.q_values.shape == (1, 4)


def test_it_records_the_episode_that_it_began_and_no_other() -> None:
    ours = recorder()
    assert not ours.is_recording(0)
    ours.begin(3)
    assert ours.is_recording(3)
    assert not ours.is_recording(4)
