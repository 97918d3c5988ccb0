from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tvm_tinyml.arithmetic import (
    activation_range,
    add_parameters,
    conv_parameters,
    dense_parameters,
    fold_input_offset,
    mean_parameters,
    mul_parameters,
    multiply_by_quantized_multiplier,
    nearest_indices,
    quantize_multiplier,
    raised_parameters,
    requantize_parameters,
    round_half_away,
    window,
)
from tvm_tinyml.errors import ModelError


def test_one_weight_scale_serves_all_channels() -> None:
    multiplier, shift = conv_parameters(0.5, [0.25], 1.0, 3)
    assert multiplier.tolist() == [2**30] * 3
    assert shift.tolist() == [-2] * 3
    assert multiplier.dtype == shift.dtype == np.int32


def test_each_channel_has_its_multiplier() -> None:
    multiplier, shift = conv_parameters(1.0, [0.5, 0.75, 8.0], 1.0, 3)
    assert list(zip(multiplier.tolist(), shift.tolist(), strict=True)) == [
        quantize_multiplier(s) for s in (0.5, 0.75, 8.0)
    ]


def test_scales_are_float32() -> None:
    single = float(np.float32(0.1))
    assert requantize_parameters(0.1, 0.3) == quantize_multiplier(single / float(np.float32(0.3)))
    assert mul_parameters(0.1, 0.1, 0.3) == quantize_multiplier(single * single / float(np.float32(0.3)))


def test_number_of_weight_scales_is_checked() -> None:
    with pytest.raises(ModelError, match=r"weights have 2 scales, they must have 1 or one per channel \(3\)"):
        conv_parameters(1.0, [1.0, 2.0], 1.0, 3)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_scale_that_is_not_positive_is_refused(scale: float) -> None:
    with pytest.raises(ModelError, match=r"scale of the input is .*, it must be finite and above 0"):
        requantize_parameters(scale, 1.0)
    with pytest.raises(ModelError, match="weight scale of channel 1 is"):
        dense_parameters(1.0, [1.0, scale], 1.0, 2)


def test_folding_wraps_as_the_accumulator_does() -> None:
    weights = np.full((1, 2), 127, np.int8)
    assert fold_input_offset(np.array([2**31 - 1], np.int32), weights, -1).tolist() == [-(2**31) + 253]
    assert fold_input_offset(None, weights, 3).tolist() == [-762]


def test_larger_input_of_an_addition_is_halved() -> None:
    parameters = add_parameters(0.5, 0.125, 0.25)
    assert (parameters.a_multiplier, parameters.a_shift) == (2**30, 0)
    assert (parameters.b_multiplier, parameters.b_shift) == (2**30, -2)
    assert (parameters.output_multiplier, parameters.output_shift) == (2**30, 3 - 20)


def test_addition_with_a_far_too_small_output_scale_is_refused() -> None:
    with pytest.raises(ModelError, match=r"input scale is 2097152\.0 output scales, it must be below 1048576"):
        add_parameters(1.0, 1.0, 2.0**-20)


def test_count_of_a_mean_moves_into_the_multiplier() -> None:
    for count in (1, 2, 3, 9, 49, 125, 576, 2**20 + 1):
        multiplier, shift = mean_parameters(0.3, 0.2, count)
        scale = Fraction(multiplier) * Fraction(2) ** (shift - 31)
        whole, whole_shift = requantize_parameters(0.3, 0.2)
        exact = Fraction(whole) * Fraction(2) ** (whole_shift - 31) / count
        assert 0 <= exact - scale < exact * Fraction(1, 2**29)


def test_raising_uses_the_room_that_there_is_and_keeps_the_scale() -> None:
    for scale in (2.0**-31, 1e-6, 0.001, 0.3, 0.5, 1.0, 77.7):
        for largest in (1, 255, 255**2, 2**30 - 1, 2**31 - 1):
            left_shift, multiplier, shift = raised_parameters(scale, largest)
            assert left_shift == 0 or largest << left_shift < 2**30
            assert left_shift == 0 or largest << left_shift >= 2**29 or shift == -31
            assert (multiplier, shift + left_shift) == quantize_multiplier(scale)


def test_a_raised_number_is_rounded_as_if_once() -> None:
    scale, numbers = 0.3 / 7, np.arange(-1785, 1786)
    left_shift, multiplier, shift = raised_parameters(scale, 1785)
    once = round_half_away(numbers * scale)
    raised = multiply_by_quantized_multiplier(numbers << left_shift, multiplier, shift)
    assert raised.tolist() == once.tolist()
    twice = multiply_by_quantized_multiplier(numbers, *quantize_multiplier(scale))
    assert 0.02 < np.mean(twice != once) < 2**-5  # the share that lies within 2**-5 below a half


@pytest.mark.parametrize(
    ("activation", "scale", "zero_point", "expected"),
    [
        ("NONE", 0.1, 5, (-128, 127)),
        ("RELU", 0.1, 5, (5, 127)),
        ("RELU", 0.1, -128, (-128, 127)),
        ("RELU6", 0.1, -10, (-10, 50)),
        ("RELU6", 0.01, -10, (-10, 127)),
        ("RELU_N1_TO_1", 0.1, 120, (110, 127)),
        ("RELU_N1_TO_1", 2.0, 0, (-1, 1)),  # halves go away from zero
        ("RELU6", 4.0, 127, (127, 127)),
    ],
)
def test_activation_range(activation: str, scale: float, zero_point: int, expected: tuple[int, int]) -> None:
    assert activation_range(activation, scale, zero_point) == expected


def test_activation_range_of_uint8() -> None:
    assert activation_range("RELU6", 0.1, 100, "uint8") == (100, 160)


def test_unknown_activation_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match="'TANH' is not one of NONE, RELU, RELU6, RELU_N1_TO_1"):
        activation_range("TANH", 1.0, 0)


def test_bound_that_exceeds_32_bits_is_refused() -> None:
    with pytest.raises(ModelError, match=r"6\.0 / 1e-09 does not fit 32 bits"):
        activation_range("RELU6", 1e-9, 0)


def test_window_sizes() -> None:
    assert window("SAME", 96, 3, 2) == (48, 0, 1)
    assert window("SAME", 49, 10, 2) == (25, 4, 5)
    assert window("SAME", 5, 1, 3) == (2, 0, 0)
    assert window("VALID", 5, 3, 2) == (2, 0, 0)
    assert window("VALID", 7, 3, 1, 2) == (3, 0, 0)
    with pytest.raises(ModelError, match="window of 5 elements does not fit an axis of 4"):
        window("VALID", 4, 3, 1, 2)
    with pytest.raises(ModelError, match="padding is 'FULL'"):
        window("FULL", 4, 3, 1)


def test_nearest_indices_of_an_enlargement_and_a_reduction() -> None:
    assert nearest_indices(2, 4, False, False).tolist() == [0, 0, 1, 1]
    assert nearest_indices(3, 5, True, False).tolist() == [0, 1, 1, 2, 2]
    assert nearest_indices(4, 2, False, True).tolist() == [1, 3]
    assert nearest_indices(3, 1, True, False).tolist() == [0]


def test_round_half_away() -> None:
    below = np.nextafter(0.5, 0)
    assert round_half_away([0.5, -0.5, 2.5, below, -below, 1e300]).tolist() == [1, -1, 3, 0, 0, 1e300]
