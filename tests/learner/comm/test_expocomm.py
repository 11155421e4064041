"""Both ExpoComm schemes over time against a plain loop, and what of the release is known of them.

That agents do what the unroll does is in tests/test_scheme_parity.py.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor

from agents.policy import PolicySpec, initialise, views
from learner.comm.gates import GateRule
from learner.comm.unroll import UnrollInput, UnrollOutput, unroll
from learner.network import PolicyNetwork
from tests.learner.comm.expocomm_oracle import Episode, one_peer_messages, static_messages
from tests.learner_helpers import array, make_network, make_spec, make_window

AGENTS = 6
"""Three offsets, and no power of two."""
STATIC = ("expocomm-static", "")
STATIC_OWN = ("expocomm-static", "own_state=true")
ONE_PEER = ("expocomm-one-peer", "")
ONE_PEER_PAPER = ("expocomm-one-peer", "self_slot=false")
ONE_PEER_DEAF = ("expocomm-one-peer", "own_state=false")
RULE = GateRule("causal", "open")


def spec_of(scheme: tuple[str, str]) -> PolicySpec:
    return replace(make_spec(), scheme=scheme[0], scheme_options=scheme[1])


def network_of(spec: PolicySpec) -> PolicyNetwork:
    flat = initialise(spec, np.random.default_rng(0)) * np.float32(2.0)
    return make_network(spec, AGENTS, flat)


def play(scheme: tuple[str, str], observations_TBND: Tensor) -> UnrollOutput:
    alive_TBN = torch.ones(observations_TBND.shape[:-1], dtype=torch.bool)
    with torch.no_grad():
        return unroll(network_of(spec_of(scheme)), UnrollInput(observations_TBND, alive_TBN), RULE)


def observations(seed: int = 0, time: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((time, 1, AGENTS, 5), generator=generator)


@pytest.mark.parametrize(
    "scheme", [STATIC, STATIC_OWN, ONE_PEER, ONE_PEER_PAPER, ONE_PEER_DEAF], ids=" ".join
)
def test_messages_are_those_of_a_plain_loop_over_agents(scheme: tuple[str, str]) -> None:
    spec = spec_of(scheme)
    network = network_of(spec)
    window = make_window(spec, time=9, num_agents=AGENTS, deaths=True)
    assert not window.alive_TBN.all()
    p = {name: view.astype(np.float64) for name, view in views(spec, network.to_flat()).items()}
    with torch.no_grad():
        messages_TBNM = array(unroll(network, window, RULE).messages_TBNM)
        hidden_TBNH = network.recur(window.observations_TBND, torch.zeros(3, AGENTS, spec.hidden))
    for b in range(messages_TBNM.shape[1]):
        episode = Episode(array(hidden_TBNH[:, b].double()), array(window.alive_TBN[:, b]))
        if scheme[0] == "expocomm-static":
            expected = static_messages(p, episode)
        else:
            expected = one_peer_messages(p, episode, self_slot=scheme != ONE_PEER_PAPER)
        scale = max(1.0, float(np.abs(expected).max()))
        # An entry may tip to the next float16 number between float32 and float64.
        assert_allclose(messages_TBNM[:, b] / scale, expected / scale, atol=1e-3)


@pytest.mark.parametrize("scheme", [STATIC, ONE_PEER_DEAF], ids=" ".join)
def test_without_own_state_all_say_the_same_whatever_they_observe(scheme: tuple[str, str]) -> None:
    """The release's static graph transmits nothing (and the control of one-peer likewise)."""
    one, other = (array(play(scheme, observations(seed)).messages_TBNM[:, 0]) for seed in (1, 2))
    assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert_allclose(one, np.broadcast_to(one[:, :1], one.shape), rtol=1e-4, atol=1e-6)
    assert np.abs(one[1] - one[0]).max() > 1e-3, "a constant of the step, and not zero"


def hears_of_agent_0(scheme: tuple[str, str], time: int) -> list[list[int]]:
    """By step the agents whose message depends on what agent 0 saw in step 0."""
    seen = observations(time=time)
    changed = seen.clone()
    changed[0, 0, 0] += 1.0
    first, second = (array(play(scheme, x).messages_TBNM[:, 0]) for x in (seen, changed))
    return [np.flatnonzero(row).tolist() for row in (first != second).any(axis=-1)]


def test_on_the_static_graph_news_travel_over_every_edge_in_every_step() -> None:
    reached = hears_of_agent_0(STATIC_OWN, 3)
    assert reached[:3] == [[0], [0, 1, 2, 4], [0, 1, 2, 3, 4, 5]]


def test_on_the_one_peer_graph_news_travel_over_one_edge_in_a_step() -> None:
    # The agent itself, then offsets 1, 2 and 4 of six agents.
    assert hears_of_agent_0(ONE_PEER, 4) == [[0], [0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5]]
    # Without a slot for itself step 1 hears over offset 2, and step 2 over offset 4.
    assert hears_of_agent_0(ONE_PEER_PAPER, 3) == [[0], [0, 2], [0, 2, 4]]


def test_one_edge_is_open_in_a_step_and_none_before_the_slot_that_is_the_agents_own() -> None:
    gates_TNK = array(play(ONE_PEER, observations()).gates_TBNK[:, 0])
    opened = [[float(g) for g in row] for row in gates_TNK[:5, 0]]
    assert opened == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert_array_equal(gates_TNK, np.broadcast_to(gates_TNK[:, :1], gates_TNK.shape))


def test_a_window_from_the_middle_of_an_episode_takes_the_slots_of_its_steps() -> None:
    network = network_of(spec_of(ONE_PEER))
    seen = observations().expand(-1, 3, -1, -1)
    alive = torch.ones(seen.shape[:-1], dtype=torch.bool)
    with torch.no_grad():
        window = UnrollInput(seen, alive, start_B=torch.tensor([0, 1, 6]))
        gates_TBNK = unroll(network, window, RULE).gates_TBNK
    cycle = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    for b, start in enumerate((0, 1, 6)):
        expected = [cycle[(start + t) % 4] for t in range(9)]
        assert_array_equal(array(gates_TBNK[:, b, 0]), expected)


@pytest.mark.parametrize("scheme", [STATIC_OWN, ONE_PEER], ids=" ".join)
def test_the_gradient_goes_back_to_the_agent_that_was_heard(scheme: tuple[str, str]) -> None:
    network = network_of(spec_of(scheme))
    seen = observations().requires_grad_()
    alive = torch.ones(seen.shape[:-1], dtype=torch.bool)
    messages_TBNM = unroll(network, UnrollInput(seen, alive), RULE).messages_TBNM
    (gradient,) = torch.autograd.grad(messages_TBNM[1, 0, 1].sum(), seen)
    # Agent 1 hears agent 0 over offset 1 in step 1; that says what it saw in step 0.
    assert gradient[0, 0, 0].abs().sum() > 0
    assert gradient[1, 0, 0].abs().sum() == 0
    # And agent 3 over offset 4, on the static graph alone.
    assert (gradient[0, 0, 3].abs().sum() > 0) == (scheme == STATIC_OWN)
