"""The unroll against a loop over agents that knows nothing of rotations, batches or torch."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from agents.policy import PolicySpec, views
from agents.rounding import beacon_from_wire, beacon_to_wire, message_from_wire, message_to_wire
from agents.version import PolicyVersion
from configs.arrays import FloatArray
from configs.schema import BeaconDtype, GateMode, GateTiming, MessageDtype
from learner.comm.gates import GateRule
from learner.comm.unroll import Carry, UnrollInput, unroll
from runtime.net.topology import in_neighbours, offsets, out_neighbours
from tests.agents_helpers import sops
from tests.learner_helpers import array, make_flat, make_network, make_spec, make_window

Vector = NDArray[np.float64]

TIMINGS: tuple[GateTiming, ...] = ("causal", "paper")


def sigmoid(x: Vector) -> Vector:
    return 1.0 / (1.0 + np.exp(-x))


class NaiveAgent:
    """One agent of one episode, step by step, in float64."""

    def __init__(self, spec: PolicySpec, flat: FloatArray, num_agents: int) -> None:
        self.spec = spec
        self.p: Mapping[str, Vector] = {
            name: view.astype(np.float64) for name, view in views(spec, flat).items()
        }
        self.h = np.zeros(spec.hidden)
        self.z = np.zeros(spec.beacon)
        self.sent = np.zeros(spec.message)
        self.num_agents = num_agents

    def linear(self, name: str, x: Vector) -> Vector:
        product = self.p[f"{name}.weight"] @ x
        return product + self.p[f"{name}.bias"] if f"{name}.bias" in self.p else product

    def observe(self, observation: Vector) -> None:
        p, size = self.p, self.spec.hidden
        x = np.maximum(self.linear("encoder", observation), 0.0)
        i = p["gru.weight_ih"] @ x + p["gru.bias_ih"]
        j = p["gru.weight_hh"] @ self.h + p["gru.bias_hh"]
        r = sigmoid(i[:size] + j[:size])
        u = sigmoid(i[size : 2 * size] + j[size : 2 * size])
        n = np.tanh(i[2 * size :] + r * j[2 * size :])
        self.h = (1 - u) * n + u * self.h
        z = np.tanh(self.linear("beacon", self.h))
        self.z = np.rint(z * 127.0) / 127.0 if self.spec.beacon_dtype == "int8" else z

    def score(self, z_receiver: Vector, k: int) -> float:
        x = 2.0**k / self.num_agents
        features = np.array([k / 8, x, np.sin(2 * np.pi * x), np.cos(2 * np.pi * x)])
        e = np.tanh(self.linear("edge", features))
        hidden = self.linear("scorer_hidden", np.concatenate((self.z, z_receiver, e)))
        return float(self.linear("scorer_out", np.maximum(hidden, 0.0))[0])

    def speak(self, heard: list[Vector]) -> tuple[Vector, Vector]:
        tokens = [self.sent, *heard]
        query = self.linear("query", self.h)
        logits = np.array([query @ self.linear("key", m) for m in tokens])
        logits /= np.sqrt(self.spec.attention)
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        context = sum(w * self.linear("value", m) for w, m in zip(weights, tokens, strict=True))
        message = np.tanh(self.linear("message", np.concatenate((self.h, context))))
        hidden = self.linear("q_hidden", np.concatenate((self.h, message)))
        q = self.linear("q_out", np.maximum(hidden, 0.0))
        half = self.spec.message_dtype == "float16"
        self.sent = message.astype(np.float16).astype(np.float64) if half else message
        return message, q


def naive_unroll(
    spec: PolicySpec,
    flat: FloatArray,
    observations_TND: Vector,
    alive_TN: NDArray[np.bool_],
    timing: GateTiming,
    mode: GateMode,
) -> tuple[Vector, Vector, Vector]:
    """One episode: q [T, N, A], messages [T, N, M] and gates [T, N, K]."""
    time, n, _ = observations_TND.shape
    num_offsets = len(offsets(n))
    agents = [NaiveAgent(spec, flat, n) for _ in range(n)]
    q = np.zeros((time, n, spec.num_actions))
    messages = np.zeros((time, n, spec.message))
    gates = np.zeros((time, n, num_offsets))
    for t in range(time):
        alive = alive_TN[t]
        before = alive_TN[t - 1]
        old_beacons = [agent.z for agent in agents]
        for i, agent in enumerate(agents):
            agent.observe(observations_TND[t, i])
        for i, agent in enumerate(agents):
            for k, j in enumerate(out_neighbours(i, n)):
                if timing == "causal":
                    allowed = alive[i] and (t == 0 or before[j])
                    z = old_beacons[j]
                else:
                    allowed = t > 0 and alive[i] and before[i] and alive[j]
                    z = agents[j].z
                is_open = mode == "open" or (mode == "learned" and agent.score(z, k) > 0.0)
                gates[t, i, k] = allowed and is_open
        used = gates[t] if timing == "paper" else gates[t - 1] if t > 0 else np.zeros_like(gates[0])
        outbox = [agent.sent for agent in agents]
        for j, agent in enumerate(agents):
            heard = [outbox[i] for k, i in enumerate(in_neighbours(j, n)) if used[i, k]]
            messages[t, j], q[t, j] = agent.speak(heard)
    return q, messages, gates


@pytest.mark.parametrize("timing", TIMINGS)
@pytest.mark.parametrize("num_agents", [2, 3, 6, 9])
@pytest.mark.parametrize(
    ("message_dtype", "beacon_dtype"), [("float16", "int8"), ("float32", "float32")]
)
def test_unroll_equals_a_loop_over_agents_with_deaths(
    timing: GateTiming, num_agents: int, message_dtype: MessageDtype, beacon_dtype: BeaconDtype
) -> None:
    spec = make_spec(message_dtype=message_dtype, beacon_dtype=beacon_dtype)
    flat = make_flat(spec)
    window = make_window(spec, num_agents=num_agents)
    output = unroll(make_network(spec, num_agents, flat), window, GateRule(timing, "learned"))
    opened = array(output.gates_TBNK)[array(output.allowed_TBNK)]
    assert 0.1 < opened.mean() < 0.95  # the example decides something
    for b in range(window.alive_TBN.shape[1]):
        q, messages, gates = naive_unroll(
            spec,
            flat,
            array(window.observations_TBND)[:, b].astype(np.float64),
            array(window.alive_TBN)[:, b],
            timing,
            "learned",
        )
        assert_array_equal(array(output.gates_TBNK)[:, b], gates)
        # float32 against float64; a message on the edge between two float16 may fall either way.
        assert_allclose(array(output.messages_TBNM)[:, b], messages, atol=1e-3)
        assert_allclose(array(output.q_TBNA)[:, b], q, atol=2e-3)


@pytest.mark.parametrize("timing", TIMINGS)
@pytest.mark.parametrize("mode", ["open", "closed"])
def test_gates_that_are_always_open_or_closed(timing: GateTiming, mode: GateMode) -> None:
    spec = make_spec(message_dtype="float32")
    flat = make_flat(spec)
    window = make_window(spec)
    output = unroll(make_network(spec, 6, flat), window, GateRule(timing, mode))
    for b in range(window.alive_TBN.shape[1]):
        q, _, gates = naive_unroll(
            spec,
            flat,
            array(window.observations_TBND)[:, b].astype(np.float64),
            array(window.alive_TBN)[:, b],
            timing,
            mode,
        )
        assert_array_equal(array(output.gates_TBNK)[:, b], gates)
        assert_allclose(array(output.q_TBNA)[:, b], q, atol=1e-4)  # float32 against float64


@pytest.mark.parametrize("timing", TIMINGS)
@pytest.mark.parametrize("mode", ["learned", "open", "closed"])
def test_steps_one_by_one_with_carry_equal_one_call(timing: GateTiming, mode: GateMode) -> None:
    spec = make_spec()
    network = make_network(spec, 6, make_flat(spec))
    window = make_window(spec)
    rule = GateRule(timing, mode)
    whole = unroll(network, window, rule)
    carry: Carry | None = None
    for t in range(len(window.alive_TBN)):
        step = UnrollInput(window.observations_TBND[t : t + 1], window.alive_TBN[t : t + 1])
        one = unroll(network, step, rule, carry)
        carry = one.carry
        assert_array_equal(array(one.gates_TBNK[0]), array(whole.gates_TBNK[t]))
        assert_array_equal(array(one.allowed_TBNK[0]), array(whole.allowed_TBNK[t]))
        # Matrix products of other sizes sum in another order.
        assert_allclose(array(one.q_TBNA[0]), array(whole.q_TBNA[t]), atol=2e-3)
    assert carry is not None
    assert_allclose(array(carry.hidden_BNH), array(whole.carry.hidden_BNH), atol=1e-6)


@pytest.mark.parametrize("timing", TIMINGS)
def test_a_restarted_row_begins_like_a_fresh_episode(timing: GateTiming) -> None:
    spec = make_spec()
    network = make_network(spec, 6, make_flat(spec))
    first, second = make_window(spec, seed=1), make_window(spec, seed=2)
    rule = GateRule(timing, "learned")
    carry = unroll(network, first, rule).carry.restart(torch.tensor([True, False, True]))
    after, fresh = unroll(network, second, rule, carry), unroll(network, second, rule)
    assert_allclose(array(after.q_TBNA[:, [0, 2]]), array(fresh.q_TBNA[:, [0, 2]]), atol=1e-6)
    assert not np.allclose(array(after.q_TBNA[:, 1]), array(fresh.q_TBNA[:, 1]))


@pytest.mark.parametrize("timing", TIMINGS)
def test_gradient_reaches_the_scorer_through_gates_that_are_all_closed(timing: GateTiming) -> None:
    spec = make_spec()
    flat = make_flat(spec)
    for bias in (-50.0, 50.0):  # all closed, all open; a wide surrogate keeps its slope
        flat[-1] = bias
        network = make_network(spec, 6, flat)
        output = unroll(network, make_window(spec), GateRule(timing, "learned", 100.0))
        expected = array(output.allowed_TBNK) & (bias > 0)
        assert_array_equal(array(output.gates_TBNK) == 1.0, expected)
        output.q_TBNA.sum().backward()  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
        for layer in ("beacon", "edge", "scorer_hidden", "scorer_out"):
            gradient = network.tensors()[f"{layer}.weight"].grad
            assert gradient is not None
            assert gradient.abs().sum() > 0.0, layer


def test_the_dead_neither_speak_nor_are_heard() -> None:
    spec = make_spec()
    network = make_network(spec, 6, make_flat(spec))
    window = make_window(spec, batch=1, deaths=False)
    window.alive_TBN[3:, 0, 2] = False
    changed = UnrollInput(window.observations_TBND.clone(), window.alive_TBN)
    changed.observations_TBND[3:, 0, 2] = 100.0
    rule = GateRule("causal", "open")
    before, after = unroll(network, window, rule), unroll(network, changed, rule)
    others = [0, 1, 3, 4, 5]
    assert_array_equal(array(before.q_TBNA[:, 0, others]), array(after.q_TBNA[:, 0, others]))


def test_large_logits_and_no_open_edge_stay_finite() -> None:
    spec = make_spec()
    flat = make_flat(spec, gain=1000.0)
    for bias in (-1e6, 0.0, 1e6):
        flat[-1] = bias
        network = make_network(spec, 6, flat)
        output = unroll(network, make_window(spec), GateRule("causal", "learned"))
        output.q_TBNA.sum().backward()  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
        assert torch.isfinite(output.q_TBNA).all()
        for name, parameter in network.tensors().items():
            if parameter.grad is not None:
                assert torch.isfinite(parameter.grad).all(), name


def test_flat_vector_survives_the_network() -> None:
    spec = make_spec()
    flat = make_flat(spec)
    assert_array_equal(make_network(spec, 6, flat).to_flat(), flat)


@pytest.mark.parametrize("density", [1.0, 0.15])
def test_stages_equal_those_of_the_agents_numpy_network(density: float) -> None:
    """Two steps of all agents, messages over every edge; the processes' own parity test is
    wider. Sparse agents leave out units that the unroll computes.
    """
    spec, n = make_spec(), 6
    flat = make_flat(spec)
    if density < 1.0:
        flat[np.random.default_rng(0).random(flat.size) >= density] = 0.0
        tensors = views(spec, flat)
        for reader in ("gru.weight_hh", "query.weight", "message.weight", "q_hidden.weight"):
            tensors[reader][:, [1, 4]] = 0.0
        tensors["beacon.weight"][:, [1, 4]] = 0.0
    window = make_window(spec, time=2, batch=1, num_agents=n, deaths=False)
    output = unroll(make_network(spec, n, flat), window, GateRule("causal", "open"))
    learnt = unroll(make_network(spec, n, flat), window, GateRule("causal", "learned"))
    agent = PolicyVersion(spec, flat, n)
    hidden = agent.begin(n)
    assert hidden.shape[1] == (spec.hidden if density == 1.0 else spec.hidden - 2)
    parts = agent.parts(hidden)
    own = np.zeros((n, spec.message), dtype=np.float32)
    beacons = np.zeros((n, spec.beacon), dtype=np.float32)
    heard = np.array([in_neighbours(i, n) for i in range(n)])
    told = np.array([out_neighbours(i, n) for i in range(n)])
    for t in range(2):
        hidden = agent.recur(array(window.observations_TBND)[t, 0], hidden, parts)
        parts = agent.parts(hidden)
        before = beacons
        beacons = beacon_from_wire(beacon_to_wire(sops(agent).beacon(parts), spec.beacon_dtype))
        scores = sops(agent).scorer(beacons, before[told])
        assert_allclose(array(learnt.scores_TBNK)[t, 0], scores, rtol=1e-4, atol=1e-4)
        tokens = np.concatenate((own[:, None], own[heard]), axis=1)
        present = np.ones(tokens.shape[:2], dtype=np.bool_)
        present[:, 1:] = t > 0
        message = sops(agent).message_of(parts, sops(agent).attend(parts, tokens, present))
        q = agent.q_values(parts, message)
        assert_allclose(array(output.q_TBNA)[t, 0], q, rtol=1e-4, atol=1e-4)
        own = message_from_wire(message_to_wire(message, spec.message_dtype))
