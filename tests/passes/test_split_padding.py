"""Padding is taken out of convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.passes.graphs import calls, conv2d, inputs_of, integer, names, same
from tvm_tinyml.passes import SplitPadding, integer_ops
from tvm_tinyml.passes.integer_ops import attributes_of
from tvm_tinyml.reference.evaluate import evaluate

SHAPE, FILTERS = (1, 5, 6, 4), (3, 3, 3, 4)


def test_a_padded_convolution_becomes_a_bordered_image_and_a_convolution_without_padding(
    rng: np.random.Generator,
) -> None:
    module = SplitPadding()(conv2d(rng, SHAPE, FILTERS, padding=[1, 2, 3, 4], input_zero_point=9))
    border, convolution = calls(module)
    assert names(module) == ["tinyml.pad2d", "tinyml.conv2d"]
    assert attributes_of(border) == {"padding": [1, 2, 3, 4], "value": 9}
    assert attributes_of(convolution)["padding"] == [0, 0, 0, 0]


def test_everything_but_the_padding_stays(rng: np.random.Generator) -> None:
    before = conv2d(rng, SHAPE, FILTERS, padding=[1, 1, 1, 1], strides=[2, 1], clamp_min=-5)
    (old,), (_, new) = calls(before), calls(SplitPadding()(before))
    assert {**attributes_of(old), "padding": [0, 0, 0, 0]} == attributes_of(new)
    for a, b in zip(old.args[1:], new.args[1:], strict=True):
        np.testing.assert_array_equal(a.value.numpy(), b.value.numpy())


@pytest.mark.parametrize("zero_point", [-128, -3, 127])
@pytest.mark.parametrize(
    ("filters", "window"),
    [
        (FILTERS, {"padding": [1, 1, 1, 1]}),
        (FILTERS, {"padding": [0, 0, 2, 1], "strides": [2, 2]}),
        (FILTERS, {"padding": [2, 2, 2, 2], "dilation": [2, 2]}),
        ((4, 3, 3, 1), {"padding": [1, 0, 1, 2], "groups": 4}),
        ((4, 3, 3, 2), {"padding": [1, 0, 1, 2], "groups": 2}),
    ],
)
def test_no_byte_changes(
    rng: np.random.Generator, filters: tuple[int, ...], window: dict[str, Any], zero_point: int
) -> None:
    before = conv2d(rng, SHAPE, filters, input_zero_point=zero_point, **window)
    inputs = inputs_of(before, rng)
    np.testing.assert_array_equal(evaluate(SplitPadding()(before), inputs)[0], evaluate(before, inputs)[0])


def test_a_convolution_without_padding_stays(rng: np.random.Generator) -> None:
    module = conv2d(rng, SHAPE, FILTERS)
    assert same(SplitPadding()(module), module)


def test_a_padded_pool_stays_since_it_counts_its_edge() -> None:
    options = {"pool_size": [2, 2], "strides": [1, 1], "padding": [1, 1, 0, 0], "clamp_min": -128, "clamp_max": 127}
    module = integer(lambda x: integer_ops.avg_pool2d(x, **options), SHAPE)
    assert same(SplitPadding()(module), module)


def test_twice_is_once_and_the_module_that_comes_in_stays(rng: np.random.Generator) -> None:
    module = conv2d(rng, SHAPE, FILTERS, padding=[1, 1, 1, 1])
    before = module.script(show_meta=True)
    once = SplitPadding()(module)
    assert same(SplitPadding()(once), once)
    assert once.attrs["tinyml.reference"] == "tflite"
    assert module.script(show_meta=True) == before
