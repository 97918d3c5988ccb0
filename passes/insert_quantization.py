"""Insert quantization into a float network: the canonical form of :mod:`tvm_tinyml.frontend` is what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import IRModule, relax
from tvm.ir import GenericConst
from tvm.ir.transform import PassContext

from tvm_tinyml.arithmetic import quantize_array
from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.float_groups import LAYERS, Group, groups, leaves


@dataclass(frozen=True)
class Activation:
    """How a tensor is quantized: real value = scale * (integer - zero_point).

    Attributes
    ----------
    scale : a float32 number, positive.
    dtype : ``int8`` or ``int16``.
    """

    scale: float
    zero_point: int
    dtype: str = "int8"


@dataclass(frozen=True)
class Weights:
    """Integers of a layer.

    Attributes
    ----------
    values : int8, filters first.
    scale : float32 of shape () or [filters].
    bias : int32 [output channels], in units of the input's scale * `scale`.
    """

    values: NDArray[np.int8]
    scale: NDArray[np.float32]
    bias: NDArray[np.int32]


@dataclass(frozen=True)
class Scheme:
    """How a network is quantized.

    Attributes
    ----------
    activations : by the names of tensors. All that `Group.moves` reads and makes has one.
    weights : by the name of the tensor that a layer computes.
    """

    activations: Mapping[str, Activation]
    weights: Mapping[str, Weights] = field(default_factory=dict)


@tvm.transform.module_pass(opt_level=0, name="tinyml.InsertQuantization")
class InsertQuantization(CallablePass):
    """Quantize tensors and weights of a float network as a scheme says.

    Parameters
    ----------
    scheme : of all tensors and layers of the network.
    """

    def __init__(self, scheme: Scheme) -> None:
        self._scheme = scheme

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module, in the quantized canonical form; `mod` is untouched."""
        return _Rewriter(self._scheme, mod).run()


