import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from learner.experience.episode import EpisodeJoiner, Part
from tests.learner_helpers import DIMENSIONS, WITH_Q, make_packets

LIFETIMES = (6, 3, 0, 6, 5, 1)


def test_packets_in_any_order_make_one_padded_episode() -> None:
    trajectories, record = make_packets(7, lifetimes=LIFETIMES, with_q=True, terminated=True)
    joiner = EpisodeJoiner(WITH_Q)
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
    assert_array_equal(episode.columns["gates"][:5, 4], by_agent[4].columns["gates"])
    assert_array_equal(episode.columns["q_values"][:3, 1], by_agent[1].columns["q_values"])
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
        replace(good, columns={"gates": np.zeros(4, dtype=np.uint16)}),
        replace(good, columns={"gates": np.zeros(5, dtype=np.float32)}),
        replace(good, columns={}),
        replace(record, actions=np.zeros((5, 5), dtype=np.uint8)),
        replace(record, actions=np.full((5, 6), 4, dtype=np.uint8)),
        replace(record, actions=np.zeros((5, 6), dtype=np.float32)),
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


# --- who is told that nothing more will be made of it ---------------------------------------------


def world_part(episode: int) -> Part:
    return Part(episode, None)


def test_nobody_is_released_from_an_episode_in_progress_or_just_joined() -> None:
    joiner = EpisodeJoiner(DIMENSIONS)
    trajectories, record = make_packets(1)
    for packet in (trajectories[0], *trajectories, record):  # the first one twice
        joiner.add(packet)
    assert joiner.is_closed(1)
    assert joiner.take_released() == []
    assert joiner.dropped_packets == {"duplicate": 1}


def test_everybody_is_released_from_an_incomplete_episode_whenever_they_speak() -> None:
    joiner = EpisodeJoiner(DIMENSIONS)
    trajectories, record = make_packets(1, complete=False)
    joiner.add(trajectories[2])
    assert joiner.take_released() == []
    joiner.add(record)
    assert joiner.take_released() == [Part(1, 2), world_part(1)]
    joiner.add(trajectories[4])
    assert joiner.take_released() == [Part(1, 4)]
    assert joiner.take_released() == []


def test_a_part_of_a_joined_episode_that_comes_again_is_released_and_not_joined_again() -> None:
    joiner = EpisodeJoiner(DIMENSIONS)
    trajectories, record = make_packets(1)
    episodes = [joiner.add(packet) for packet in (*trajectories, record) * 3]
    assert sum(episode is not None for episode in episodes) == 1
    assert len(joiner) == 0
    released = [*(Part(1, agent) for agent in range(6)), world_part(1)]
    assert joiner.take_released() == 2 * released


def test_parts_that_do_not_fit_are_released_too() -> None:
    joiner = EpisodeJoiner(DIMENSIONS)
    trajectories, _ = make_packets(1)
    joiner.add(replace(trajectories[5], columns={"gates": np.zeros(4, dtype=np.uint16)}))
    assert joiner.take_released() == [Part(1, 5)]


def test_what_does_not_fit_the_bound_is_released() -> None:
    joiner = EpisodeJoiner(DIMENSIONS, most_pending=2)
    for number in range(3):
        joiner.add(make_packets(number)[0][number])
    assert joiner.take_released() == [Part(0, 0)]


def test_an_episode_that_is_over_and_lacks_a_trajectory_is_given_up_in_time() -> None:
    joiner = EpisodeJoiner(DIMENSIONS, patience_s=90.0)
    trajectories, record = make_packets(1)
    joiner.add(record)
    joiner.add(trajectories[0])
    joiner.add(make_packets(2)[0][3])  # still being played, for all that is known
    for now_s in (1000.0, 1089.0):
        joiner.expire(now_s)
        assert joiner.take_released() == []
    joiner.expire(1090.0)
    assert joiner.take_released() == [Part(1, 0), world_part(1)]
    assert joiner.dropped_episodes == {"missing": 1}
    assert len(joiner) == 1


def test_an_episode_that_is_completed_in_time_is_not_given_up() -> None:
    joiner = EpisodeJoiner(DIMENSIONS, patience_s=90.0)
    trajectories, record = make_packets(1)
    joiner.add(record)
    joiner.expire(0.0)
    episodes = [joiner.add(trajectory) for trajectory in trajectories]
    assert episodes[-1] is not None
    joiner.expire(100.0)
    assert joiner.dropped_episodes.total() == 0


def test_at_the_end_what_is_in_progress_is_let_go_and_is_no_loss() -> None:
    joiner = EpisodeJoiner(DIMENSIONS)
    for number in (1, 2):
        joiner.add(make_packets(number)[0][0])
    joiner.abandon()
    assert joiner.take_released() == [Part(1, 0), Part(2, 0)]
    assert joiner.dropped_episodes.total() == 0
    assert len(joiner) == 0


def test_at_the_end_an_episode_that_was_played_and_lacks_a_trajectory_is_a_loss() -> None:
    joiner = EpisodeJoiner(DIMENSIONS)
    trajectories, record = make_packets(1)
    joiner.add(trajectories[0])
    joiner.add(record)
    joiner.abandon()
    assert joiner.dropped_episodes == {"missing": 1}


def test_closed_episodes_are_remembered_in_bounded_memory_and_stay_closed() -> None:
    joiner = EpisodeJoiner(DIMENSIONS)
    trajectories, record = make_packets(3)
    joiner.add(trajectories[0])
    for number in range(4, 3 * EpisodeJoiner.REMEMBERED):
        joiner.close(number)
    assert len(joiner._closed) == len(joiner._oldest_closed) == EpisodeJoiner.REMEMBERED  # pyright: ignore[reportPrivateUsage]  # the bound is what is tested
    assert all(joiner.is_closed(number) for number in (0, 4, 100, 3 * EpisodeJoiner.REMEMBERED - 1))
    assert not joiner.is_closed(3 * EpisodeJoiner.REMEMBERED)
    assert not joiner.is_closed(3), "it is old, and in progress"
    joiner.add(make_packets(4)[1])
    assert (len(joiner), joiner.dropped_packets) == (1, {"late": 1})
    episodes = [joiner.add(packet) for packet in (*trajectories[1:], record)]
    assert episodes[-1] is not None
    assert joiner.is_closed(3)


def test_joining_needs_no_torch() -> None:
    modules = "learner.experience.episode, learner.checkpoint_file"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
