"""A transposed convolution becomes ordinary ones: no zero between the elements of its input is ever multiplied."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import IRModule, relax
from tvm.ir.transform import PassContext
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_tinyml.arithmetic import fold_input_offset
from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.integer_ops import Attributes, attributes_of, shape_of

WORTH_JOINING = 1.25
"""Phases together may have fewer than so many times the products of phases apart."""

CHANNELS = 8
"""With fewer input or output channels phases stay together: products are few beside what joining moves."""


@tvm.transform.module_pass(opt_level=0, name="tinyml.TransposedToConvolutions")
class TransposedToConvolutions(CallablePass):
    """Rewrite ``conv2d_transpose`` to ``conv2d`` and moves of data; no byte changes.

    With a stride of s, every s-th element of the result, a *phase*, is the convolution of the input with every s-th
    element of the filter, in reverse. The phases along an axis are output channels of one convolution, and a
    permutation puts them where they belong. Where that multiplies many zeros, since the phases' filters are made
    equally long, each phase is a convolution of its own, and the results are joined. With a stride of 1 there is one
    phase and nothing to move.
    """

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module; `mod` is untouched."""
        rewriter = _Rewriter(mod)
        rewriter.builder_.update_func(mod.get_global_var("main"), rewriter.visit_expr(mod["main"]))
        return rewriter.builder_.get()


@dataclass(frozen=True)
class Axis:
    """A transposed convolution along one axis.

    Attributes
    ----------
    size, result : elements of the input and of the result.
    kernel : elements of the filter.
    cut : elements of the full result before the first that is kept.
    """

    size: int
    result: int
    kernel: int
    stride: int
    dilation: int
    cut: int


@dataclass(frozen=True)
class Window:
    """The window of an ordinary convolution along one axis; it computes some phases of a transposed one.

    Attributes
    ----------
    taps : for each phase, from the window's first element to its last: the filter's element there, -1 for none.
    dilation : of the window.
    before, after : padding of the input; negative where elements at its ends are not read.
    positions : of the window: element ``position * stride + phase - skip`` of the result is computed at each.
    skip : elements before the result's first.
    """

    taps: tuple[tuple[int, ...], ...]
    dilation: int
    before: int
    after: int
    positions: int
    skip: int = 0

    @property
    def products(self) -> int:
        return self.positions * sum(map(len, self.taps))


def windows(axis: Axis, limit: float) -> list[Window]:
    """Return one window for all phases, or one for each if together they have `limit` times the products or more."""
    phases = range(axis.stride)
    together = min((window(axis, phases, skip) for skip in phases), key=lambda w: w.products)
    apart = [window(axis, [phase]) for phase in phases]
    return apart if together.products >= limit * sum(w.products for w in apart) else [together]


def products_limit(filters: int, depth: int, groups: int) -> float:
    """Return `limit` of `windows` for groups of `filters` output and `depth` input channels.

    They come from layers of 1 to 48 channels with kernels of 2x2 to 5x5 on a Cortex-M4, some on M0+, M3, M7 and M33.
    """
    if groups > 1 and filters == depth == 1:
        return 0.0  # depthwise: a permutation would move single bytes
    return WORTH_JOINING if min(filters, depth) >= CHANNELS else math.inf