class _Rewriter:
    def __init__(self, scheme: Scheme, mod: IRModule) -> None:
        self._scheme, self._mod = scheme, mod
        self._builder = relax.BlockBuilder()
        self._bindings: list[relax.VarBinding] = []
        self._new: dict[relax.Var, relax.Expr] = {}

    def run(self) -> IRModule:
        main = self._mod["main"]
        parameters = []
        for old in main.params:
            to = self._scheme.activations[str(old.name)]
            parameters.append(relax.Var(old.name, relax.TensorType(list(old.ty.shape), to.dtype)))
            self._new[old] = parameters[-1]
        for group in groups(main):
            if group.moves:
                self._move(group)
            else:
                self._compute(group)
        body = self._builder.normalize(
            relax.SeqExpr([relax.DataflowBlock(self._outputs(main))], self._result(main.body.body))
        )
        function = relax.Function(parameters, body).with_attr("global_symbol", "main")
        tidy = [relax.transform.CanonicalizeBindings(), relax.transform.DeadCodeElimination(["main"])]
        return tvm.transform.Sequential(tidy)(IRModule({"main": function}, attrs=self._mod.attrs))

    def _outputs(self, main: relax.Function) -> list[relax.VarBinding]:
        """Return all bindings, those of results with variables that may leave the dataflow block."""
        results = [field for field in leaves(main.body.body) if isinstance(field, relax.Var)]
        for old in dict.fromkeys(results):
            var = relax.Var(str(old.name), self._new[old].ty)
            self._bindings.append(relax.VarBinding(var, self._new[old]))
            self._new[old] = var
        return self._bindings

    def _result(self, body: relax.Expr) -> relax.Expr:
        if isinstance(body, relax.Tuple):
            return relax.Tuple([self._result(each) for each in body.fields])
        return self._new[body]

    def _move(self, group: Group) -> None:
        (binding,) = group.bindings
        value = binding.value
        if isinstance(value, relax.TupleGetItem):
            moved: relax.Expr = relax.TupleGetItem(self._new[value.tuple_value], value.index)
        elif value.op.name == "relax.nn.pad":
            to = self._scheme.activations[group.name]
            filling = _integers(np.array(float(value.attrs.pad_value)), to)
            widths = [int(width) for width in value.attrs.pad_width]
            moved = relax.op.nn.pad(self._moved(value.args[0], group), widths, pad_value=int(filling))
        else:
            moved = relax.Call(value.op, [self._moved(argument, group) for argument in value.args], value.attrs)
        self._new[binding.var] = self._emit(moved, group.name)

    def _moved(self, argument: relax.Expr, group: Group) -> relax.Expr:
        """Return an operand of a move, quantized as its result is."""
        if isinstance(argument, relax.Tuple):
            return relax.Tuple([self._moved(each, group) for each in argument.fields])
        to = self._scheme.activations[group.name]
        if isinstance(argument, GenericConst):
            return relax.const(_integers(argument.value.numpy(), to))
        if not isinstance(argument, relax.Var):
            return argument
        if self._scheme.activations[str(argument.name)] == to:
            return self._new[argument]
        return self._quantize(self._dequantize(argument), to, f"{argument.name}_requantized")

    def _compute(self, group: Group) -> None:
        weights = self._scheme.weights.get(group.name)
        inside = {binding.var for binding in group.bindings}
        real: dict[relax.Expr, relax.Expr] = {}
        for binding in group.bindings:
            call = binding.value
            arguments = []
            for number, argument in enumerate(call.args):
                if isinstance(argument, GenericConst):
                    arguments.append(self._constant(argument, call, number, group, inside, weights))
                elif isinstance(argument, relax.Var):
                    arguments.append(real[argument] if argument in inside else self._dequantize(argument))
                else:
                    arguments.append(argument)
            real[binding.var] = self._emit(relax.Call(call.op, arguments, call.attrs))
        last = group.bindings[-1].var
        self._new[last] = self._quantize(real[last], self._scheme.activations[group.name], group.name)

    def _constant(
        self,
        constant: GenericConst,
        call: relax.Call,
        number: int,
        group: Group,
        inside: set[relax.Var],
        weights: Weights | None,
    ) -> relax.Expr:
        """Return a constant, dequantized: weights, a bias, or an operand."""
        source = self._scheme.activations[group.sources[0]]
        if weights is None:
            return self._operand(constant.value.numpy(), source.dtype)
        if call.op.name in (*LAYERS, "relax.permute_dims"):
            zero = np.zeros(weights.scale.shape, np.int8)
            return self._emit(_dequantized(weights.values, weights.scale, zero, axis=0))
        # The groups of a transposed convolution share their filters and scales.
        scale = np.resize(np.float32(source.scale) * weights.scale, weights.bias.shape).astype(np.float32)
        if source.dtype == "int16":  # whose sums have 64 bits, as TFLite has them
            real = self._emit(relax.op.astype(relax.const(weights.bias.astype(np.int64), "int64"), "float32"))
            return self._emit(relax.op.multiply(real, relax.const(scale)))
        return self._emit(_dequantized(weights.bias, scale, np.zeros(scale.shape, np.int32), axis=0))

    def _operand(self, values: NDArray[np.float32], dtype: str) -> relax.Expr:
        largest = float(np.abs(values).max())
        to = Activation(float(np.float32(largest / np.iinfo(dtype).max)) or 1.0, 0, dtype)
        zero = np.array(0, dtype)
        return self._emit(_dequantized(_integers(values, to), np.array(to.scale, np.float32), zero, axis=-1))

    def _dequantize(self, old: relax.Var) -> relax.Expr:
        of = self._scheme.activations[str(old.name)]
        parameters = relax.const(np.float32(of.scale)), relax.const(np.array(of.zero_point, of.dtype))
        return self._emit(relax.op.dequantize(self._new[old], *parameters, axis=-1))

    def _quantize(self, real: relax.Expr, to: Activation, name: str) -> relax.Expr:
        parameters = relax.const(np.float32(to.scale)), relax.const(np.array(to.zero_point, to.dtype))
        return self._emit(relax.op.quantize(real, *parameters, axis=-1, out_dtype=to.dtype), name)

    def _emit(self, value: relax.Expr, name: str = "real") -> relax.Expr:
        value = self._builder.normalize(value)
        var = relax.DataflowVar(name, value.ty)
        self._bindings.append(relax.VarBinding(var, value))
        return var


def _integers(values: NDArray[Any], to: Activation) -> NDArray[Any]:
    return quantize_array(values, to.scale, to.zero_point, to.dtype)


def _dequantized(
    values: NDArray[np.integer], scale: NDArray[np.float32], zero: NDArray[np.integer], axis: int
) -> relax.Expr:
    return relax.op.dequantize(relax.const(values), relax.const(scale), relax.const(zero), axis=axis)
