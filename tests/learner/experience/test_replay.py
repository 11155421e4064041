import numpy as np
import pytest
from numpy.testing import assert_array_equal

from learner.experience.replay import Replay
from tests.learner_helpers import make_episode

RNG = np.random.default_rng(0)


def test_the_oldest_episode_leaves_and_its_bytes_with_it() -> None:
    replay = Replay(capacity=2)
    episodes = [make_episode(number, length=3 + number) for number in range(3)]
    for episode in episodes:
        replay.add(episode)
    assert len(replay) == 2
    assert replay.size_bytes == sum(episode.size_bytes for episode in episodes[1:])
    assert {len(replay.sample(RNG, 1).actions) for _ in range(20)} == {4, 5}


def test_no_episode_is_drawn_twice_and_a_small_replay_gives_what_it_has() -> None:
    replay = Replay(capacity=10)
    for number in range(4):
        replay.add(make_episode(number))
    batch = replay.sample(RNG, 9)
    assert batch.size == 4
    assert len({row.tobytes() for row in np.moveaxis(batch.rewards, 1, 0)}) == 4


def test_whole_episodes_are_padded_with_zeros_and_masked() -> None:
    replay = Replay(capacity=2)
    short = make_episode(1, length=2, lifetimes=(3, 1, 3, 3, 3, 2), terminated=True)
    long = make_episode(2, length=5)
    replay.add(short)
    replay.add(long)
    batch = replay.sample(RNG, 2)
    assert batch.observations.shape == (6, 2, 6, 5)
    assert batch.observations.dtype == np.float16
    b = int(batch.filled.sum(axis=0).argmin())
    assert_array_equal(batch.filled[:, b], [True, True, False, False, False])
    assert_array_equal(batch.observations[:3, b], short.observations)
    assert_array_equal(batch.alive[:3, b], short.alive)
    for column in (batch.observations, batch.states, batch.alive):
        assert not column[3:, b].any()
    for column in (batch.actions, batch.rewards):
        assert not column[2:, b].any()
    assert_array_equal(np.argwhere(batch.terminated), [[1, b]])
    assert_array_equal(np.argwhere(batch.truncated), [[4, 1 - b]])


def test_windows_start_anywhere_and_know_whether_they_see_the_end() -> None:
    replay = Replay(capacity=1)
    episode = make_episode(1, length=9)
    replay.add(episode)
    starts: set[int] = set()
    for _ in range(100):
        batch = replay.sample(RNG, 1, window=4)
        start = int(batch.starts[0])
        starts.add(start)
        assert_array_equal(batch.observations[:, 0], episode.observations[start : start + 5])
        assert_array_equal(batch.states[:, 0], episode.states[start : start + 5])
        assert_array_equal(batch.actions[:, 0], episode.actions[start : start + 4])
        assert batch.truncated[-1, 0] == (start == 5)
        assert batch.filled.all()
    assert starts == set(range(6))


def test_an_empty_replay_has_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="empty replay"):
        Replay(capacity=1).sample(RNG, 1)
