"""The ``tinyml`` dialect: Relax operators on integer tensors, between the float graph and the kernels.

Each operator of this dialect computes what a TFLite int8 or 16x8 kernel computes, with every parameter an integer: no
scale is left. Tensors are NHWC, filters OHWI. Moving data (reshape, transpose, concat, ...) needs no operator of its
own: Relax's work on integers as they are.

Activations are int8, or int16 with zero points of 0; where nothing else is said, an operator takes either and the
result is of the same type. Weights are int8 with both.

Numbers: ``requantize(acc) = clamp(multiply(acc, multiplier, shift) + output_zero_point)`` with the two roundings of
:func:`tvm_tinyml.arithmetic.multiply_by_quantized_multiplier`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import tvm
from tvm import relax
from tvm.ir import Op, _ffi_api

Attributes = dict[str, Any]
"""Integers, and lists of integers, by name."""

CHOICE = "choice"
"""The one attribute that is a text: what is decided about the kernel (`passes.choose_kernels`)."""

InferShape = Callable[[list[list[int]], Attributes], list[int]]


class IntegerOp:
    """An operator of the dialect: a constructor of calls that knows its result's shape.

    Parameters
    ----------
    name : without the dialect's prefix.
    arguments : names of the tensors it takes, in order.
    attributes : names of the integers (or lists of integers) it takes; all are required.
    infer_shape : shape of the result from the arguments' shapes and the attributes.
    many : the last argument may be given more than once.
    dtype_of : index of the argument whose dtype the result has. With an attribute ``bits`` it is a signed integer of
        so many.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        attributes: Sequence[str],
        infer_shape: InferShape,
        dtype_of: int = 0,
        many: bool = False,
    ) -> None:
        self.name = name
        self.arguments = tuple(arguments)
        self.attributes = tuple(attributes)
        self._infer_shape = infer_shape
        self._dtype_of = dtype_of
        self._many = many
        full_name = f"tinyml.{name}"
        if full_name not in Op.list_op_names():
            _ffi_api.RegisterOp(full_name, f"tinyml integer operator {name}")
        self.op = Op.get(full_name)
        self.op.set_num_inputs(-1 if many else len(self.arguments))
        self.op.set_attr("FPurity", True)
        self.op.set_attr("FInferType", self._infer_type)

    def __call__(self, *tensors: relax.Expr, **attributes: int | Sequence[int]) -> relax.Call:
        """Build a call; every tensor and attribute must be given."""
        enough = len(tensors) >= len(self.arguments) if self._many else len(tensors) == len(self.arguments)
        assert enough, f"{self.name} takes {self.arguments}"
        assert set(attributes) == set(self.attributes), f"{self.name} takes {self.attributes}, got {sorted(attributes)}"
        plain = {k: int(v) if isinstance(v, int) else [int(i) for i in v] for k, v in attributes.items()}
        return relax.Call(self.op, list(tensors), attrs=plain)

    def shape(self, shapes: list[list[int]], attributes: Attributes) -> list[int]:
        """Return the shape of the result from those of the arguments."""
        return self._infer_shape(shapes, attributes)

    def _infer_type(self, call: relax.Call, _context: relax.BlockBuilder) -> relax.TensorType:
        shapes, attributes = [shape_of(argument) for argument in call.args], attributes_of(call)
        dtype = f"int{attributes['bits']}" if "bits" in attributes else str(call.args[self._dtype_of].ty.dtype)
        return relax.TensorType(self.shape(shapes, attributes), dtype)


def shape_of(expr: relax.Expr) -> list[int]:
    """Return the static shape of a tensor expression."""
    return [int(extent) for extent in expr.ty.shape]


def attributes_of(call: relax.Call) -> Attributes:
    """Return the attributes of a call of this dialect as Python integers and lists."""
    return {
        str(key): [int(i) for i in value] if isinstance(value, tvm.ir.Array) else int(value)
        for key, value in call.attrs.items()
        if key != CHOICE
    }


def window_extent(size: int, kernel: int, stride: int, pad: int, dilation: int = 1) -> int:
    """Return the number of windows along one axis; `pad` counts both sides."""
    return (size + pad - dilation * (kernel - 1) - 1) // stride + 1


