"""The pass: every quantized group of the canonical form becomes one operator of the integer dialect."""

from __future__ import annotations

import tvm
from tvm import IRModule, relax
from tvm.ir.transform import PassContext
from tvm.relax.analysis import get_var2val
from tvm.relax.dpl import rewrite_call

from tvm_tinyml import arithmetic
from tvm_tinyml.errors import ModelError
from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.fold_quantization.functions import function_groups
from tvm_tinyml.passes.fold_quantization.groups import (
    AveragePool,
    Convolution,
    Dense,
    Group,
    MaxPool,
    Mean,
    Product,
    Requantization,
    Softmax,
    Sum,
    TransposedConvolution,
)


def groups(reference: str) -> list[Group]:
    """Return the groups in the order in which they are looked for."""
    return [
        Convolution(),
        TransposedConvolution(),
        Dense(),
        Sum("relax.add", integer_ops.add, arithmetic.add_parameters),
        Sum("relax.subtract", integer_ops.subtract, arithmetic.sub_parameters),
        Product(reference),
        AveragePool(),
        MaxPool(reference),
        Mean("relax.mean", reference),
        Mean("relax.sum", reference),
        Softmax(),
        *function_groups(reference),
        Requantization(reference),
    ]


@tvm.transform.module_pass(opt_level=0, name="tinyml.FoldQuantization")
class FoldQuantization(CallablePass):
    """Rewrite ``quantize(f(dequantize(x), ...))`` to integer operators, scales turned into multipliers and shifts.

    The arithmetic is TFLite's for every model. Where the module's ``tinyml.reference`` is ``onnx``, element-wise
    functions are exact, and means and products have bits in reserve, so that their results are as if rounded once.

    Raises
    ------
    ModelError : float operators are left: no group takes them. All are named.
    """

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module; `mod` is untouched."""
        reference = str(mod.attrs["tinyml.reference"])
        main = mod["main"]
        for group in groups(reference):
            main = _rewrite(main, group)
        folded = IRModule({**dict(mod.functions), mod.get_global_var("main"): main}, attrs=mod.attrs)
        folded = relax.transform.DeadCodeElimination(["main"])(folded)
        _check_no_float(folded["main"])
        return folded


def _rewrite(main: relax.Function, group: Group) -> relax.Function:
    values = get_var2val(main)

    def real(expr: relax.Expr) -> relax.Expr:
        return values[expr] if isinstance(expr, relax.Var) else expr

    return rewrite_call(group.pattern, lambda _call, match: group.fold(match, real), main)


def _check_no_float(main: relax.Function) -> None:
    left = [
        f"{binding.value.op.name.removeprefix('relax.')} ('{binding.var.name}')"
        for block in main.body.blocks
        for binding in block.bindings
        if isinstance(binding.value, relax.Call) and "float" in str(getattr(binding.var.ty, "dtype", ""))
    ]
    if left and not any(str(parameter.ty.dtype).startswith(("int", "uint")) for parameter in main.params):
        raise ModelError(
            "This is a float network, and the library would compute with integers. Quantize it: "
            "tinyml.quantize(model, calibration=samples), or --calibration X.npz with samples of its inputs."
        )
    if left:
        raise ModelError(
            f"{len(left)} operators still compute with floats after quantization was folded: {', '.join(left)}. "
            "Quantize every tensor of the model, or compile for a target with float kernels."
        )
