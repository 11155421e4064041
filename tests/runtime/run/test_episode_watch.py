"""A run that plays and learns nothing says so."""

from runtime.run.episode_watch import PATIENCE_S, EpisodeWatch


def watch(
    seconds: int, *, joined_every: int = 0, dropped: bool = True, owed: float = 0.0
) -> list[int]:
    """Seconds at which something was said, of a run that plays four episodes a second."""
    eye, said = EpisodeWatch(), list[int]()
    for second in range(seconds):
        joined = 100 + (4 * second // joined_every if joined_every else 0)
        line = eye.look(
            float(second),
            played=4 * second,
            joined=joined,
            dropped=4 * second if dropped else 0,
            owed=owed,
        )
        if line is not None:
            said.append(second)
    return said


def test_a_run_that_drops_every_episode_says_so_within_a_minute_and_again() -> None:
    first, second = watch(120)
    assert first <= 60
    assert second > first


def test_episodes_that_arrive_nowhere_are_as_bad_as_dropped_ones() -> None:
    assert watch(60, dropped=False)


def test_a_run_that_learns_from_some_of_its_episodes_says_nothing() -> None:
    assert watch(600, joined_every=40) == []


def test_a_learner_that_is_busy_is_waited_for() -> None:
    assert watch(600, dropped=False, owed=3.0) == []


def test_long_episodes_that_end_together_are_no_alarm() -> None:
    """Sixteen copies end at once after five minutes, and are joined a moment later."""
    eye = EpisodeWatch()
    for second in range(1000):
        played, joined = 16 * (second // 300), 16 * ((second - 2) // 300 if second > 2 else 0)
        line = eye.look(float(second), played=played, joined=joined, dropped=0, owed=0.0)
        assert line is None


def test_patience_and_the_wait_for_it_fit_into_a_minute() -> None:
    assert PATIENCE_S < 60.0