def _conv2d_shape(shapes: list[list[int]], attributes: Attributes) -> list[int]:
    (batch, height, width, _), (channels, kernel_h, kernel_w, _) = shapes[:2]
    (stride_h, stride_w), (dilation_h, dilation_w) = attributes["strides"], attributes["dilation"]
    top, left, bottom, right = attributes["padding"]
    return [
        batch,
        window_extent(height, kernel_h, stride_h, top + bottom, dilation_h),
        window_extent(width, kernel_w, stride_w, left + right, dilation_w),
        channels,
    ]


def _conv2d_transpose_shape(shapes: list[list[int]], attributes: Attributes) -> list[int]:
    (batch, *size, _), (channels, *kernel, _) = shapes[:2]
    top, left, bottom, right = attributes["padding"]
    extents = [
        (n - 1) * stride + (k - 1) * dilation + 1 - cut + added
        for n, stride, k, dilation, cut, added in zip(
            size,
            attributes["strides"],
            kernel,
            attributes["dilation"],
            (top + bottom, left + right),
            attributes["output_padding"],
            strict=True,
        )
    ]
    return [batch, *extents, channels]


def _pool2d_shape(shapes: list[list[int]], attributes: Attributes) -> list[int]:
    batch, height, width, channels = shapes[0]
    (pool_h, pool_w), (stride_h, stride_w) = attributes["pool_size"], attributes["strides"]
    top, left, bottom, right = attributes["padding"]
    return [
        batch,
        window_extent(height, pool_h, stride_h, top + bottom),
        window_extent(width, pool_w, stride_w, left + right),
        channels,
    ]


def _broadcast_shape(shapes: list[list[int]], _attributes: Attributes) -> list[int]:
    rank = max(len(shape) for shape in shapes)
    padded = [[1] * (rank - len(shape)) + shape for shape in shapes]
    return [max(extents) for extents in zip(*padded, strict=True)]


def _mean_shape(shapes: list[list[int]], attributes: Attributes) -> list[int]:
    axes: list[int] = attributes["axes"]
    if attributes["keepdims"]:
        return [1 if i in axes else extent for i, extent in enumerate(shapes[0])]
    return [extent for i, extent in enumerate(shapes[0]) if i not in axes]


def _same_shape(shapes: list[list[int]], _attributes: Attributes) -> list[int]:
    return shapes[0]


_OUTPUT = ("output_zero_point", "clamp_min", "clamp_max")
_POOL = ("pool_size", "strides", "padding", "clamp_min", "clamp_max")
_PER_CHANNEL = ("bias", "multiplier", "shift")
_SUM = ("input1_zero_point", "input1_multiplier", "input1_shift", "input2_zero_point", "input2_multiplier",
        "input2_shift", "left_shift", "output_multiplier", "output_shift")  # fmt: skip

conv2d = IntegerOp(
    "conv2d",
    ("x", "weight", *_PER_CHANNEL),
    ("strides", "padding", "dilation", "groups", "input_zero_point", *_OUTPUT),
    _conv2d_shape,
)
"""x [N,H,W,C] * int8 [O,KH,KW,C/groups] -> [N,H',W',O]. `bias` (int32 [O]) holds the input offset already:
bias - input_zero_point * sum(weight); padding (top, left, bottom, right) is filled with `input_zero_point`. An int64
bias, of int16 inputs, says that sums have 64 bits and are scaled by
:func:`tvm_tinyml.arithmetic.multiply_by_reduced_multiplier`."""

conv2d_transpose = IntegerOp(
    "conv2d_transpose",
    ("x", "weight", *_PER_CHANNEL),
    ("strides", "padding", "output_padding", "dilation", "groups", "input_zero_point", *_OUTPUT),
    _conv2d_transpose_shape,
)
"""x [N,H,W,C] * int8 [O,KH,KW,C/groups] -> [N,H',W',O]: each pixel times the filter, less the input's zero
point, is added at its position times the strides; `padding` (top, left, bottom, right) is cut off, `output_padding`
(bottom, right) added. `bias` is the model's, since how many products an element sums depends on where it lies."""

dense = IntegerOp("dense", ("x", "weight", *_PER_CHANNEL), _OUTPUT, lambda shapes, _: [shapes[0][0], shapes[1][0]])
"""x [N,K] * int8 [O,K] -> [N,O]; `bias` as in `conv2d`."""

