"""Builder of the canonical form, see :mod:`tvm_tinyml.frontend`: each method adds one quantized operator."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax, tirx
from tvm.ir import GenericConst, Op, _ffi_api

from tvm_tinyml.arithmetic import RANGES
from tvm_tinyml.errors import ModelError
from tvm_tinyml.model import Model, TensorSpec

Function = Callable[..., relax.Expr]
"""From float expressions to a float expression; one Relax call."""


@dataclass(frozen=True)
class Quantization:
    """What the integers of a tensor mean: real value = scale * (integer - zero_point).

    Attributes
    ----------
    scale : a float32 number, positive.
    zero_point : in [-128, 127]; 0 for int16.
    dtype : ``int8`` or ``int16``.
    """

    scale: float
    zero_point: int
    dtype: str = "int8"


RELU: Function = relax.op.nn.relu

UNIT_INTERVAL = Quantization(1 / 256, -128)
"""TFLite's fixed quantization of softmax and logistic."""

SYMMETRIC_UNIT = Quantization(1 / 128, 0)
"""TFLite's fixed quantization of tanh."""


@dataclass(frozen=True)
class Tensor:
    """A tensor inside the graph, of the type that its quantization says."""

    expr: relax.Expr
    quantization: Quantization

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(extent) for extent in self.expr.ty.shape)


@dataclass(frozen=True)
class Weight:
    """Constant int8 filter, symmetric: its zero point is 0; in a float network a float32 one.

    Attributes
    ----------
    values : int8 or float32, output channels first.
    scale : float32, of shape () or [output channels].
    """

    values: NDArray[Any]
    scale: NDArray[np.float32]


def identifier(text: str, default: str) -> str:
    """Make a C identifier of `text`.

    >>> identifier("model/conv2d/BiasAdd;model/bn", "t"), identifier("0:0", "t"), identifier("", "t")
    ('model_conv2d_BiasAdd', 't_0_0', 't')
    """
    name = re.sub(r"[^A-Za-z0-9]+", "_", text.split(";")[0]).strip("_")
    return name if name[:1].isalpha() else f"{default}_{name}".strip("_")


def clip(low: float, high: float) -> Function:
    """Return the function that limits its argument to [low, high]."""
    return lambda x: relax.op.clip(x, low, high)


@contextmanager
def importing(operator: object) -> Iterator[None]:
    """Turn what fails because an operator's shapes and options contradict each other into a ModelError."""
    try:
        yield
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"{operator}: its shapes or options contradict each other ({error}). Export the model again."
        ) from error


def _register(name: str, inputs: int, formula: str) -> Op:
    """Register an element-wise operator that Relax lacks."""
    if name not in Op.list_op_names():
        _ffi_api.RegisterOp(name, f"{formula}, float32")
    op = Op.get(name)
    op.set_num_inputs(inputs)
    op.set_attr("FPurity", True)
    op.set_attr("FInferType", lambda call, _context: call.args[0].ty)
    return op


_HARD_SWISH = _register("tinyml.hard_swish", 1, "x * min(max(x + 3, 0), 6) / 6")
_HARD_SIGMOID = _register("tinyml.hard_sigmoid", 3, "min(max(alpha * x + beta, 0), 1)")


def hard_swish(x: relax.Expr) -> relax.Call:
    """Call the float32 operator ``tinyml.hard_swish``, which Relax lacks."""
    return relax.Call(_HARD_SWISH, [x])


def hard_sigmoid(x: relax.Expr, alpha: float, beta: float) -> relax.Call:
    """Call the float32 operator ``tinyml.hard_sigmoid``, min(max(alpha * x + beta, 0), 1)."""
    return relax.Call(_HARD_SIGMOID, [x, tirx.FloatImm("float32", alpha), tirx.FloatImm("float32", beta)])


