"""What an update is judged by; tests/process/test_update.py pushes some."""

from runtime.deployment.push import missed_share, what_is_worse


def figures(steps: float, missed: float) -> dict[str, float]:
    return {"agent_steps": steps, "ticks_missed": missed}


def test_missed_ticks_are_a_share_of_those_between_two_looks() -> None:
    assert missed_share(figures(100, 900), figures(130, 910)) == 0.25
    assert missed_share(figures(100, 900), figures(100, 900)) == 0.0, "nobody has a body"


def test_a_host_that_misses_more_ticks_than_before_is_named() -> None:
    usual = {"a": 0.0, "b": 0.5}
    assert what_is_worse(usual, {"a": 0.05, "b": 0.55}) == ""
    says = "host b: 75% of ticks were missed, 50% before"
    assert what_is_worse(usual, {"a": 0.05, "b": 0.75}) == says
