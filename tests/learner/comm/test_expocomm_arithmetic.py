"""Both ExpoComm schemes, agent by agent in numpy and over time in torch, against a plain loop."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from agents.comm import expocomm_one_peer as one_peer
from agents.comm import expocomm_static as static
from agents.policy import FloatArray
from learner.comm.expocomm_one_peer import one_peer_sequence
from learner.comm.expocomm_static import released_sequence
from learner.comm.messages import message_sequence
from tests.learner.comm.expocomm_oracle import one_peer_messages, static_messages

TIME, AGENTS, HIDDEN, MESSAGE, ATTENTION = 9, 6, 8, 7, 3
OFFSETS = 3

Tensors = dict[str, FloatArray]


def draw(layout: static.Layout, seed: int = 0) -> Tensors:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0.0, 0.5, shape).astype(np.float32) for name, shape in layout}


def in_float64(tensors: Tensors) -> dict[str, NDArray[np.float64]]:
    return {name: tensor.astype(np.float64) for name, tensor in tensors.items()}


def hidden_states(seed: int = 1) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(TIME, AGENTS, HIDDEN)).astype(np.float32)


def heard_edges(seed: int = 2) -> NDArray[np.bool_]:
    """[T, N, K] some messages arrive and some do not; in step 0 nobody has spoken."""
    heard_TNK = np.random.default_rng(seed).random((TIME, AGENTS, OFFSETS)) < 0.6
    heard_TNK[0] = False
    return heard_TNK


def wire(message_NM: FloatArray) -> FloatArray:
    return message_NM.astype(np.float16).astype(np.float32)


def static_in_numpy(
    tensors: Tensors, options: static.Options, hidden_TNH: FloatArray
) -> FloatArray:
    step = static.StaticStep(tensors, HIDDEN, options)
    sent_NM = np.zeros((AGENTS, MESSAGE), dtype=np.float32)
    messages: list[FloatArray] = []
    for hidden_NH, heard_NK in zip(hidden_TNH, heard_edges(), strict=True):
        peers = [np.roll(sent_NM, 1 << k, axis=0) for k in range(OFFSETS)]
        asks_NM, *own = (hidden_NH @ weight + bias for weight, bias in step.reads)
        present_NJ = np.pad(heard_NK, ((0, 0), (1, 0)), constant_values=True)
        tokens_NJM = np.stack([sent_NM, *peers], axis=1)
        messages.append(step.message(asks_NM, own[0] if own else None, tokens_NJM, present_NJ))
        sent_NM = wire(messages[-1])
    return np.stack(messages)


def one_peer_in_numpy(
    tensors: Tensors, options: one_peer.Options, hidden_TNH: FloatArray
) -> FloatArray:
    step = one_peer.OnePeerStep(tensors)
    memory_NM = np.zeros((AGENTS, MESSAGE), dtype=np.float32)
    messages: list[FloatArray] = []
    weight, bias = step.reads
    for t, peers_N in enumerate(peers_of(options)):
        own_NM = hidden_TNH[t, :, : len(weight)] @ weight + bias
        memory_NM = step.message(own_NM, wire(memory_NM)[peers_N], memory_NM)
        messages.append(memory_NM)
    return np.stack(messages)


def peers_of(options: one_peer.Options) -> NDArray[np.int64]:
    """[T, N] whose message is heard."""
    agents_N, heard_TNK = np.arange(AGENTS), heard_edges()
    peers: list[NDArray[np.int64]] = []
    for t, slot in enumerate(one_peer.slots(np.arange(TIME), OFFSETS, options).tolist()):
        peers_N = agents_N
        if slot != one_peer.OWN:
            there_N = heard_TNK[t, :, slot]
            peers_N = np.where(there_N, (agents_N - (1 << slot)) % AGENTS, agents_N)
        peers.append(peers_N)
    return np.stack(peers)


def static_in_torch(
    tensors: Tensors, options: static.Options, hidden_TNH: FloatArray
) -> FloatArray:
    p = {name: torch.tensor(tensor) for name, tensor in tensors.items()}
    hidden_TBNH = torch.tensor(hidden_TNH).unsqueeze(1)
    asked = hidden_TBNH @ p["query.weight"].t() + p["query.bias"]
    queries = asked @ p["key.weight"] / ATTENTION**0.5
    heard = torch.tensor(heard_edges()).unsqueeze(1).float()
    start = torch.zeros(1, AGENTS, MESSAGE)
    if options.own_state:
        own, context = p["message.weight"][:, :HIDDEN], p["message.weight"][:, HIDDEN:]
        part = hidden_TBNH @ own.t() + p["message.bias"] + context @ p["value.bias"]
        merged = (context @ p["value.weight"]).t()
        messages, _ = message_sequence(part, queries, heard, start, merged, half=True)
    else:
        messages, _ = released_sequence(
            queries, heard, start, p["value.weight"], p["value.bias"], half=True
        )
    return messages[:, 0].numpy()


def one_peer_in_torch(
    tensors: Tensors, options: one_peer.Options, hidden_TNH: FloatArray
) -> FloatArray:
    p = {name: torch.tensor(tensor) for name, tensor in tensors.items()}
    own, heard = p["mix.weight"][:, :-MESSAGE], p["mix.weight"][:, -MESSAGE:]
    part = torch.tensor(hidden_TNH[..., : own.shape[1]]) @ own.t() + p["mix.bias"]
    cell = torch.nn.GRUCell(MESSAGE, MESSAGE)
    cell.load_state_dict({name: p[f"memory.{name}"] for name in cell.state_dict()})
    start = torch.zeros(1, AGENTS, MESSAGE)
    peers = torch.tensor(peers_of(options)).unsqueeze(1)
    with torch.no_grad():
        messages, _ = one_peer_sequence(
            part.unsqueeze(1), peers, start, start, heard, cell, half=True
        )
    return messages[:, 0].numpy()


@pytest.mark.parametrize("own_state", [False, True])
def test_static_agents_and_unroll_say_what_a_plain_loop_says(own_state: bool) -> None:
    options = static.Options(own_state=own_state)
    tensors = draw(static.layout(HIDDEN, MESSAGE, ATTENTION, options))
    hidden_TNH = hidden_states()
    expected = static_messages(in_float64(tensors), hidden_TNH.astype(np.float64), heard_edges())
    scale = max(1.0, float(np.abs(expected).max()))
    for compute in (static_in_numpy, static_in_torch):
        # A float16 entry may tip to the next number between float32 and float64.
        assert_allclose(compute(tensors, options, hidden_TNH) / scale, expected / scale, atol=1e-3)
    agents, unrolled = (
        compute(tensors, options, hidden_TNH) / scale
        for compute in (static_in_numpy, static_in_torch)
    )
    assert_allclose(agents, unrolled, atol=1e-5)


@pytest.mark.parametrize("self_slot", [False, True])
@pytest.mark.parametrize("own_state", [False, True])
def test_one_peer_agents_and_unroll_say_what_a_plain_loop_says(
    own_state: bool, self_slot: bool
) -> None:
    options = one_peer.Options(own_state=own_state, self_slot=self_slot)
    tensors = draw(one_peer.layout(HIDDEN, MESSAGE, options))
    hidden_TNH = hidden_states()
    expected = one_peer_messages(
        in_float64(tensors), hidden_TNH.astype(np.float64), heard_edges(), self_slot=self_slot
    )
    for compute in (one_peer_in_numpy, one_peer_in_torch):
        assert_allclose(compute(tensors, options, hidden_TNH), expected, atol=1e-3)
    agents, unrolled = (
        compute(tensors, options, hidden_TNH) for compute in (one_peer_in_numpy, one_peer_in_torch)
    )
    assert_allclose(agents, unrolled, atol=1e-5)


def test_static_as_released_transmits_nothing() -> None:
    options = static.Options()
    tensors = draw(static.layout(HIDDEN, MESSAGE, ATTENTION, options))
    one, other = (static_in_numpy(tensors, options, hidden_states(seed)) for seed in (1, 2))
    assert_allclose(one, other, rtol=1e-6)
    assert_allclose(one, np.broadcast_to(one[:, :1], one.shape), rtol=1e-6)
    assert np.abs(one[1] - one[0]).max() > 0.1, "a constant of the step, and not zero"


@pytest.mark.parametrize("scheme", ["static", "one-peer"])
def test_with_own_state_what_one_observes_reaches_the_others(scheme: str) -> None:
    hidden_TNH = hidden_states()
    changed_TNH = hidden_TNH.copy()
    changed_TNH[0, 0] += 1.0
    if scheme == "static":
        options = static.Options(own_state=True)
        tensors = draw(static.layout(HIDDEN, MESSAGE, ATTENTION, options))
        first, second = (static_in_numpy(tensors, options, h) for h in (hidden_TNH, changed_TNH))
    else:
        released = one_peer.Options()
        tensors = draw(one_peer.layout(HIDDEN, MESSAGE, released))
        first, second = (one_peer_in_numpy(tensors, released, h) for h in (hidden_TNH, changed_TNH))
    reached_TN = (first != second).any(axis=-1)
    assert reached_TN[0].tolist() == [True] + [False] * (AGENTS - 1)
    assert reached_TN[-1].sum() > 1


def test_slots_are_taken_in_turn_and_the_release_begins_with_the_agent_itself() -> None:
    steps = np.arange(8)
    released, paper = one_peer.Options(), one_peer.Options(self_slot=False)
    assert_array_equal(one_peer.slots(steps, 3, released), [-1, 0, 1, 2, -1, 0, 1, 2])
    assert_array_equal(one_peer.slots(steps, 3, paper), [0, 1, 2, 0, 1, 2, 0, 1])


def test_the_gradient_of_both_reaches_the_state_of_who_was_heard_earlier() -> None:
    own = torch.zeros(4, 1, 2, 3, requires_grad=True)
    start = torch.zeros(1, 2, 3)
    peers = torch.tensor([[[0, 1]], [[1, 0]], [[0, 1]], [[0, 1]]])
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
    messages, _ = one_peer_sequence(
        own + 1.0, peers, start, start, torch.eye(3), torch.nn.GRUCell(3, 3), half=True
    )
    (gradient,) = torch.autograd.grad(messages[3, 0, 0].sum(), own)
    assert gradient[0, 0, 1].abs().sum() > 0, "agent 1 spoke in step 0 and was heard in step 1"
    assert gradient[1, 0, 1].abs().sum() == 0, "what it said afterwards was not"
