"""NVIF's flow of information against cases computed by hand, in numpy and in torch."""

from dataclasses import replace
from math import sqrt, tanh

import numpy as np
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor

from agents.comm.base import Heard
from agents.comm.nvif import Nvif
from agents.policy import PolicySpec, initialise, views
from agents.version import PolicyVersion
from learner.comm.carry import Carry, UnrollInput
from learner.comm.edges import at_senders
from learner.comm.gates import GateRule
from learner.comm.nvif import NvifTwin, flow_weights
from learner.comm.unroll import unroll
from learner.network import PolicyNetwork
from runtime.net.topology import complete
from tests.learner_helpers import array, make_spec

OFFSETS = complete(3).offsets
PATH = torch.tensor([[False, True, False], [True, False, True], [False, True, False]])
"""0 - 1 - 2"""
ROOT_6 = sqrt(6.0)
HAND = {
    "code_hidden.weight": 1.0,
    "code_hidden.bias": 0.0,
    "code.weight": 1.0,
    "code.bias": 0.0,
    "flow_code.weight": 2.0,
    "flow_state.weight": 1.0,
    # Reset and update gates are halves, and the candidate is tanh(phi): h' = (tanh(phi) + psi) / 2.
    "state.weight_ih": np.array([[0.0], [0.0], [1.0]]),
    "state.weight_hh": 0.0,
    "state.bias_ih": 0.0,
    "state.bias_hh": 0.0,
    "latent.weight": 3.0,
    "latent.bias": 1.0,
}


def hand_spec() -> PolicySpec:
    return replace(
        make_spec(message_dtype="float32"),
        observation_dim=1,
        message=3,
        scheme="nvif",
        scheme_options="encoder=1,code=1,flow=1,state=1,latent=1,neighbours=true",
    )


def hand_network() -> PolicyNetwork:
    spec = hand_spec()
    flat = initialise(spec, np.random.default_rng(0))
    for name, number in HAND.items():
        views(spec, flat)[name][...] = number
    network = PolicyNetwork(spec, 3)
    network.load_flat(flat)
    return network


def by_offset(pairs_TBNN: Tensor) -> Tensor:
    """[T, B, N, K] of out-edges."""
    agents = torch.arange(3)
    return torch.stack([pairs_TBNN[..., agents, (agents + k) % 3] for k in OFFSETS], dim=-1)


def window_of(observations_TN: list[list[float]]) -> UnrollInput:
    seen = torch.tensor(observations_TN, dtype=torch.float32)[:, None, :, None]
    alive = torch.ones(seen.shape[:3], dtype=torch.bool)
    neighbours = by_offset(PATH.expand(len(seen), 1, 3, 3))
    return UnrollInput(seen, alive, neighbours_TBNK=neighbours)


def test_weights_are_those_of_a_graph_drawn_by_hand() -> None:
    heard = at_senders(by_offset(PATH.expand(1, 1, 3, 3)).float(), OFFSETS)
    degrees = torch.tensor([2.0, 3.0, 2.0]).view(1, 1, 3, 1)
    found = flow_weights(heard, degrees)[0, 0]
    by_hand = [[1 / 2, 1 / ROOT_6, 0], [1 / ROOT_6, 1 / 3, 1 / ROOT_6], [0, 1 / ROOT_6, 1 / 2]]
    assert_allclose(found, by_hand, rtol=1e-6)


def test_what_nobody_has_said_counts_nothing() -> None:
    heard = at_senders(by_offset(PATH.expand(1, 1, 3, 3)).float(), OFFSETS)
    assert not flow_weights(heard, torch.zeros(1, 1, 3, 1)).any()