class QdqBuilder:
    """Collects the operators of one network and makes its :class:`Model`.

    Every method that adds an operator takes `to`, the quantization of its result, and `name`, from which the variable
    that holds the result is named.

    Parameters
    ----------
    reference : whose rounding the integers follow: ``tflite`` or ``onnx``.

    Attributes
    ----------
    real : whether tensors are float32 and nothing is quantized: see `tvm_tinyml.frontend.real`.
    """

    real = False

    def __init__(self, reference: str) -> None:
        self._reference = reference
        self._relax = relax.BlockBuilder()
        self._bindings: list[relax.VarBinding] = []
        self._names = {"real"}  # of results that no tensor of the source is
        self._parameters: list[relax.Var] = []
        self._inputs: list[TensorSpec] = []
        self._results: list[relax.Expr] = []
        self._outputs: list[TensorSpec] = []
        self._reshaped: dict[relax.Expr, relax.Expr] = {}
        self._permuted: dict[tuple[relax.Expr, tuple[int, ...]], relax.Expr] = {}

    def input(self, name: str, shape: Sequence[int], dtype: str, quantization: Quantization) -> Tensor:
        """Add a parameter of the quantization's type, or of `dtype` uint8, which is at once made int8.

        `quantization` is that of the tensor inside: a uint8 zero point is 128 greater.
        """
        parameter = relax.Var(self._unique(name, "input"), relax.TensorType(list(shape), dtype))
        spec = TensorSpec(name, tuple(shape), dtype, *_interface(dtype, quantization))
        self._parameters.append(parameter)
        self._inputs.append(spec)
        if dtype == quantization.dtype:
            return Tensor(parameter, quantization)
        real = self._emit(relax.op.dequantize(parameter, *_parameters(quantization, dtype), axis=-1))
        return self._quantize(real, None, quantization, f"{name}_int8")

    def output(self, name: str, x: Tensor, dtype: str) -> None:
        """Make `x` the next result of the network, of its own type or, where it is int8, as `dtype` uint8."""
        expr = x.expr
        if dtype == "uint8":
            real = self._dequantize(x)
            expr = self._emit(
                relax.op.quantize(real, *_parameters(x.quantization, dtype), axis=-1, out_dtype=dtype), name
            )
        self._results.append(expr)
        self._outputs.append(TensorSpec(name, x.shape, dtype, *_interface(dtype, x.quantization)))

    def constant(self, values: NDArray[Any], quantization: Quantization) -> Tensor:
        """Return a constant operand, of the quantization's type."""
        return Tensor(relax.const(np.ascontiguousarray(values, quantization.dtype)), quantization)

    def nearest(self, number: float, to: Quantization) -> float:
        """Return what stands for a number in a tensor."""
        return int(np.clip(np.round(number / to.scale) + to.zero_point, *RANGES[to.dtype]))

    def limits(self, to: Quantization) -> tuple[float, float]:
        """Return the least and the largest number that a tensor can express."""
        least, largest = RANGES[to.dtype]
        return to.scale * (least - to.zero_point), to.scale * (largest - to.zero_point)

    def apply(
        self, function: Function, *xs: Tensor, to: Quantization, name: str, activation: Function | None = None
    ) -> Tensor:
        """Add ``quantize(activation(function(dequantize(x), ...)))``."""
        real = self._emit(function(*[self._dequantize(x) for x in xs]))
        return self._quantize(real, activation, to, name)

    def conv2d(
        self,
        x: Tensor,
        weight: Weight,
        bias: NDArray[Any] | None,
        *,
        strides: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int] = (1, 1),
        groups: int = 1,
        to: Quantization,
        name: str,
        activation: Function | None = None,
    ) -> Tensor:
        """Add a convolution; `x` is NHWC, `weight` OHWI, `padding` (top, left, bottom, right)."""
        product = relax.op.nn.conv2d(
            self._dequantize(x),
            self._dequantize_weight(weight),
            strides=tuple(strides),
            padding=tuple(padding),
            dilation=tuple(dilation),
            groups=groups,
            data_layout="NHWC",
            kernel_layout="OHWI",
        )
        return self._quantize(self._add_bias(product, x, weight, bias), activation, to, name)

    def conv2d_transpose(
        self,
        x: Tensor,
        weight: Weight,
        bias: NDArray[Any] | None,
        *,
        strides: Sequence[int],
        padding: Sequence[int],
        output_padding: Sequence[int] = (0, 0),
        dilation: Sequence[int] = (1, 1),
        groups: int = 1,
        to: Quantization,
        name: str,
        activation: Function | None = None,
    ) -> Tensor:
        """Add a transposed convolution.

        `x` is NHWC. `weight` is OHWI with the output channels of one group, which all groups share the scales of, and
        all input channels. `padding` (top, left, bottom, right) is cut off the full result, `output_padding` (bottom,
        right) added.
        """
        product = relax.op.nn.conv2d_transpose(
            self._dequantize(x),
            self._dequantize_weight(weight),
            strides=tuple(strides),
            padding=tuple(padding),
            output_padding=tuple(output_padding),
            dilation=tuple(dilation),
            groups=groups,
            data_layout="NHWC",
            kernel_layout="OHWI",
        )
        product = self._relax.normalize(product)
        size = [int(extent) for extent in product.ty.shape]
        if min(size) < 1:
            raise ValueError(f"after padding is cut off, the result has shape {size}")
        channels = Weight(weight.values, np.tile(weight.scale, groups) if weight.scale.ndim else weight.scale)
        return self._quantize(self._add_bias(product, x, channels, bias), activation, to, name)

    def dense(
        self,
        x: Tensor,
        weight: Weight,
        bias: NDArray[Any] | None,
        *,
        to: Quantization,
        name: str,
        activation: Function | None = None,
    ) -> Tensor:
        """Add a fully connected layer; `x` is [N, K], `weight` [O, K]."""
        transposed = self._emit(relax.op.permute_dims(self._dequantize_weight(weight)))
        product = relax.op.matmul(self._dequantize(x), transposed)
        return self._quantize(self._add_bias(product, x, weight, bias), activation, to, name)

    def requantize(self, x: Tensor, to: Quantization, name: str) -> Tensor:
        """Express the same values in another scale and zero point; nothing is added when both are equal."""
        if x.quantization == to:
            return x
        return self._quantize(self._dequantize(x), None, to, name)

    def move(self, function: Function, *xs: Tensor, name: str) -> Tensor:
        """Add an operator that only moves elements: it works on the integers themselves.

        Raises
        ------
        ModelError : the operands do not share scale and zero point.
        """
        for x in xs[1:]:
            if x.quantization != xs[0].quantization:
                raise ModelError(
                    f"'{name}': its operands are quantized differently, {xs[0].quantization} and {x.quantization}. "
                    "Quantize them with one scale and zero point."
                )
        return Tensor(self._emit(function(*[x.expr for x in xs]), name), xs[0].quantization)

    def split(self, x: Tensor, sizes: Sequence[int], axis: int, names: Sequence[str]) -> list[Tensor]:
        """Cut `x` along `axis` into parts of the given sizes."""
        cuts = [int(i) for i in np.cumsum(sizes)[:-1]]
        parts = self._emit(relax.op.split(x.expr, cuts, axis), f"{names[0]}_split")
        return [Tensor(self._emit(relax.TupleGetItem(parts, i), name), x.quantization) for i, name in enumerate(names)]

    def reshape(self, x: Tensor, shape: Sequence[int], name: str) -> Tensor:
        """Give `x` another shape; nothing is added when it has it already, or for a constant."""
        if x.shape == tuple(shape):
            return x
        if isinstance(x.expr, GenericConst):
            return self.constant(x.expr.value.numpy().reshape(shape), x.quantization)
        source = self._reshaped.get(x.expr, x.expr)
        if [int(extent) for extent in source.ty.shape] == list(shape):
            return Tensor(source, x.quantization)
        result = self.move(lambda e: relax.op.reshape(e, tuple(shape)), Tensor(source, x.quantization), name=name)
        self._reshaped[result.expr] = source
        return result

    def permute(self, x: Tensor, axes: Sequence[int], name: str) -> Tensor:
        """Reorder the axes of `x`: a reshape when only axes of extent 1 change their place."""
        if [i for i in axes if x.shape[i] != 1] == [i for i, extent in enumerate(x.shape) if extent != 1]:
            return self.reshape(x, [x.shape[i] for i in axes], name)
        if isinstance(x.expr, GenericConst):
            return self.constant(x.expr.value.numpy().transpose(axes), x.quantization)
        key = x.expr, tuple(axes)
        if key not in self._permuted:
            self._permuted[key] = self.move(lambda e: relax.op.permute_dims(e, list(axes)), x, name=name).expr
        return Tensor(self._permuted[key], x.quantization)

    def finish(self, name: str) -> Model:
        """Return the network, without what contributes to no output."""
        outputs = [
            relax.Var(_name(result) or self._unique(spec.name, "output"), result.ty)
            for spec, result in zip(self._outputs, self._results, strict=True)
        ]
        bindings = [relax.VarBinding(var, result) for var, result in zip(outputs, self._results, strict=True)]
        block = relax.DataflowBlock([*self._bindings, *bindings])
        body = outputs[0] if len(outputs) == 1 else relax.Tuple(outputs)
        body = self._relax.normalize(relax.SeqExpr([block], body))
        main = relax.Function(self._parameters, body).with_attr("global_symbol", "main")
        module = tvm.IRModule({"main": main}).with_attr("tinyml.reference", self._reference)
        tidy = tvm.transform.Sequential(
            [relax.transform.CanonicalizeBindings(), relax.transform.DeadCodeElimination(["main"])]
        )
        return Model(name, tidy(module), tuple(self._inputs), tuple(self._outputs), self._reference)

    def _dequantize(self, x: Tensor) -> relax.Expr:
        return self._emit(
            relax.op.dequantize(x.expr, *_parameters(x.quantization, x.quantization.dtype), axis=-1)
        )

    def _dequantize_weight(self, weight: Weight) -> relax.Expr:
        scale = weight.scale.astype(np.float32)
        zero = relax.const(np.zeros(scale.shape, np.int8))
        return self._emit(relax.op.dequantize(relax.const(weight.values), relax.const(scale), zero, axis=0))

    def _add_bias(self, product: relax.Expr, x: Tensor, weight: Weight, bias: NDArray[Any] | None) -> relax.Expr:
        product = self._emit(product)
        if bias is None:
            return product
        scale = np.broadcast_to(np.float32(x.quantization.scale) * weight.scale, bias.shape).astype(np.float32)
        if bias.dtype == np.int64:  # which Relax's dequantize does not take
            # Without its type named, an int64 constant becomes int32.
            real = self._emit(relax.op.astype(relax.const(bias, "int64"), "float32"))
            real = self._emit(relax.op.multiply(real, relax.const(scale)))
        else:
            zero = relax.const(np.zeros(bias.shape, np.int32))
            real = self._emit(relax.op.dequantize(relax.const(bias), relax.const(scale), zero, axis=0))
        return self._emit(relax.op.add(product, real))

    def _quantize(self, real: relax.Expr, activation: Function | None, to: Quantization, name: str) -> Tensor:
        if activation is not None:
            real = self._emit(activation(real))
        call = relax.op.quantize(real, *_parameters(to, to.dtype), axis=-1, out_dtype=to.dtype)
        return Tensor(self._emit(call, name), to)

    def _emit(self, call: relax.Expr, name: str | None = None) -> relax.Expr:
        call = self._relax.normalize(call)
        var = relax.DataflowVar("real" if name is None else self._unique(name, "tensor"), call.ty)
        self._bindings.append(relax.VarBinding(var, call))
        return var

    def _unique(self, text: str, default: str) -> str:
        base = name = identifier(text, default)
        count = 1
        while name in self._names:
            name = f"{base}_{count}"
            count += 1
        self._names.add(name)
        return name


def _name(result: relax.Expr) -> str | None:
    return str(result.name) if isinstance(result, relax.DataflowVar) else None


def _parameters(quantization: Quantization, dtype: str) -> tuple[relax.Expr, relax.Expr]:
    scale, zero_point = _interface(dtype, quantization)
    return relax.const(np.float32(scale)), relax.const(np.array(zero_point, dtype))


def _interface(dtype: str, quantization: Quantization) -> tuple[float, int]:
    return quantization.scale, quantization.zero_point + (128 if dtype == "uint8" else 0)
