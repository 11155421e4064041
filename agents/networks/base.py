"""What a network is to an agent: encoder and memory, in numpy.

    observation, hidden, its reads of hidden -> recur -> hidden

A policy is a network, a communication scheme (agents/comm/base.py) and a Q head (agents/head.py).
What any of them needs of the hidden state by a linear map is one product: each says which columns
it reads, and is told where they are. A module offers a network by NETWORK = ItsClass; the class
names its torch twin (learner/networks/base.py) by a string, so that agents never import torch.

Dimension key: E = copies, D = observation features, H = hidden, P = columns of the fused product.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from agents.layers import Layout, Linear, NoOptions, draw_uniform
from configs.arrays import BoolArray, FloatArray

if TYPE_CHECKING:
    from agents.policy import PolicySpec


class Network:
    """Encoder and memory of one policy version."""

    Options: ClassVar[type[Any]] = NoOptions
    """Frozen dataclass of what `--network.options` may say."""
    twin: ClassVar[str] = ""
    """`module:Class` of the torch twin, a learner.networks.base.NetworkTwin."""

    uses_shape: ClassVar[bool] = False
    """Whether `spec.shape` matters to it: to others observations are flat."""

    shared_arrays: ClassVar[bool] = False
    """Set it in a class from outside of this project if nothing writes to the arrays that it keeps:
    they are then made once per host (agents/frozen.py)."""

    reads: tuple[Linear, ...] = ()
    """What `recur` wants of the hidden state before the step; empty where there is no memory."""

    def __init__(self, spec: "PolicySpec", tensors: Mapping[str, FloatArray]) -> None:
        """
        Args:
            tensors: all of the policy's by their names; those of `layout` are this network's.
                Hidden layers may be narrower than the spec says, where `shrink` has taken out
                units.
        """

    @classmethod
    def layout(cls, spec: "PolicySpec") -> Layout:
        """Names and shapes of its parameters; matrices are [out, in] as in torch."""
        raise NotImplementedError

    @classmethod
    def draw(
        cls,
        spec: "PolicySpec",
        name: str,
        tensors: Mapping[str, FloatArray],
        rng: np.random.Generator,
    ) -> None:
        """Fill an untrained tensor: U(±1/sqrt(fan_in)), torch's default for linear layers."""
        draw_uniform(name, tensors, rng)

    @classmethod
    def shrink(cls, living: dict[str, FloatArray], read_H: BoolArray) -> "NDArray[np.intp] | None":
        """Take dead units out of a sparse policy's own tensors (agents/dead_units.py).

        Args:
            living: all tensors; its own may be replaced.
            read_H: hidden units that the scheme or the head reads.

        Returns:
            Indices of the hidden units that are left; None: all are, and nothing was changed.
        """
        return None

    def seat(self, columns: Sequence[slice]) -> None:
        """Learn where in a row of the fused product each of `reads` is."""

    def recur(
        self, observation_ED: FloatArray, hidden_EH: FloatArray, parts_EP: FloatArray
    ) -> FloatArray:
        """[E, H] next hidden state; it does not depend on messages.

        Args:
            hidden_EH: zeros where an episode begins.
            parts_EP: the fused product of `hidden_EH`.
        """
        raise NotImplementedError
