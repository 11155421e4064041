import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.nn import functional

from agents.networks.conv import Convolution, Image


@pytest.mark.parametrize("copies", [1, 5])
@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize(
    ("height", "width", "channels", "kernel", "stride"),
    [(13, 13, 5, 3, 1), (7, 10, 2, 3, 2), (9, 4, 1, 4, 3), (3, 3, 2, 1, 1)],
)
def test_a_convolution_is_that_of_torch(
    height: int,
    width: int,
    channels: int,
    kernel: int,
    stride: int,
    channels_first: bool,
    copies: int,
) -> None:
    rng = np.random.default_rng(0)
    image = Image(height, width, channels, channels_first)
    weight = rng.normal(size=(4, channels, kernel, kernel)).astype(np.float32)
    bias = rng.normal(size=4).astype(np.float32)
    images_ED = rng.normal(size=(copies, image.size)).astype(np.float32)
    shape = (channels, height, width) if channels_first else (height, width, channels)
    planes = torch.tensor(images_ED).reshape(copies, *shape)
    if not channels_first:
        planes = planes.permute(0, 3, 1, 2)
    expected = functional.relu(
        functional.conv2d(planes, torch.tensor(weight), torch.tensor(bias), stride)
    )
    out = Convolution(image, weight, bias, stride)(images_ED)
    flat = expected.permute(0, 2, 3, 1).reshape(copies, -1).numpy()
    # Sums of up to 45 products in another order.
    assert_allclose(out, flat, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "axes", "channels", "channels_first"),
    [
        ((13, 13, 5), "auto", 5, False),
        ((3, 64, 64), "auto", 3, True),
        ((4, 4, 4), "auto", 4, False),
        ((4, 8, 9), "hwc", 9, False),
        ((9, 8, 4), "chw", 9, True),
    ],
)
def test_the_channels_are_the_smaller_axis_unless_it_is_said(
    shape: tuple[int, int, int], axes: str, channels: int, channels_first: bool
) -> None:
    image = Image.of(shape, axes)  # type: ignore[arg-type]  # a Literal in parametrize
    assert (image.channels, image.channels_first) == (channels, channels_first)
    assert image.size == np.prod(shape)


def test_what_is_no_image_is_refused_with_its_shape() -> None:
    with pytest.raises(ValueError, match=r"three axes .* 30 × 4"):
        Image.of((30, 4))


def test_a_kernel_larger_than_its_image_is_refused() -> None:
    with pytest.raises(ValueError, match="kernel of 4 for an image of 3 × 7"):
        Image(3, 7, 1).after(8, 4, 1)
