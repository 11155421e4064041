import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from learner.episode import EpisodeJoiner
from tests.learner_helpers import DIMENSIONS, make_packets

LIFETIMES = (6, 3, 0, 6, 5, 1)


def test_packets_in_any_order_make_one_padded_episode() -> None:
    trajectories, record = make_packets(7, lifetimes=LIFETIMES, with_q=True, terminated=True)
    joiner = EpisodeJoiner(DIMENSIONS)
    packets = [*trajectories[::-1][:2], record, *trajectories[::-1][2:]]
    *nothing, episode = [joiner.add(packet) for packet in packets]
    assert nothing == [None] * (len(packets) - 1)
    assert episode is not None
    assert (episode.number, episode.length, episode.terminated) == (7, 5, True)
    assert_array_equal(episode.lifetimes, LIFETIMES)
    assert_array_equal(episode.alive, record.alive)
    assert episode.observations.dtype == np.float16
    by_agent = {t.agent: t for t in trajectories}
    assert_array_equal(episode.observations[:3, 1], by_agent[1].observations)
    assert_array_equal(episode.observations[3:, 1], np.zeros((3, 5)))
    assert_array_equal(episode.actions[:5, 0], by_agent[0].actions)
    assert_array_equal(episode.gates[:5, 4], by_agent[4].gates)
    assert episode.q_values is not None
    assert_array_equal(episode.q_values[:3, 1], by_agent[1].q_values)
    # Who sees the end has a final observation; agent 4 died with the last step.
    assert_array_equal(episode.observations[5, 0], record.final_observations[0])
    assert_array_equal(episode.observations[5, 4], np.zeros(5))
    assert (episode.first_version, episode.last_version) == (1, 2)
    assert len(joiner) == 0


def test_duplicates_and_late_packets_change_nothing() -> None:
    trajectories, record = make_packets(1)
    joiner = EpisodeJoiner(DIMENSIONS)
    joiner.add(trajectories[0])
    assert joiner.add(trajectories[0]) is None
    joiner.add(record)
    assert joiner.add(record) is None
    assert joiner.dropped_packets["duplicate"] == 2
    for trajectory in trajectories[1:-1]:
        joiner.add(trajectory)
    assert joiner.add(trajectories[-1]) is not None
    assert joiner.add(trajectories[2]) is None
    assert joiner.add(record) is None
    assert joiner.dropped_packets["late"] == 2
    assert len(joiner) == 0


def test_an_incomplete_episode_is_dropped_whatever_still_comes() -> None:
    trajectories, record = make_packets(1, complete=False)
    joiner = EpisodeJoiner(DIMENSIONS)
    for packet in (trajectories[0], record, *trajectories[1:]):
        assert joiner.add(packet) is None
    assert joiner.dropped_episodes == {"incomplete": 1}
    assert len(joiner) == 0


def test_a_missing_trajectory_is_waited_for_until_enough_newer_episodes_are_complete() -> None:
    joiner = EpisodeJoiner(DIMENSIONS, limit=2)
    trajectories, record = make_packets(1)
    for packet in (record, *trajectories[1:]):
        joiner.add(packet)
    for number in (2, 3):
        assert len(joiner) == 1
        newer, newer_record = make_packets(number)
        for packet in (*newer, newer_record):
            joiner.add(packet)
    assert len(joiner) == 0
    assert joiner.dropped_episodes == {"missing": 1}
    assert joiner.add(trajectories[0]) is None
    assert joiner.dropped_packets == {"late": 1}


def test_memory_is_bounded() -> None:
    joiner = EpisodeJoiner(DIMENSIONS, most_pending=10)
    for number in range(100):
        joiner.add(make_packets(number)[1])
    assert len(joiner) == 10
    assert joiner.dropped_episodes == {"full": 90}


def test_an_agent_that_never_lived_is_not_waited_for() -> None:
    joiner = EpisodeJoiner(DIMENSIONS)
    trajectories, record = make_packets(1, lifetimes=(0, 0, 6, 0, 0, 0))
    joiner.add(trajectories[0])
    episode = joiner.add(record)
    assert episode is not None
    assert not episode.alive[:, 0].any()


def test_packets_that_do_not_fit_are_counted_and_dropped() -> None:
    trajectories, record = make_packets(1)
    good = trajectories[0]
    bad = [
        replace(good, agent=6),
        replace(good, actions=np.full(5, 4, dtype=np.uint8)),
        replace(good, observations=np.zeros((5, 4), dtype=np.float16)),
        replace(good, gates=np.zeros(4, dtype=np.uint16)),
        replace(good, q_values=np.zeros((5, 3), dtype=np.float32)),
        replace(record, rewards=np.zeros((5, 5), dtype=np.float32)),
        replace(record, rewards=np.zeros((0, 6), dtype=np.float32)),
        replace(record, states=np.zeros((5, 3), dtype=np.float32)),
        replace(record, final_observations=np.zeros((6, 4), dtype=np.float16)),
        replace(record, alive=record.alive[::-1] * np.arange(6, dtype=np.uint8)[:, None]),
    ]
    joiner = EpisodeJoiner(DIMENSIONS)
    assert [joiner.add(packet) for packet in bad] == [None] * len(bad)
    assert joiner.dropped_packets.total() == len(bad)
    assert len(joiner) == 0


@pytest.mark.parametrize("length", [3, 5])
def test_a_trajectory_of_another_length_than_the_life_drops_the_episode(length: int) -> None:
    joiner = EpisodeJoiner(DIMENSIONS)
    trajectories, record = make_packets(1, lifetimes=(4, 6, 6, 6, 6, 6))
    wrong = make_packets(1, lifetimes=(length, 6, 6, 6, 6, 6))[0][0]
    for packet in (wrong, *trajectories[1:], record):
        assert joiner.add(packet) is None
    assert joiner.dropped_episodes == {"mismatch": 1}


def test_joining_needs_no_torch() -> None:
    code = "import sys, learner.episode, learner.checkpoint_file; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
