from collections.abc import Mapping
from math import exp, tanh

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from agents.policy import views
from agents.version import PolicyVersion
from configs.arrays import FloatArray
from tests.agents_helpers import SPEC, make_flat, make_network, sops

COPIES = 4
RNG_SEED = 2


def draw(*shape: int, scale: float = 1.0, seed: int = RNG_SEED) -> FloatArray:
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


def tensors() -> Mapping[str, FloatArray]:
    return views(SPEC, make_flat())


def times(matrix: FloatArray, vector: list[float], bias: FloatArray) -> list[float]:
    return [
        sum(float(w) * x for w, x in zip(row, vector, strict=True)) + float(b)
        for row, b in zip(matrix, bias, strict=True)
    ]


def gru_by_hand(observation_D: FloatArray, hidden_H: FloatArray) -> list[float]:
    """One step of one copy, number by number, as in torch.nn.GRUCell's documentation."""
    t, size = tensors(), SPEC.hidden
    x = [max(v, 0.0) for v in times(t["encoder.weight"], observation_D.tolist(), t["encoder.bias"])]
    h = [float(v) for v in hidden_H]
    from_x = times(t["gru.weight_ih"], x, t["gru.bias_ih"])
    from_h = times(t["gru.weight_hh"], h, t["gru.bias_hh"])
    following: list[float] = []
    for i in range(size):
        reset = 1.0 / (1.0 + exp(-(from_x[i] + from_h[i])))
        update = 1.0 / (1.0 + exp(-(from_x[size + i] + from_h[size + i])))
        candidate = tanh(from_x[2 * size + i] + reset * from_h[2 * size + i])
        following.append((1.0 - update) * candidate + update * h[i])
    return following


def recur(network: PolicyVersion, observation_ED: FloatArray, hidden_EH: FloatArray) -> FloatArray:
    return network.recur(observation_ED, hidden_EH, network.parts(hidden_EH))


def parts_of(hidden_EH: FloatArray) -> FloatArray:
    return make_network().parts(hidden_EH)


# --- h --------------------------------------------------------------------------------------------


def test_recur_equals_the_formula_written_out() -> None:
    observation_ED, hidden_EH = draw(COPIES, SPEC.observation_dim), draw(COPIES, SPEC.hidden)
    by_hand = [gru_by_hand(observation_ED[e], hidden_EH[e]) for e in range(COPIES)]
    # Ten-term sums in float32 against double.
    assert_allclose(recur(make_network(), observation_ED, hidden_EH), by_hand, atol=2e-6)


def test_recur_stays_finite_for_inputs_of_any_size() -> None:
    for sign in (1.0, -1.0):
        observation_ED = np.full((1, SPEC.observation_dim), sign * 6e4, dtype=np.float32)
        hidden_EH = recur(make_network(), observation_ED, np.ones((1, SPEC.hidden), np.float32))
        assert (np.abs(hidden_EH) <= 1.0).all()


def test_beacon_is_the_tangent_of_an_affine_map() -> None:
    hidden_EH, t = draw(COPIES, SPEC.hidden), tensors()
    expected = np.tanh(hidden_EH @ t["beacon.weight"].T + t["beacon.bias"])
    assert_allclose(sops(make_network()).beacon(parts_of(hidden_EH)), expected, rtol=1e-6)


# --- c --------------------------------------------------------------------------------------------


def attention_by_hand(
    hidden_H: FloatArray, tokens_TM: FloatArray, present_T: list[bool]
) -> FloatArray:
    """Softmax over the tokens present, each with a key of its own, and their weighted mean."""
    t = tensors()
    query = t["query.weight"] @ hidden_H
    open_TM = [token for token, present in zip(tokens_TM, present_T, strict=True) if present]
    logits = np.array([t["key.weight"] @ token @ query for token in open_TM], dtype=np.float64)
    weights = np.exp(logits / np.sqrt(SPEC.attention))
    weights /= weights.sum()
    return (weights[:, None] * np.array(open_TM)).sum(axis=0)


PRESENT = np.array(
    [
        [True, True, True, True],
        [True, False, True, False],
        [True, False, False, True],
        [True, False, False, False],
    ]
)


def test_attention_equals_the_formula_over_the_tokens_present() -> None:
    hidden_EH, tokens_ETM = draw(COPIES, SPEC.hidden), draw(COPIES, 4, SPEC.message)
    expected = [
        attention_by_hand(hidden_EH[e], tokens_ETM[e], PRESENT[e].tolist()) for e in range(COPIES)
    ]
    heard_EM = sops(make_network()).attend(parts_of(hidden_EH), tokens_ETM, PRESENT)
    assert_allclose(heard_EM, expected, rtol=1e-5, atol=1e-5)


def test_attention_with_nothing_open_is_the_own_token() -> None:
    hidden_EH, tokens_ETM = draw(1, SPEC.hidden), draw(1, 4, SPEC.message)
    heard_EM = sops(make_network()).attend(parts_of(hidden_EH), tokens_ETM, PRESENT[3:])
    assert_array_equal(heard_EM, tokens_ETM[:, 0])


