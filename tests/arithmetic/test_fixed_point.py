"""The primitives against exact rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from tvm_tinyml.arithmetic import (
    doubling_high_multiply,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    reciprocal,
    rounding_right_shift,
    saturating_left_shift,
)
from tvm_tinyml.arithmetic.fixed_point import exp_of_negative, logistic, tanh
from tvm_tinyml.errors import ModelError

LOW, HIGH = -(2**31), 2**31 - 1
EXTREMES = [
    LOW,
    LOW + 1,
    -(2**30) - 1,
    -(2**30),
    -(2**30) + 1,
    -3,
    -2,
    -1,
    0,
    1,
    2,
    3,
    2**30 - 1,
    2**30,
    HIGH - 1,
    HIGH,
]


def clamp(value: int) -> int:
    return max(LOW, min(HIGH, value))


def exact_high_multiply(x: int, m: int) -> int:
    return clamp(math.floor(Fraction(x * m, 2**31) + Fraction(1, 2)))


def exact_right_shift(x: int, s: int) -> int:
    magnitude = math.floor(Fraction(abs(x), 2**s) + Fraction(1, 2))
    return magnitude if x >= 0 else -magnitude


def values(rng: np.random.Generator, count: int) -> list[int]:
    """Extremes, and random numbers of every magnitude."""
    random = rng.integers(LOW, HIGH + 1, count) >> rng.integers(0, 32, count)
    return EXTREMES + [int(v) for v in random]


def test_doubling_high_multiply_rounds_to_nearest_and_halves_up(rng: np.random.Generator) -> None:
    xs, ms = values(rng, 300), values(rng, 300)
    result = doubling_high_multiply(np.array(xs)[:, None], np.array(ms)[None])
    assert result.dtype == np.int32
    assert result.tolist() == [[exact_high_multiply(x, m) for m in ms] for x in xs]


def test_only_the_product_of_the_lowest_numbers_saturates() -> None:
    assert int(doubling_high_multiply(LOW, LOW)) == HIGH
    assert int(doubling_high_multiply(LOW, HIGH)) == LOW + 1


def test_rounding_right_shift_rounds_halves_away_from_zero(rng: np.random.Generator) -> None:
    xs = values(rng, 300)
    for s in range(32):
        halves = [x for k in (-3, -2, -1, 0, 1, 2) if LOW <= (x := (2 * k + 1) * 2**s // 2) <= HIGH]
        expected = [exact_right_shift(x, s) for x in xs + halves]
        assert rounding_right_shift(xs + halves, s).tolist() == expected, f"shift {s}"


def test_right_shift_by_zero_is_the_identity() -> None:
    assert rounding_right_shift(EXTREMES, 0).tolist() == EXTREMES


def test_left_shift_saturates(rng: np.random.Generator) -> None:
    xs = values(rng, 300)
    for s in range(32):
        assert saturating_left_shift(xs, s).tolist() == [clamp(x << s) for x in xs], f"shift {s}"


def test_multiply_by_quantized_multiplier_shifts_left_first_and_right_last(rng: np.random.Generator) -> None:
    xs = np.array(values(rng, 200))
    for shift in range(-31, 31):
        for multiplier in (0, 2**30, 2**30 + 1, HIGH, int(rng.integers(2**30, 2**31))):
            result = multiply_by_quantized_multiplier(xs, multiplier, shift)
            expected = [
                exact_right_shift(exact_high_multiply(clamp(int(x) << max(shift, 0)), multiplier), max(-shift, 0))
                for x in xs
            ]
            assert result.tolist() == expected, f"multiplier {multiplier}, shift {shift}"


def test_multipliers_of_channels_broadcast() -> None:
    x = np.array([[100, 100], [-100, -100]])
    result = multiply_by_quantized_multiplier(x, np.array([2**30, 2**30], np.int32), np.array([0, 2], np.int32))
    assert result.tolist() == [[50, 200], [-50, -200]]


def test_quantized_multiplier_is_the_nearest_with_31_bits(rng: np.random.Generator) -> None:
    for scale in np.exp2(rng.uniform(-31.9, 29.9, 2000)):
        multiplier, shift = quantize_multiplier(float(scale))
        assert 2**30 <= multiplier < 2**31
        assert -31 <= shift <= 30
        error = abs(Fraction(multiplier) * Fraction(2) ** (shift - 31) - Fraction(float(scale)))
        assert error <= Fraction(2) ** (shift - 32)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (0.0, (0, 0)),
        (1.0, (2**30, 1)),
        (0.5, (2**30, 0)),
        (1.0 - 2.0**-40, (2**30, 1)),  # the mantissa rounds up to 2**31
        (-0.25, (-(2**30), -1)),
        (2.0**-32, (2**30, -31)),
        (2.0**-32 * 0.99, (0, 0)),
        (2.0**-32 * (1 - 2.0**-40), (2**30, -31)),  # rounds up into the range
        (5e-324, (0, 0)),
        (3.0, (3 * 2**29, 2)),
    ],
)
def test_quantized_multiplier_at_the_edges(scale: float, expected: tuple[int, int]) -> None:
    assert quantize_multiplier(scale) == expected


@pytest.mark.parametrize("scale", [math.nan, math.inf, 2.0**30])
def test_scale_that_has_no_multiplier_is_refused(scale: float) -> None:
    with pytest.raises(ModelError, match=rf"scale is {scale}, its magnitude must be below 2\*\*30"):
        quantize_multiplier(scale)


def test_exp_logistic_and_tanh_are_close_to_the_real_functions(rng: np.random.Generator) -> None:
    for integer_bits in (0, 4, 5):
        raw = np.array([v for v in values(rng, 2000) if v <= 0])
        real = raw / 2.0 ** (31 - integer_bits)
        assert np.max(np.abs(exp_of_negative(raw, integer_bits) / 2.0**31 - np.exp(real))) < 1e-6
    raw = np.array(values(rng, 2000))
    real = raw / 2.0**27
    assert np.max(np.abs(logistic(raw, 4) / 2.0**31 - 1 / (1 + np.exp(-real)))) < 1e-6
    assert np.max(np.abs(tanh(raw, 4) / 2.0**31 - np.tanh(real))) < 1e-6


def test_reciprocal_is_a_mantissa_and_bits(rng: np.random.Generator) -> None:
    raw = np.array([v for v in values(rng, 2000) if v > 0])
    mantissa, bits = reciprocal(raw, 12)
    exact = 2.0**19 / raw
    assert np.max(np.abs(mantissa / 2.0**31 * np.exp2(-bits) / exact - 1)) < 1e-7
    assert np.all(mantissa >= 2**30 - 8)  # the last Newton step leaves a few units
