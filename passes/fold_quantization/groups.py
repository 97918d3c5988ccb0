"""One class per kind of quantized group: its pattern and the integer operator it becomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tvm import relax
from tvm.relax.dpl import DFPattern, is_op

from tvm_tinyml import arithmetic
from tvm_tinyml.errors import ModelError
from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.fold_quantization.int16_functions import Fold, requantized, softmax
from tvm_tinyml.passes.fold_quantization.patterns import (
    Biased,
    Dequantized,
    Filter,
    Match,
    Quantization,
    Quantized,
    quantization_of,
)
from tvm_tinyml.passes.integer_ops import IntegerOp, shape_of

Lookup = Callable[[DFPattern], relax.Expr]


class Group(Protocol):
    """A pattern over the canonical form and its integer replacement."""

    pattern: DFPattern

    def fold(self, match: Match, real: Callable[[relax.Expr], relax.Expr]) -> relax.Expr:
        """Return the integer operator; `real` resolves a variable to the call bound to it."""


class Convolution:
    """``quantize(act(conv2d(dequantize(x), dequantize(w)) [+ bias]))``."""

    def __init__(self) -> None:
        self._x, self._filter = Dequantized(), Filter()
        self._conv = is_op("relax.nn.conv2d")(self._x.pattern, self._filter.pattern)
        self._bias = Biased(self._conv)
        self._out = Quantized(self._bias.pattern)
        self.pattern = self._out.pattern

    def fold(self, match: Match, real: Callable[[relax.Expr], relax.Expr]) -> relax.Expr:
        source, weight = self._x.quantization(match), self._filter.values(match)
        attributes = real(match[self._conv]).attrs
        multiplier, shift = arithmetic.conv_parameters(
            source.scale, self._filter.scales(match), self._out.quantization(match).scale, weight.shape[0]
        )
        bias = _folded_bias(self._bias.values(match), weight, source, shift)
        _check_types("conv2d", source, self._out.quantization(match))
        return integer_ops.conv2d(
            match[self._x.x],
            *_constants(weight, bias, multiplier, shift),
            strides=_integers(attributes.strides),
            padding=_integers(attributes.padding),
            dilation=_integers(attributes.dilation),
            groups=int(attributes.groups),
            input_zero_point=source.zero_point,
            **self._out.clamp(match),
        )


class TransposedConvolution:
    """``quantize(act(conv2d_transpose(dequantize(x), dequantize(w)) [+ bias]))``."""

    def __init__(self) -> None:
        self._x, self._filter = Dequantized(), Filter()
        self._conv = is_op("relax.nn.conv2d_transpose")(self._x.pattern, self._filter.pattern)
        self._bias = Biased(self._conv)
        self._out = Quantized(self._bias.pattern)
        self.pattern = self._out.pattern

    def fold(self, match: Match, real: Callable[[relax.Expr], relax.Expr]) -> relax.Expr:
        source, shared = self._x.quantization(match), self._filter.values(match)
        attributes = real(match[self._conv]).attrs
        groups = int(attributes.groups)
        weight = np.concatenate(np.split(shared, groups, axis=3))
        scales = self._filter.scales(match)
        multiplier, shift = arithmetic.conv_parameters(
            source.scale,
            scales if scales.size == 1 else np.tile(scales, groups),
            self._out.quantization(match).scale,
            weight.shape[0],
        )
        # What an element sums depends on where it lies: the offset of its input is not folded in.
        bias = _folded_bias(self._bias.values(match), weight, replace(source, zero_point=0), shift)
        _check_types("conv2d_transpose", source, self._out.quantization(match))
        return integer_ops.conv2d_transpose(
            match[self._x.x],
            *_constants(weight, bias, multiplier, shift),
            strides=_integers(attributes.strides),
            padding=_integers(attributes.padding),
            output_padding=_integers(attributes.output_padding),
            dilation=_integers(attributes.dilation),
            groups=groups,
            input_zero_point=source.zero_point,
            **self._out.clamp(match),
        )


class Dense:
    """``quantize(act(matmul(dequantize(x), permute_dims(dequantize(w))) [+ bias]))``."""

    def __init__(self) -> None:
        self._x, self._filter = Dequantized(), Filter()
        product = is_op("relax.matmul")(self._x.pattern, is_op("relax.permute_dims")(self._filter.pattern))
        self._bias = Biased(product)
        self._out = Quantized(self._bias.pattern)
        self.pattern = self._out.pattern

    def fold(self, match: Match, real: Callable[[relax.Expr], relax.Expr]) -> relax.Expr:
        source, weight = self._x.quantization(match), self._filter.values(match)
        multiplier, shift = arithmetic.dense_parameters(
            source.scale, self._filter.scales(match), self._out.quantization(match).scale, weight.shape[0]
        )
        bias = _folded_bias(self._bias.values(match), weight, source, shift)
        _check_types("dense", source, self._out.quantization(match))
        return integer_ops.dense(
            match[self._x.x], *_constants(weight, bias, multiplier, shift), **self._out.clamp(match)
        )


class Sum:
    """``quantize(act(dequantize(x) +- dequantize(y)))``."""

    def __init__(
        self,
        source: str,
        integer: IntegerOp,
        parameters: Callable[[float, float, float, str], arithmetic.AddParameters],
    ) -> None:
        self._x, self._y = Dequantized(), Dequantized()
        self._out = Quantized(is_op(source)(self._x.pattern, self._y.pattern))
        self.pattern = self._out.pattern
        self._name, self._integer, self._parameters = source, integer, parameters

    def fold(self, match: Match, real: Callable[[relax.Expr], relax.Expr]) -> relax.Expr:
        x, y, result = self._x.quantization(match), self._y.quantization(match), self._out.quantization(match)
        _check_types(self._name, x, y, result)
        scaling = self._parameters(x.scale, y.scale, result.scale, x.dtype)
        return self._integer(
            match[self._x.x],
            match[self._y.x],
            input1_zero_point=x.zero_point,
            input1_multiplier=scaling.a_multiplier,
            input1_shift=scaling.a_shift,
            input2_zero_point=y.zero_point,
            input2_multiplier=scaling.b_multiplier,
            input2_shift=scaling.b_shift,
            left_shift=scaling.left_shift,
            output_multiplier=scaling.output_multiplier,
            output_shift=scaling.output_shift,
            **self._out.clamp(match),
        )


LARGEST_OFFSET = {"int8": 255, "int16": 2**15}
"""Bound of the magnitude of a number less a zero point, by type."""


class Product:
    """``quantize(act(dequantize(x) * dequantize(y)))``.

    Parameters
    ----------
    reference : ``tflite``: the multiplier is TFLite's; ``onnx``: the product is raised first, so that rounding twice
        does not show.
    """

    def __init__(self, reference: str) -> None:
        self._reference = reference
        self._x, self._y = Dequantized(), Dequantized()
        self._out = Quantized(is_op("relax.multiply")(self._x.pattern, self._y.pattern))
        self.pattern = self._out.pattern

    def fold(self, match: Match, real: Callable[[relax.Expr], relax.Expr]) -> relax.Expr:
        x, y, result = self._x.quantization(match), self._y.quantization(match), self._out.quantization(match)
        _check_types("multiply", x, y, result)
        output_scale = result.scale
        if self._reference == "tflite":
            left_shift, (multiplier, shift) = 0, arithmetic.mul_parameters(x.scale, y.scale, output_scale)
        else:
            scale = arithmetic.product_ratio(x.scale, y.scale, output_scale)
            left_shift, multiplier, shift = arithmetic.raised_parameters(scale, LARGEST_OFFSET[x.dtype] ** 2)
        return integer_ops.multiply(
            match[self._x.x],
            match[self._y.x],
            input1_zero_point=x.zero_point,
            input2_zero_point=y.zero_point,
            left_shift=left_shift,
            output_multiplier=multiplier,
            output_shift=shift,
            **self._out.clamp(match),
        )


RequantizationTable = Callable[..., NDArray[np.generic]]
REQUANTIZATION_TABLES: dict[str, RequantizationTable] = {
    "tflite": arithmetic.requantize_table,
    "onnx": partial(arithmetic.table_of, lambda x: x),
}
"""A change between 8-bit types by the model's reference: TFLite rounds twice there too."""


