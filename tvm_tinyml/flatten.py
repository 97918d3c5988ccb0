"""From a module of kernels to a flat program: calls in order, every tensor with a place in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import IRModule, relax, tirx
from tvm.ir import GenericConst, GlobalVar, Op

from tvm_tinyml.model import Model, TensorSpec
from tvm_tinyml.passes.plan_memory import Lifetime, check_plan, plan_offsets
from tvm_tinyml.program import ALIGNMENT_BYTES, Buffer, Kernel, Place, Program, Step
from tvm_tinyml.targets.lowering import scratch_bytes

UNSCHEDULED = "none"
"""What stands for a rule's name when the pass that schedules is disabled."""

Value = Buffer | tuple[Buffer, ...]


def flatten(module: IRModule, model: Model, *, io_in_workspace: bool) -> Program:
    """Return the program of a module whose ``main`` only calls lowered kernels and renames shapes.

    Parameters
    ----------
    io_in_workspace : inputs and outputs live in the pool, planned like every tensor, instead of with the caller.
    """
    flat = _Flattener(module, model)
    flat.run()
    outputs = _place_outputs(flat, model, io_in_workspace)
    if io_in_workspace:
        flat.move_inputs_to_workspace()
    steps = flat.steps
    lifetimes = _lifetimes(steps, flat.inputs, outputs)
    offsets, workspace_bytes = plan_offsets(lifetimes, ALIGNMENT_BYTES)
    check_plan(lifetimes, offsets)
    symbols = dict.fromkeys(step.kernel for step in steps if step.kernel)
    return Program(
        name=model.name,
        inputs=model.inputs,
        outputs=model.outputs,
        input_buffers=flat.inputs,
        output_buffers=outputs,
        steps=steps,
        functions=IRModule({symbol: flat.functions[symbol] for symbol in symbols}),
        kernels={symbol: _describe(symbol, flat.functions[symbol]) for symbol in symbols},
        constants=flat.constants,
        offsets=offsets,
        workspace_bytes=workspace_bytes,
    )


class _Flattener:
    """Walks the bindings of ``main`` and collects calls and buffers."""

    def __init__(self, module: IRModule, model: Model) -> None:
        self._module, self._prefix = module, f"tvmgen_{model.name}"
        self._main = module["main"]
        self._values: dict[relax.Var, Value] = {}
        self._symbols: dict[GlobalVar, str] = {}
        self._layers: dict[str, int] = {}
        self._workspace = 0
        self._constant_index: dict[tuple[str, bytes], int] = {}
        self.constants: list[NDArray[np.generic]] = []
        self.functions: dict[str, tirx.PrimFunc] = {}
        self.steps: list[Step] = []
        self.inputs = [_outside(Place.INPUT, i, spec) for i, spec in enumerate(model.inputs)]
        self.results: list[Buffer] = []

    def run(self) -> None:
        """Collect everything."""
        self._values = dict(zip(self._main.params, self.inputs, strict=True))
        for block in self._main.body.blocks:
            for binding in block.bindings:
                self._values[binding.var] = self._value(binding.value)
        result = self._value(self._main.body.body)
        self.results = list(result) if isinstance(result, tuple) else [result]

    def workspace(self, dtype: str, size_bytes: int) -> Buffer:
        """Return a new buffer of the workspace."""
        self._workspace += 1
        return Buffer(Place.WORKSPACE, self._workspace - 1, dtype, size_bytes)

    def copy(self, source: Buffer, to: Buffer) -> Step:
        """Return a call that copies."""
        return Step(self._layer("copy"), None, (source, to))

    def move_inputs_to_workspace(self) -> None:
        """Let the inputs live in the pool."""
        moved = {buffer: self.workspace(buffer.dtype, buffer.size_bytes) for buffer in self.inputs}
        self.inputs = [moved[buffer] for buffer in self.inputs]
        self.steps = [replace_buffers(step, moved) for step in self.steps]

    def _value(self, expr: relax.Expr) -> Value:
        match expr:
            case relax.Var():
                return self._values[expr]
            case GenericConst():
                return self._constant(expr.value.numpy())
            case relax.Tuple():
                return tuple(self._buffer(field) for field in expr.fields)
            case relax.TupleGetItem():
                whole = self._value(expr.tuple_value)
                assert isinstance(whole, tuple)
                return whole[int(expr.index)]
            case relax.Call() if isinstance(expr.op, Op) and expr.op.name == "relax.reshape":
                return self._value(expr.args[0])
            case relax.Call() if isinstance(expr.op, Op) and expr.op.name == "relax.call_tir":
                return self._call(expr)
            case _:
                raise AssertionError(f"not a flat main: {expr}")

    def _buffer(self, expr: relax.Expr) -> Buffer:
        value = self._value(expr)
        assert isinstance(value, Buffer)
        return value

    def _call(self, call: relax.Call) -> Value:
        callee, arguments = call.args[0], call.args[1]
        function = self._module[callee]
        kind = _kind(function, callee)
        layer = self._layer(kind)
        symbol = self._symbols.setdefault(callee, f"{self._prefix}_{layer}")
        named = function.with_attr({"global_symbol": symbol, "tinyml.kind": kind})
        self.functions.setdefault(symbol, named)
        result_type = call.ty_args[0]
        types = list(result_type.fields) if isinstance(result_type, tvm.ir.TupleType) else [result_type]
        results = tuple(self.workspace(str(t.dtype), _type_bytes(t)) for t in types)
        scratch = scratch_bytes(function)
        self.steps.append(
            Step(
                name=layer,
                kernel=symbol,
                operands=(*(self._buffer(argument) for argument in arguments.fields), *results),
                results=len(results),
                scratch=self.workspace("int8", scratch) if scratch else None,
            )
        )
        return results if isinstance(result_type, tvm.ir.TupleType) else results[0]

    def _layer(self, kind: str) -> str:
        index = self._layers.setdefault(kind, 0)
        self._layers[kind] += 1
        return f"{kind}_{index}"

    def _constant(self, array: NDArray[np.generic]) -> Buffer:
        """Return the buffer of a constant; equal constants are stored once."""
        index = self._constant_index.setdefault((str(array.dtype), array.tobytes()), len(self.constants))
        if index == len(self.constants):
            self.constants.append(np.ascontiguousarray(array).reshape(-1))
        return Buffer(Place.CONSTANT, index, str(array.dtype), array.nbytes)