add = IntegerOp("add", ("x", "y"), (*_SUM, *_OUTPUT), _broadcast_shape)
"""x + y, each first shifted left by `left_shift` and rescaled to twice the larger of the two scales."""

subtract = IntegerOp("subtract", ("x", "y"), (*_SUM, *_OUTPUT), _broadcast_shape)
"""x - y, scaled as `add`."""

multiply = IntegerOp(
    "multiply",
    ("x", "y"),
    ("input1_zero_point", "input2_zero_point", "left_shift", "output_multiplier", "output_shift", *_OUTPUT),
    _broadcast_shape,
)
"""(x - zero point) * (y - zero point), shifted left by `left_shift` (0 in TFLite), requantized."""

avg_pool2d = IntegerOp("avg_pool2d", ("x",), _POOL, _pool2d_shape)
"""Mean over the window's elements inside the image, rounded half away from zero; scale and zero point stay."""

mean_pool2d = IntegerOp(
    "mean_pool2d",
    ("x",),
    ("pool_size", "strides", "padding", "input_zero_point", "left_shift", "multiplier", "shift", *_OUTPUT),
    _pool2d_shape,
)
"""Mean over the window's elements inside the image with a change of scale: the sum of (x - input_zero_point), shifted
left by `left_shift`, requantized with 1 / count in the multiplier; with padding divided by the count before that."""

max_pool2d = IntegerOp("max_pool2d", ("x",), _POOL, _pool2d_shape)
"""Largest element of the window."""

mean = IntegerOp(
    "mean",
    ("x",),
    ("axes", "keepdims", "input_zero_point", "left_shift", "multiplier", "shift", *_OUTPUT),
    _mean_shape,
)
"""Mean over `axes`: the sum of (x - input_zero_point), shifted left by `left_shift` (0 in TFLite), requantized with
1 / count in the multiplier; without it there, the sum."""

lookup = IntegerOp("lookup", ("x", "table"), (), _same_shape, dtype_of=1)
"""table[x + 128] for int8, table[x] for uint8: any function of one 8-bit tensor, 256 entries."""

requantize = IntegerOp(
    "requantize", ("x",), ("bits", "input_zero_point", "multiplier", "shift", *_OUTPUT), _same_shape
)
"""x, of 8 or 16 bits, in another scale and zero point, as int8 or int16: what a table would be too large or too long
for."""

logistic = IntegerOp("logistic", ("x", "points"), ("multiplier", "shift"), _same_shape)
"""1 / (1 + exp(-x)) of int16 in Q0.15; `points` (uint16 [256]) are the function's, `multiplier` and `shift` (to the
right) scale the input to 1 / 12288."""

tanh = IntegerOp("tanh", ("x", "points"), ("multiplier", "shift"), _same_shape)
"""tanh of int16 in Q0.15, from the points of the logistic function: see `logistic`."""

interpolate = IntegerOp("interpolate", ("x", "points"), (), _same_shape)
"""Any function of one int16 tensor by 513 points (int16), 128 inputs apart: what lies between two is on the line."""

slopes = IntegerOp("slopes", ("x",), ("magnitude", "multipliers", "shifts"), _same_shape)
"""x, of int16, times one number where x >= 0 and another where x < 0, as int16: `multipliers` and `shifts` are of both,
in that order. A negative multiplier is the positive one with the rounded result negated. With `magnitude` 1 what is
multiplied is abs(x)."""

FUNCTIONS = (lookup, requantize, logistic, tanh, interpolate, slopes)
"""Functions of one tensor, element by element; what follows it are tables."""

softmax = IntegerOp("softmax", ("x", "table"), ("multiplier", "shift", *_OUTPUT), _same_shape)
"""Softmax of int8 over the last axis; `table` (int32 [256]) is exp(-difference) in Q0.31, indexed by (largest element
of the row) - x. `multiplier` and `shift` are 1 / output scale; in TFLite they are those of 256, the zero point is
-128."""

softmax_int16 = IntegerOp("softmax_int16", ("x", "exponential", "reciprocal"), ("multiplier", "shift"), _same_shape)
"""Softmax of int16 over the last axis in Q0.15. The tables (int16 [513]) are interpolated: exp on [-10, 0], 1 / (1 + x)
on [0, 1]; `multiplier` and `shift` scale differences of inputs to 10 / 65535."""


