"""The real value of one element of an integer operator's result, before it is rounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from tvm_tinyml.passes.integer_ops import attributes_of, shape_of

Array = NDArray[Any]
FLOAT32 = Fraction(1, 2**24)
"""Largest relative error of one float32 operation."""
SOFTMAX_TERM = Fraction(1, 2**20)
"""Largest error of one exponential in the sum of softmax, which keeps 19 bits behind the point."""


@dataclass(frozen=True)
class Real:
    """An element before rounding, in units of the output, zero point not added.

    Attributes
    ----------
    value : accumulator times multiplier times 2**shift, exact.
    integer_error : how far from it our result may be rounded. The first of two roundings is to 2**shift, so it is half
        of that; for softmax it is what the rounded terms of its sum make.
    float_error : how far from it the same sum in float32 may be: (terms + 4) * 2**-24 of the sum of magnitudes, for
        each term one rounding, and four for the scales.
    """

    value: Fraction
    integer_error: Fraction
    float_error: Fraction


def real(call: relax.Call, args: Sequence[Array], index: tuple[int, ...]) -> Real | None:
    """Return element `index` of the result of `call`, None for an operator that does not round."""
    return _OPERATORS[call.op.name](call, args, index) if call.op.name in _OPERATORS else None


def _conv2d(call: relax.Call, args: Sequence[Array], index: tuple[int, ...]) -> Real:
    a, (n, y, v, o) = attributes_of(call), index
    kernel = args[1][o].astype(np.int64)
    (stride_h, stride_w), (dilation_h, dilation_w) = a["strides"], a["dilation"]
    rows = y * stride_h - a["padding"][0] + dilation_h * np.arange(kernel.shape[0])
    columns = v * stride_w - a["padding"][1] + dilation_w * np.arange(kernel.shape[1])
    first = o // (len(args[1]) // a["groups"]) * kernel.shape[2]
    inside = np.ix_((rows >= 0) & (rows < args[0].shape[1]), (columns >= 0) & (columns < args[0].shape[2]))
    window = np.full(kernel.shape, a["input_zero_point"], np.int64)
    there = np.ix_(rows[inside[0].ravel()], columns[inside[1].ravel()])
    window[inside] = args[0][n][there][..., first : first + kernel.shape[2]]
    return _contraction(window, kernel, a["input_zero_point"], *(int(p[o]) for p in args[2:5]))


def _dense(_call: relax.Call, args: Sequence[Array], index: tuple[int, ...]) -> Real:
    n, o = index
    # The zero point is inside the bias alone; -128 gives the largest magnitudes.
    return _contraction(args[0][n].astype(np.int64), args[1][o].astype(np.int64), -128, *(int(p[o]) for p in args[2:5]))


def _contraction(x: Array, w: Array, zero_point: int, bias: int, multiplier: int, shift: int) -> Real:
    magnitude = np.abs((x - zero_point) * w).sum() + abs(bias + zero_point * int(w.sum()))
    return _scaled(int((x * w).sum()) + bias, int(magnitude), w.size + 1, multiplier, shift)


def _add(call: relax.Call, args: Sequence[Array], index: tuple[int, ...]) -> Real:
    a = attributes_of(call)
    sides = []
    for name, x in zip(("input1", "input2"), args, strict=True):
        raised = int(np.broadcast_to(x, shape_of(call))[index]) - a[f"{name}_zero_point"] << a["left_shift"]
        sides.append(_scale(a[f"{name}_multiplier"], a[f"{name}_shift"]) * raised)
    scaling = a["output_multiplier"], a["output_shift"]
    return _scaled(sides[0] + sides[1], abs(sides[0]) + abs(sides[1]), 2, *scaling)


def _mean(call: relax.Call, args: Sequence[Array], index: tuple[int, ...]) -> Real:
    a, rank = attributes_of(call), args[0].ndim
    position = iter(index)
    where: list[Any] = [slice(None)] * rank
    for axis in range(rank):
        if a["keepdims"] or axis not in a["axes"]:
            where[axis] = next(position)
        if axis in a["axes"]:
            where[axis] = slice(None)
    terms = (args[0][tuple(where)].astype(np.int64) - a["input_zero_point"]) << a["left_shift"]
    return _scaled(int(terms.sum()), int(np.abs(terms).sum()), terms.size, a["multiplier"], a["shift"])


def _softmax(call: relax.Call, args: Sequence[Array], index: tuple[int, ...]) -> Real:
    a, row = attributes_of(call), args[0][index[:-1]].astype(np.int64)
    terms = args[1][row.max() - row]
    value = Fraction(int(terms[index[-1]]), int(terms.sum())) * _scale(a["multiplier"], a["shift"])
    # The largest term is 1, so that the sum's relative error is no more than its absolute one.
    return Real(value, value * len(row) * SOFTMAX_TERM, value * (len(row) + 8) * FLOAT32)


def _scaled(total: int | Fraction, magnitude: int | Fraction, terms: int, multiplier: int, shift: int) -> Real:
    scale = _scale(multiplier, shift)
    return Real(total * scale, Fraction(2) ** (shift - 1), (terms + 4) * FLOAT32 * magnitude * scale)


def _scale(multiplier: int, shift: int) -> Fraction:
    return multiplier * Fraction(2) ** (shift - 31)


_OPERATORS: dict[str, Callable[[relax.Call, Sequence[Array], tuple[int, ...]], Real]] = {
    "tinyml.conv2d": _conv2d,
    "tinyml.dense": _dense,
    "tinyml.add": _add,
    "tinyml.mean": _mean,
    "tinyml.softmax": _softmax,
}
