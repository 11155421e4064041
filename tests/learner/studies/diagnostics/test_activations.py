"""Activations of graphs whose saved tensors are known."""

import torch
from torch import nn

from learner.kernels.gru import run_gru
from learner.studies.diagnostics.activations import kept_bytes


def test_what_is_saved_counts_once_and_parameters_do_not() -> None:
    layer = nn.Linear(3, 2)
    inputs = torch.randn(4, 3)
    hidden = layer(inputs)
    loss = (hidden.relu() * hidden.detach()).sum()
    # The inputs for the weights' gradient, the result for relu and the product, the other factor.
    expected = (4 * 3 + 4 * 2 + 4 * 2) * 4
    assert kept_bytes(loss, list(layer.parameters())) == expected
    assert kept_bytes(loss, []) >= expected


def test_a_view_is_the_memory_that_it_looks_at() -> None:
    wide = torch.randn(10, 10)
    factor = torch.ones(10, requires_grad=True)
    loss = (wide[0] * factor).sum() + (wide[1] * factor).sum()
    # The factor itself is not kept: `wide` wants no gradient.
    assert kept_bytes(loss, []) == 100 * 4


def test_what_our_own_functions_keep_in_their_context_counts() -> None:
    steps, rows, features, hidden = 5, 3, 2, 4
    gru = nn.GRU(features, hidden)
    inputs = torch.randn(steps, rows, features)
    states = run_gru(gru, inputs, torch.zeros(rows, hidden))
    kept = kept_bytes(states.sum(), list(gru.parameters()))
    # Inputs; states with the first; gates r, z, n; what r scales.
    numbers = features + 3 * hidden + hidden
    assert kept == 4 * (rows * steps * numbers + rows * (steps + 1) * hidden)


def test_a_loss_without_a_graph_keeps_nothing() -> None:
    assert kept_bytes(torch.zeros(()), []) == 0
