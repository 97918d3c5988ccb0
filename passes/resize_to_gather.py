"""Nearest resizing reads pixels at positions that are known at compile time."""

from __future__ import annotations

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import IRModule, relax
from tvm.ir import Op
from tvm.ir.transform import PassContext
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_tinyml.arithmetic import nearest_indices
from tvm_tinyml.errors import ModelError
from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.integer_ops import shape_of


@tvm.transform.module_pass(opt_level=0, name="tinyml.ResizeToGather")
class ResizeToGather(CallablePass):
    """Rewrite ``image.resize2d(x, method="nearest_neighbor")`` to ``gather2d`` with constant rows and columns.

    Relax's own lowering computes positions in floats at run time.

    Raises
    ------
    ModelError : another method, or a layout other than NHWC.
    """

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module; `mod` is untouched."""
        rewriter = _Rewriter(mod)
        rewriter.builder_.update_func(mod.get_global_var("main"), rewriter.visit_expr(mod["main"]))
        return rewriter.builder_.get()


@mutator
class _Rewriter(PyExprMutator):  # type: ignore[misc]
    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if not (isinstance(call.op, Op) and call.op.name == "relax.image.resize2d"):
            return call
        method, layout = str(call.attrs.method), str(call.attrs.layout)
        if (method, layout) != ("nearest_neighbor", "NHWC"):
            raise ModelError(f"image.resize2d: method {method!r} in {layout}; known is 'nearest_neighbor' in NHWC.")
        mode, rounding = str(call.attrs.coordinate_transformation_mode), str(call.attrs.rounding_method)
        sizes = zip(shape_of(call.args[0])[1:3], [int(i) for i in call.args[1].values], strict=True)
        rows, columns = (relax.const(positions(n, m, mode, rounding)) for n, m in sizes)
        return integer_ops.gather2d(call.args[0], rows, columns)


def positions(size: int, resized: int, mode: str, rounding: str) -> NDArray[np.int32]:
    """Return the source position of each of `resized` positions along an axis of `size`.

    Parameters
    ----------
    mode : ``asymmetric``, ``half_pixel``, ``pytorch_half_pixel`` or ``align_corners``.
    rounding : ``floor``, ``ceil``, ``round_prefer_floor`` or ``round_prefer_ceil``.

    Source: TFLM resize_nearest_neighbor.h for the combinations that TFLite knows; ONNX operator Resize for the rest.
    """
    tflite = {
        ("asymmetric", "floor"): (False, False),
        ("half_pixel", "round_prefer_ceil"): (False, True),
        ("align_corners", "round_prefer_ceil"): (True, False),
    }.get((mode, rounding))
    if tflite:
        return nearest_indices(size, resized, *tflite).astype(np.int32)
    index = np.arange(resized, dtype=np.float32)
    scale = np.float32(resized) / np.float32(size)
    source = {
        "asymmetric": index / scale,
        "half_pixel": (index + np.float32(0.5)) / scale - np.float32(0.5),
        "pytorch_half_pixel": (index + np.float32(0.5)) / scale - np.float32(0.5) if resized > 1 else 0 * index,
        "align_corners": index * np.float32(size - 1) / np.float32(max(resized - 1, 1)),
    }[mode]
    rounded = {
        "floor": np.floor(source),
        "ceil": np.ceil(source),
        "round_prefer_floor": np.ceil(source - np.float32(0.5)),
        "round_prefer_ceil": np.floor(source + np.float32(0.5)),
    }[rounding]
    inside: NDArray[np.int32] = np.clip(rounded, 0, size - 1).astype(np.int32)
    return inside
