"""Operators that compute each row of an image from a few rows: which ones, and the same operator for some rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import relax
from tvm.ir import GenericConst, Op

from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.integer_ops import IntegerOp, attributes_of, shape_of

ELEMENTWISE: Sequence[IntegerOp] = (
    integer_ops.add,
    integer_ops.subtract,
    integer_ops.multiply,
    *integer_ops.FUNCTIONS,
)
POOLS: Sequence[IntegerOp] = (integer_ops.avg_pool2d, integer_ops.max_pool2d, integer_ops.mean_pool2d)

_BY_NAME = {op.op.name: op for op in (*ELEMENTWISE, *POOLS, integer_ops.conv2d)}


@dataclass(frozen=True)
class Rows:
    """Rows of an image from ``begin`` to before ``end``."""

    begin: int
    end: int

    @property
    def count(self) -> int:
        """How many."""
        return self.end - self.begin


def works_by_rows(expr: relax.Expr) -> bool:
    """Return whether an expression is an operator on one NHWC image, or on two of one shape, that works row by row.

    Constants beside an image hold the same for every row.
    """
    if not isinstance(expr, relax.Call) or not isinstance(expr.op, Op) or expr.op.name not in _BY_NAME:
        return False
    shapes = [shape_of(argument) for argument in tensors_of(expr)]
    images = len(shapes) > 0 and all(len(shape) == 4 and shape[0] == 1 for shape in shapes)
    return images and all(shape == shapes[0] for shape in shapes) and not _reads_rows_of_constants(expr)


def _reads_rows_of_constants(call: relax.Call) -> bool:
    if _BY_NAME[call.op.name] not in ELEMENTWISE:
        return False
    shapes = [shape_of(argument) for argument in call.args if isinstance(argument, GenericConst)]
    return len(shape_of(call)) != 4 or any(len(shape) > 2 and shape[-3] != 1 for shape in shapes)


def rows_read(call: relax.Call, rows: Rows) -> list[Rows]:
    """Return which rows an operator reads of each tensor that is no constant, for some rows of its result."""
    return [window_of(call).inside(rows)] * len(tensors_of(call))


def tensors_of(call: relax.Call) -> list[relax.Expr]:
    """Return the arguments that are no constants."""
    return [argument for argument in call.args if not isinstance(argument, GenericConst)]


def for_rows(call: relax.Call, arguments: Sequence[relax.Expr], rows: Rows) -> relax.Call:
    """Return the operator for some rows of its result; of its tensors it is given what `rows_read` says."""
    attributes = attributes_of(call)
    if "padding" in attributes:
        _, left, _, right = attributes["padding"]
        above, below = window_of(call).border(rows)
        attributes["padding"] = [above, left, below, right]
    return _BY_NAME[call.op.name](*arguments, **attributes)


@dataclass(frozen=True)
class Window:
    """What rows of a result read of an image.

    Attributes
    ----------
    height : of the image.
    size, stride : rows that one row of the result reads, and from its first to that of the next one.
    top : rows of border above the image.
    """

    height: int
    size: int
    stride: int
    top: int

    def inside(self, rows: Rows) -> Rows:
        """Return the rows of the image that some rows of the result read."""
        window = self._with_border(rows)
        return Rows(max(window.begin, 0), min(window.end, self.height))

    def border(self, rows: Rows) -> tuple[int, int]:
        """Return how many rows they read above the image and below it."""
        window = self._with_border(rows)
        return max(0, -window.begin), max(0, window.end - self.height)

    def _with_border(self, rows: Rows) -> Rows:
        return Rows(rows.begin * self.stride - self.top, (rows.end - 1) * self.stride - self.top + self.size)


def window_of(call: relax.Call) -> Window:
    """Return the window of an operator for which `works_by_rows` holds; one row for each row, if it has none."""
    attributes, height = attributes_of(call), shape_of(tensors_of(call)[0])[1]
    if "padding" not in attributes:
        return Window(height, 1, 1, 0)
    kernel = attributes["pool_size"][0] if "pool_size" in attributes else shape_of(call.args[1])[1]
    dilation = attributes["dilation"][0] if "dilation" in attributes else 1
    return Window(height, dilation * (kernel - 1) + 1, attributes["strides"][0], attributes["padding"][0])