def _kind(function: tirx.PrimFunc, callee: GlobalVar) -> str:
    """Return the kind of a kernel: ours carry it, TVM's own are called after their operator."""
    kind = function.attrs.get("tinyml.kind")
    return str(kind) if kind else str(callee.name_hint).rstrip("0123456789")


def _describe(symbol: str, function: tirx.PrimFunc) -> Kernel:
    attrs = function.attrs
    schedule = str(attrs.get("tinyml.schedule") or UNSCHEDULED)
    return Kernel(symbol, str(attrs["tinyml.kind"]), schedule, int(attrs.get("tinyml.macs") or 0))


def _place_outputs(flat: _Flattener, model: Model, in_workspace: bool) -> list[Buffer]:
    """Give each output its own buffer: the one its kernel writes where possible, a copy where not."""
    taken: dict[Buffer, Buffer] = {}
    placed: list[Buffer] = []
    copies: list[Step] = []
    for i, (result, spec) in enumerate(zip(flat.results, model.outputs, strict=True)):
        own = flat.workspace(result.dtype, result.size_bytes) if in_workspace else _outside(Place.OUTPUT, i, spec)
        if result.place is Place.WORKSPACE and result not in taken:
            taken[result] = own
        else:
            copies.append(flat.copy(result, own))
        placed.append(own)
    flat.steps = [replace_buffers(step, taken) for step in [*flat.steps, *copies]]
    return placed


def replace_buffers(step: Step, replacement: dict[Buffer, Buffer]) -> Step:
    """Return the step with other buffers."""
    operands = tuple(replacement.get(buffer, buffer) for buffer in step.operands)
    return Step(step.name, step.kernel, operands, step.results, step.scratch)


def _lifetimes(steps: Sequence[Step], inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> dict[Buffer, Lifetime]:
    """Return from which step to which each workspace buffer holds a value; inputs from before the first on."""
    first: dict[Buffer, int] = dict.fromkeys(inputs, -1)
    last: dict[Buffer, int] = dict.fromkeys(inputs, -1)
    for i, step in enumerate(steps):
        for buffer in (*step.reads, *step.writes):
            first.setdefault(buffer, i)
            last[buffer] = i
    last.update({buffer: len(steps) for buffer in outputs})
    return {
        buffer: Lifetime(buffer.size_bytes, first[buffer], last[buffer])
        for buffer in first
        if buffer.place is Place.WORKSPACE
    }


def _outside(place: Place, index: int, spec: TensorSpec) -> Buffer:
    size = int(np.prod(spec.shape, dtype=np.int64)) * np.dtype(spec.dtype).itemsize
    return Buffer(place, index, spec.dtype, size)


def _type_bytes(tensor: relax.TensorType) -> int:
    return int(np.prod([int(i) for i in tensor.shape], dtype=np.int64)) * np.dtype(str(tensor.dtype)).itemsize