def _pad2d_shape(shapes: list[list[int]], attributes: Attributes) -> list[int]:
    batch, height, width, channels = shapes[0]
    top, left, bottom, right = attributes["padding"]
    return [batch, height + top + bottom, width + left + right, channels]


def _interleave_shape(shapes: list[list[int]], _attributes: Attributes) -> list[int]:
    return [*shapes[0][:-1], sum(shape[-1] for shape in shapes)]


pad2d = IntegerOp("pad2d", ("x",), ("padding", "value"), _pad2d_shape)
"""An image with a border (top, left, bottom, right) of `value`."""

gather2d = IntegerOp(
    "gather2d",
    ("x", "rows", "columns"),
    (),
    lambda shapes, _: [shapes[0][0], shapes[1][0], shapes[2][0], shapes[0][3]],
)
"""Pixel (rows[y], columns[v]) of an image for each (y, v): nearest resizing; `rows`, `columns` are int32."""

unpack = IntegerOp(
    "unpack",
    ("x",),
    ("shape", "bits", "form", "pairs"),
    lambda _, attributes: attributes["shape"],
)
"""int32 words, a code of `tvm_tinyml.passes.weight_codes`, -> the int8 or int32, by `bits`, that it stands for."""

view = IntegerOp("view", ("x",), ("begin", "shape"), lambda _, attributes: attributes["shape"])
"""The elements of a tensor from `begin` on, as they lie in memory, in another shape: no work at all."""

join = IntegerOp("join", ("x",), ("shape",), lambda _, attributes: attributes["shape"], many=True)
"""Tensors one behind the other in memory, in another shape: no work where each is computed to where it belongs."""

channels = IntegerOp("channels", ("x",), ("begin", "step", "shape"), lambda _, attributes: attributes["shape"])
"""Some channels of each pixel of a tensor, as they lie in memory: from element `begin` on `shape[-1]` of every `step`.
No work where what reads them knows of the step; where not, `spread` brings them together."""

interleave = IntegerOp("interleave", ("x",), ("step",), _interleave_shape, many=True)
"""Tensors side by side along the channels, each with `step` elements from a pixel to the next: no work. `step` is the
number of all channels, or larger where the result is a part of another one."""

spread = IntegerOp("spread", ("x",), ("step", "copied"), _same_shape)
"""The same tensor with `step` elements from a pixel to the next in memory: a copy if `copied` is 1; if it is 0, what
computes the tensor writes it so."""

lay_out = IntegerOp("lay_out", ("x",), ("layout",), _same_shape)
"""The same tensor in another layout (`tensor_layouts.encoded`): what computes it writes it so, and the one operator
that reads it reads it so."""

laid = IntegerOp("laid", ("x",), ("layout", "shape"), lambda _, attributes: attributes["shape"])
"""The bytes of a tensor in a layout of its own, as the tensor that they are: no work."""

_THEN = "then_"


def _conv2d_then(second: IntegerOp) -> IntegerOp:
    def shape(shapes: list[list[int]], attributes: Attributes) -> list[int]:
        count = len(conv2d.arguments)
        return second.shape([conv2d.shape(shapes[:count], attributes), *shapes[count:]], then_of(attributes))

    arguments = (*conv2d.arguments, *second.arguments[1:])
    own = (f"{_THEN}{name}" for name in second.attributes)
    return IntegerOp(f"conv2d_{second.name}", arguments, (*conv2d.attributes, *own), shape)


def then_of(attributes: Attributes) -> Attributes:
    """Return the attributes of the second of two operators that are one: see `CONV2D_THEN`."""
    return {k.removeprefix(_THEN): value for k, value in attributes.items() if k.startswith(_THEN)}


def then(attributes: Attributes) -> Attributes:
    """Return attributes as those of the second of two operators that are one."""
    return {f"{_THEN}{k}": value for k, value in attributes.items()}


CONV2D_THEN = {op.op.name: _conv2d_then(op) for op in (add, avg_pool2d, mean_pool2d, mean)}
"""By name of an operator, a convolution and that operator on its result, which nothing else reads: the operands and
attributes of the convolution, then the other operands of the second, and its attributes with a prefix."""


def span(shape: Sequence[int], step: int) -> int:
    """Return the elements from the first to the last of a tensor with `step` of them from a pixel to the next."""
    return (math.prod(shape[:-1]) - 1) * step + shape[-1]
