"""A start may take as long as somebody keeps coming, and not for ever."""

import pytest

from runtime.host.start_patience import LONGEST, StartPatience

PATIENCE_S = 10.0


def test_as_long_as_agents_keep_coming_the_start_goes_on() -> None:
    patience = StartPatience(PATIENCE_S, 100.0)
    for count in range(4):
        patience.look(count, 100.0 + 9.0 * count)
        assert not patience.is_over(100.0 + 9.0 * count)
    assert not patience.is_over(136.9)
    assert patience.is_over(137.0)


def test_the_first_look_and_a_count_that_falls_are_no_progress() -> None:
    patience = StartPatience(PATIENCE_S, 0.0)
    patience.look(5, 8.0)
    patience.look(4, 9.0)
    patience.look(5, 9.5)
    assert patience.is_over(PATIENCE_S)


def test_a_start_that_crawls_ends_as_well() -> None:
    patience = StartPatience(PATIENCE_S, 0.0)
    end_s = LONGEST * PATIENCE_S
    for second in range(int(end_s) + 1):
        patience.look(second, float(second))
        assert patience.is_over(float(second)) is (second >= end_s)
    assert patience.words(20, end_s) == "0.4 a second started in the first 50 s, which is too slow"


@pytest.mark.parametrize(
    ("started", "words"),
    [
        (0, "none has started in 14 s"),
        (8, "2 a second started in the first 4 s, and none has moved on for 10 s"),
    ],
)
def test_words_say_how_fast_they_came(started: int, words: str) -> None:
    patience = StartPatience(PATIENCE_S, 0.0)
    patience.look(0, 0.0)
    patience.look(16, 4.0)
    assert patience.words(started, 14.0) == words
