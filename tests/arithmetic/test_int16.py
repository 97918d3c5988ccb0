"""Scaling of 64-bit sums and the points of int16 functions, against exact numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tvm_tinyml.arithmetic import (
    add_parameters,
    check_long_sums,
    exp_points,
    function_points,
    interpolated,
    multiply_by_reduced_multiplier,
    reduced_multiplier,
    sigmoid_input_parameters,
    sigmoid_points,
    softmax_tables,
)
from tvm_tinyml.errors import ModelError

Real = Callable[[np.ndarray], np.ndarray]

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


REAL: dict[str, Real] = {
    "exp": np.exp,
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "sine": np.sin,
    "cube": lambda x: x**3,
}
NUMBERS = np.arange(-(2**15), 2**15)


def missed_by_lines(values: np.ndarray) -> float:
    """Return the most by which straight lines between every 128th of 65537 values miss one of them."""
    positions = np.arange(len(values))
    return float(np.abs(np.interp(positions, positions[::128], values[::128]) - values).max())


@pytest.mark.parametrize("reach", [0.7, 3.3, 10.0, 41.0])
@pytest.mark.parametrize("name", REAL)
def test_a_function_by_points_is_off_by_half_of_what_straight_lines_miss(name: str, reach: float) -> None:
    scale = float(np.float32(reach / 32767))
    real = REAL[name](np.append(NUMBERS, 2**15) * scale)
    output = float(np.float32(1.1 * np.abs(real).max() / 32767))  # no element is at an end of the range
    error = interpolated(NUMBERS, function_points(REAL[name], scale, output)) - real[:-1] / output
    assert np.abs(error).max() <= missed_by_lines(real / output) / 2 + 1


@pytest.mark.parametrize("name", REAL)
def test_at_the_ends_of_the_range_it_is_off_by_what_straight_lines_miss(name: str) -> None:
    scale = float(np.float32(5 / 32767))
    real = REAL[name](np.append(NUMBERS, 2**15) * scale)
    output = float(np.float32(0.4 * np.abs(real).max() / 32767))
    inside = np.clip(real / output, -32768, 32767)
    result = interpolated(NUMBERS, function_points(REAL[name], scale, output))
    assert (result.min(), result.max()) == (round(inside.min()), 32767)
    assert np.abs(result - inside[:-1]).max() <= missed_by_lines(inside) + 1


def test_a_function_that_is_a_line_is_exact() -> None:
    half, same = (interpolated(NUMBERS, function_points(lambda x, a=a: a * x, 0.1, 0.1)) for a in (0.5, 1.0))
    assert half.tolist() == [(n + 1) >> 1 for n in NUMBERS]
    assert same[:-128].tolist() == NUMBERS[:-128].tolist()  # the last point would be 32768


def test_points_of_exp_as_tflite_has_them_are_one_input_off_at_most() -> None:
    scale, output = 3 / 32767, float(np.exp(3)) / 32767
    exact, result = np.exp(NUMBERS * scale) / output, interpolated(NUMBERS, exp_points(scale, output))
    assert np.abs(result - exact).max() <= 2 + 32767 * scale  # the slope at the end


def test_functions_that_are_infinite_somewhere_clamp_there() -> None:
    for points in (function_points(np.exp, 1.0, 1.0), exp_points(1.0, 1.0), exp_points(0.01, 1.0)):
        assert points[[0, -1]].tolist() == [0, 32767]
        assert (np.diff(points[257:].astype(int)) >= 0).all()


@pytest.mark.parametrize(
    ("function", "what", "number"), [(np.log, "log", "-32768"), (lambda x: np.sqrt(5 - x), "the function", "6")]
)
def test_functions_without_a_value_are_refused(function: Real, what: str, number: str) -> None:
    with pytest.raises(ModelError, match=rf"{what} of int16: it has no value at {number}, .* Restrict its range"):
        function_points(function, 1.0, 1.0, what)


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
