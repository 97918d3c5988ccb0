"""Where a lowered function reads its constants, in which loops: recipes and schedules alike end in such a function."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm_ffi
from numpy.typing import NDArray
from tvm import tirx
from tvm.ir import Call, Var
from tvm.ir.expr import TensorLoad
from tvm_ffi import WalkResult

from tvm_tinyml.passes.kernels.kernel import Rereads

Loops = tuple[tirx.For, ...]

_ARITHMETIC: Mapping[type, Callable[[int, int], int]] = {
    tirx.Add: operator.add,
    tirx.Sub: operator.sub,
    tirx.Mul: operator.mul,
    tirx.FloorDiv: operator.floordiv,
    tirx.FloorMod: operator.mod,
    tirx.Min: min,
    tirx.Max: max,
}


@dataclass(frozen=True)
class Turns:
    """A loop around a read.

    Attributes
    ----------
    extent : how often it turns.
    stride_bytes : how far the read moves on in a turn; 0 if it reads the same again.
    """

    extent: int
    stride_bytes: int


@dataclass(frozen=True)
class ConstantRead:
    """A place of a function that reads a constant.

    Attributes
    ----------
    operand : which one, by position.
    begin_bytes : where in it, in the first turn of all loops.
    loops : around the read, the outermost first.
    element_bytes : of a load; None where a call is handed the place.
    rereads : of a call that reads it more than once.
    """

    operand: int
    begin_bytes: int
    loops: tuple[Turns, ...]
    element_bytes: int | None
    rereads: Rereads | None = None

    @property
    def places(self) -> NDArray[np.int64]:
        """Where in the constant it begins, in bytes, in all turns; sorted."""
        places = np.array([self.begin_bytes])
        for loop in self.loops:
            if loop.stride_bytes:
                places = np.add.outer(places, loop.stride_bytes * np.arange(loop.extent)).ravel()
        return np.unique(places)


def constant_reads(function: tirx.PrimFunc, constants: Mapping[int, NDArray[np.generic]]) -> list[ConstantRead]:
    """Return where a lowered function reads its constants.

    Parameters
    ----------
    constants : by position among the operands. Extents of loops may be numbers in them.
    """
    reader = _Reader(function, constants)
    reader.visit(function.body, (), None)
    return reader.reads


class _Reader:
    def __init__(self, function: tirx.PrimFunc, constants: Mapping[int, NDArray[np.generic]]) -> None:
        self._constants = constants
        self._rereads = {
            str(name): Rereads(*map(int, numbers))
            for name, numbers in (function.attrs.get("tinyml.rereads") or {}).items()
        }
        self._operands: dict[Var, int] = {param: i for i, param in enumerate(function.params)}
        self._bound: dict[Var, Any] = {}
        self.reads: list[ConstantRead] = []

    def visit(self, node: Any, loops: Loops, callee: str | None) -> None:
        """Collect the reads of a statement, or of an argument of a call."""

        def loop(node: tirx.For) -> WalkResult:
            self.visit(node.extent, loops, callee)
            self.visit(node.body, (*loops, node), callee)
            return WalkResult.SKIP

        def load(node: TensorLoad, callee: str | None = None) -> None:
            if node.indices:  # flat, like all buffers of a lowered function
                self._add(node.source, node.indices[0], loops, callee)

        def call(node: Call) -> WalkResult | None:
            match node.op.name:
                case "tirx.call_extern":
                    for argument in node.args[1:]:
                        self.visit(argument, loops, str(node.args[0].value))
                case "tirx.tvm_access_ptr":
                    self._add(node.args[1], node.args[2], loops, callee)
                    self.visit(node.args[2], loops, callee)
                case "tirx.address_of":
                    load(node.args[0], callee)
                    self.visit(node.args[0].indices, loops, callee)
                case _:
                    return None
            return WalkResult.SKIP

        entries = [
            (tirx.For, loop),
            (tirx.Bind, lambda node: self._bound.update({node.var: node.value})),
            (tirx.DeclBuffer, self._declare),
            (Call, call),
            (TensorLoad, load),
        ]
        tvm_ffi.structural_walk(node, entries, order="pre")

    def _declare(self, node: tirx.DeclBuffer) -> None:
        operand = self._operand(node.data)
        if operand is not None:
            self._operands[node.buffer] = operand

    def _operand(self, source: Any) -> int | None:
        """Return which operand a buffer or pointer is; None for others."""
        if isinstance(source, Call):  # the pointer of a buffer
            source = source.args[0]
        return self._operands.get(source) if isinstance(source, Var) else None

    def _add(self, source: Any, index: Any, loops: Loops, callee: str | None) -> None:
        """Add the read of an element, or of what a callee is handed."""
        operand = self._operand(source)
        if operand is None or operand not in self._constants:
            return
        itemsize = self._constants[operand].itemsize
        begin = self._value(index, {loop.loop_var: 0 for loop in loops}) or 0
        self.reads.append(
            ConstantRead(
                operand=operand,
                begin_bytes=itemsize * begin,
                loops=tuple(self._turns(loop, index, itemsize, loops) for loop in loops),
                element_bytes=None if callee else itemsize,
                rereads=self._rereads.get(callee or ""),
            )
        )

    def _turns(self, loop: tirx.For, index: Any, itemsize: int, loops: Loops) -> Turns:
        """Return how a loop moves an index: on average, or by an element if only what is read meanwhile tells."""
        first = {other.loop_var: 0 for other in loops}
        extent = self._value(loop.extent, first) or 1
        begin, end = (self._value(index, {**first, loop.loop_var: turn}) for turn in (0, extent - 1))
        if begin is None or end is None:
            return Turns(extent, itemsize if self._depends(index, loop.loop_var) else 0)
        return Turns(extent, itemsize * -(-abs(end - begin) // max(extent - 1, 1)))

    def _depends(self, expr: Any, var: Var) -> bool:
        found: list[bool] = []

        def see(other: Var) -> None:
            found.append(other.same_as(var) or (other in self._bound and self._depends(self._bound[other], var)))

        tvm_ffi.structural_walk(expr, [(Var, see)])
        return any(found)

    def _value(self, expr: Any, variables: Mapping[Var, int]) -> int | None:
        """Return an integer, or None where it is not known before the function runs."""
        match expr:
            case tirx.IntImm():
                return int(expr.value)
            case Var():
                return variables[expr] if expr in variables else self._value(self._bound.get(expr), variables)
            case tirx.Cast():
                return self._value(expr.value, variables)
            case TensorLoad():
                place, operand = self._value(expr.indices[0], variables), self._operand(expr.source)
                if place is None or operand is None or operand not in self._constants:
                    return None
                return int(self._constants[operand][place])
            case _ if type(expr) in _ARITHMETIC:
                a, b = self._value(expr.a, variables), self._value(expr.b, variables)
                return None if a is None or b is None else _ARITHMETIC[type(expr)](a, b)
            case _:
                return None
