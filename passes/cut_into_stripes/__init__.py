"""Compute some layers stripe by stripe, so that no tensor between them ever exists as a whole.

Patch-based execution (Lin et al., MCUNetV2, NeurIPS 2021, section 3) with patches as wide as the image: rows of an
NHWC image lie one behind the other, so a stripe is a view of the tensor that it is cut from, and results are computed
to where they belong. Rows at the seams are computed twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import tvm
from tvm import IRModule, relax
from tvm.ir import GenericConst
from tvm.ir.transform import PassContext
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.cut_into_stripes.rows import Rows, for_rows, rows_read
from tvm_tinyml.passes.cut_into_stripes.segment import Segment, bindings_of, cut, is_segment, rows_needed
from tvm_tinyml.passes.integer_ops import shape_of

__all__ = ["CutIntoStripes", "Segment", "is_segment"]


@tvm.transform.module_pass(opt_level=0, name="tinyml.CutIntoStripes")
class CutIntoStripes(CallablePass):
    """Rewrite segments of ``main`` to the same operators on stripes of rows.

    Parameters
    ----------
    segments : of the integer dialect's module, for which `is_segment` holds; none shares an operator with another.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._segments = segments

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module; `mod` is untouched."""
        for segment in self._segments:
            assert is_segment(mod, segment), f"not a segment: {segment}"
        rewriter = _Rewriter(mod, self._segments)
        rewriter.builder_.update_func(mod.get_global_var("main"), rewriter.visit_expr(mod["main"]))
        return rewriter.builder_.get()


@mutator
class _Rewriter(PyExprMutator):  # type: ignore[misc]
    def __init__(self, mod: IRModule, segments: Sequence[Segment]) -> None:
        super().__init__(mod)
        bindings = bindings_of(mod)
        self._operators = {
            bindings[segment.last].var: bindings[segment.first : segment.last + 1] for segment in segments
        }
        self._counts = {bindings[segment.last].var: segment.stripes for segment in segments}
        self._inside = {b.var for operators in self._operators.values() for b in operators[:-1]}

    def visit_var_binding_(self, binding: relax.VarBinding) -> None:
        if binding.var in self._inside:
            return
        if binding.var in self._operators:
            operators = self._operators[binding.var]
            stripes = [self._stripe(operators, rows) for rows in cut(binding.var, self._counts[binding.var])]
            joined = integer_ops.join(*stripes, shape=shape_of(binding.var))
            emit = self.builder_.emit if isinstance(binding.var, relax.DataflowVar) else self.builder_.emit_output
            self.set_var_remap(binding.var, emit(joined, binding.var.name))
            return
        super().visit_var_binding_(binding)

    def _stripe(self, operators: Sequence[relax.VarBinding], rows: Rows) -> relax.Expr:
        """Emit the operators for these rows of the last one's result, and return it."""
        needed = rows_needed(operators, rows)
        stripes: dict[relax.Var, relax.Var] = {}
        for binding in operators:
            own, arguments = needed[binding.var], []
            reads = iter(rows_read(binding.value, own))
            for argument in binding.value.args:
                if isinstance(argument, GenericConst):
                    arguments.append(argument)
                    continue
                read = next(reads)
                if argument in stripes:
                    there = needed[argument].begin
                    arguments.append(self._view(stripes[argument], Rows(read.begin - there, read.end - there)))
                else:
                    arguments.append(self._view(self.visit_expr(argument), read))
            stripes[binding.var] = self.builder_.emit(for_rows(binding.value, arguments, own), binding.var.name)
        return stripes[operators[-1].var]

    def _view(self, tensor: relax.Expr, rows: Rows) -> relax.Expr:
        batch, height, width, channels = shape_of(tensor)
        if rows == Rows(0, height):
            return tensor
        shape = [batch, rows.count, width, channels]
        return self.builder_.emit(integer_ops.view(tensor, begin=rows.begin * width * channels, shape=shape), "rows")