class AveragePool:
    """``quantize(act(avg_pool2d(dequantize(x))))``, of raw integers where the quantization stays."""

    def __init__(self) -> None:
        self._x = Dequantized()
        self._pool = is_op("relax.nn.avg_pool2d")(self._x.pattern)
        self._out = Quantized(self._pool)
        self.pattern = self._out.pattern

    def fold(self, match: Match, real: Callable[[relax.Expr], relax.Expr]) -> relax.Expr:
        attributes = real(match[self._pool]).attrs
        source, result = self._x.quantization(match), self._out.quantization(match)
        window = {name: _integers(getattr(attributes, name)) for name in ("pool_size", "strides", "padding")}
        clamp = self._out.clamp(match)
        _check_types("avg_pool2d", source, result)
        if source == result:
            limits = {name: clamp[name] for name in ("clamp_min", "clamp_max")}
            return integer_ops.avg_pool2d(match[self._x.x], **window, **limits)
        taps = int(np.prod(window["pool_size"]))
        scale = arithmetic.scale_ratio(source.scale, result.scale) / (1 if any(window["padding"]) else taps)
        left_shift, multiplier, shift = arithmetic.raised_parameters(scale, LARGEST_OFFSET[source.dtype] * taps)
        return integer_ops.mean_pool2d(
            match[self._x.x],
            **window,
            input_zero_point=source.zero_point,
            left_shift=left_shift,
            multiplier=multiplier,
            shift=shift,
            **clamp,
        )


