"""From a module of kernels to a flat program: calls in order, every tensor with a place in memory."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import IRModule, relax, tirx
from tvm.ir import GenericConst, GlobalVar, Op

from tvm_tinyml.macs import macs_of_module
from tvm_tinyml.model import Model, TensorSpec
from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.integer_ops import shape_of, span
from tvm_tinyml.passes.kernels.kernel import Overlap
from tvm_tinyml.placement import Calls, Memory, memory_of, place
from tvm_tinyml.program import Buffer, Kernel, Place, Program, Step
from tvm_tinyml.targets.lowering import scratch_bytes

UNSCHEDULED = "none"
"""What stands for a rule's name when the pass that schedules is disabled."""

Value = Buffer | tuple[Buffer, ...]


def flatten(
    module: IRModule, model: Model, tensors: Collection[str] = (), *, io_in_workspace: bool, pools: Mapping[str, int]
) -> Program:
    """Return the program of a module whose ``main`` only calls lowered kernels and renames shapes.

    Parameters
    ----------
    tensors : names that variables had before operators became kernels.
    io_in_workspace : inputs and outputs live in a pool, planned like every tensor, instead of with the caller.
    pools : names and sizes in bytes of the device's pools, the fastest first; empty for one of any size.
    """
    flat = _Flattener(module, model)
    flat.run(tensors)
    kernels = {symbol: _describe(symbol, function) for symbol, function in flat.functions.items()}
    calls, regions, placed = place(_with_outputs(flat, model, io_in_workspace), kernels, pools)
    symbols = dict.fromkeys(step.kernel for step in calls.steps if step.kernel)
    return Program(
        name=model.name,
        inputs=model.inputs,
        outputs=model.outputs,
        input_buffers=calls.inputs,
        output_buffers=calls.outputs,
        steps=calls.steps,
        functions=IRModule({symbol: flat.functions[symbol] for symbol in symbols}),
        kernels={symbol: kernels[symbol] for symbol in symbols},
        macs=macs_of_module(model.module),
        constants=flat.constants,
        regions=regions,
        pools=placed,
        quantization=model.quantization,
    )


