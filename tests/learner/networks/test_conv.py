"""Convolutions in front of a GRU, as agents and learner compute them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from agents.policy import PolicySpec, initialise, views
from agents.version import PolicyVersion
from configs.options import OptionsError
from learner.network import PolicyNetwork
from tests.agents_helpers import SPEC

LENGTH, AGENTS = 5, 6


def conv(shape: str = "9x8x3", options: str = "channels=[4, 5]") -> PolicySpec:
    size = int(np.prod([int(axis) for axis in shape.split("x")]))
    return replace(
        SPEC,
        network="conv",
        network_options=options,
        observation_dim=size,
        observation_shape=shape,
    )


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ("9x8x3", "channels=[4, 5]"),
        ("3x9x8", "channels=[4, 5],stride=2"),
        ("9x8x3", "channels=[4],kernel=1,memory=none"),
        ("9x9x9", "channels=[2],axes=chw,divide_by=255"),
    ],
)
def test_agents_and_learner_compute_the_same_hidden_states(shape: str, options: str) -> None:
    spec = conv(shape, options)
    flat = initialise(spec, np.random.default_rng(0))
    network = PolicyNetwork(spec, AGENTS)
    network.load_flat(flat)
    sequence = (LENGTH, 1, AGENTS, spec.observation_dim)
    seen = np.random.default_rng(1).normal(size=sequence).astype(np.float32)
    with torch.no_grad():
        hidden = network.recur(torch.tensor(seen), torch.zeros(1, AGENTS, spec.hidden)).numpy()
    version = PolicyVersion(spec, flat, AGENTS)
    before = version.begin(AGENTS)
    for step in range(LENGTH):
        before = version.recur(seen[step, 0], before, version.parts(before))
        # Sums of up to 300 products in another order.
        assert_allclose(before, hidden[step, 0], atol=1e-5)
    assert hidden.std() > 0.01


def test_a_learner_finds_its_parameters_again_and_kernels_have_no_masks() -> None:
    spec = conv()
    flat = initialise(spec, np.random.default_rng(0))
    network = PolicyNetwork(spec, AGENTS)
    network.load_flat(flat)
    assert_array_equal(network.to_flat(), flat)
    assert views(spec, flat)["conv1.weight"].shape == (5, 4, 3, 3)
    assert {name: p.ndim for name, p in network.tensors().items() if name.startswith("conv")} == {
        "conv0.weight": 4, "conv0.bias": 1, "conv1.weight": 4, "conv1.bias": 1,
    }  # fmt: skip


def test_a_kernel_is_used_at_every_place() -> None:
    network = PolicyNetwork(conv(), AGENTS)
    assert network.encoding.uses() == {"conv0": 7 * 6, "conv1": 5 * 4}


def test_flat_observations_are_refused() -> None:
    with pytest.raises(ValueError, match="images of three axes"):
        replace(SPEC, network="conv").layout  # noqa: B018  # a property that raises


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("channels=[]", "channels must be"),
        ("channels=[0]", "channels must be between 1 and 4096 each"),
        ("kernel=0", "kernel must be between 1 and 64"),
        ("stride=0", "stride must be"),
        ("divide_by=0", "divide_by must be a positive number"),
        ("memory=lstm", "memory"),
    ],
)
def test_options_out_of_range_are_refused(options: str, says: str) -> None:
    with pytest.raises(OptionsError, match=says):
        conv(options=options).network_opts()
