"""What guides are made of.

Their norms take eps 1e-6 and their GELU is the tanh approximation, as in the reference code. Linear
layers begin orthogonal.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from learner.kernels.one_hot import one_hot

EPS = 1e-6
_GAIN = 2.0**0.5
OUTPUT_GAIN = 0.01
"""Of the layer that makes logits: a guide begins nearly uniform."""

Norm = Callable[[int], nn.Module]


def layer_norm(size: int) -> nn.Module:
    return nn.LayerNorm(size, eps=EPS)


def rms_norm(size: int) -> nn.Module:
    return nn.RMSNorm(size, eps=EPS)


def gelu(x: Tensor) -> Tensor:
    return functional.gelu(x, approximate="tanh")


class Gelu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return gelu(x)


def linear(inputs: int, outputs: int, *, bias: bool = True, gain: float = _GAIN) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.orthogonal_(layer.weight, gain)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def head(size: int, outputs: int, norm: Norm, gain: float) -> nn.Sequential:
    """Embedding -> values or logits."""
    return nn.Sequential(linear(size, size), Gelu(), norm(size), linear(size, outputs, gain=gain))


def perceptron(size: int) -> nn.Sequential:
    return nn.Sequential(linear(size, size), Gelu(), linear(size, size))


class SwiGlu(nn.Module):
    """W_out(swish(W_gate x) * W_linear x), without biases (Shazeer, 2020).

    Args:
        dead: all three begin at zero as in Sable's released code. Then each one's gradient is zero
            for ever, and the residual around it is all that is left.
    """

    def __init__(self, size: int, *, dead: bool = False) -> None:
        super().__init__()
        self.gate = linear(size, size, bias=False)
        self.linear = linear(size, size, bias=False)
        self.out = linear(size, size, bias=False)
        if dead:
            for parameter in self.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(functional.silu(self.gate(x)) * self.linear(x))


def shifted(actions: Tensor, num_actions: int, dtype: torch.dtype) -> Tensor:
    """[…, N, A + 1] what each agent is told of those before it: the one-hot action of its
    predecessor behind a place that marks the beginning.

    Args:
        actions: int64 [..., N]
    """
    places = functional.pad(actions[..., :-1] + 1, (1, 0))
    return one_hot(places, num_actions + 1, dtype)
