"""Parameters to begin with, of everything but the policy (agents/policy.py)."""

from collections.abc import Iterator

import torch
from torch import nn


@torch.no_grad()
def initialise_linear_layers(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every linear layer anew from U(±1/sqrt(fan_in)), and a GRU's from U(±1/sqrt(hidden)),
    torch's defaults, but from our own stream. A module that says `begins_as_it_is` has drawn its
    own.
    """
    for layer in _layers(module):
        if isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
            for parameter in layer.parameters():  # weight, then bias if it has one
                parameter.uniform_(-bound, bound, generator=generator)
        elif isinstance(layer, (nn.GRU, nn.GRUCell)):
            bound = layer.hidden_size**-0.5
            for parameter in layer.parameters():
                parameter.uniform_(-bound, bound, generator=generator)


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    if getattr(module, "begins_as_it_is", False):
        return
    yield module
    for child in module.children():
        yield from _layers(child)
