"""Products by either library are the same numbers, whatever their factors look like in memory."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from learner.kernels import products
from learner.kernels.products import gradient_of_weight, linear, linear_onto

BY = [
    pytest.param("torch", id="torch"),
    pytest.param(
        "oneDNN",
        id="oneDNN",
        marks=pytest.mark.skipif(
            not torch.backends.mkldnn.is_available(), reason="this torch is built without oneDNN"
        ),
    ),
]


@pytest.fixture(params=BY)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both, also where the processor would have chosen the other one; the smallest product too."""
    chosen = torch.ops.mkldnn._linear_pointwise if request.param == "oneDNN" else None  # pyright: ignore  # untyped in torch
    monkeypatch.setattr(products, "_onednn", chosen)
    monkeypatch.setattr(products, "_SMALLEST", 1)
    monkeypatch.setattr(products, "_ROWS_AT_ONCE", 16)
    monkeypatch.setattr(products, "_WIDE", 1)
    return request.param


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.tensor(
        np.random.default_rng([seed, *shape]).normal(size=shape), dtype=torch.float32
    )


def exactly(*factors: Tensor) -> Tensor:
    """Their product in float64."""
    first, second = (x.double() for x in factors)
    return first @ second


LAYOUTS = ["rows", "columns", "slice"]


def weight_of(layout: str) -> Tensor:
    """[5, 7]"""
    match layout:
        case "rows":
            return drawn(5, 7)
        case "columns":
            return drawn(7, 5).t()
        case _:
            return drawn(5, 9)[:, 2:]


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layer_is_its_product_and_its_bias(layout: str) -> None:
    x, weight, bias = drawn(3, 11, 7), weight_of(layout), drawn(5)
    expected = exactly(x, weight.t()) + bias
    assert_allclose(linear(x, weight, bias), expected, atol=1e-5)
    assert_allclose(linear(x, weight), expected - bias, atol=1e-5)
    assert_allclose(linear(x, weight, bias, relu=True), expected.clamp(min=0.0), atol=1e-5)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_product_that_is_added_leaves_what_was_there(layout: str) -> None:
    there, x, weight = drawn(11, 5), drawn(11, 7), weight_of(layout)
    before = there.clone()
    assert_allclose(linear_onto(there, x, weight), there + exactly(x, weight.t()), atol=1e-5)
    assert torch.equal(there, before)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("rows", [1, 16, 45])
@pytest.mark.parametrize("outputs", [3, 12])
@pytest.mark.parametrize("is_slice", [False, True])
def test_the_gradient_of_a_weight_is_summed_over_all_rows(
    rows: int, outputs: int, is_slice: bool
) -> None:
    d_out, x = drawn(rows, outputs, seed=1), drawn(rows, 7)
    if is_slice:
        d_out = drawn(rows, outputs + 4, seed=1)[:, 2:-2]
    found = gradient_of_weight(x, d_out)
    assert found.shape == (outputs, 7)
    assert_allclose(found, exactly(d_out.t(), x), atol=1e-4)
    in_columns = gradient_of_weight(x, d_out[:, :1], d_out[:, 1:])
    assert_allclose(in_columns, found, atol=1e-4)
