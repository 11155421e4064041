"""The learner on a GPU does what it does on a CPU, within a bound that the precision allows.

python -m pytest -m gpu
"""

from collections.abc import Generator
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from configs.schema import GateConfig, LearnerConfig
from configs.schema.choices import Precision
from learner.comm.gates import GateRule
from learner.comm.unroll import unroll
from learner.hardware import set_precision
from learner.learner import Learner
from tests.learner_helpers import (
    DIMENSIONS,
    make_config,
    make_episode,
    make_flat,
    make_network,
    make_spec,
    make_window,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

BOUNDS: dict[Precision, float] = {"float32": 1e-5, "tf32": 1e-2, "bfloat16": 5e-2}
"""Largest difference of q values: tf32 keeps 10 bits of a factor's fraction, bfloat16 7."""


@pytest.fixture(params=["float32", "tf32", "bfloat16"])
def precision(request: pytest.FixtureRequest) -> Generator[Precision]:
    chosen: Precision = request.param
    set_precision(chosen)
    yield chosen
    set_precision("float32")


def test_q_values_differ_by_no_more_than_the_precision_allows(precision: Precision) -> None:
    spec = make_spec()
    network = make_network(spec, 6, make_flat(spec, gain=1.0))
    window = make_window(spec, time=40, batch=4)
    # Open gates: one whose score lies at 0 would be another policy, not another rounding.
    rule = GateRule("causal", "open")
    set_precision("float32")
    expected = unroll(network, window, rule).q_TBNA
    set_precision(precision)
    on_gpu = replace(
        window,
        observations_TBND=window.observations_TBND.cuda(),
        alive_TBN=window.alive_TBN.cuda(),
    )
    found = unroll(network.cuda(), on_gpu, rule).q_TBNA.cpu()
    assert_allclose(found.detach(), expected.detach(), atol=BOUNDS[precision])


def test_a_step_on_the_gpu_is_the_step_on_the_cpu() -> None:
    found: list[np.ndarray] = []
    for device in ("cpu", "cuda", "cuda"):
        settings = LearnerConfig(batch_size=4, learning_starts=1, algorithm="qmix", prefetch="off")
        run = make_config(gate=GateConfig(mode="open"), learner=settings)
        spec = make_spec()
        learner = Learner(run, spec, DIMENSIONS, make_flat(spec, gain=1.0), device)
        for number in range(6):
            learner.add(make_episode(number))
        for _ in range(3):
            learner.update()
        found.append(learner.parameters_flat())
    assert_allclose(found[1], found[0], atol=1e-4)
    assert_array_equal(found[2], found[1], err_msg="two runs on one GPU come to the same numbers")


def test_a_batch_gathered_ahead_is_used_on_a_gpu() -> None:
    settings = LearnerConfig(batch_size=4, learning_starts=1)
    spec = make_spec()
    learner = Learner(make_config(learner=settings), spec, DIMENSIONS, make_flat(spec), "cuda")
    for number in range(6):
        learner.add(make_episode(number))
    while learner.updates_owed:
        assert np.isfinite(learner.update()["loss"])
    assert learner.progress.gradient_steps == 6
