import time
from pathlib import Path

import pytest

from runtime.bodies import Pace, parse_agents
from runtime.deployment.body_endpoint import body_endpoint


@pytest.mark.parametrize(
    ("text", "agents"),
    [("3", (3,)), ("0-2", (0, 1, 2)), ("0,2,7-9", (0, 2, 7, 8, 9)), ("1,1-2", (1, 2))],
)
def test_agents_are_written_as_ranges(text: str, agents: tuple[int, ...]) -> None:
    assert parse_agents(text) == agents


def test_more_agents_than_there_can_be_are_refused_and_not_counted_out() -> None:
    with pytest.raises(ValueError, match="numbers below 4096"):
        parse_agents("0-999999999")


@pytest.mark.parametrize("text", ["", "a", "3-1", "1-", "-1", "1;2", "0-9999999999999"])
def test_what_names_no_agents_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="agents are written as"):
        parse_agents(text)


def test_an_endpoint_has_the_agents_number_or_a_port_of_its_own() -> None:
    assert body_endpoint("ipc:///x/body-{agent}", 3) == "ipc:///x/body-3"
    assert body_endpoint("tcp://127.0.0.1:{port}", 3) == "tcp://127.0.0.1:8003"
    folder = Path("/run/{agent}")  # a folder may be called anything
    assert body_endpoint("ipc://{bundle}/{agent}", 3, folder) == "ipc:///run/{agent}/3"


@pytest.mark.parametrize(
    "braces",
    [
        "{bundle.__init__.__globals__}",
        "{agent.__class__}",
        "{agent!r}",
        "{agent:>99999999}",
        "{0}",
        "{}",
        "{{agent}}",
        "{port",
        "}",
        "{bundle}",
    ],
)
def test_nothing_but_the_known_names_is_looked_up_in_braces(braces: str) -> None:
    with pytest.raises(ValueError, match=r"in braces may stand \{agent\} or \{port\}"):
        body_endpoint(f"ipc:///x/{braces}", 3)


def test_a_step_has_the_number_of_its_moment() -> None:
    pace = Pace(10.0, 1_700_000_000.03, agents_tick=False)
    assert pace.number(0) == 17_000_000_001
    assert pace.due_s(0) == pytest.approx(1_700_000_000.1)
    assert pace.due_s(7) == pytest.approx(1_700_000_000.8)


def test_agents_that_tick_get_their_observation_half_a_period_before() -> None:
    pace = Pace(10.0, 1_700_000_000.0, agents_tick=True)
    assert pace.number(3) == 17_000_000_003
    assert pace.due_s(3) == pytest.approx(1_700_000_000.25)


def test_what_is_overdue_is_not_waited_for() -> None:
    pace = Pace(100.0, time.time() - 1.0, agents_tick=False)
    assert pace.wait(5) == 0.0
