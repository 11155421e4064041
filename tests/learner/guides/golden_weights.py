"""Parameters of the reference's networks (flax), laid into ours."""

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from tests.learner_helpers import tensor


def fill(module: nn.Module, names: Mapping[str, str], golden: Mapping[str, NDArray[Any]]) -> None:
    """Copy golden parameters, each of which has to be used.

    Args:
        names: the reference's name of a layer -> ours.
    """
    ours, left = dict(module.named_parameters()), set(golden)
    for theirs, own in names.items():
        for key in [key for key in golden if key == theirs or key.startswith(f"{theirs}/")]:
            array = tensor(golden[key])
            last = key.rpartition("/")[2]
            if last in ("kernel", "W_gate", "W_linear", "W_output", "w_g", "w_o"):
                array = array.t()
            suffix = {"kernel": ".weight", "scale": ".weight", "bias": ".bias"}.get(last, ".weight")
            with torch.no_grad():
                ours.pop(f"{own}{suffix}").copy_(array)
            left.remove(key)
    assert not left, f"not used: {sorted(left)}"
    assert not ours, f"not filled: {sorted(ours)}"
