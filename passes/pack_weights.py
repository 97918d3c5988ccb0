"""Store weights that need no more than four bits two to a byte, and unpack them before the layer that reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence
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

NARROW = "tinyml.narrow"
"""Attribute of kernels of layers for which `is_narrow_layer` holds."""

LEAST, LARGEST = -8, 7
"""Weights of four bits."""

LEAST_BYTES = 256
"""Of constants: fewer save less than what unpacks them takes."""

WORTH = 0.75
"""Of its bytes that a constant may take when it is packed; what saves less is left as it is."""

GROUP_WORDS = 4
"""Of a constant that are packed at a time, into two."""

MOST = 0xFFFF
"""Groups, or words that are copied, in one run."""

PART_BYTES = 8192
"""Of a layer's weights that are unpacked at once."""


def is_narrow(values: NDArray[Any]) -> bool:
    """Return whether all weights fit into four bits, and are worth it."""
    return bool(
        values.dtype == np.int8 and values.size >= LEAST_BYTES and values.min() >= LEAST and values.max() <= LARGEST
    )


def packed(values: NDArray[Any]) -> NDArray[np.int32] | None:
    """Return a constant as runs of packed weights and copied words, or None where that saves little.

    Kernels keep weights beside scales and biases: what of it fits into four bits is found word by word. For the format
    see `tvm_tinyml.passes.integer_ops.unpack`.
    """
    if values.nbytes < LEAST_BYTES or values.nbytes % 4 or values.dtype not in (np.int8, np.int32):
        return None
    words = np.ascontiguousarray(values).ravel().view("<i4")
    numbers = words.view(np.int8).reshape(-1, 4)
    fits: NDArray[np.bool_] = np.all((numbers >= LEAST) & (numbers <= LARGEST), axis=1)
    runs, i = list[NDArray[np.int32]](), 0
    while i < len(words):
        groups = _run(fits, i) // GROUP_WORDS
        end = i + groups * GROUP_WORDS
        copied = end
        while copied < len(words) and _run(fits, copied) < GROUP_WORDS:
            copied += max(_run(fits, copied), 1)
        runs.append(_encoded(words[i:end], words[end:copied]))
        i = copied
    result = np.concatenate([*runs, np.zeros(1, np.int32)])
    return result if result.nbytes <= WORTH * values.nbytes else None


def stored_bytes(arguments: Sequence[relax.Expr]) -> int:
    """Return the bytes that a kernel's constants take once they are packed where they can be."""
    arrays = [argument.value.numpy() for argument in arguments if isinstance(argument, GenericConst)]
    return sum(array.nbytes if (small := packed(array)) is None else small.nbytes for array in arrays)


def _run(fits: NDArray[np.bool_], first: int) -> int:
    """Return how many words in a row fit, from one on, as far as one run goes."""
    part = fits[first : first + MOST * GROUP_WORDS]
    return int(np.argmin(part)) if not part.all() else len(part)


def _encoded(narrow: NDArray[np.int32], copied: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return a run."""
    nibbles = (narrow.view(np.int8).astype(np.int16) - LEAST).astype(np.uint8).reshape(-1, 2, 4)
    pairs = np.ascontiguousarray(nibbles[:, 0] | nibbles[:, 1] << 4).view("<i4").ravel()
    head = np.array([len(narrow) // GROUP_WORDS | len(copied) << 16], np.int64).astype(np.uint32).view(np.int32)
    return np.concatenate([head, pairs, copied])


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
        self._narrow = {
            variable for variable, func in mod.functions.items() if func.attrs is not None and NARROW in func.attrs
        }

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        if not (isinstance(call.op, Op) and call.op.name == "relax.call_tir" and call.args[0] in self._narrow):
            return super().visit_call_(call)
        arguments = call.args[1].fields
        fields = [self._unpacked(argument) for argument in arguments]
        if all(new is old for new, old in zip(fields, arguments, strict=True)):
            return super().visit_call_(call)
        new = relax.Call(call.op, [call.args[0], relax.Tuple(fields)], call.attrs, call.ty_args)
        return super().visit_call_(new)

    def _unpacked(self, argument: relax.Expr) -> relax.Expr:
        values = argument.value.numpy() if isinstance(argument, GenericConst) else None
        words = None if values is None else packed(values)
        if values is None or words is None:
            return argument
        weights = integer_ops.unpack(relax.const(words), shape=list(values.shape), bits=8 * values.itemsize)
        return self.builder_.emit(weights, "weights")


@tvm.transform.module_pass(opt_level=0, name="tinyml.SplitNarrowLayers")
class SplitNarrowLayers(CallablePass):
    """Compute layers whose weights will be unpacked some output channels at a time, where they have many.

    Else all weights of a layer would lie in RAM at once.
    """

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module; `mod` is untouched."""
        rewriter = _Splitter(mod)
        rewriter.builder_.update_func(mod.get_global_var("main"), rewriter.visit_expr(mod["main"]))
        return rewriter.builder_.get()


@mutator
class _Splitter(PyExprMutator):  # type: ignore[misc]
    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if not is_narrow_layer(call):
            return call
        weight, *rest = (argument.value.numpy() for argument in call.args[1:])
        parts = -(-weight.nbytes // PART_BYTES)
        if parts == 1:
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


def is_narrow_layer(call: relax.Call) -> bool:
    """Return whether a layer of the integer dialect has weights of four bits that are to be stored so.

    Those of layers with groups are few, and their kernels want them in another form.
    """
    if call.op not in (integer_ops.conv2d.op, integer_ops.dense.op):
        return False
    one_group = integer_ops.attributes_of(call).get("groups", 1) == 1
    return one_group and isinstance(call.args[1], GenericConst) and is_narrow(call.args[1].value.numpy())
