"""Sable against golden data of the reference code: a rollout at once, in parts, step by step."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from learner.forbidden import FORBIDDEN
from learner.guides import sable
from learner.guides.layers import SwiGlu, shifted
from learner.guides.sable import Decays, Sable, SableState
from tests.learner.guides.golden_weights import fill
from tests.learner_helpers import array, tensor

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "sable.npz"
GROUPS = ("h2", "h1b2")
PRECISIONS = {"f64": (torch.float64, 1e-9), "f32": (torch.float32, 5e-5)}
STATES = ("enc", "dec_self", "dec_cross")


@pytest.fixture(scope="module")
def golden() -> dict[str, NDArray[Any]]:
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def names(blocks: int) -> dict[str, str]:
    found = {
        "encoder/obs_encoder/layers_0": "see.0",
        "encoder/obs_encoder/layers_1": "see.1",
        "encoder/ln": "norm_seen",
        "decoder/action_encoder/layers_0": "tell.0",
        "decoder/ln": "norm_told",
    }
    for layer in ("0", "2", "3"):
        found[f"encoder/head/layers_{layer}"] = f"value_head.{layer}"
        found[f"decoder/head/layers_{layer}"] = f"action_head.{layer}"
    feed = {"W_gate": "gate", "W_linear": "linear", "W_output": "out"}
    retention = {
        "w_q": "query", "w_k": "key", "w_v": "value", "w_g": "gate", "w_o": "out",
        "group_norm": "norm",
    }  # fmt: skip
    for b in range(blocks):
        parts = {
            f"encoder/encoder_block_{b}/retn": f"encoder.{b}.retention",
            f"decoder/decoder_block_{b}/retn1": f"decoder.{b}.own",
            f"decoder/decoder_block_{b}/retn2": f"decoder.{b}.cross",
        }
        for theirs, own in parts.items():
            found |= {f"{theirs}/{x}": f"{own}.{y}" for x, y in retention.items()}
        for number in (1, 2, 3):
            found[f"encoder/encoder_block_{b}/ln{number}"] = f"encoder.{b}.norm{number}"
            found[f"decoder/decoder_block_{b}/ln{number}"] = f"decoder.{b}.norm{number}"
        for theirs, own in feed.items():
            found[f"encoder/encoder_block_{b}/ffn/{theirs}"] = f"encoder.{b}.feed.{own}"
            found[f"decoder/decoder_block_{b}/ffn/{theirs}"] = f"decoder.{b}.feed.{own}"
    return found


def with_heads_together(parameters: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The reference has a matrix for each head, we have one for all."""
    found, heads = dict[str, NDArray[Any]](), dict[str, list[NDArray[Any]]]()
    for name in sorted(parameters):
        before, by_head, behind = name.partition("/retention_heads_")
        if by_head:
            heads.setdefault(f"{before}/{behind.partition('/')[2]}", []).append(parameters[name])
        else:
            found[name] = parameters[name]
    return found | {f"{k}/kernel": np.concatenate(v, axis=1) for k, v in heads.items()}


class Case:
    def __init__(self, golden: dict[str, NDArray[Any]], group: str, precision: str) -> None:
        self.golden, self.group, self.precision = golden, group, precision
        self.dtype, self.tolerance = PRECISIONS[precision]
        shape = golden[f"{group}/in/shape_BTNOAEHL"].tolist()
        _, self.time, self.agents, features, self.actions, size, heads, blocks = shape
        self.sable = Sable(
            features,
            self.actions,
            size=size,
            heads=heads,
            blocks=blocks,
            decay=float(golden[f"{group}/in/decay_scaling_factor"]),
        ).to(self.dtype)
        self.sable.kappas_H.copy_(tensor(golden[f"{group}/kappas"]))
        start = f"{group}/param/"
        own = {k.removeprefix(start): v for k, v in golden.items() if k.startswith(start)}
        fill(self.sable, names(blocks), with_heads_together(own))
        self.legal = self.raw("legal")
        self.action = self.raw("action").long()
        self.begins, self.steps = self.raw("done").bool(), self.raw("step_count")
        self.observations = self.raw("obs").to(self.dtype)
        states = (self.raw(f"hs_{name}").to(self.dtype) for name in STATES)
        self.state = SableState(*states)

    def raw(self, name: str) -> Tensor:
        return tensor(self.golden[f"{self.group}/in/{name}"])

    def log_p(self, logits: Tensor) -> Tensor:
        return functional.log_softmax(logits.masked_fill(~self.legal, FORBIDDEN), -1)

    def played(
        self, steps: slice, state: SableState, observations: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, SableState]:
        observations = self.observations if observations is None else observations
        begins, numbers = self.begins[:, steps], self.steps[:, steps]
        seen, values, encoder = self.sable.encode(observations[:, steps], begins, numbers, state)
        logits, own, cross = self.sable.decode(seen, self.action[:, steps], begins, numbers, state)
        return seen, values, logits, SableState(encoder, own, cross)

    def check(self, name: str, found: Tensor) -> None:
        expected = self.golden[f"{self.group}/{self.precision}/{name}"]
        scale = max(1.0, float(np.abs(expected).max()))
        assert_allclose(array(found), expected, atol=self.tolerance * scale, err_msg=name)

    def check_state(self, state: SableState, prefix: str = "") -> None:
        self.check(f"{prefix}hs_enc_out", state.encoder)
        self.check(f"{prefix}hs_dec_self_out", state.decoder_own)
        self.check(f"{prefix}hs_dec_cross_out", state.decoder_cross)


