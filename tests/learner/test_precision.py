"""Products of bfloat16 factors: how far values, losses and gradients are from those of float32."""

from collections.abc import Generator
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from configs.arrays import FloatArray
from configs.schema import GateConfig, LearnerConfig
from configs.schema.choices import Precision
from learner.comm.gates import GateRule
from learner.comm.unroll import unroll
from learner.hardware import set_precision
from learner.kernels.products import gradient_of_weight, linear, linear_onto
from learner.learner import Learner
from tests.learner_helpers import (
    DIMENSIONS,
    array,
    make_config,
    make_episode,
    make_flat,
    make_network,
    make_spec,
    make_window,
)

OF_VALUES, OF_LOSS, OF_GRADIENT = 0.02, 0.01, 0.03
"""Bounds: of q against the largest one, of the loss against itself, and of the gradient's distance
against its norm. A factor is off by 1/256 at most."""
LENGTH = 40


@pytest.fixture(autouse=True)
def float32_afterwards() -> Generator[None]:
    tf32 = torch.backends.cudnn.allow_tf32
    yield
    set_precision("float32")
    torch.backends.cudnn.allow_tf32 = tf32


def values(precision: Precision) -> np.ndarray:
    set_precision(precision)
    spec = make_spec()
    network = make_network(spec, 6, make_flat(spec, gain=1.0))
    window = make_window(spec, time=LENGTH, batch=4)
    # Open gates: one whose score lies at 0 would be another policy, not another rounding.
    return array(unroll(network, window, GateRule("causal", "open")).q_TBNA)


def update(
    precision: Precision, algorithm: str, mode: Literal["open", "learned"] = "open"
) -> tuple[float, FloatArray]:
    """Loss and gradient of one batch."""
    set_precision(precision)
    settings = LearnerConfig(device="cpu", algorithm=algorithm, batch_size=4, learning_starts=1)
    spec = make_spec()
    run = make_config(learner=settings, gate=GateConfig(mode=mode))
    learner = Learner(run, spec, DIMENSIONS, make_flat(spec, gain=1.0))
    for number in range(4):
        learner.add(make_episode(number, length=LENGTH))
    metrics = learner.compute_gradient()
    gradients = [array(p.grad) for p in learner.online.parameters() if p.grad is not None]
    return metrics["loss"], np.concatenate([gradient.ravel() for gradient in gradients])


def test_values_are_near_those_of_float32() -> None:
    exact, rounded = values("float32"), values("bfloat16")
    assert 0.0 < np.abs(rounded - exact).max() < OF_VALUES * np.abs(exact).max()


@pytest.mark.parametrize("algorithm", ["iql", "vdn", "qmix", "wqmix"])
def test_losses_and_gradients_are_near_those_of_float32(algorithm: str) -> None:
    exact, gradient = update("float32", algorithm)
    rounded, rounded_gradient = update("bfloat16", algorithm)
    assert 0.0 < abs(rounded - exact) < OF_LOSS * exact
    distance = np.linalg.norm(rounded_gradient - gradient) / np.linalg.norm(gradient)
    assert 0.0 < distance < OF_GRADIENT
    assert rounded_gradient.dtype == np.float32


@pytest.mark.parametrize("rows", [7, 20_000])
def test_factors_are_rounded_and_sums_are_not(rows: int) -> None:
    """Each product against that of rounded factors in float64; the larger one is oneDNN's, where
    there is one.
    """
    draws = torch.Generator().manual_seed(0)
    x = torch.rand(rows, 64, generator=draws) - 0.5
    weight, bias = torch.rand(96, 64, generator=draws) - 0.5, torch.rand(96, generator=draws)
    there = torch.rand(rows, 96, generator=draws) - 0.5
    set_precision("bfloat16")
    x_64, weight_64, there_64 = (t.bfloat16().double() for t in (x, weight, there))
    expected = {
        "linear": (linear(x, weight, bias), x_64 @ weight_64.t() + bias),
        "relu": (linear(x, weight, bias, relu=True), (x_64 @ weight_64.t() + bias).relu()),
        "onto": (linear_onto(there, x, weight), there + x_64 @ weight_64.t()),
        "of weight": (gradient_of_weight(x, there), there_64.t() @ x_64),
    }
    for name, (found, exactly) in expected.items():
        assert found.dtype == torch.float32
        assert_allclose(found.double(), exactly, rtol=1e-4, atol=1e-3, err_msg=name)


def test_float64_is_never_rounded() -> None:
    set_precision("bfloat16")
    x, weight = torch.full((2, 3), 1.001, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    assert torch.equal(linear(x, weight), x)


def test_a_batch_is_learnt_by_heart_with_rounded_factors() -> None:
    set_precision("bfloat16")
    settings = LearnerConfig(
        device="cpu", batch_size=4, learning_starts=1, learning_rate=1e-2,
        target_update_period=10_000,
    )  # fmt: skip
    spec = make_spec()
    learner = Learner(make_config(learner=settings), spec, DIMENSIONS, make_flat(spec, gain=1.0))
    for number in range(4):
        learner.add(make_episode(number))
    metrics = [learner.update() for _ in range(80)]
    assert metrics[-1]["loss"] < 0.6 * metrics[0]["loss"]
    assert learner.parameters_flat().dtype == np.float32


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_only_tf32_lets_cuda_round_on_its_own(precision: Precision) -> None:
    set_precision(precision)
    assert torch.backends.cudnn.allow_tf32 is (precision == "tf32")
    assert torch.get_float32_matmul_precision() == ("high" if precision == "tf32" else "highest")
