import time

import pytest

from runtime.bodies import Pace, endpoint_of, parse_agents


@pytest.mark.parametrize(
    ("text", "agents"),
    [("3", (3,)), ("0-2", (0, 1, 2)), ("0,2,7-9", (0, 2, 7, 8, 9)), ("1,1-2", (1, 2))],
)
def test_agents_are_written_as_ranges(text: str, agents: tuple[int, ...]) -> None:
    assert parse_agents(text) == agents


@pytest.mark.parametrize("text", ["", "a", "3-1", "1-", "-1", "1;2"])
def test_what_names_no_agents_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="agents are written as"):
        parse_agents(text)


def test_an_endpoint_has_the_agents_number_or_a_port_of_its_own() -> None:
    assert endpoint_of("ipc:///x/body-{agent}", 3) == "ipc:///x/body-3"
    assert endpoint_of("tcp://127.0.0.1:{port}", 3) == "tcp://127.0.0.1:8003"


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
