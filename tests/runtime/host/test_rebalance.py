"""Who takes over the agents of a host that is gone for good."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from runtime.host.rebalance import Taker, share_out


def test_each_agent_goes_to_the_host_with_the_fewest_for_its_share() -> None:
    takers = [Taker("b", agents=2, share=2, room=100), Taker("c", agents=4, share=4, room=100)]
    assert share_out([7, 8, 9], takers) == {7: "c", 8: "b", 9: "c"}


def test_a_host_that_stands_by_is_filled_up_first() -> None:
    takers = [Taker("a", agents=2, share=2, room=100), Taker("b", agents=0, share=2, room=100)]
    assert share_out([4, 5, 6], takers) == {4: "b", 5: "b", 6: "a"}


def test_a_host_without_a_port_left_gets_no_more() -> None:
    takers = [Taker("a", agents=9, share=2, room=10), Taker("b", agents=0, share=2, room=1)]
    assert share_out([4, 5, 6], takers) == {4: "b", 5: "a"}, "agent 6 finds no place"


def test_where_nobody_is_left_nobody_moves() -> None:
    assert share_out([4, 5], []) == {}


@given(
    num_agents=st.integers(0, 200),
    shares=st.lists(st.integers(1, 40), min_size=1, max_size=6),
)
def test_shares_are_kept_to_within_one_agent(num_agents: int, shares: list[int]) -> None:
    takers = [Taker(str(i), share, share, 10_000) for i, share in enumerate(shares)]
    homes = share_out(range(num_agents), takers)
    assert list(homes) == list(range(num_agents))
    got = Counter(homes.values())
    counts = [taker.agents + got[taker.name] for taker in takers]
    for mine, share in zip(counts, shares, strict=True):
        assert all(
            (mine - 1) / share <= (other + 1) / others
            for other, others in zip(counts, shares, strict=True)
        ), (counts, shares)
