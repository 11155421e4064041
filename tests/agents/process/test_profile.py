"""An agent's cpu time by section: exclusive, complete, and only where something was wrapped."""

from collections.abc import Iterator

import pytest

from agents.process.profile import POINTS, SECTIONS, Profile


class Clock:
    """Cpu time that passes only when somebody works."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def work(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def profile(clock: Clock) -> Profile:
    profile = Profile(clock)
    profile.begin()
    return profile


def test_time_counts_under_the_section_that_was_entered_last(
    clock: Clock, profile: Profile
) -> None:
    clock.work(1.0)
    profile.enter("receiving")
    clock.work(2.0)
    profile.enter("compute")  # decoding is interrupted by a step
    clock.work(4.0)
    profile.leave()
    clock.work(8.0)
    profile.leave()
    clock.work(16.0)

    figures = profile.figures()

    assert figures["cpu_shell_s"] == 17.0
    assert figures["cpu_receiving_s"] == 10.0
    assert figures["cpu_compute_s"] == 4.0
    assert figures["cpu_sending_s"] == figures["cpu_waiting_s"] == 0.0
    assert figures["thread_cpu_s"] == 31.0


def test_a_wrapped_function_does_what_it_did(clock: Clock, profile: Profile) -> None:
    def send(what: str, *, twice: bool = False) -> str:
        clock.work(3.0)
        return what * (2 if twice else 1)

    assert profile.wrapped(send, "sending")("ab", twice=True) == "abab"
    assert profile.figures()["cpu_sending_s"] == 3.0


def test_sending_within_sending_counts_once(clock: Clock, profile: Profile) -> None:
    inner = profile.wrapped(lambda: clock.work(1.0), "sending")

    def outer() -> None:
        clock.work(1.0)
        inner()
        clock.work(1.0)

    profile.wrapped(outer, "sending")()

    assert profile.figures()["cpu_sending_s"] == 3.0


def test_a_generator_pays_for_its_items_and_not_for_what_is_done_with_them(
    clock: Clock, profile: Profile
) -> None:
    def drain() -> Iterator[int]:
        for item in range(3):
            clock.work(1.0)
            yield item

    taken: list[int] = []
    for item in profile.wrapped(drain, "receiving")():
        clock.work(10.0)
        taken.append(item)

    assert taken == [0, 1, 2]
    figures = profile.figures()
    assert figures["cpu_receiving_s"] == 3.0
    assert figures["cpu_shell_s"] == 30.0


def test_an_exception_leaves_the_section(clock: Clock, profile: Profile) -> None:
    def fail() -> None:
        clock.work(1.0)
        raise ValueError("no")

    with pytest.raises(ValueError, match=r"^no$"):
        profile.wrapped(fail, "compute")()
    clock.work(5.0)

    figures = profile.figures()
    assert (figures["cpu_compute_s"], figures["cpu_shell_s"]) == (1.0, 5.0)


def test_beginning_forgets_the_start(clock: Clock, profile: Profile) -> None:
    profile.enter("waiting")
    clock.work(100.0)
    profile.leave()
    profile.begin()
    clock.work(1.0)

    assert profile.figures()["thread_cpu_s"] == 1.0


def test_every_point_exists_and_belongs_to_a_section() -> None:
    """A method that is renamed would otherwise drop out of the profile in silence."""
    for owner, name, section in POINTS:
        assert callable(getattr(owner, name)), f"{owner.__name__}.{name}"
        assert section in SECTIONS
