"""Store weights of four bits two to a byte, and unpack them before the layer that reads them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import IRModule, relax
from tvm.ir import GenericConst, Op
from tvm.ir.transform import PassContext
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.weight_codes import FORMS, Coding, Form, Kind, coding_of, encoded

NARROW = "tinyml.narrow"
"""Attribute of kernels of layers with weights of four bits: see `as_attribute`."""

LEAST_BYTES = 256
"""Of constants: fewer save less than what unpacks them takes."""

WORTH = 0.75
"""Of its bytes that a constant may take when it is packed; what saves less is left as it is."""

PART_BYTES = 8192
"""Of a layer's weights that are unpacked at once."""


def as_attribute(coding: Coding) -> list[int]:
    """Return a coding as numbers."""
    return [int(coding.kind), *coding.table]


def as_coding(attribute: Sequence[Any]) -> Coding:
    """Return what `as_attribute` was made of."""
    kind, *table = (int(number) for number in attribute)
    return Coding(Kind(kind), tuple(table))


def coding_of_layer(call: relax.Call) -> Coding | None:
    """Return how a layer of the integer dialect stores weights of four bits, or None if it has others.

    Those of layers with groups are few, and their kernels want them in another form.
    """
    if call.op not in (integer_ops.conv2d.op, integer_ops.dense.op) or not isinstance(call.args[1], GenericConst):
        return None
    return coding_of_weights(call.args[1].value.numpy(), integer_ops.attributes_of(call))


def coding_of_weights(weights: NDArray[Any], attributes: integer_ops.Attributes) -> Coding | None:
    """Return the same for a layer of such weights, [output channels, ...], and attributes."""
    many = attributes.get("groups", 1) == 1 and weights.size >= LEAST_BYTES
    return coding_of(weights) if many else None


@dataclass(frozen=True)
class Packed:
    """A constant as a code of `passes.weight_codes`."""

    words: NDArray[np.int32]
    form: Form
    pairs: bool

    def unpacked(self, shape: Sequence[int], bits: int) -> relax.Call:
        """Return the call that makes the constant, with numbers of so many bits."""
        code = relax.const(self.words)
        return integer_ops.unpack(code, shape=list(shape), bits=bits, form=int(self.form), pairs=int(self.pairs))


def packed(values: NDArray[Any], coding: Coding) -> Packed | None:
    """Return a constant in which there are weights of a layer in less space, or None where that saves little.

    Kernels keep weights beside scales and biases, two of them in a number of 16 bits, or with flipped sign bits, as
    they want them.
    """
    if values.nbytes < LEAST_BYTES or values.nbytes % 4 or values.dtype not in (np.int8, np.int32):
        return None
    codes = [
        Packed(encoded(values, way, form, pairs=pairs), form, pairs)
        for way in (coding, coding.flipped)
        if way is not None
        for form in FORMS[way.kind]
        # Four bits that are the weight itself have room for what pairs take from the second one.
        for pairs in ((False,) if way.kind is Kind.PLAIN or way is not coding else (False, True))
    ]
    least = min(codes, key=lambda code: code.words.nbytes)
    return least if least.words.nbytes <= WORTH * values.nbytes else None


def stored_bytes(arguments: Sequence[relax.Expr], coding: Coding) -> int:
    """Return the bytes that a kernel's constants take once they are packed where they can be."""
    arrays = [argument.value.numpy() for argument in arguments if isinstance(argument, GenericConst)]
    return sum(array.nbytes if (small := packed(array, coding)) is None else small.words.nbytes for array in arrays)


@tvm.transform.module_pass(opt_level=0, name="tinyml.PackWeights")
class PackWeights(CallablePass):
    """Replace constants that kernels read, and that are narrow for the most part, by `unpack` of half as many bytes.

    It works on what kernels read in the end, in whatever order they want it. The unpacked weights lie in the workspace
    while the layer is computed: see `SplitNarrowLayers` for large ones.
    """

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module, with calls of the integer dialect that are still to be lowered."""
        rewriter = _Packer(mod)
        rewriter.builder_.update_func(mod.get_global_var("main"), rewriter.visit_expr(mod["main"]))
        return rewriter.builder_.get()


@mutator
class _Packer(PyExprMutator):  # type: ignore[misc]
    def __init__(self, mod: IRModule) -> None:
        super().__init__(mod)
        self._codings = {
            variable: as_coding(func.attrs[NARROW])
            for variable, func in mod.functions.items()
            if func.attrs is not None and NARROW in func.attrs
        }

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        is_kernel = isinstance(call.op, Op) and call.op.name == "relax.call_tir"
        coding = self._codings.get(call.args[0]) if is_kernel else None
        if coding is None:
            return super().visit_call_(call)
        arguments = call.args[1].fields
        fields = [self._unpacked(argument, coding) for argument in arguments]
        if all(new is old for new, old in zip(fields, arguments, strict=True)):
            return super().visit_call_(call)
        new = relax.Call(call.op, [call.args[0], relax.Tuple(fields)], call.attrs, call.ty_args)
        return super().visit_call_(new)

    def _unpacked(self, argument: relax.Expr, coding: Coding) -> relax.Expr:
        values = argument.value.numpy() if isinstance(argument, GenericConst) else None
        small = None if values is None else packed(values, coding)
        if values is None or small is None:
            return argument
        return self.builder_.emit(small.unpacked(values.shape, 8 * values.itemsize), "weights")


@tvm.transform.module_pass(opt_level=0, name="tinyml.SplitNarrowLayers")
class SplitNarrowLayers(CallablePass):
    """Compute layers whose weights will be unpacked some output channels at a time, where they have many.

    Else all weights of a layer would lie in RAM at once.

    Parameters
    ----------
    reads_narrow : whether a layer will have a kernel that unpacks nothing.
    """

    def __init__(self, reads_narrow: Callable[[relax.Call], bool] = lambda _: False) -> None:
        self._reads_narrow = reads_narrow

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module; `mod` is untouched."""
        rewriter = _Splitter(mod, self._reads_narrow)
        rewriter.builder_.update_func(mod.get_global_var("main"), rewriter.visit_expr(mod["main"]))
        return rewriter.builder_.get()


@mutator
class _Splitter(PyExprMutator):  # type: ignore[misc]
    def __init__(self, mod: IRModule, reads_narrow: Callable[[relax.Call], bool]) -> None:
        super().__init__(mod)
        self._reads_narrow = reads_narrow

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if coding_of_layer(call) is None:
            return call
        weight, *rest = (argument.value.numpy() for argument in call.args[1:])
        parts = -(-weight.nbytes // PART_BYTES)
        if parts == 1 or self._reads_narrow(call):
            return call
        channels = -(-len(weight) // (4 * parts)) * 4
        made = []
        for first in range(0, len(weight), channels):
            constants = [relax.const(np.ascontiguousarray(a[first : first + channels])) for a in (weight, *rest)]
            part = relax.Call(call.op, [call.args[0], *constants], call.attrs)
            made.append(self.builder_.emit(part, "channels"))
        shape = integer_ops.shape_of(call)
        if math.prod(shape[:-1]) == 1:
            return integer_ops.join(*made, shape=shape)
        return relax.op.concat(made, axis=-1)
