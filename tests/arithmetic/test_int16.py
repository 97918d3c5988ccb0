"""Scaling of 64-bit sums and the points of int16 functions, against exact numbers."""

from __future__ import annotations

import numpy as np
import pytest

from tvm_tinyml.arithmetic import (
    add_parameters,
    check_long_sums,
    interpolated,
    multiply_by_reduced_multiplier,
    reduced_multiplier,
    sigmoid_input_parameters,
    sigmoid_points,
    softmax_tables,
)
from tvm_tinyml.errors import ModelError

ONES = np.ones((2, 4), np.int8)


def test_a_reduced_multiplier_is_the_nearest_with_15_bits_but_below_one() -> None:
    multipliers = [0, 2**30, 2**30 + 2**15 - 1, 2**30 + 2**15, 2**31 - 2**16, 2**31 - 2**15, 2**31 - 1]
    assert reduced_multiplier(multipliers).tolist() == [0, 2**14, 2**14, 2**14 + 1, 32767, 32767, 32767]


def test_sums_of_64_bits_are_rounded_once_and_halves_up(rng: np.random.Generator) -> None:
    sums = [-(2**47), 2**47 - 1, -3, -1, 0, 1, 3, *rng.integers(-(2**47), 2**47, 200).tolist()]
    for shift in range(-31, 8):
        for multiplier in (2**30, 2**31 - 1, int(rng.integers(2**30, 2**31))):
            reduced, right = int(reduced_multiplier(multiplier)), 15 - shift
            exact = [(x * reduced + 2 ** (right - 1)) >> right for x in sums]
            wrapped = [(x + 2**31) % 2**32 - 2**31 for x in exact]
            assert multiply_by_reduced_multiplier(sums, multiplier, shift).tolist() == wrapped


def test_points_of_the_logistic_function_are_within_a_unit_and_end_at_the_largest_number() -> None:
    exact = 65536 / (1 + np.exp(-np.arange(256) / 24))
    assert np.abs(sigmoid_points()[:-1] - exact[:-1]).max() < 1.5
    assert sigmoid_points()[-1] == 65535


def test_interpolated_functions_of_softmax_stay_within_a_few_units_of_exact_ones() -> None:
    x = np.arange(-(2**15), 2**15)
    exponential, reciprocal = (interpolated(x, table) for table in softmax_tables())
    assert np.abs(exponential - 32767.5 * np.exp((x - 32767) * 10 / 65535)).max() < 6
    assert np.abs(reciprocal - 32767.5 / (1 + (x + 32768) / 65535)).max() < 2


@pytest.mark.parametrize("scale", [2.0**-29, 8 / 3, float("nan")])
def test_scales_that_the_logistic_function_cannot_take_are_refused(scale: float) -> None:
    with pytest.raises(ModelError, match="scale"):
        sigmoid_input_parameters(scale, "logistic")


def test_scales_of_sums_that_64_bits_do_not_take_are_refused() -> None:
    check_long_sums(ONES, np.zeros(2, np.int64), np.array([7, -31], np.int32))
    with pytest.raises(ModelError, match="channel 1 is 128 or more"):
        check_long_sums(ONES, np.zeros(2, np.int64), np.array([7, 8], np.int32))


def test_sums_beyond_47_bits_are_refused() -> None:
    largest = 2**47 - 4 * 2**15
    check_long_sums(ONES, np.array([0, largest - 1]), np.zeros(2, np.int32))
    for bias in (largest, -largest, -(2**63)):
        with pytest.raises(ModelError, match=r"the sum of channel 1 may reach \d+, it must stay below 2\*\*47"):
            check_long_sums(ONES, np.array([0, bias]), np.zeros(2, np.int32))


def test_sums_of_int16_are_raised_by_15_bits() -> None:
    assert add_parameters(1.0, 1.0, 1.0, "int16").left_shift == 15
    with pytest.raises(ModelError, match="must be below 32768"):
        add_parameters(1.0, 1.0, 2.0**-15, "int16")