class MaxPool:
    """``quantize(act(max_pool2d(dequantize(x))))``; a change of scale comes after the pool."""

    def __init__(self, reference: str) -> None:
        self._x = Dequantized()
        self._pool = is_op("relax.nn.max_pool2d")(self._x.pattern)
        self._out = Quantized(self._pool)
        self.pattern = self._out.pattern
        self._requantization_table = REQUANTIZATION_TABLES[reference]

    def fold(self, match: Match, real: Callable[[relax.Expr], relax.Expr]) -> relax.Expr:
        attributes = real(match[self._pool]).attrs
        source, result = self._x.quantization(match), self._out.quantization(match)
        clamp = self._out.clamp(match)
        zero_point, low, high = clamp["output_zero_point"], clamp["clamp_min"], clamp["clamp_max"]
        same = source == result
        _check_types("max_pool2d", source, result)
        least, largest = arithmetic.RANGES[source.dtype]
        pooled = integer_ops.max_pool2d(
            match[self._x.x],
            pool_size=_integers(attributes.pool_size),
            strides=_integers(attributes.strides),
            padding=_integers(attributes.padding),
            clamp_min=low if same else least,
            clamp_max=high if same else largest,
        )
        if same:
            return pooled
        if source.dtype == "int16":
            return requantized(pooled, source, result, low, high)
        table = self._requantization_table(source.scale, source.zero_point, result.scale, zero_point)
        return integer_ops.lookup(pooled, relax.const(np.clip(table, low, high).astype(np.int8)))


class Mean:
    """``quantize(mean(dequantize(x), axes))``, or of a sum, which is the mean without its division.

    Parameters
    ----------
    source : ``relax.mean`` or ``relax.sum``.
    reference : ``tflite``: the multiplier is TFLite's; ``onnx``: the sum is raised first, so that rounding twice does
        not show.
    """

    def __init__(self, source: str, reference: str) -> None:
        self._divides = source == "relax.mean"
        self._reference = reference
        self._x = Dequantized()
        self._mean = is_op(source)(self._x.pattern)
        self._out = Quantized(self._mean)
        self.pattern = self._out.pattern

    def fold(self, match: Match, real: Callable[[relax.Expr], relax.Expr]) -> relax.Expr:
        source, attributes = self._x.quantization(match), real(match[self._mean]).attrs
        shape = shape_of(match[self._x.x])
        axes = sorted(axis % len(shape) for axis in _integers(attributes.axis))
        count = int(np.prod([shape[axis] for axis in axes]))
        divisor = count if self._divides else 1
        _check_types("mean" if self._divides else "sum", source, self._out.quantization(match))
        output_scale = self._out.quantization(match).scale
        if self._reference == "tflite":
            left_shift, (multiplier, shift) = 0, arithmetic.mean_parameters(source.scale, output_scale, divisor)
        else:
            scale = arithmetic.scale_ratio(source.scale, output_scale) / divisor
            left_shift, multiplier, shift = arithmetic.raised_parameters(scale, LARGEST_OFFSET[source.dtype] * count)
        return integer_ops.mean(
            match[self._x.x],
            axes=axes,
            keepdims=int(attributes.keepdims),
            input_zero_point=source.zero_point,
            left_shift=left_shift,
            multiplier=multiplier,
            shift=shift,
            **self._out.clamp(match),
        )


SOFTMAX_CLASSES = 4095
"""Exponentials of at most 1 whose sum fits the 12 integer bits of an int32."""