def test_three_steps_of_the_flow_are_those_computed_by_hand() -> None:
    network = hand_network()
    output = unroll(
        network, window_of([[1, 2, 3], [0, 0, 0], [0, 0, 0]]), GateRule("causal", "open")
    )
    codes, states, degrees = output.messages_TBNM[:, 0].unbind(-1)
    assert_array_equal(array(codes), [[1, 2, 3], [0, 0, 0], [0, 0, 0]])
    assert_array_equal(array(degrees), [[2, 3, 2]] * 3)
    # Step 0: nobody has said anything. Step 1: phi alone. Step 2: psi alone.
    sums = 1 / 2 + 2 / ROOT_6, 1 / ROOT_6 + 2 / 3 + 3 / ROOT_6, 2 / ROOT_6 + 3 / 2
    second = [0.5 * tanh(2.0 * x) for x in sums]
    third = [
        0.5 * (second[0] / 2 + second[1] / ROOT_6),
        0.5 * (second[0] / ROOT_6 + second[1] / 3 + second[2] / ROOT_6),
        0.5 * (second[1] / ROOT_6 + second[2] / 2),
    ]
    assert_allclose(array(states), [[0, 0, 0], second, third], rtol=1e-6)


def test_the_head_reads_the_mean_of_the_latent_state() -> None:
    network = hand_network()
    window, rule = window_of([[1, 2, 3], [0, 0, 0]]), GateRule("causal", "open")
    said = network.scheme((), window, Carry.begin(network, 1), rule)
    assert said.context_TBNC is not None
    states = array(said.messages_TBNM[..., 1])
    assert_allclose(array(said.context_TBNC[..., 0]), 3.0 * states + 1.0, rtol=1e-6)


def test_an_agent_makes_its_message_of_what_its_neighbours_said() -> None:
    """Agent 1 of the path in its second step, in numpy."""
    network = hand_network()
    scheme = PolicyVersion(hand_spec(), network.to_flat(), 3).scheme
    assert isinstance(scheme, Nvif)
    own, left, right = [2.0, 0.0, 3.0], [1.0, 0.5, 2.0], [3.0, 0.0, 2.0]
    heard = Heard(
        own_EM=np.array([own], dtype=np.float32),
        tokens_ETM=np.array([[own, left, right]], dtype=np.float32),
        present_ET=np.ones((1, 3), dtype=np.bool_),
        steps_E=np.ones(1, dtype=np.uint16),
        memory_EX=np.zeros((1, 0), dtype=np.float32),
        observation_ED=np.array([[-4.0]], dtype=np.float32),
        open_EK=np.array([[True, True]]),
    )
    parts = np.zeros((1, 0), dtype=np.float32)
    message = scheme.message(parts, heard)
    phi = 2.0 * (2 / 3 + 1 / ROOT_6 + 3 / ROOT_6)
    state = 0.5 * (tanh(phi) + 0.5 / ROOT_6)
    assert_allclose(message, [[0.0, state, 3.0]], rtol=1e-6)
    assert_allclose(scheme.context(parts, heard, message), [[3.0 * state + 1.0]], rtol=1e-6)

    heard.present_ET = np.array([[True, False, True]])
    alone = 2.0 * (2 / 3 + 3 / ROOT_6)
    assert_allclose(scheme.message(parts, heard)[0, 1], 0.5 * tanh(alone), rtol=1e-6)


def test_everybody_is_a_neighbour_in_the_papers_fully_vif() -> None:
    spec = replace(hand_spec(), scheme_options="encoder=1,code=1,flow=1,state=1,latent=1")
    network = PolicyNetwork(spec, 3)
    seen, alive = torch.ones(2, 1, 3, 1), torch.ones(2, 1, 3, dtype=torch.bool)
    output = unroll(network, UnrollInput(seen, alive), GateRule("causal", "open"))
    assert_array_equal(array(output.messages_TBNM[..., -1]), np.full((2, 1, 3), 3.0))


def test_frozen_tensors_cost_no_gradient_and_the_head_learns() -> None:
    network = hand_network()
    assert isinstance(network.scheme, NvifTwin)
    for name, _ in Nvif.pretrained_layout(hand_spec()):
        network.tensors()[name].requires_grad_(False)
    output = unroll(network, window_of([[1, 2, 3], [4, 5, 6]]), GateRule("causal", "open"))
    assert not output.messages_TBNM.requires_grad
    torch.autograd.backward(output.q_TBNA.square().sum())
    assert all(
        p.grad is None for layer in network.scheme.layers.values() for p in layer.parameters()
    )
    assert network.q_hidden.weight.grad is not None
