"""The integer dialect: shapes, types, attributes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import relax

from tests.passes.graphs import PLAIN, integer
from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.integer_ops import attributes_of, shape_of, span, window_extent

CONV: dict[str, Any] = {"groups": 1, "input_zero_point": 0, **PLAIN}
OPERANDS = [f"input{i}_{what}" for i in (1, 2) for what in ("zero_point", "multiplier", "shift")]
SUM = {**dict.fromkeys([*OPERANDS, "left_shift", "output_multiplier", "output_shift"], 1), **PLAIN}


def _per_channel(channels: int) -> list[relax.Expr]:
    return [relax.const(np.ones(channels, np.int32)) for _ in range(3)]


def _conv(x: relax.Expr, **window: Any) -> relax.Call:
    options = {"strides": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1], **window}
    weight = relax.const(np.ones((5, 3, 2, 4), np.int8))
    return integer_ops.conv2d(x, weight, *_per_channel(5), **options, **CONV)


def _transposed(x: relax.Expr, **window: Any) -> relax.Call:
    options: dict[str, Any] = {"strides": [1, 1], "padding": [0, 0, 0, 0], "output_padding": [0, 0]}
    options |= {"dilation": [1, 1], **window}
    weight = relax.const(np.ones((5, 3, 2, 4), np.int8))
    return integer_ops.conv2d_transpose(x, weight, *_per_channel(5), **options, **CONV)


def _pool(x: relax.Expr) -> relax.Call:
    limits = {"clamp_min": -128, "clamp_max": 127}
    return integer_ops.max_pool2d(x, pool_size=[3, 2], strides=[2, 3], padding=[1, 0, 1, 1], **limits)


def _mean_pool(x: relax.Expr) -> relax.Call:
    window = {"pool_size": [3, 2], "strides": [2, 3], "padding": [1, 0, 1, 1]}
    scaling = {"input_zero_point": 0, "left_shift": 0, "multiplier": 1, "shift": 0}
    return integer_ops.mean_pool2d(x, **window, **scaling, **PLAIN)


def _mean(keepdims: int, axes: list[int]) -> Callable[[relax.Expr], relax.Call]:
    return lambda x: integer_ops.mean(
        x, axes=axes, keepdims=keepdims, input_zero_point=0, left_shift=0, multiplier=1, shift=0, **PLAIN
    )


SHAPES: dict[str, tuple[Callable[..., relax.Call], list[tuple[int, ...]], list[int]]] = {
    "conv2d": (_conv, [(2, 9, 8, 4)], [2, 7, 7, 5]),
    "conv2d with strides": (lambda x: _conv(x, strides=[2, 3]), [(1, 9, 8, 4)], [1, 4, 3, 5]),
    "conv2d with padding": (lambda x: _conv(x, padding=[1, 2, 3, 4]), [(1, 9, 8, 4)], [1, 11, 13, 5]),
    "conv2d with dilation": (lambda x: _conv(x, dilation=[2, 3]), [(1, 9, 8, 4)], [1, 5, 5, 5]),
    "conv2d_transpose": (lambda x: _transposed(x), [(2, 5, 6, 4)], [2, 7, 7, 5]),
    "conv2d_transpose with strides": (lambda x: _transposed(x, strides=[2, 3]), [(1, 5, 6, 4)], [1, 11, 17, 5]),
    "conv2d_transpose with padding": (lambda x: _transposed(x, padding=[1, 2, 0, 3]), [(1, 5, 6, 4)], [1, 6, 2, 5]),
    "conv2d_transpose with output padding": (
        lambda x: _transposed(x, strides=[2, 2], output_padding=[1, 0]),
        [(1, 5, 6, 4)],
        [1, 12, 12, 5],
    ),
    "conv2d_transpose with dilation": (lambda x: _transposed(x, dilation=[2, 3]), [(1, 5, 6, 4)], [1, 9, 9, 5]),
    "dense": (
        lambda x: integer_ops.dense(x, relax.const(np.ones((7, 4), np.int8)), *_per_channel(7), **PLAIN),
        [(3, 4)],
        [3, 7],
    ),
    "add of unequal ranks": (lambda x, y: integer_ops.add(x, y, **SUM), [(2, 3, 1), (3, 5)], [2, 3, 5]),
    "subtract": (lambda x, y: integer_ops.subtract(x, y, **SUM), [(1, 4), (6, 1)], [6, 4]),
    "max_pool2d": (_pool, [(1, 6, 7, 3)], [1, 3, 3, 3]),
    "mean_pool2d": (_mean_pool, [(1, 6, 7, 3)], [1, 3, 3, 3]),
    "mean that keeps its axes": (_mean(1, [1, 2]), [(2, 3, 4, 5)], [2, 1, 1, 5]),
    "mean that drops its axes": (_mean(0, [0, 3]), [(2, 3, 4, 5)], [3, 4]),
    "mean of everything": (_mean(0, [0, 1]), [(3, 4)], []),
    "interpolate": (lambda x: integer_ops.interpolate(x, relax.const(np.zeros(513, np.int16))), [(2, 3)], [2, 3]),
    "slopes": (lambda x: integer_ops.slopes(x, magnitude=0, multipliers=[1, 2], shifts=[3, 4]), [(2, 3)], [2, 3]),
    "lookup": (lambda x: integer_ops.lookup(x, relax.const(np.zeros(256, np.int8))), [(2, 3)], [2, 3]),
    "softmax": (
        lambda x: integer_ops.softmax(x, relax.const(np.zeros(256, np.int32)), multiplier=1, shift=0, **PLAIN),
        [(2, 3)],
        [2, 3],
    ),
    "pad2d": (lambda x: integer_ops.pad2d(x, padding=[1, 2, 3, 4], value=0), [(1, 5, 6, 2)], [1, 9, 12, 2]),
    "gather2d": (
        lambda x: integer_ops.gather2d(x, *(relax.const(np.zeros(n, np.int32)) for n in (7, 9))),
        [(1, 5, 6, 2)],
        [1, 7, 9, 2],
    ),
    "view": (lambda x: integer_ops.view(x, begin=6, shape=[2, 3]), [(5, 3)], [2, 3]),
    "join": (lambda x, y: integer_ops.join(x, y, shape=[5, 3]), [(2, 3), (3, 3)], [5, 3]),
    "channels": (lambda x: integer_ops.channels(x, begin=1, step=5, shape=[4, 2]), [(4, 5)], [4, 2]),
    "interleave": (lambda x, y: integer_ops.interleave(x, y, step=9), [(1, 4, 5, 3), (1, 4, 5, 2)], [1, 4, 5, 5]),
    "spread": (lambda x: integer_ops.spread(x, step=9, copied=1), [(1, 4, 5, 3)], [1, 4, 5, 3]),
}


@pytest.mark.parametrize("case", SHAPES)
def test_the_shape_of_a_result_follows_from_arguments_and_attributes(case: str) -> None:
    call, shapes, expected = SHAPES[case]
    main = integer(call, *shapes)["main"]
    assert shape_of(main.body.body) == expected
    assert str(main.body.body.ty.dtype) == "int8"


def test_a_lookup_has_the_type_of_its_table() -> None:
    table = relax.const(np.zeros(256, np.uint8))
    main = integer(lambda x: integer_ops.lookup(x, table), (2, 3), dtype="int8")["main"]
    assert str(main.body.body.ty.dtype) == "uint8"


def test_a_span_ends_with_the_last_pixel() -> None:
    assert span([2, 3, 4, 5], 5) == 2 * 3 * 4 * 5
    assert span([2, 3, 4, 5], 7) == (2 * 3 * 4 - 1) * 7 + 5
    assert span([1, 1, 1, 5], 7) == 5


def test_windows_are_counted_as_one_by_one() -> None:
    for size in range(1, 12):
        for kernel in range(1, 4):
            for stride in range(1, 4):
                for pad in range(3):
                    for dilation in (1, 2):
                        reach = dilation * (kernel - 1) + 1
                        starts = [i for i in range(0, size + pad, stride) if i + reach <= size + pad]
                        if starts:
                            assert window_extent(size, kernel, stride, pad, dilation) == len(starts)


def test_a_missing_attribute_is_told_with_all_that_are_needed() -> None:
    x = relax.Var("x", relax.TensorType([1, 4, 4, 1], "int8"))
    with pytest.raises(AssertionError, match=r"pad2d takes \('padding', 'value'\), got \['padding'\]"):
        integer_ops.pad2d(x, padding=[0, 0, 0, 0])


def test_an_attribute_too_many_is_told() -> None:
    x = relax.Var("x", relax.TensorType([1, 4], "int8"))
    with pytest.raises(AssertionError, match=r"lookup takes \(\), got \['value'\]"):
        integer_ops.lookup(x, relax.const(np.zeros(256, np.int8)), value=3)


def test_a_missing_tensor_is_told_with_all_that_are_needed() -> None:
    x = relax.Var("x", relax.TensorType([1, 4], "int8"))
    with pytest.raises(AssertionError, match=r"softmax takes \('x', 'table'\)"):
        integer_ops.softmax(x)


def test_attributes_come_back_as_python_integers_and_lists() -> None:
    x = relax.Var("x", relax.TensorType([1, 4, 4, 1], "int8"))
    call = integer_ops.pad2d(x, padding=(1, 2, 3, 4), value=-128)
    assert attributes_of(call) == {"padding": [1, 2, 3, 4], "value": -128}


def test_every_operator_is_pure_so_that_unused_ones_are_dropped() -> None:
    operators = [value for value in vars(integer_ops).values() if isinstance(value, integer_ops.IntegerOp)]
    assert len(operators) == 28
    assert all(operator.op.get_attr("FPurity") for operator in operators)
