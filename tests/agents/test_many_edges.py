"""An agent with more edges than a number has bits: masks are rows of numbers."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from agents.core import AgentCore
from agents.parameters import ParameterStore
from agents.policy import PolicySpec, initialise
from agents.process.body_link import as_observation
from agents.rules import AgentRules
from configs.schema import NetworkConfig
from runtime.net import wire
from tests.agents_helpers import acted, make_rules, message, messages_of, observation

AGENTS = 70
PEERS = AGENTS - 1
NETWORK = NetworkConfig(hidden=8, message=6, attention=3, message_dtype="float32")


def agent_of(rules: AgentRules) -> AgentCore:
    flat = initialise(rules.spec, np.random.default_rng(0))
    return AgentCore(0, rules, ParameterStore(flat, 1), np.random.default_rng(0))


@pytest.fixture
def rules() -> AgentRules:
    spec = PolicySpec.of(NETWORK, 5, 4, comm="full")
    return make_rules(num_agents=AGENTS, spec=spec, comm="full")


def told(rules: AgentRules, tick: int, heard: list[int]) -> wire.Observation:
    """Everybody took part in the last step, and these in-edges carry a message."""
    bits = rules.graph.edge_bits
    flags = np.zeros((1, PEERS), dtype=np.bool_)
    flags[0, heard] = True
    now = observation(rules, tick)
    every = bits.pack(np.ones_like(flags))
    return replace(now, in_masks=bits.pack(flags), peer_masks=every, beacon_masks=bits.zeros(1))


def test_it_speaks_to_everybody_and_waits_for_whom_the_mask_names(rules: AgentRules) -> None:
    agent, bits = agent_of(rules), rules.graph.edge_bits
    first = agent.handle(told(rules, 1, []))
    (said,) = messages_of(first)
    assert tuple(said.edges) == tuple(range(PEERS))
    assert_array_equal(acted(first).out_masks, bits.every[None])
    assert agent.tally.edges_open == PEERS
    assert agent.handle(told(rules, 2, [3, 63, 64, 68])) == []
    senders = [rules.graph.in_neighbours(0)[k] for k in (64, 3, 68)]
    for sender in senders:
        assert agent.handle(message(rules, sender, 1)) == []
    acted(agent.handle(message(rules, rules.graph.in_neighbours(0)[63], 1)))


def test_masks_of_another_width_are_refused(rules: AgentRules) -> None:
    agent = agent_of(rules)
    narrow = observation(rules, 1, peers=1)
    assert [type(command).__name__ for command in agent.handle(narrow)] == ["Dropped"]
    acted(agent.handle(told(rules, 2, [])))


def test_a_deployed_agent_has_them_too(rules: AgentRules) -> None:
    agent = agent_of(replace(rules, realtime=True, max_message_age_steps=2))
    row = np.zeros(rules.spec.observation_dim, dtype=np.float16)
    packet = wire.BodyObservation(1, wire.ALIVE | wire.FIRST, 0, row)
    acted(agent.handle(as_observation(packet, 1, 0, rules.graph.edge_bits)))