class Softmax:
    """``quantize(softmax(dequantize(x)))``."""

    def __init__(self) -> None:
        self._x = Dequantized()
        self._out = Quantized(is_op("relax.nn.softmax")(self._x.pattern))
        self.pattern = self._out.pattern

    def fold(self, match: Match, real: Callable[[relax.Expr], relax.Expr]) -> relax.Expr:
        classes = shape_of(match[self._x.x])[-1]
        if classes > SOFTMAX_CLASSES:
            raise ModelError(
                f"A softmax over {classes} elements cannot be computed: the sum of exponentials holds "
                f"{SOFTMAX_CLASSES}. Use fewer classes."
            )
        source, result = self._x.quantization(match), self._out.quantization(match)
        _check_types("softmax", source, result)
        if source.dtype == "int16":
            return softmax(match[self._x.x], source, result)
        table = arithmetic.softmax_exp_table(source.scale)
        multiplier, shift = arithmetic.requantize_parameters(1.0, result.scale)
        return integer_ops.softmax(
            match[self._x.x], relax.const(table), multiplier=multiplier, shift=shift, **self._out.clamp(match)
        )


Tabulate = Callable[[Quantization, Quantization, relax.Call], np.ndarray]
"""From the input's and the result's quantization and the float call to 256 int8 values."""


class Function:
    """``quantize(f(dequantize(x)))`` for a function of one element: a table of its 256 values, where it has so few.

    Parameters
    ----------
    source : the float operator.
    arity : its arguments; those after the tensor are numbers.
    tabulate : for int8.
    fold_int16 : for int16, where 65536 values are no table.
    """

    def __init__(self, source: str, arity: int, tabulate: Tabulate, fold_int16: Fold) -> None:
        self._x = Dequantized()
        bounds = [relax.dpl.wildcard() for _ in range(arity - 1)]
        self._call = is_op(source)(self._x.pattern, *bounds)
        self._scale, self._zero = relax.dpl.is_const(), relax.dpl.is_const()
        self.pattern = is_op("relax.quantize")(self._call, self._scale, self._zero)
        self._name, self._tabulate, self._fold_int16 = source, tabulate, fold_int16

    def fold(self, match: Match, real: Callable[[relax.Expr], relax.Expr]) -> relax.Expr:
        source, result = self._x.quantization(match), quantization_of(match[self._scale], match[self._zero])
        _check_types(self._name, source, result)
        if source.dtype == "int16":
            return self._fold_int16(match[self._x.x], source, result, real(match[self._call]))
        table = self._tabulate(source, result, real(match[self._call]))
        return integer_ops.lookup(match[self._x.x], relax.const(table.astype(np.int8)))


class Requantization:
    """``quantize(dequantize(x))``: of 8 bits to 8 bits, a table."""

    def __init__(self, reference: str) -> None:
        self._requantization_table = REQUANTIZATION_TABLES[reference]
        self._x = Dequantized()
        self._scale, self._zero = relax.dpl.is_const(), relax.dpl.is_const()
        self.pattern = is_op("relax.quantize")(self._x.pattern, self._scale, self._zero)

    def fold(self, match: Match, real: Callable[[relax.Expr], relax.Expr]) -> relax.Expr:
        source, result = self._x.quantization(match), quantization_of(match[self._scale], match[self._zero])
        x = match[self._x.x]
        if "int16" in (source.dtype, result.dtype):
            return requantized(x, source, result)
        table = self._requantization_table(
            source.scale, source.zero_point, result.scale, result.zero_point, source.dtype, result.dtype
        )
        return integer_ops.lookup(x, relax.const(table))


def _folded_bias(
    bias: NDArray[Any] | None, weight: NDArray[np.int8], source: Quantization, shift: NDArray[np.int32]
) -> NDArray[Any]:
    """Return the bias of a layer that multiplies raw inputs; of int16 inputs it says how wide sums are."""
    if source.dtype != "int16":
        return arithmetic.fold_input_offset(bias, weight, source.zero_point)
    wide = np.zeros(len(weight), np.int64) if bias is None else bias
    if wide.dtype == np.int64:
        arithmetic.check_long_sums(weight, wide, shift)
    return wide


def _check_types(name: str, *quantizations: Quantization) -> None:
    """Check that inputs and result of an operator are of one type."""
    dtypes = [quantization.dtype for quantization in quantizations]
    if len(set(dtypes)) > 1:
        raise ModelError(
            f"{name.removeprefix('relax.')}: inputs and result are {', '.join(dtypes)}. Quantize them to one type, or "
            "change the type in an operator of its own (QUANTIZE)."
        )


def _constants(*arrays: np.ndarray) -> list[relax.Expr]:
    # Without its type named, an int64 constant becomes int32.
    return [relax.const(np.ascontiguousarray(array), str(array.dtype)) for array in arrays]


def _integers(values: Sequence[int]) -> list[int]:
    return [int(value) for value in values]
