"""An encoder for observations that are images, in front of a GRU or without memory.

    image -> patches -> kernels, relu -> patches -> … -> flat -> linear, relu -> x -> GRU -> hidden

With memory=none x is the hidden state.

A convolution is one gather and one product: the patches under all places of a kernel are rows.
Nothing is padded, so an image of 13 × 13 comes out of a kernel of 3 as one of 11 × 11. Its pixels
stay flat all the way, row by row with the channels of a pixel side by side.

Dimension key: E = copies, D = observation features, P = places of a kernel, F = numbers under one,
O = channels that come out, X = units, H = hidden.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from agents.layers import Layout, columns, draw_uniform
from agents.networks.base import Network
from agents.networks.gru import GruMemory
from configs.arrays import FloatArray

if TYPE_CHECKING:
    from agents.policy import PolicySpec

Axes = Literal["auto", "hwc", "chw"]

_ZERO = np.float32(0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    channels: tuple[int, ...] = (16, 32)
    """Channels that each convolution makes, the first one first."""
    kernel: int = 3
    """Pixels on a side of every kernel."""
    stride: int = 1
    """Pixels from one place of a kernel to the next."""
    axes: Axes = "auto"
    """Order of an image's axes: height, width, channels or channels, height, width. auto takes the
    smaller one of the first and the last axis for the channels."""
    divide_by: float = 1.0
    """What pixels are divided by, 255 for images of bytes."""
    memory: Literal["gru", "none"] = "gru"

    def __post_init__(self) -> None:
        if not self.channels or not all(1 <= number <= 4096 for number in self.channels):
            raise ValueError(f"channels must be between 1 and 4096 each, got {self.channels}")
        if not 1 <= self.kernel <= 64:
            raise ValueError(f"kernel must be between 1 and 64, got {self.kernel}")
        if not 1 <= self.stride <= 64:
            raise ValueError(f"stride must be between 1 and 64, got {self.stride}")
        if not 0.0 < self.divide_by < float("inf"):
            raise ValueError(f"divide_by must be a positive number, got {self.divide_by}")


@dataclass(frozen=True, slots=True)
class Image:
    """Size of an image, and the order in which a flat observation holds its pixels."""

    height: int
    width: int
    channels: int
    channels_first: bool = False

    @classmethod
    def of(cls, shape: tuple[int, ...], axes: Axes = "auto") -> "Image":
        """What the shape of an observation says.

        Args:
            axes: where the channels stand; auto takes the smaller of the first and the last axis
                for them, and the last one if both are equal.

        Raises:
            ValueError: an observation that is no image.
        """
        if len(shape) != 3:
            raise ValueError(
                f"network conv takes images of three axes (height, width and channels); an "
                f"observation here has the shape {' × '.join(map(str, shape))}"
            )
        if axes == "chw" or (axes == "auto" and shape[0] < shape[2]):
            return cls(shape[1], shape[2], shape[0], channels_first=True)
        return cls(*shape)

    @property
    def size(self) -> int:
        return self.height * self.width * self.channels

    def after(self, channels: int, kernel: int, stride: int) -> "Image":
        """What comes out of a convolution.

        Raises:
            ValueError: the kernel is larger than the image.
        """
        if min(self.height, self.width) < kernel:
            raise ValueError(
                f"network conv has a kernel of {kernel} for an image of "
                f"{self.height} × {self.width}: take a smaller kernel or stride, or fewer layers"
            )
        height, width = (1 + (n - kernel) // stride for n in (self.height, self.width))
        return Image(height, width, channels)

    def patches(self, kernel: int, stride: int) -> NDArray[np.intp]:
        """[P, F] positions in the flat image that lie under each place of a kernel; of those under
        one place, row by row with the channels of a pixel side by side.
        """
        there = self.after(1, kernel, stride)
        rows = stride * np.arange(there.height)[:, None] + np.arange(kernel)
        columns = stride * np.arange(there.width)[:, None] + np.arange(kernel)
        pixels = rows[:, None, :, None] * self.width + columns[None, :, None, :]
        if self.channels_first:
            places = pixels[..., None] + self.height * self.width * np.arange(self.channels)
        else:
            places = pixels[..., None] * self.channels + np.arange(self.channels)
        return places.reshape(there.height * there.width, -1)


class Convolution:
    """One convolution with relu, of images in a fixed size."""

    def __init__(
        self, image: Image, weight_OCKK: FloatArray, bias_O: FloatArray, stride: int
    ) -> None:
        outputs, _, kernel, _ = weight_OCKK.shape
        self._patches_PF = image.patches(kernel, stride)
        # (O, C, k, k) -> (k, k, C, O), as the patches are laid out
        weight_FO = weight_OCKK.transpose(2, 3, 1, 0).reshape(-1, outputs)
        self._weight_FO = np.ascontiguousarray(weight_FO)
        self._bias_O = bias_O

    def __call__(self, images_ED: FloatArray) -> FloatArray:
        """[E, P × O] flat images with the channels of a pixel side by side."""
        # A gather costs what views of sliding windows cost, and knows no layout.
        patches_EPF = images_ED.take(self._patches_PF, axis=1)
        places, features = self._patches_PF.shape
        out: FloatArray = np.dot(patches_EPF.reshape(-1, features), self._weight_FO)
        out += self._bias_O
        np.maximum(out, _ZERO, out=out)
        return out.reshape(len(images_ED), places * self._bias_O.size)


def images_of(spec: "PolicySpec") -> tuple[Image, ...]:
    """The observation, and what comes out of each convolution.

    Raises:
        ValueError: observations are no images, or too small for the kernels.
    """
    options: Options = spec.network_opts()
    images = [Image.of(spec.shape, options.axes)]
    for channels in options.channels:
        images.append(images[-1].after(channels, options.kernel, options.stride))
    return tuple(images)


class Conv(Network):
    """One version of it, ready to run."""

    Options = Options
    twin = "learner.networks.conv:ConvTwin"
    uses_shape = True

    def __init__(self, spec: "PolicySpec", tensors: Mapping[str, FloatArray]) -> None:
        options: Options = spec.network_opts()
        images = images_of(spec)
        weights = [tensors[f"conv{i}.weight"] for i in range(len(options.channels))]
        weights[0] = weights[0] / np.float32(options.divide_by)
        self._convolutions = [
            Convolution(image, weight, tensors[f"conv{i}.bias"], options.stride)
            for i, (image, weight) in enumerate(zip(images, weights, strict=False))
        ]
        last, weight = images[-1], tensors["encoder.weight"]
        # The learner flattens channel by channel, and here the channels of a pixel are neighbours.
        planes = weight.reshape(-1, last.channels, last.height, last.width)
        self._weight = columns(planes.transpose(0, 2, 3, 1).reshape(weight.shape))
        self._bias = tensors["encoder.bias"]
        self._memory = GruMemory(tensors) if options.memory == "gru" else None
        self.reads = () if self._memory is None else (self._memory.read,)

    @classmethod
    def layout(cls, spec: "PolicySpec") -> Layout:
        options: Options = spec.network_opts()
        images = images_of(spec)
        layout: Layout = ()
        for i, (image, after) in enumerate(pairwise(images)):
            shape = (after.channels, image.channels, options.kernel, options.kernel)
            layout += ((f"conv{i}.weight", shape), (f"conv{i}.bias", (after.channels,)))
        layout += (
            ("encoder.weight", (spec.hidden, images[-1].size)),
            ("encoder.bias", (spec.hidden,)),
        )
        return layout + (
            GruMemory.layout(spec.hidden, spec.hidden) if options.memory == "gru" else ()
        )

    @classmethod
    def draw(
        cls,
        spec: "PolicySpec",
        name: str,
        tensors: Mapping[str, FloatArray],
        rng: np.random.Generator,
    ) -> None:
        draw_uniform(name, tensors, rng, spec.hidden if name.startswith("gru.") else 0)

    def seat(self, columns: Sequence[slice]) -> None:
        if self._memory is not None:
            (self._from_hidden,) = columns

    def recur(
        self, observation_ED: FloatArray, hidden_EH: FloatArray, parts_EP: FloatArray
    ) -> FloatArray:
        images = observation_ED
        for convolution in self._convolutions:
            images = convolution(images)
        x_EX: FloatArray = np.dot(images, self._weight)
        x_EX += self._bias
        np.maximum(x_EX, _ZERO, out=x_EX)
        if self._memory is None:
            return x_EX
        return self._memory.step(x_EX, hidden_EH, parts_EP[:, self._from_hidden])


NETWORK = Conv
