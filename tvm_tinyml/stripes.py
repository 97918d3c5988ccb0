"""Which layers to compute stripe by stripe: least RAM first, then the fewest rows computed twice.

Segments share nothing but the tensors between them, which are whole. So the peak of a network is the largest footprint
of its segments, and dynamic programming over their ends finds the best cut of all operators into segments, as far as
the footprints are right: they are estimated from shapes, with the overlap of input and output that kernels allow.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from tvm import IRModule, relax

from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.cut_into_stripes import CutIntoStripes, Segment
from tvm_tinyml.passes.cut_into_stripes.rows import Rows, Window, window_of, works_by_rows
from tvm_tinyml.passes.cut_into_stripes.segment import bindings_of
from tvm_tinyml.passes.integer_ops import attributes_of, shape_of
from tvm_tinyml.program import Cut, Program

LONGEST, MOST_STRIPES = 12, 16
"""Operators and stripes of a segment."""

MOST_EXTRA_MACS = 0.25
"""Of the network's, for rows that are computed twice."""

TRIED = 3
"""Choices that are lowered to see what they really take."""

SCRATCH_BYTES = 2048
"""About what a kernel takes beside tensors."""


@dataclass(frozen=True)
class Choice:
    """A way to cut a network.

    Attributes
    ----------
    peak_bytes : of activations and scratch, estimated.
    extra_macs : multiply-accumulates of rows that are computed twice.
    """

    segments: tuple[Segment, ...]
    peak_bytes: int
    extra_macs: int


def smallest(graph: IRModule, lower: Callable[[IRModule], Program], *, io_in_workspace: bool) -> Program:
    """Return the program with the smallest workspace among the promising ways to cut a network, and no cut at all.

    Parameters
    ----------
    graph : in the integer dialect.
    lower : makes a program of such a module.
    """
    offered = choices(graph, io_in_workspace=io_in_workspace)
    programs = [(choice.segments, lower(CutIntoStripes(choice.segments)(graph))) for choice in offered[:TRIED]]
    if all(segments for segments, _ in programs):
        programs.append(((), lower(graph)))
    segments, program = min(programs, key=lambda found: (found[1].workspace_bytes, found[1].macs))
    cuts = [Cut([s.stripes for s in c.segments], c.peak_bytes, c.extra_macs, c.segments == segments) for c in offered]
    return replace(program, cuts=cuts)


def choices(graph: IRModule, *, io_in_workspace: bool) -> list[Choice]:
    """Return ways to cut a network that nothing else beats in both peak and extra work, the smallest peak first."""
    operators = _operators(graph, io_in_workspace)
    if not operators:
        return [Choice((), 0, 0)]
    most = MOST_EXTRA_MACS * sum(operator.macs for operator in operators)
    found: list[Choice] = []
    choice = _best(operators, math.inf)
    while choice is not None and choice.extra_macs <= most:
        if found and found[-1].extra_macs == choice.extra_macs:
            found.pop()
        found.append(choice)
        choice = _best(operators, choice.peak_bytes - 1)
    return found[::-1]


@dataclass(frozen=True)
class _Tensor:
    """What an operator writes, or an input: its bytes in the pool, and the operators between which it is alive."""

    size_bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class _Operator:
    """An operator with what its footprint depends on.

    Attributes
    ----------
    reads, result : tensors, by number.
    window : of one that works by rows, else None.
    row_bytes : of its result.
    bordered_row_bytes : of a copy of its input with a border, if it makes one.
    in_place : its result may take its input's place, whatever the order of rows.
    """

    reads: tuple[int, ...]
    result: int
    tensors: Sequence[_Tensor]
    window: Window | None
    height: int
    row_bytes: int
    bordered_row_bytes: int
    in_place: bool
    macs: int
    scratch_bytes: int

    def row_bytes_of(self, tensor: int) -> int:
        """Return what a row of a tensor that it reads takes."""
        assert self.window is not None
        return self.tensors[tensor].size_bytes // self.window.height


@dataclass(frozen=True)
class _Option:
    """Operators from one on to before ``end``, in so many stripes."""

    end: int
    stripes: int
    peak_bytes: int
    extra_macs: int


def _best(operators: tuple[_Operator, ...], limit: float) -> Choice | None:
    """Return the cut with the least extra work of which no segment takes more than the limit."""
    best: list[Choice | None] = [None] * len(operators) + [Choice((), 0, 0)]
    options = _options(operators)
    for first in reversed(range(len(operators))):
        for option in options[first]:
            rest = best[option.end]
            if rest is None or option.peak_bytes > limit:
                continue
            segment = (Segment(first, option.end - 1, option.stripes),) if option.stripes > 1 else ()
            choice = Choice(
                (*segment, *rest.segments),
                max(option.peak_bytes, rest.peak_bytes),
                option.extra_macs + rest.extra_macs,
            )
            before = best[first]
            if before is None or _rank(choice) < _rank(before):
                best[first] = choice
    return best[0]