@pytest.fixture(params=[(g, p) for g in GROUPS for p in PRECISIONS], ids="-".join)
def case(request: pytest.FixtureRequest, golden: dict[str, NDArray[Any]]) -> Case:
    return Case(golden, *request.param)


@pytest.mark.parametrize("chunk_rows", [1, 7, sable.CHUNK_ROWS])
def test_a_rollout_at_once_is_that_of_the_reference_and_so_is_its_gradient(
    case: Case, chunk_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sable, "CHUNK_ROWS", chunk_rows)
    observations = case.observations.clone().requires_grad_()
    seen, values, logits, state = case.played(slice(None), case.state, observations)
    log_p = case.log_p(logits)
    chosen = log_p.gather(-1, case.action.unsqueeze(-1)).squeeze(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    for name, found in {
        "obs_rep": seen, "value": values, "logits": logits, "logp": chosen, "entropy": entropy,
    }.items():  # fmt: skip
        case.check(name, found)
    case.check_state(state)
    weights = [case.raw(name).to(case.dtype) for name in ("wv", "wl", "we")]
    total = sum((w * x).sum() for w, x in zip(weights, (values, chosen, entropy), strict=True))
    assert isinstance(total, Tensor)
    case.check("functional", total)
    (gradient,) = torch.autograd.grad(total, observations)
    expected = case.golden[f"{case.group}/grad_obs"]
    assert_allclose(array(gradient), expected, atol=1e-4 * np.abs(expected).max())


@torch.no_grad()
def test_two_parts_are_as_good_as_one_and_the_reference_agrees(case: Case) -> None:
    _, values, logits, state = case.played(slice(0, 4), case.state)
    _, more_values, more_logits, state = case.played(slice(4, None), state)
    case.check("value", torch.cat((values, more_values), dim=1))
    case.check("logits", torch.cat((logits, more_logits), dim=1))
    case.check_state(state)


@torch.no_grad()
def test_one_agent_after_the_other_is_as_good_as_a_rollout_at_once(case: Case) -> None:
    state = case.state
    for t in range(case.time):
        begins, numbers = case.begins[:, t : t + 1], case.steps[:, t : t + 1]
        seen, values, encoder = case.sable.encode(
            case.observations[:, t : t + 1], begins, numbers, state
        )
        told = shifted(case.action[:, t], case.actions, case.dtype)
        logits, own, cross = list[Tensor](), state.decoder_own, state.decoder_cross
        for agent in range(case.agents):
            row, own, cross = case.sable.decode_next(
                seen[:, 0, agent],
                told[:, agent],
                case.steps[:, t],
                SableState(state.encoder, own, cross),
                case.begins[:, t] if agent == 0 else None,
            )
            logits.append(row)
        state = SableState(encoder, own, cross)
        for name, found in (("rec_value", values[:, 0]), ("rec_logits", torch.stack(logits, 1))):
            expected = case.golden[f"{case.group}/{case.precision}/{name}"][:, t]
            assert_allclose(array(found), expected, atol=4.0 * case.tolerance, err_msg=name)
    case.check_state(state, "rec_")


def test_nothing_reaches_across_the_beginning_of_an_episode(golden: dict[str, Any]) -> None:
    begins = tensor(golden["decay/done"]).bool()
    kappas = torch.tensor([float(golden["decay/kappa"])], dtype=torch.float64)
    for causal in (False, True):
        decays = Decays(begins, kappas, int(golden["decay/n_agents"]), causal=causal)
        expected = golden[f"decay/matrix_masked{int(causal)}"]
        assert_allclose(array(decays.between_BHRR[:, 0]), expected, atol=1e-6)
        assert_allclose(array(decays.of_state_BHR1[:, 0]), golden["decay/xi"], atol=1e-6)


@pytest.mark.parametrize("heads", [1, 2, 4, 8])
def test_heads_forget_at_their_own_rates(heads: int, golden: dict[str, Any]) -> None:
    found = Sable(3, 2, size=64, heads=heads).kappas_H
    assert_allclose(array(found), golden[f"decay/kappas_h{heads}_scale1"], atol=1e-6)


def test_released_feed_forward_blocks_never_learn_and_ours_do() -> None:
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    for dead in (True, False):
        block = SwiGlu(8, dead=dead)
        torch.autograd.backward(block(x).sum())
        moved = [p.grad is not None and bool(p.grad.any()) for p in block.parameters()]
        assert moved == [not dead] * 3
