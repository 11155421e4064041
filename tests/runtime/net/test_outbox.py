"""What is kept until it is acknowledged, and when it is sent again."""

from hypothesis import given
from hypothesis import strategies as st

from runtime.net.outbox import Outbox


def make_outbox(*, most_frames: int = 100, most_bytes: int = 10_000) -> Outbox:
    return Outbox(most_frames=most_frames, most_bytes=most_bytes, resend_s=10.0, resend_most_s=30.0)


def send_due(outbox: Outbox, now_s: float) -> list[int]:
    """Send whatever is due; returns the episodes."""
    sent: list[int] = []
    for episode, _ in outbox.due(now_s):
        outbox.sent(episode, now_s)
        sent.append(episode)
    return sent


def test_what_is_put_is_due_at_once_and_in_order() -> None:
    outbox = make_outbox()
    for episode in (5, 3, 8):
        outbox.put(episode, b"frame of %d" % episode)
    assert list(outbox.due(0.0)) == [(5, b"frame of 5"), (3, b"frame of 3"), (8, b"frame of 8")]


def test_what_is_not_acknowledged_is_sent_again_after_waits_that_double() -> None:
    outbox = make_outbox()
    outbox.put(1, b"x")
    sent_at = [now_s for now_s in range(150) if send_due(outbox, float(now_s))]
    assert sent_at == [0, 10, 30, 60, 90, 120]


def test_what_is_acknowledged_is_forgotten() -> None:
    outbox = make_outbox()
    outbox.put(1, b"four")
    outbox.put(2, b"bytes")
    send_due(outbox, 0.0)
    outbox.acknowledge(1)
    assert send_due(outbox, 10.0) == [2]
    assert (len(outbox), outbox.size_bytes, outbox.dropped) == (1, 5, 0)


def test_an_acknowledgement_that_comes_twice_or_for_nothing_changes_nothing() -> None:
    outbox = make_outbox()
    outbox.put(1, b"x")
    for episode in (2, 1, 1):
        outbox.acknowledge(episode)
    assert (len(outbox), outbox.size_bytes) == (0, 0)


def test_after_a_lost_connection_everything_is_due_in_its_old_order() -> None:
    outbox = make_outbox()
    for episode in (4, 2, 9):
        outbox.put(episode, b"x")
    assert send_due(outbox, 0.0) == [4, 2, 9]
    assert send_due(outbox, 10.0) == [4, 2, 9]
    outbox.connection_lost()
    assert send_due(outbox, 11.0) == [4, 2, 9]
    assert send_due(outbox, 20.0) == []
    assert send_due(outbox, 21.0) == [4, 2, 9], "the waits begin anew"


def test_whoever_stops_sending_halfway_has_the_rest_due_still() -> None:
    outbox = make_outbox()
    for episode in (1, 2, 3):
        outbox.put(episode, b"x")
    for episode, _ in outbox.due(0.0):
        if episode == 2:
            break
        outbox.sent(episode, 0.0)
    assert [episode for episode, _ in outbox.due(0.0)] == [2, 3]


def test_too_many_frames_cost_the_oldest_and_are_counted() -> None:
    outbox = make_outbox(most_frames=3)
    given_up = [outbox.put(episode, b"x") for episode in range(5)]
    assert given_up == [0, 0, 0, 1, 1]
    assert [episode for episode, _ in outbox.due(0.0)] == [2, 3, 4]
    assert outbox.dropped == 2


def test_too_many_bytes_cost_the_oldest_and_never_the_newest() -> None:
    outbox = make_outbox(most_bytes=10)
    outbox.put(1, b"x" * 4)
    outbox.put(2, b"x" * 4)
    assert outbox.put(3, b"x" * 4) == 1
    assert outbox.put(4, b"x" * 11) == 2
    assert [episode for episode, _ in outbox.due(0.0)] == [4]
    assert (outbox.size_bytes, outbox.dropped) == (11, 3)


def test_a_second_word_about_an_episode_takes_the_place_of_the_first() -> None:
    outbox = make_outbox()
    outbox.put(1, b"old")
    send_due(outbox, 0.0)
    assert outbox.put(1, b"newer") == 0
    assert list(outbox.due(0.0)) == [(1, b"newer")]
    assert (outbox.size_bytes, outbox.dropped) == (5, 0)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 40), st.booleans()), max_size=60))
def test_its_bounds_hold_whatever_happens(events: list[tuple[int, int, bool]]) -> None:
    outbox = make_outbox(most_frames=8, most_bytes=100)
    for episode, size, is_acknowledged in events:
        if is_acknowledged:
            outbox.acknowledge(episode)
        else:
            outbox.put(episode, b"x" * size)
        frames = [frame for _, frame in outbox.due(0.0)]
        assert len(outbox) == len(frames) <= 8
        assert outbox.size_bytes == sum(map(len, frames)) <= 100