def window(axis: Axis, phases: Sequence[int], skip: int = 0) -> Window:
    """Return the window that computes these phases, where position 0 computes element ``phase - skip``."""
    # Element t of the full result is the sum of input[q - j] * filter[t - (q - j) * stride], q being t // stride.
    starts = [phase - skip + axis.cut for phase in phases]
    reach = (axis.kernel - 1) * axis.dilation
    first = min(-(start // axis.stride) for start in starts)
    last = max(first, *((reach - start) // axis.stride for start in starts))
    positions = -(-(axis.result + skip) // axis.stride)
    if -last >= axis.size or positions <= first:  # nothing but padding is read
        return Window(((-1,),) * len(phases), 1, 0, positions - axis.size, positions, skip)
    dilation = axis.dilation if axis.stride == 1 else 1
    steps = range(last, first - 1, -dilation)
    taps = tuple(tuple(_tap(axis, start + j * axis.stride) for j in steps) for start in starts)
    return Window(taps, dilation, last, positions - first - axis.size, positions, skip)


def _tap(axis: Axis, distance: int) -> int:
    tap, rest = divmod(distance, axis.dilation)
    return tap if rest == 0 and 0 <= tap < axis.kernel else -1


def _filters(weight: NDArray[np.int8], row: Window, column: Window, groups: int) -> NDArray[np.int8]:
    """Return the filters of all phases of two windows; channels are ordered by group, row phase, column phase, filter.

    >>> ones = np.ones((1, 1, 1, 1), np.int8)
    >>> pair = Window(((0,), (-1,)), 1, 0, 0, 1)
    >>> _filters(ones, pair, pair, 1).ravel().tolist()
    [1, 0, 0, 0]
    """
    with_none = np.pad(weight, ((0, 0), (0, 1), (0, 1), (0, 0)))  # where -1 points to
    phases = with_none[:, np.array(row.taps)][:, :, :, np.array(column.taps)]
    channels, rows, height, columns, width, depth = phases.shape
    grouped = phases.reshape(groups, channels // groups, rows, height, columns, width, depth)
    return np.ascontiguousarray(grouped.transpose(0, 2, 4, 1, 3, 5, 6).reshape(-1, height, width, depth))


def _for_each_phase(values: NDArray[Any], phases: int, groups: int) -> NDArray[Any]:
    """Repeat a number for each output channel in the order of `_filters`."""
    return np.repeat(values.reshape(groups, 1, -1), phases, axis=1).ravel()


@mutator
class _Rewriter(PyExprMutator):  # type: ignore[misc]
    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if call.op != integer_ops.conv2d_transpose.op:
            return call
        attributes, (_, height, width, _) = attributes_of(call), shape_of(call)
        channels, *kernel, depth = shape_of(call.args[1])
        limit = products_limit(channels // attributes["groups"], depth, attributes["groups"])
        rows, columns = (
            windows(Axis(*numbers), limit)
            for numbers in zip(
                shape_of(call.args[0])[1:3],
                (height, width),
                kernel,
                attributes["strides"],
                attributes["dilation"],
                attributes["padding"][:2],
                strict=True,
            )
        )
        image = self._below([self._beside([self._phases(call, attributes, r, c) for c in columns]) for r in rows])
        return self._crop(image, rows[0].skip, columns[0].skip, height, width)

    def _phases(self, call: relax.Call, attributes: Attributes, row: Window, column: Window) -> relax.Expr:
        """Return an image of the elements that two windows compute."""
        x, weight, *scaling = call.args
        groups, zero_point = attributes["groups"], attributes["input_zero_point"]
        filters = _filters(weight.value.numpy(), row, column, groups)
        phases = len(row.taps) * len(column.taps)
        bias, multiplier, shift = (_for_each_phase(array.value.numpy(), phases, groups) for array in scaling)
        if bias.dtype == np.int32:  # one of 64 bits has nothing to fold: inputs of int16 have a zero point of 0
            bias = fold_input_offset(bias, filters, zero_point)
        borders = row.before, column.before, row.after, column.after
        top, left, bottom, right = (max(-border, 0) for border in borders)
        _, height, width, _ = shape_of(x)
        convolution = integer_ops.conv2d(
            self._crop(x, top, left, height - top - bottom, width - left - right),
            *(relax.const(array, str(array.dtype)) for array in (filters, bias, multiplier, shift)),
            strides=[1, 1],
            padding=[max(border, 0) for border in borders],
            dilation=[row.dilation, column.dilation],
            groups=groups,
            input_zero_point=zero_point,
            **{name: attributes[name] for name in ("output_zero_point", "clamp_min", "clamp_max")},
        )
        return self._spread(self._typed(convolution), len(row.taps), len(column.taps), groups)

    def _spread(self, x: relax.Expr, rows: int, columns: int, groups: int) -> relax.Expr:
        """Turn the phases that each group's channels are into rows and columns."""
        batch, height, width, channels = shape_of(x)
        if rows > 1 or (columns > 1 and groups > 1):
            filters = channels // (groups * rows * columns)
            x = self._reshape(x, batch * height, width, groups, rows, columns, filters)
            x = self._typed(relax.op.permute_dims(x, [0, 3, 1, 4, 2, 5]))
        return self._reshape(x, batch, height * rows, width * columns, channels // (rows * columns))

    def _beside(self, images: Sequence[relax.Expr]) -> relax.Expr:
        """Join images so that their columns alternate."""
        batch, height, width, channels = shape_of(images[0])
        if len(images) == 1:
            return images[0]
        return self._reshape(self._typed(relax.op.concat(images, 3)), batch, height, width * len(images), channels)

    def _below(self, images: Sequence[relax.Expr]) -> relax.Expr:
        """Join images so that their rows alternate."""
        batch, height, width, channels = shape_of(images[0])
        if len(images) == 1:
            return images[0]
        rows = [self._reshape(image, batch, height, 1, width * channels) for image in images]
        return self._reshape(self._typed(relax.op.concat(rows, 2)), batch, height * len(images), width, channels)

    def _crop(self, x: relax.Expr, top: int, left: int, height: int, width: int) -> relax.Expr:
        if shape_of(x)[1:3] == [height, width]:
            return x
        return self._typed(relax.op.strided_slice(x, [1, 2], [top, left], [top + height, left + width], [1, 1]))

    def _reshape(self, x: relax.Expr, *shape: int) -> relax.Expr:
        return x if shape_of(x) == list(shape) else self._typed(relax.op.reshape(x, shape))

    def _typed(self, expr: relax.Expr) -> relax.Expr:
        return self.builder_.normalize(expr)
