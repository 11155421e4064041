"""MAT against golden data of the reference code: forward, gradients, one agent at a time."""

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
from learner.guides.mat import Mat
from tests.learner.guides.golden_weights import fill
from tests.learner_helpers import array, tensor

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "mat.npz"
GROUPS = ("ln_mlp", "ln_mlp_b2", "rms_swiglu")
PRECISIONS = {"f64": (torch.float64, 1e-10), "f32": (torch.float32, 2e-5)}


@pytest.fixture(scope="module")
def golden() -> dict[str, NDArray[Any]]:
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def names(blocks: int) -> dict[str, str]:
    feed = {
        "layers_0": "0", "layers_2": "2", "W_gate": "gate", "W_linear": "linear", "W_output": "out",
    }  # fmt: skip
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
    for b in range(blocks):
        encoder, decoder = f"encoder/blocks/layers_{b}", f"decoder/cross_attention_block_{b}"
        for part in ("key", "query", "value", "proj"):
            found[f"{encoder}/attn/{part}"] = f"encoder.{b}.attention.{part}"
            found[f"{decoder}/attn1/{part}"] = f"decoder.{b}.own.{part}"
            found[f"{decoder}/attn2/{part}"] = f"decoder.{b}.cross.{part}"
        for number in (1, 2, 3):
            found[f"{decoder}/ln{number}"] = f"decoder.{b}.norm{number}"
            found[f"{encoder}/ln{number}"] = f"encoder.{b}.norm{number}"
        for theirs, own in feed.items():
            found[f"{encoder}/mlp/{theirs}"] = f"encoder.{b}.feed.{own}"
            found[f"{decoder}/mlp/{theirs}"] = f"decoder.{b}.feed.{own}"
    return found


class Case:
    def __init__(self, golden: dict[str, NDArray[Any]], group: str, precision: str) -> None:
        self.golden, self.group, self.precision = golden, group, precision
        self.dtype, self.tolerance = PRECISIONS[precision]
        _, _, features, actions, size, heads, blocks = golden[f"{group}/in/shape_BNOAEHL"].tolist()
        self.mat = Mat(
            features,
            actions,
            size=size,
            heads=heads,
            blocks=blocks,
            rms=bool(golden[f"{group}/in/use_rmsnorm"]),
            swiglu=bool(golden[f"{group}/in/use_swiglu"]),
        ).to(self.dtype)
        start = f"{group}/param/"
        own = {k.removeprefix(start): v for k, v in golden.items() if k.startswith(start)}
        fill(self.mat, names(blocks), own)
        self.legal = tensor(golden[f"{group}/in/legal"])
        self.action = tensor(golden[f"{group}/in/action"]).long()

    def given(self, name: str) -> Tensor:
        return tensor(self.golden[f"{self.group}/in/{name}"]).to(self.dtype)

    def log_p(self, logits: Tensor) -> Tensor:
        return functional.log_softmax(logits.masked_fill(~self.legal, FORBIDDEN), -1)

    def check(self, name: str, found: Tensor) -> None:
        expected = self.golden[f"{self.group}/{self.precision}/{name}"]
        scale = max(1.0, float(np.abs(expected).max()))
        assert_allclose(array(found), expected, atol=self.tolerance * scale, err_msg=name)


@pytest.fixture(params=[(g, p) for g in GROUPS for p in PRECISIONS], ids="-".join)
def case(request: pytest.FixtureRequest, golden: dict[str, NDArray[Any]]) -> Case:
    return Case(golden, *request.param)


def test_values_and_logits_are_those_of_the_reference_and_so_is_the_gradient(case: Case) -> None:
    observations = case.given("obs").requires_grad_()
    seen, values = case.mat.encode(observations)
    logits = case.mat.decode(seen, case.action)
    log_p = case.log_p(logits)
    chosen = log_p.gather(-1, case.action.unsqueeze(-1)).squeeze(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    for name, found in {
        "obs_rep": seen, "value": values, "logits": logits, "logp": chosen, "entropy": entropy,
    }.items():  # fmt: skip
        case.check(name, found)
    weights = [case.given(name) for name in ("wv", "wl", "we")]
    total = sum((w * x).sum() for w, x in zip(weights, (values, chosen, entropy), strict=True))
    assert isinstance(total, Tensor)
    case.check("functional", total)
    (gradient,) = torch.autograd.grad(total, observations)
    expected = case.golden[f"{case.group}/grad_obs"]
    assert_allclose(array(gradient), expected, atol=1e-4 * np.abs(expected).max())


@torch.no_grad()
def test_one_agent_after_the_other_is_as_good_as_all_at_once(case: Case) -> None:
    """The reference's own draws: each agent is told only those of the agents before it."""
    seen, _ = case.mat.encode(case.given("obs"))
    drawn = tensor(case.golden[f"{case.group}/{case.precision}/sampled_action"]).long()
    whole = case.log_p(case.mat.decode(seen, drawn))
    case.check("sampled_logp", whole.gather(-1, drawn.unsqueeze(-1)).squeeze(-1))
    for agent in range(drawn.shape[1]):
        told = drawn.clone()
        told[:, agent:] = 0
        logits = case.mat.decode(seen, told)
        assert_allclose(
            array(case.log_p(logits)[:, agent]), array(whole[:, agent]), atol=case.tolerance
        )
