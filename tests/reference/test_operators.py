"""What the interpreter cannot show: wrapping accumulators, refusals, types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tvm_tinyml import reference
from tvm_tinyml.arithmetic import fold_input_offset, quantize_multiplier
from tvm_tinyml.errors import ModelError


def test_accumulators_wrap_to_32_bits() -> None:
    x, w = np.full((1, 1), 127, np.int8), np.full((1, 1), 127, np.int8)
    one = quantize_multiplier(2.0**-24)
    below = reference.dense(x, w, np.array([2**31 - 1 - 127 * 127], np.int32), *one)
    above = reference.dense(x, w, np.array([2**31 - 127 * 127], np.int32), *one)
    assert (int(below[0, 0]), int(above[0, 0])) == (127, -128)


def test_sums_beyond_24_bits_are_exact(rng: np.random.Generator) -> None:
    x, w = np.full((1, 2000), 127, np.int8), rng.integers(120, 128, (64, 2000)).astype(np.int8)
    sums = (x.astype(np.int64) @ w.T.astype(np.int64))[0]
    wanted = np.arange(-32, 32)
    result = reference.dense(x, w, (wanted - sums).astype(np.int32), *quantize_multiplier(1.0))
    assert result[0].tolist() == wanted.tolist()


def test_folded_offset_is_the_offset_of_each_product(rng: np.random.Generator) -> None:
    x = rng.integers(-128, 128, (1, 7, 6, 4)).astype(np.int8)
    w = rng.integers(-128, 128, (3, 3, 3, 4)).astype(np.int8)
    multiplier, shift = np.full(3, 2**30, np.int32), np.full(3, -9, np.int32)
    bias = fold_input_offset(np.array([5, -7, 0]), w, -11)
    ours = reference.conv2d(x, w, bias, multiplier, shift, padding=(1, 1, 1, 1), input_zero_point=-11)

    centred = np.pad(x.astype(np.int64) + 11, ((0, 0), (1, 1), (1, 1), (0, 0)))
    exact = np.zeros((1, 7, 6, 3), np.int64)
    for i, j in np.ndindex(3, 3):
        exact += np.einsum("nhwc,oc->nhwo", centred[:, i : i + 7, j : j + 6], w[:, i, j].astype(np.int64))
    expected = np.clip(np.floor((exact + np.array([5, -7, 0])) / 2**10 + 0.5), -128, 127)
    assert np.max(np.abs(ours - expected)) <= 1  # two roundings against one


def test_depthwise_equals_a_dense_convolution_with_zeros_between(rng: np.random.Generator) -> None:
    x = rng.integers(-128, 128, (2, 6, 5, 3)).astype(np.int8)
    w = rng.integers(-128, 128, (6, 3, 2, 1)).astype(np.int8)
    full = np.zeros((6, 3, 2, 3), np.int8)
    for output in range(6):
        full[output, :, :, output // 2] = w[output, :, :, 0]
    scaling = (np.zeros(6, np.int32), np.full(6, 2**30, np.int32), np.full(6, -7, np.int32))
    depthwise = reference.conv2d(x, w, *scaling, groups=3, strides=(2, 1))
    assert np.array_equal(depthwise, reference.conv2d(x, full, *scaling, strides=(2, 1)))


@pytest.mark.parametrize("zero_point", [-128, 4])
def test_transposed_convolution_is_a_convolution_of_the_input_with_zeros_between_its_elements(zero_point: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(-128, 128, (2, 4, 5, 6)).astype(np.int8)
    w = rng.integers(-128, 128, (4, 3, 2, 3)).astype(np.int8)
    bias, scaling = rng.integers(-999, 999, 4).astype(np.int32), (np.full(4, 2**30, np.int32), np.full(4, -7, np.int32))
    spread = np.full((2, 4 * 3, 5 * 2, 6), zero_point, np.int8)
    spread[:, ::3, ::2] = x
    spread = spread[:, : 3 * 3 + 1, : 4 * 2 + 1]
    options: dict[str, Any] = {"groups": 2, "dilation": (2, 1), "input_zero_point": zero_point}
    # The full result needs a border of 4 and 1; 1, 0, 2, 1 of that are cut off, then 1 row is added.
    folded = fold_input_offset(bias, w, zero_point)
    expected = reference.conv2d(spread, w[:, ::-1, ::-1], folded, *scaling, padding=(3, 1, 3, 0), **options)
    options |= {"strides": (3, 2), "padding": (1, 0, 2, 1), "output_padding": (1, 0)}
    assert np.array_equal(reference.conv2d_transpose(x, w, bias, *scaling, **options), expected)


def test_lookup_takes_the_type_of_its_table() -> None:
    table = np.arange(256, dtype=np.uint8)
    assert reference.lookup(np.array([-128, 127], np.int8), table).tolist() == [0, 255]
    assert reference.lookup(np.array([0, 255], np.uint8), table.view(np.int8)).tolist() == [0, -1]


def test_channels_that_do_not_fit_the_groups_are_refused() -> None:
    none = np.zeros(4, np.int32)
    with pytest.raises(ModelError, match=r"5 input channels, 2 groups, weights \(4, 1, 1, 3\): .* must have 6"):
        reference.conv2d(np.zeros((1, 2, 2, 5), np.int8), np.zeros((4, 1, 1, 3), np.int8), none, none, none, groups=2)


def test_channels_that_do_not_fit_the_groups_of_a_transposed_convolution_are_refused() -> None:
    none = np.zeros(4, np.int32)
    w = np.zeros((4, 1, 1, 3), np.int8)
    with pytest.raises(ModelError, match=r"5 input channels, 2 groups, weights \(4, 1, 1, 3\): .* must have 6"):
        reference.conv2d_transpose(np.zeros((1, 2, 2, 5), np.int8), w, none, none, none, groups=2)


def test_window_larger_than_its_input_is_refused() -> None:
    with pytest.raises(ModelError, match=r"window of \(3, 3\) .* larger than the padded input \(2, 2\)"):
        reference.max_pool2d(np.zeros((1, 2, 2, 1), np.int8), (3, 3))


def test_softmax_of_more_classes_than_its_sum_holds_is_refused() -> None:
    with pytest.raises(ModelError, match="4097 elements, the sum of exponentials holds 4096"):
        reference.softmax(np.zeros((1, 4097), np.int8), np.zeros(256, np.int32))


def test_split_sizes_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ModelError, match=r"sizes \[2, 2\] add up to 4, axis 1 has 5"):
        reference.split(np.zeros((1, 5)), [2, 2], 1)
