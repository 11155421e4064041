"""When an agent takes up a new policy version: at once, or between episodes of training."""

from dataclasses import replace

import pytest

from agents.events import Command, ToWorld
from runtime.net import wire
from tests.agents_helpers import dense, make_agent, make_flat, make_rules, observation

RULES = make_rules(comm="none", copies=2)
STEADY = replace(RULES, steady=True)
NEWER = dense(make_flat(RULES.spec, seed=1), 2)


def version_after(steps: list[int], *, steady: bool, explore: list[bool]) -> int:
    """The version with which an agent runs a step, when a newer one came just before."""
    rules = STEADY if steady else RULES
    agent = make_agent(rules)
    agent.handle(observation(rules, 1, steps=0, explore=explore))
    agent.handle(NEWER)
    agent.handle(observation(rules, 2, steps=steps, explore=explore))
    return agent.policy_version


@pytest.mark.parametrize("steps", [[1, 1], [0, 1], [1, 0]])
def test_a_steady_agent_keeps_its_policy_while_any_training_copy_is_within_an_episode(
    steps: list[int],
) -> None:
    assert version_after(steps, steady=True, explore=[True, True]) == 1
    assert version_after(steps, steady=False, explore=[True, True]) == 2


def test_a_steady_agent_takes_up_the_newest_where_all_training_episodes_begin() -> None:
    assert version_after([0, 0], steady=True, explore=[True, True]) == 2


def test_copies_that_do_not_train_hold_nothing_up() -> None:
    assert version_after([1, 1], steady=True, explore=[False, False]) == 2
    assert version_after([0, 1], steady=True, explore=[True, False]) == 2
    assert version_after([1, 0], steady=True, explore=[True, False]) == 1


def test_a_steady_agent_skips_versions_that_came_within_an_episode() -> None:
    agent = make_agent(STEADY)
    agent.handle(observation(STEADY, 1, steps=0, explore=True))
    for version in (2, 3, 4):
        agent.handle(dense(make_flat(RULES.spec, seed=version), version))
        agent.handle(observation(STEADY, version, steps=version - 1, explore=True))
        assert agent.policy_version == 1
    agent.handle(observation(STEADY, 9, steps=0, episodes=1, explore=True))
    assert agent.policy_version == 4


def test_in_pieces_an_agent_takes_up_a_policy_after_the_last_step_of_a_rollout_alone() -> None:
    rules = replace(STEADY, in_pieces=True)
    agent = make_agent(rules)
    agent.handle(observation(rules, 1, steps=0, explore=True))
    agent.handle(NEWER)
    agent.handle(observation(rules, 2, steps=0, episodes=1, explore=True))
    assert agent.policy_version == 1, "all episodes begin, within a rollout"
    last = observation(rules, 3, steps=1, episodes=1, explore=True)
    agent.handle(replace(last, flags=last.flags | wire.LAST))
    assert agent.policy_version == 1
    agent.handle(observation(rules, 4, steps=2, episodes=2, explore=True))
    assert agent.policy_version == 2


# --- a version that is due ------------------------------------------------------------------------


def answers(commands: list[Command]) -> list[int]:
    """Ticks of the actions among them."""
    return [c.packet.tick for c in commands if isinstance(c, ToWorld)]


def test_a_step_waits_for_the_version_that_is_due() -> None:
    agent = make_agent(STEADY)
    agent.handle(observation(STEADY, 1, steps=0, explore=True))
    agent.handle(wire.PolicyDue(2))
    begins = observation(STEADY, 2, steps=0, episodes=1, explore=True)
    assert agent.handle(begins) == []
    assert agent.handle(begins) == [], "the world asks again over a new connection"
    assert agent.policy_version == 1
    assert answers(agent.handle(NEWER)) == [2]
    assert agent.policy_version == 2
    assert answers(agent.handle(observation(STEADY, 3, steps=1, episodes=1, explore=True))) == [3]


def test_a_version_that_is_here_is_not_waited_for() -> None:
    agent = make_agent(STEADY)
    agent.handle(observation(STEADY, 1, steps=0, explore=True))
    agent.handle(NEWER)
    agent.handle(wire.PolicyDue(2))
    assert answers(agent.handle(observation(STEADY, 2, steps=0, explore=True))) == [2]


def test_an_agent_goes_on_without_a_version_when_the_world_has_gone_on() -> None:
    agent = make_agent(STEADY)
    agent.handle(observation(STEADY, 1, steps=0, explore=True))
    agent.handle(wire.PolicyDue(5))
    assert agent.handle(observation(STEADY, 2, steps=0, episodes=1, explore=True)) == []
    for tick in (3, 4):
        steps = tick - 2
        seen = observation(STEADY, tick, steps=steps, episodes=1, explore=True)
        assert answers(agent.handle(seen)) == [tick]
    assert answers(agent.handle(dense(make_flat(RULES.spec, seed=5), 5))) == [], "no second answer"
