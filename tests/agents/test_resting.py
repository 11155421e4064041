"""A step in which an agent takes part in no copy costs next to nothing, and changes nothing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agents.comm.gating import Gating
from agents.comm.sops import ScoredEdges
from agents.core import AgentCore
from agents.events import Command, SendBeacon, SendMessage, ToLearner, ToWorld
from agents.rules import AgentRules
from configs.schema import GateMode
from runtime.net import wire
from tests.agents_helpers import (
    acted,
    beacon,
    make_agent,
    make_flat,
    make_rules,
    observation,
    out_neighbour,
    reasons_of,
    trajectories_of,
)

LIVES = [True, True, False, False, False, True, True, False, True]
"""Of a life in three episodes, which begin at FIRST."""
FIRST = {0: 0, 5: 1, 8: 2}


def asks_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for gating in (Gating, ScoredEdges):
        monkeypatch.setattr(gating, "pass_over", lambda _self, _moment: False)  # type: ignore[reportUnknownLambdaType]  # stands for a method


def life(agent: AgentCore, rules: AgentRules, lives: Sequence[bool] = LIVES) -> list[Any]:
    """What an agent says and does, to the byte; a neighbour's beacon comes in every step."""
    said: list[Any] = []
    episode = step = 0
    for tick, alive in enumerate(lives, start=1):
        if tick - 1 in FIRST:
            episode, step = FIRST[tick - 1], 0
        now = observation(
            rules, tick, steps=step, episodes=episode, alive=alive, explore=True, epsilon=0.5
        )
        commands = agent.handle(now)
        step += 1
        assert reasons_of(agent.handle(beacon(rules, out_neighbour(0), tick))) == []
        said.append([as_bytes(command) for command in commands])
    said.append(str(agent.tally))
    return said


def as_bytes(command: Command) -> Any:
    match command:
        case ToWorld() | ToLearner():
            return wire.encode(command.packet)
        case SendMessage() | SendBeacon():
            return type(command), command.tick, command.copies.tobytes(), command.rows.tobytes()
        case _:
            return command


@pytest.mark.parametrize("mode", ["learned", "open", "closed"])
@pytest.mark.parametrize("copies", [1, 3])
def test_what_an_agent_does_is_the_same_whether_it_rests_or_not(
    monkeypatch: pytest.MonkeyPatch, mode: GateMode, copies: int
) -> None:
    rules = make_rules(mode=mode, copies=copies, record_q=True)
    flat = make_flat(rules.spec)
    rested = life(make_agent(rules, flat=flat), rules)
    with monkeypatch.context() as patch:
        asks_every_time(patch)
        assert life(make_agent(rules, flat=flat), rules) == rested


def test_an_agent_that_rests_computes_no_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = make_rules()
    agent = make_agent(rules)
    agent.handle(observation(rules, 1))
    with monkeypatch.context() as patch:
        patch.setattr(agent, "_policy", None)
        action = acted(agent.handle(observation(rules, 2, alive=False)))
    assert (action.tick, action.out_masks.tolist(), action.actions.tolist()) == (2, [0], [0])


def test_an_agent_ships_what_it_has_recorded_before_it_rests() -> None:
    rules = make_rules(ships="all")
    agent = make_agent(rules)
    agent.handle(observation(rules, 1))
    (trajectory,) = trajectories_of(agent.handle(observation(rules, 2, alive=False)))
    assert len(trajectory.actions) == 1


def test_an_agent_that_may_live_again_in_an_episode_does_not_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rules = replace(make_rules(), comes_back=True)
    agent = make_agent(rules)
    agent.handle(observation(rules, 1))
    monkeypatch.setattr(agent, "_rest", None)
    acted(agent.handle(observation(rules, 2, alive=False)))


class Counting(Gating):
    """Somebody else's, which remembers something."""

    asked = 0

    def choose(self, version: Any, moment: Any) -> Any:
        self.asked += 1
        return super().choose(version, moment)


def test_a_gating_that_says_nothing_about_resting_is_asked_in_every_step() -> None:
    rules = make_rules(comm="none")
    agent = make_agent(rules)
    gating = Counting(agent._gating._site)  # type: ignore[reportPrivateUsage]  # no scheme has it
    agent._gating = gating  # type: ignore[reportPrivateUsage]
    for tick, alive in enumerate((True, False, False), start=1):
        agent.handle(observation(rules, tick, alive=alive))
    assert gating.asked == 3


def test_what_has_come_meanwhile_is_taken_now_and_then() -> None:
    rules = make_rules()
    agent = make_agent(rules)
    agent.handle(observation(rules, 1, steps=1))
    assert not agent.has_unheard
    listens: list[bool] = []
    for tick in range(2, 18):
        agent.handle(observation(rules, tick, steps=tick, alive=False))
        listens.append(agent.has_unheard)
    assert np.flatnonzero(listens).tolist() == [0, 1, 3, 7, 11, 15]
