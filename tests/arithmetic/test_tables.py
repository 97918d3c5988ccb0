from __future__ import annotations

import math

import numpy as np
import pytest

from tvm_tinyml.arithmetic import (
    hard_swish_table,
    leaky_relu_table,
    logistic_table,
    relu6_table,
    relu_table,
    requantize_table,
    softmax_exp_table,
    table_of,
    tanh_table,
)
from tvm_tinyml.errors import ModelError


def test_tables_are_near_the_real_functions() -> None:
    for scale, zero_point in [(0.03, 0), (0.1, -128), (0.01, 127), (0.05, 17)]:
        quantization = (scale, zero_point)
        exact = {
            "logistic": table_of(lambda x: 1 / (1 + np.exp(-x)), *quantization, 1 / 256, -128),
            "tanh": table_of(np.tanh, *quantization, 1 / 128, 0),
            "relu": table_of(lambda x: np.maximum(x, 0), *quantization, 0.04, -9),
            "leaky_relu": table_of(lambda x: np.where(x > 0, x, 0.1 * x), *quantization, 0.04, -9),
            "hard_swish": table_of(lambda x: x * np.clip(x + 3, 0, 6) / 6, *quantization, 0.04, -9),
            "relu6": table_of(lambda x: np.clip(x, 0, 6), *quantization, *quantization),
            "requantize": table_of(lambda x: x, *quantization, 0.04, -9),
        }
        ours = {
            "logistic": logistic_table(*quantization),
            "tanh": tanh_table(*quantization),
            "relu": relu_table(*quantization, 0.04, -9),
            "leaky_relu": leaky_relu_table(*quantization, 0.04, -9, 0.1),
            "hard_swish": hard_swish_table(*quantization, 0.04, -9),
            "relu6": relu6_table(*quantization),
            "requantize": requantize_table(*quantization, 0.04, -9),
        }
        for name, table in ours.items():
            assert table.dtype == np.int8
            assert table.shape == (256,)
            assert np.max(np.abs(table.astype(int) - exact[name])) <= 1, name


def test_table_of_rounds_halves_away_from_zero_and_clamps() -> None:
    assert table_of(lambda x: x / 2, 1.0, 0, 1.0, 0)[128 - 3 : 128 + 4].tolist() == [-2, -1, -1, 0, 1, 1, 2]
    with_infinities = table_of(lambda x: 1 / x, 1.0, 0, 1e-3, 0)
    assert (with_infinities[127], with_infinities[128], with_infinities[129]) == (-128, 127, 127)


def test_function_without_a_value_is_refused() -> None:
    with pytest.raises(ModelError, match="no value at input -128"):
        table_of(np.sqrt, 1.0, 0, 1.0, 0)


def test_requantizing_to_the_same_scale_only_moves_the_type() -> None:
    assert requantize_table(0.1, -3, 0.1, 125, "int8", "uint8").tolist() == list(range(256))
    assert requantize_table(0.1, 125, 0.1, -3, "uint8", "int8").tolist() == list(range(-128, 128))


def test_exponentials_of_softmax_fall_from_one_to_zero() -> None:
    table = softmax_exp_table(0.2)
    assert table.dtype == np.int32
    assert table[0] == 2**31 - 1
    assert np.all(np.diff(table.astype(np.int64)) <= 0)
    assert np.max(np.abs(table / 2.0**31 - np.exp(-0.2 * np.arange(256)))) < 1e-6
    assert np.all(table[math.ceil(32 / 0.2) :] == 0)


def test_softmax_of_a_vanishing_scale_is_refused() -> None:
    with pytest.raises(ModelError, match=r"beta \* input scale is 1e-08, it must be above"):
        softmax_exp_table(1e-8)


def test_hard_swish_beyond_16_bits_is_refused() -> None:
    with pytest.raises(ModelError, match=r"input scale 1.0 and output scale 0.001 .* in \[2\*\*-9, 128\)"):
        hard_swish_table(1.0, 0, 0.001, 0)
