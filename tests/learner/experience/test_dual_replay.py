"""Which episodes a batch of the dual replay is made of."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from configs.schema import LearnerConfig
from learner.experience.dual import DualReplay, make_replay
from learner.experience.replay import Replay
from tests.learner_helpers import make_episode


def fill(replay: Replay, count: int) -> Replay:
    for number in range(count):
        replay.add(make_episode(number))
    return replay


def drawn(replay: Replay, batch_size: int, seed: int = 0) -> list[int]:
    """Numbers of the episodes of one batch, in its order."""
    return [e.number for e in replay.choose(np.random.default_rng(seed), batch_size).episodes]


def test_a_batch_has_its_share_of_the_newest_and_the_rest_from_all() -> None:
    replay = fill(DualReplay(40, online_episodes=5, online_share=0.25), 50)
    seen: Counter[str] = Counter()
    for seed in range(200):
        batch = drawn(replay, 16, seed)
        offline, online = batch[:12], batch[12:]
        assert len(set(offline)) == 12
        assert len(set(online)) == 4
        assert set(online) <= {45, 46, 47, 48, 49}
        assert set(offline) <= set(range(10, 50)), "the oldest ten have left"
        seen.update(f"offline {number}" for number in offline)
        seen.update(f"online {number}" for number in online)
    assert len(seen) == 40 + 5, "every episode has its turn in each of its parts"
    # Uniform within a part: 200 × 12 / 40 = 60 and 200 × 4 / 5 = 160 times each.
    counts = np.array([seen[f"offline {number}"] for number in range(10, 50)])
    assert abs(counts[-5:].mean() - counts[:-5].mean()) < 10.0


@pytest.mark.parametrize("held", [1, 2, 3, 7])
def test_with_few_episodes_each_part_gives_what_there_is(held: int) -> None:
    replay = fill(DualReplay(40, online_episodes=4, online_share=0.25), held)
    batch = drawn(replay, 8)
    offline = min(6, held)
    assert len(batch) == offline + min(2, held)
    assert len(set(batch[:offline])) == offline
    assert set(batch[offline:]) <= set(range(max(0, held - 4), held))


def test_each_buffer_is_usable_alone() -> None:
    online = fill(DualReplay(40, online_episodes=6, online_share=1.0), 40)
    assert set(drawn(online, 6)) == set(range(34, 40))
    offline = fill(DualReplay(40, online_episodes=6, online_share=0.0), 40)
    assert drawn(offline, 16) == drawn(fill(Replay(40), 40), 16)


def test_the_same_stream_draws_the_same_windows() -> None:
    windows = [
        fill(DualReplay(20, 5, 0.5), 20).choose(np.random.default_rng(seed), 8, window=2)
        for seed in (1, 1, 2)
    ]
    picks = [list(zip([e.number for e in w.episodes], w.starts, strict=True)) for w in windows]
    assert picks[0] == picks[1] != picks[2]


def test_a_run_gets_the_replay_it_asks_for() -> None:
    assert type(make_replay(LearnerConfig())) is Replay
    config = LearnerConfig(online_episodes=8, online_share=0.375, batch_size=16)
    assert config.online_rows == 6
    dual = fill(make_replay(config), 30)
    assert set(drawn(dual, config.batch_size)[-config.online_rows :]) <= set(range(22, 30))


@pytest.mark.parametrize(
    "make",
    [
        lambda: LearnerConfig(online_episodes=7, online_share=0.25, batch_size=32),
        lambda: LearnerConfig(online_episodes=2001),
        lambda: LearnerConfig(online_share=1.5),
        lambda: LearnerConfig(online_episodes=-1),
    ],
)
def test_shares_that_cannot_be_filled_are_refused(make: Callable[[], LearnerConfig]) -> None:
    with pytest.raises(ValueError, match=r"learner\.online_"):
        make()