def _rank(choice: Choice) -> tuple[int, int, int]:
    return choice.extra_macs, len(choice.segments), choice.peak_bytes


@functools.lru_cache(maxsize=4)
def _options(operators: tuple[_Operator, ...]) -> list[list[_Option]]:
    """Return for each operator what may begin with it: itself, and segments in every number of stripes."""
    return [[_alone(operators, first), *_segments(operators, first)] for first in range(len(operators))]


def _alone(operators: Sequence[_Operator], index: int) -> _Option:
    """Return an operator on whole tensors."""
    operator, tensors = operators[index], operators[index].tensors
    through, dying = _outside(tensors, operator.reads, index, index)
    out = tensors[operator.result].size_bytes
    reads = max((tensors[t].size_bytes for t in dying), default=0)
    others = sum(tensors[t].size_bytes for t in dying) - reads
    if operator.window is None:
        own = reads + out
    elif operator.bordered_row_bytes:
        bordered = (operator.window.height + operator.window.size - 1) * operator.bordered_row_bytes
        slack = 2 * operator.bordered_row_bytes
        own = max(reads + bordered if not dying else max(reads, bordered) + slack, max(bordered, out) + slack)
    elif operator.in_place and reads == out:
        own = out
    else:
        rows = [Rows(row, row + 1) for row in range(operator.height)]
        ahead = max(
            row.begin * operator.row_bytes - operator.window.inside(row).begin * (reads // operator.window.height)
            for row in rows
        )
        own = max(reads + max(ahead, 0) + operator.row_bytes, out) if dying else out
    return _Option(index + 1, 1, through + others + own + operator.scratch_bytes, 0)


def _outside(tensors: Sequence[_Tensor], reads: Sequence[int], first: int, last: int) -> tuple[int, list[int]]:
    """Return the bytes of tensors that live on through operators, and the tensors of which these are the last users."""
    alive = [i for i, tensor in enumerate(tensors) if tensor.first < first <= tensor.last]
    return (
        sum(tensors[i].size_bytes for i in alive if tensors[i].last > last),
        [i for i in alive if tensors[i].last <= last and tensors[i].size_bytes],
    )


def _segments(operators: Sequence[_Operator], first: int) -> Iterator[_Option]:
    for last in range(first, min(first + LONGEST, len(operators))):
        if operators[last].window is None:
            return
        tensors = operators[last].tensors
        if any(tensors[operators[i].result].last > last for i in range(first, last)):
            continue
        height = operators[last].height
        sizes = {-(-height // count) for count in range(2, min(MOST_STRIPES, height) + 1)}
        for size in sizes:
            stripes = [Rows(begin, min(begin + size, height)) for begin in range(0, height, size)]
            if len(stripes) > 1:
                option = _in_stripes(operators[first : last + 1], first, stripes)
                if option:
                    yield option


def _in_stripes(operators: Sequence[_Operator], first: int, stripes: Sequence[Rows]) -> _Option | None:
    """Return a segment, or None if some stripe reads nothing but border."""
    last, tensors = operators[-1], operators[-1].tensors
    end = first + len(operators) - 1
    needed = [_needed(operators, rows) for rows in stripes]
    if any(rows.count <= 0 for of_stripe in needed for rows in of_stripe.values()):
        return None
    own = {operator.result for operator in operators}
    through, dying = _outside(tensors, [t for o in operators for t in o.reads if t not in own], first, end)
    result = tensors[last.result].size_bytes
    x = max(dying, key=lambda t: tensors[t].size_bytes, default=None)
    base = result
    if x is not None:
        row = next(operator.row_bytes_of(x) for operator in operators if x in operator.reads)
        begins = [of_stripe[x].begin * row for of_stripe in needed]
        ends = [rows.end * last.row_bytes for rows in stripes]
        ahead = max([ends[i] - min(begins[i + 1 :]) for i in range(len(stripes) - 1)], default=0)
        if x in last.reads:
            rows_now = [last.window.inside(rows).begin * row for rows in stripes] if last.window else []
            starts = [rows.begin * last.row_bytes for rows in stripes]
            ahead = max(ahead, *(s - b for s, b in zip(starts, rows_now, strict=True)))
        base = min(max(tensors[x].size_bytes + max(ahead, 0), result), tensors[x].size_bytes + result)
        base += sum(tensors[t].size_bytes for t in dying if t != x)
    inside = max(_inside(operators, of_stripe) for of_stripe in needed)
    rows_of = [sum(of_stripe[o.result].count for of_stripe in needed) for o in operators]
    extra = sum(o.macs * (rows - o.height) // o.height for o, rows in zip(operators, rows_of, strict=True))
    peak = through + base + inside + max(operator.scratch_bytes for operator in operators)
    return _Option(end + 1, len(stripes), peak, extra)


def _needed(operators: Sequence[_Operator], rows: Rows) -> dict[int, Rows]:
    """Return which rows of every tensor some rows of the last result take."""
    needed = {operators[-1].result: rows}
    for operator in reversed(operators):
        assert operator.window is not None
        read = operator.window.inside(needed[operator.result])
        for tensor in operator.reads:
            before = needed.get(tensor, read)
            needed[tensor] = Rows(min(before.begin, read.begin), max(before.end, read.end))
    return needed


def _inside(operators: Sequence[_Operator], needed: dict[int, Rows]) -> int:
    """Return the most that the stripes between the operators of a segment take at once."""
    last_use = {tensor: i for i, operator in enumerate(operators) for tensor in operator.reads}
    alive: dict[int, int] = {}
    most = 0
    for i, operator in enumerate(operators):
        assert operator.window is not None
        rows = needed[operator.result]
        out = rows.count * operator.row_bytes if i < len(operators) - 1 else 0
        dies = sum(alive[t] for t in set(operator.reads) if t in alive and last_use[t] == i)
        others = sum(alive.values()) - dies
        if operator.bordered_row_bytes:
            above, below = operator.window.border(rows)
            bordered = (operator.window.inside(rows).count + above + below) * operator.bordered_row_bytes
            most = max(most, others + max(dies, bordered), others + max(bordered, out))
        else:
            most = max(most, others + max(dies, out))
        for tensor in set(operator.reads):
            if tensor in alive and last_use[tensor] == i:
                del alive[tensor]
        alive[operator.result] = out
    return most


def _operators(graph: IRModule, io_in_workspace: bool) -> tuple[_Operator, ...]:
    """Return what footprints depend on, for each binding of ``main``."""
    bindings, main = bindings_of(graph), graph["main"]
    numbers: dict[relax.Var, int] = {}
    spans: list[list[int]] = []

    def add(expr: relax.Var, size_bytes: int, first: int) -> int:
        numbers[expr] = len(spans)
        spans.append([size_bytes, first, first])
        return numbers[expr]

    def read(expr: relax.Expr, index: int) -> list[int]:
        found = [numbers[var] for var in relax.analysis.free_vars(expr) if var in numbers]
        for number in found:
            spans[number][2] = index
        return found

    for param in main.params:
        add(param, _size_bytes(param) if io_in_workspace else 0, -1)
    reads: list[list[int]] = []
    for index, binding in enumerate(bindings):
        reads.append(read(binding.value, index))
        if _is_renaming(binding.value):
            numbers[binding.var] = reads[-1][0]
        else:
            add(binding.var, _size_bytes(binding.var), index)
    for number in read(main.body.body, len(bindings)):
        if not io_in_workspace:
            spans[number][0] = 0
    tensors = tuple(_Tensor(*span) for span in spans)
    return tuple(
        _operator(binding, tuple(read), numbers[binding.var], tensors)
        for binding, read in zip(bindings, reads, strict=True)
    )


def _operator(
    binding: relax.VarBinding, reads: tuple[int, ...], result: int, tensors: tuple[_Tensor, ...]
) -> _Operator:
    call = binding.value
    if not works_by_rows(call):
        return _Operator(reads, result, tensors, None, 1, 0, 0, _is_renaming(call), 0, 0)
    height, width, channels = shape_of(binding.var)[1:]
    bordered, macs, scratch, depthwise = 0, 0, 0, False
    if call.op == integer_ops.conv2d.op:
        attributes, image, weight = attributes_of(call), shape_of(call.args[0]), shape_of(call.args[1])
        depthwise = attributes["groups"] == image[3] > 1 and weight[3] == 1
        macs, scratch = height * width * channels * math.prod(weight[1:]), SCRATCH_BYTES
        if any(attributes["padding"]) and not depthwise:
            bordered = (image[2] + attributes["padding"][1] + attributes["padding"][3]) * image[3]
    window = window_of(call)
    in_place = depthwise or (window.size == window.stride == 1)
    return _Operator(*(reads, result, tensors, window, height, width * channels, bordered, in_place, macs, scratch))


def _is_renaming(expr: relax.Expr) -> bool:
    names = ("relax.reshape", "tinyml.view")
    return isinstance(expr, relax.Var) or (isinstance(expr, relax.Call) and expr.op.name in names)


def _size_bytes(var: relax.Var) -> int:
    types = var.ty.fields if hasattr(var.ty, "fields") else [var.ty]
    return sum(int(np.prod([int(i) for i in t.shape])) * np.dtype(str(t.dtype)).itemsize for t in types)