def test_attention_without_a_mask_is_over_all_tokens() -> None:
    parts_EP, tokens_ETM = parts_of(draw(COPIES, SPEC.hidden)), draw(COPIES, 4, SPEC.message)
    everything = np.ones((COPIES, 4), dtype=np.bool_)
    expected = sops(make_network()).attend(parts_EP, tokens_ETM, everything)
    assert_array_equal(sops(make_network()).attend(parts_EP, tokens_ETM, None), expected)


def test_a_closed_token_has_no_influence_whatever_it_holds() -> None:
    hidden_EH, tokens_ETM = draw(COPIES, SPEC.hidden), draw(COPIES, 4, SPEC.message)
    before = sops(make_network()).attend(parts_of(hidden_EH), tokens_ETM, PRESENT)
    tokens_ETM[~PRESENT] = 1e4
    assert_array_equal(
        sops(make_network()).attend(parts_of(hidden_EH), tokens_ETM, PRESENT), before
    )


def test_an_open_token_has_influence() -> None:
    hidden_EH, tokens_ETM = draw(COPIES, SPEC.hidden), draw(COPIES, 4, SPEC.message)
    before = sops(make_network()).attend(parts_of(hidden_EH), tokens_ETM, PRESENT)
    tokens_ETM[:, 2] += 1.0
    changed_E = (
        sops(make_network()).attend(parts_of(hidden_EH), tokens_ETM, PRESENT) != before
    ).any(axis=1)
    assert_array_equal(changed_E, PRESENT[:, 2])


@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_attention_takes_logits_that_would_overflow_an_exponential(scale: float) -> None:
    hidden_EH = draw(COPIES, SPEC.hidden, scale=scale)
    tokens_ETM = draw(COPIES, 4, SPEC.message)
    heard_EM = sops(make_network()).attend(parts_of(hidden_EH), tokens_ETM, PRESENT)
    assert np.isfinite(heard_EM).all()
    # Nothing but a mixture of tokens can come out.
    assert (heard_EM <= tokens_ETM.max(axis=1) + 1e-4).all()
    assert (heard_EM >= tokens_ETM.min(axis=1) - 1e-4).all()


# --- m and q --------------------------------------------------------------------------------------


def test_a_message_holds_the_own_state_even_without_context() -> None:
    # Decision 1: read literally, equation 5 would have everyone send the same constant.
    nothing = np.zeros((2, SPEC.message), dtype=np.float32)
    first, second = sops(make_network()).message_of(parts_of(draw(2, SPEC.hidden)), nothing)
    assert np.abs(first - second).max() > 0.1


def test_message_takes_state_first_and_context_second() -> None:
    hidden_EH, heard_EM, t = draw(COPIES, 8), draw(COPIES, SPEC.message, seed=3), tensors()
    own, heard = t["message.weight"][:, :8], t["message.weight"][:, 8:]
    context_EH = heard_EM @ t["value.weight"].T
    expected = np.tanh(hidden_EH @ own.T + context_EH @ heard.T + t["message.bias"])
    # Two matrices are merged, so the order of additions differs.
    assert_allclose(
        sops(make_network()).message_of(parts_of(hidden_EH), heard_EM), expected, atol=1e-5
    )


def test_q_values_equal_the_formula() -> None:
    hidden_EH, message_EM, t = draw(COPIES, SPEC.hidden), draw(COPIES, SPEC.message), tensors()
    state, said = t["q_hidden.weight"][:, : SPEC.hidden], t["q_hidden.weight"][:, SPEC.hidden :]
    fused = np.maximum(hidden_EH @ state.T + message_EM @ said.T + t["q_hidden.bias"], 0)
    expected = fused @ t["q_out.weight"].T + t["q_out.bias"]
    assert_allclose(make_network().q_values(parts_of(hidden_EH), message_EM), expected, atol=1e-5)


def test_everything_is_computed_in_float32() -> None:
    network = make_network()
    hidden_EH = recur(network, draw(2, SPEC.observation_dim), draw(2, SPEC.hidden))
    parts_EP = network.parts(hidden_EH)
    heard_EM = sops(network).attend(parts_EP, draw(2, 4, SPEC.message), PRESENT[:2])
    message_EM = sops(network).message_of(parts_EP, heard_EM)
    scores_EK = sops(network).scorer(sops(network).beacon(parts_EP), draw(2, 3, SPEC.beacon))
    for result in (hidden_EH, parts_EP, heard_EM, message_EM, scores_EK):
        assert result.dtype == np.float32
    assert network.q_values(parts_EP, message_EM).dtype == np.float32


def test_copies_do_not_see_each_other() -> None:
    network = make_network()
    observation_ED, hidden_EH = draw(COPIES, SPEC.observation_dim), draw(COPIES, SPEC.hidden)
    together = recur(network, observation_ED, hidden_EH)
    for e in range(COPIES):
        alone = recur(network, observation_ED[e : e + 1], hidden_EH[e : e + 1])
        # Another batch size, another order of additions.
        assert_allclose(together[e : e + 1], alone, atol=1e-6)
