"""How sums of int16 inputs are held and scaled: as cheap as weights, biases and shifts allow, exact at the bounds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tvm_tinyml.arithmetic import multiply_by_reduced_multiplier
from tvm_tinyml.passes.kernels.epilogue import LONG, MOST_RIGHT, SHORT, Scaling

MULTIPLIER = np.array([2**30 + 12345, 2**31 - 2**20], np.int32)


def scaling(weight: int, length: int, shift: list[int], bias: int = 0, dtype: str = "int64") -> Scaling:
    """Return the scaling of a layer of two channels whose weights are all equal."""
    weights = np.full((2, length), weight, np.int8)
    return Scaling.of("int16", weights, np.full(2, bias, dtype), MULTIPLIER, np.array(shift, np.int32))


def test_sums_that_fit_32_bits_are_held_in_32() -> None:
    fits = 2**31 // (127 * 2**15)
    assert scaling(127, fits, [-5, -9]).accumulator == "int32"
    assert scaling(127, fits, [-5, -9]).helper == SHORT
    beyond = scaling(127, fits + 1, [-5, -9])
    assert (beyond.accumulator, beyond.helper, beyond.takes) == ("int64", LONG, "int64")


def test_a_bias_counts_among_the_sums() -> None:
    assert scaling(1, 1, [-5, -9], bias=2**31 - 2**15).accumulator == "int32"
    assert scaling(1, 1, [-5, -9], bias=2**31 - 2**15 + 1).accumulator == "int64"


def test_shifts_to_the_left_come_before_the_multiplication_where_there_is_room() -> None:
    found = scaling(1, 4, [2, -3])
    assert (found.helper, found.left) == (SHORT, 3)
    assert scaling(127, 500, [2, -3]).helper == LONG


def test_shifts_that_no_multiplier_has_room_for_are_long() -> None:
    assert scaling(1, 1, [-1, -1 - MOST_RIGHT]).helper == SHORT
    assert scaling(1, 1, [-1, -2 - MOST_RIGHT]).helper == LONG


@pytest.mark.parametrize("length", [4, 2000])
def test_a_narrow_bias_asks_for_sums_that_wrap(length: int) -> None:
    found = scaling(127, length, [-5, -9], dtype="int32")
    assert found.takes == "int32"
    assert found.helper in ("tinyml_requantize_right", "tinyml_requantize")
    assert found.accumulator == ("int32" if length == 4 else "int64")


def short(found: Scaling, sums: NDArray[np.int64], channel: int) -> list[int]:
    multiplier = int(found.factors["multiplier"][channel])
    assert multiplier % 2 == 0
    return [((int(x) << found.left) * multiplier + 2**31) >> 32 for x in sums]


@pytest.mark.parametrize("shift", [[0, -15], [1, -14], [-1, -16], [-7, -7]])
def test_one_multiplication_is_what_the_reference_computes(shift: list[int], rng: np.random.Generator) -> None:
    found = scaling(3, 20, shift)
    assert found.helper == SHORT
    largest = 3 * 20 * 2**15
    sums = np.concatenate([rng.integers(-largest, largest + 1, 2000), np.arange(-50, 50), [-largest, largest]])
    for channel in range(2):
        expected = multiply_by_reduced_multiplier(sums, MULTIPLIER[channel], shift[channel])
        assert short(found, sums, channel) == expected.tolist()
