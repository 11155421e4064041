"""What a run records follows from its algorithm's traits; what cannot be recorded is refused."""

from dataclasses import replace

import pytest

from configs.algorithms import described
from configs.algorithms.base import Acting, Traits
from configs.columns import LOG_PROB, Q_VALUES, recorded
from configs.schema import RunConfig

CONFIG = RunConfig()


def with_traits(monkeypatch: pytest.MonkeyPatch, acting: Acting, *columns: str) -> None:
    traits = Traits(columns=frozenset(columns), acting=acting)
    monkeypatch.setattr(described, "traits_of", lambda _config: traits)  # pyright: ignore  # a stand-in


def test_by_default_nothing_but_the_gates_is_kept() -> None:
    assert recorded(CONFIG) == ()
    kept = replace(CONFIG, agents=replace(CONFIG.agents, record_q=True))
    assert recorded(kept) == (Q_VALUES,)


def test_an_algorithm_gets_the_columns_that_it_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with_traits(monkeypatch, "sample", "log_prob")
    assert recorded(CONFIG) == (LOG_PROB,)


def test_what_agents_do_not_compute_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with_traits(monkeypatch, "epsilon-greedy", "log_prob")
    with pytest.raises(ValueError, match="agents that act by epsilon-greedy do not compute"):
        recorded(CONFIG)
    with_traits(monkeypatch, "sample", "nosuch")
    with pytest.raises(ValueError, match="the column nosuch: there are gates, log_prob"):
        recorded(CONFIG)
