"""Layers whose backward pass is written by hand, against finite differences and autograd."""

import torch
from torch import Tensor
from torch.nn import functional

from learner.kernels.dense import dense, head


def drawn(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def test_a_layer_is_differentiated_as_finite_differences_say() -> None:
    arguments = (drawn(2, 3, 5, seed=1), drawn(4, 5, seed=2), drawn(4, seed=3))
    for relu in (False, True):
        expected = functional.linear(*arguments)
        found = dense(*arguments, relu=relu)
        torch.testing.assert_close(found, expected.relu() if relu else expected)

        def layer(x: Tensor, weight: Tensor, bias: Tensor, relu: bool = relu) -> Tensor:
            return dense(x, weight, bias, relu=relu)

        assert torch.autograd.gradcheck(layer, arguments)


def test_the_head_is_differentiated_as_finite_differences_say() -> None:
    part, message, weight = drawn(6, 5, seed=1), drawn(6, 3, seed=2), drawn(5, 3, seed=3)
    out, bias = drawn(4, 5, seed=4), drawn(4, seed=5)
    expected = functional.linear((part + message @ weight.t()).relu(), out, bias)
    torch.testing.assert_close(head(part, message, weight, out, bias), expected)
    assert torch.autograd.gradcheck(head, (part, message, weight, out, bias))
