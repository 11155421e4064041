"""Exploring agents ask somebody; greedy ones never do."""

import dataclasses

import numpy as np

from agents.core import AgentCore
from envs.battle.battle import NUM_ACTIONS, OBSERVATION_DIM
from envs.battle.opponents import FIRST_HIT, HITS
from tests.agents_helpers import action_of, make_agent, make_rules, make_spec, observation

COPIES = 64
RULES = make_rules(
    copies=COPIES, spec=make_spec(observation_dim=OBSERVATION_DIM, num_actions=NUM_ACTIONS)
)
ENEMY = 3  # the neighbour that HITS[3] strikes, on the left


def facing_an_enemy() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """[E, D] one enemy next to us and nothing else."""
    view = np.zeros((7, 14), dtype=np.float32)
    view[3, 3] = 1.0
    dx, dy = HITS[ENEMY]
    view[3 + dy, 10 + dx] = 0.5
    return np.repeat(view.reshape(1, OBSERVATION_DIM), COPIES, axis=0)


def actions(advice: float, *, epsilon: float = 1.0, explore: bool = True) -> list[int]:
    rules = dataclasses.replace(RULES, adviser="scripted", advice=advice)
    return acted_by(make_agent(rules), epsilon=epsilon, explore=explore)


def acted_by(agent: AgentCore, *, epsilon: float, explore: bool) -> list[int]:
    seen = observation(RULES, 1, rows=facing_an_enemy(), explore=explore, epsilon=epsilon)
    answer = action_of(agent.handle(seen))
    assert answer is not None
    return answer.actions.tolist()


def test_the_adviser_is_asked_in_its_share_of_the_exploring_steps() -> None:
    hit = FIRST_HIT + ENEMY
    assert actions(1.0) == [hit] * COPIES
    assert COPIES * 0.3 < actions(0.5).count(hit) < COPIES * 0.7
    assert actions(0.0).count(hit) < COPIES * 0.2
    assert COPIES * 0.3 < actions(1.0, epsilon=0.5).count(hit) < COPIES * 0.8


def test_a_greedy_agent_asks_nobody() -> None:
    alone = acted_by(make_agent(RULES), epsilon=0.0, explore=False)
    assert FIRST_HIT + ENEMY not in alone
    assert actions(1.0, explore=False) == alone
    assert actions(1.0, epsilon=0.0) == alone


def test_without_an_adviser_chance_is_what_it_was() -> None:
    # The dice are rolled first and the adviser is asked afterwards.
    assert actions(0.0) == acted_by(make_agent(RULES), epsilon=1.0, explore=True)