class _Flattener:
    """Walks the bindings of ``main`` and collects calls and buffers."""

    def __init__(self, module: IRModule, model: Model) -> None:
        self._module, self._prefix = module, f"tvmgen_{model.name}"
        self._main = module["main"]
        self._values: dict[relax.Var, Value] = {}
        self._symbols: dict[GlobalVar, str] = {}
        self._layers: dict[str, int] = {}
        self._sizes: list[int] = []
        self._constant_index: dict[tuple[str, bytes], int] = {}
        self.constants: list[NDArray[np.generic]] = []
        self.functions: dict[str, tirx.PrimFunc] = {}
        self.steps: list[Step] = []
        self.moves: dict[Memory, Buffer] = {}
        self.inputs = [_outside(Place.INPUT, i, spec) for i, spec in enumerate(model.inputs)]
        self.results: list[Buffer] = []

    def run(self, tensors: Collection[str]) -> None:
        """Collect everything; all calls in front of a tensor, up to the one before it, are there to make it."""
        self._values = dict(zip(self._main.params, self.inputs, strict=True))
        named = 0
        for block in self._main.body.blocks:
            for binding in block.bindings:
                self._values[binding.var] = self._value(binding.value)
                name = str(binding.var.name)
                if name in tensors:
                    self.steps[named:] = [replace(step, tensor=name) for step in self.steps[named:]]
                    named = len(self.steps)
        result = self._value(self._main.body.body)
        self.results = list(result) if isinstance(result, tuple) else [result]

    def workspace(self, dtype: str, size_bytes: int) -> Buffer:
        """Return a new buffer of the workspace."""
        self._sizes.append(size_bytes)
        return Buffer(Place.WORKSPACE, len(self._sizes) - 1, dtype, size_bytes)

    def copy(self, source: Buffer, to: Buffer) -> Step:
        """Return a call that copies."""
        return Step(self._layer("copy"), None, (source, to))

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
            case relax.Call() if expr.op == integer_ops.view.op:
                return self._view(expr)
            case relax.Call() if expr.op == integer_ops.laid.op:
                return self._value(expr.args[0])
            case relax.Call() if expr.op == integer_ops.channels.op:
                return self._channels(expr)
            case relax.Call() if expr.op == integer_ops.join.op:
                return self._join([self._buffer(argument) for argument in expr.args])
            case relax.Call() if expr.op == integer_ops.interleave.op:
                return self._interleave(expr)
            case relax.Call() if isinstance(expr.op, Op) and expr.op.name == "relax.call_tir":
                return self._call(expr)
            case _:
                raise AssertionError(f"not a flat main: {expr}")

    def _buffer(self, expr: relax.Expr) -> Buffer:
        value = self._value(expr)
        assert isinstance(value, Buffer)
        return value

    def _view(self, call: relax.Call) -> Buffer:
        whole = self._buffer(call.args[0])
        begin = integer_ops.attributes_of(call)["begin"] * np.dtype(whole.dtype).itemsize
        part = replace(whole, begin_bytes=whole.begin_bytes + begin, size_bytes=_type_bytes(call.ty))
        assert not whole.step_bytes or part == whole, f"a view across gaps: {call}"
        return part

    def _channels(self, call: relax.Call) -> Buffer:
        whole, attributes, shape = self._buffer(call.args[0]), integer_ops.attributes_of(call), shape_of(call)
        step = whole.step_bytes or attributes["step"]
        begin = whole.begin_bytes + attributes["begin"]
        return replace(
            whole, begin_bytes=begin, size_bytes=span(shape, step), run_bytes=shape[-1], step_bytes=step
        )

    def _interleave(self, call: relax.Call) -> Buffer:
        """Return a buffer each of whose parts is computed where it belongs."""
        shape, step = shape_of(call), integer_ops.attributes_of(call)["step"]
        whole, channel = self.workspace("int8", span(shape, step)), 0
        if step != shape[-1]:
            whole = replace(whole, run_bytes=shape[-1], step_bytes=step)
        for argument in call.args:
            part = self._buffer(argument)
            assert part.step_bytes == step, f"pixels are {part.step_bytes} apart in memory, not {step}: {argument}"
            assert self._is_own(part), f"lies elsewhere: {argument}"
            self.moves[memory_of(part)] = replace(whole, begin_bytes=channel)
            channel += shape_of(argument)[-1]
        return whole

    def _join(self, parts: Sequence[Buffer]) -> Buffer:
        """Return a buffer whose parts are computed where they belong; what cannot be is copied there."""
        whole, begin = self.workspace(parts[0].dtype, sum(part.size_bytes for part in parts)), 0
        for part in parts:
            to = replace(whole, begin_bytes=begin, size_bytes=part.size_bytes)
            if self._is_own(part):
                self.moves[memory_of(part)] = to
            else:
                self.steps.append(self.copy(part, to))
            begin += part.size_bytes
        return whole

    def _is_own(self, buffer: Buffer) -> bool:
        """Return whether a buffer is a whole region of the pool that is not to move anywhere else."""
        whole = buffer.place is Place.WORKSPACE and buffer.size_bytes == self._sizes[buffer.index]
        return whole and memory_of(buffer) not in self.moves

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
        if "tinyml.output" in function.attrs:
            run, step = (int(number) for number in function.attrs["tinyml.output"])
            results = tuple(replace(result, run_bytes=run, step_bytes=step) for result in results)
        scratch = scratch_bytes(function)
        operands = [self._buffer(argument) for argument in arguments.fields]
        for operand, argument in zip(operands, arguments.fields, strict=True):
            assert operand.size_bytes == _type_bytes(argument.ty), f"{layer} does not know of gaps: {argument}"
        self.steps.append(
            Step(
                name=layer,
                kernel=symbol,
                operands=(*operands, *results),
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
    overlaps = [Overlap(int(read), int(distance), bool(s)) for read, distance, s in attrs.get("tinyml.overlaps") or ()]
    return Kernel(
        symbol=symbol,
        kind=str(attrs["tinyml.kind"]),
        schedule=schedule,
        macs=int(attrs.get("tinyml.macs") or 0),
        method=_method(attrs),
        overlaps=overlaps,
        in_place=[int(index) for index in attrs.get("tinyml.in_place") or ()],
        choice=json.loads(str(attrs.get("tinyml.choice") or "{}")),
    )


def _method(attrs: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the recipe's `Method` as plain values."""
    method = attrs.get("tinyml.method")
    if not method:
        return None
    return {
        "algorithm": str(method["algorithm"]),
        "scratch": str(method["scratch"]),
        "packing": [str(name) for name in method["packing"]],
        "estimates": {str(name): int(cycles) for name, cycles in method["estimates"].items()},
        "reads": str(method["reads"]),
        "writes": str(method["writes"]),
    }


def _with_outputs(flat: _Flattener, model: Model, in_workspace: bool) -> Calls:
    """Return the calls, each output with a buffer of its own: what its kernel writes, or a copy."""
    calls = Calls(flat.steps, flat.inputs, flat.results).moved(flat.moves)
    sizes = {index: life.size_bytes for index, life in calls.lifetimes().items()}
    moves: dict[Memory, Buffer] = {}
    outputs: list[Buffer] = []
    copies: list[Step] = []
    for i, (result, spec) in enumerate(zip(calls.outputs, model.outputs, strict=True)):
        own = flat.workspace(result.dtype, result.size_bytes) if in_workspace else _outside(Place.OUTPUT, i, spec)
        whole = result.place is Place.WORKSPACE and result.size_bytes == sizes[result.index]
        if whole and memory_of(result) not in moves:
            moves[memory_of(result)] = own
        else:
            copies.append(flat.copy(result, own))
        outputs.append(own)
    if in_workspace:
        moves |= {memory_of(buffer): flat.workspace(buffer.dtype, buffer.size_bytes) for buffer in calls.inputs}
    return Calls([*calls.steps, *copies], calls.inputs, outputs).moved(moves)


def _outside(place: Place, index: int, spec: TensorSpec) -> Buffer:
    size = int(np.prod(spec.shape, dtype=np.int64)) * np.dtype(spec.dtype).itemsize
    return Buffer(place, index, spec.dtype, size)


def _type_bytes(tensor: relax.TensorType) -> int:
    return int(np.prod([int(i) for i in tensor.shape], dtype=np.int64)) * np.dtype(str(tensor.dtype)).itemsize
