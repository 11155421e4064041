"""How often agents report."""

import pytest

from runtime.net.report_period import MOST_PER_S, report_period_s


@pytest.mark.parametrize(
    ("num_agents", "period_s"), [(2, 1.0), (100, 1.0), (250, 1.0), (1000, 4.0)]
)
def test_a_hundred_agents_report_every_second_and_a_thousand_every_four(
    num_agents: int, period_s: float
) -> None:
    assert report_period_s(num_agents) == period_s


def test_a_node_never_gets_more_reports_than_it_can_take() -> None:
    assert all(n / report_period_s(n) <= 1.000001 * MOST_PER_S for n in range(1, 4097))
