"""Which operators can be computed together, stripe by stripe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import IRModule, relax

from tvm_tinyml.passes.cut_into_stripes.rows import Rows, rows_read, tensors_of, works_by_rows
from tvm_tinyml.passes.integer_ops import shape_of


@dataclass(frozen=True)
class Segment:
    """Operators that follow each other, of which only the last one's result is wanted.

    Attributes
    ----------
    first, last : indices of bindings of ``main``.
    stripes : into how many stripes the result is cut.
    """

    first: int
    last: int
    stripes: int


def bindings_of(mod: IRModule) -> list[relax.VarBinding]:
    """Return the bindings of ``main`` in order."""
    return [binding for block in mod["main"].body.blocks for binding in block.bindings]


def is_segment(mod: IRModule, segment: Segment) -> bool:
    """Return whether the operators of a segment all work by rows, and only its result leaves it."""
    bindings = bindings_of(mod)
    if not 0 <= segment.first <= segment.last < len(bindings):
        return False
    operators = bindings[segment.first : segment.last + 1]
    if not all(works_by_rows(binding.value) for binding in operators):
        return False
    last = operators[-1].var
    if not 2 <= segment.stripes <= shape_of(last)[1]:
        return False
    read = [rows for stripe in cut(last, segment.stripes) for rows in rows_needed(operators, stripe).values()]
    inside = {binding.var for binding in operators[:-1]}
    outside = used_by([*bindings[: segment.first], *bindings[segment.last + 1 :]], mod["main"].body.body)
    return all(rows.count > 0 for rows in read) and not inside & outside


def rows_needed(operators: Sequence[relax.VarBinding], rows: Rows) -> dict[relax.Var, Rows]:
    """Return which rows of every operator's result some rows of the last one's take."""
    needed = {operators[-1].var: rows}
    for binding in reversed(operators):
        for tensor, read in zip(tensors_of(binding.value), rows_read(binding.value, needed[binding.var]), strict=True):
            before = needed.get(tensor, read)
            needed[tensor] = Rows(min(before.begin, read.begin), max(before.end, read.end))
    return needed


def cut(result: relax.Var, count: int) -> list[Rows]:
    """Cut all rows of a result into stripes, all of one height but the last."""
    height = shape_of(result)[1]
    size = -(-height // count)
    return [Rows(begin, min(begin + size, height)) for begin in range(0, height, size)]


def used_by(bindings: Sequence[relax.VarBinding], result: relax.Expr) -> set[relax.Var]:
    """Return the variables that bindings and a result read."""
    expressions = [*(binding.value for binding in bindings), result]
    return {var for expression in expressions for var in relax.analysis.free_vars(expression)}
