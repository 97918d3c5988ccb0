"""Weights are unpacked where they are read: into scratch of the kernel, once for each argument that is packed."""

from __future__ import annotations

import numpy as np
import pytest
import tvm_ffi
from tvm import IRModule, relax, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

import tvm_tinyml as tinyml
from tests.passes.narrow_weights import KINDS
from tests.passes.test_pack_weights import network
from tests.simulated import needs_simulator
from tvm_tinyml.passes import UnpackInKernels
from tvm_tinyml.passes.weight_codes import Kind
from tvm_tinyml.targets.lowering import lower_kernels
from tvm_tinyml.verification import verify

CODES, WEIGHTS = 100, 600


def function(kind: str, *sizes: int) -> tirx.PrimFunc:
    """Return a kernel that calls a microkernel named like its kind with buffers of int32, the last one written."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        buffers = [T.arg(f"a{i}", T.Buffer((size,), "int32")) for i, size in enumerate(sizes)]
        with T.sblock("root"):
            T.reads()
            T.writes()
            pointers = [b.access_ptr("w" if b is buffers[-1] else "r") for b in buffers]
            T.evaluate(T.call_extern("int32", f"tinyml_{kind}", *pointers))
    texts = {name: {kind: "text"} for name in ("tinyml.assembly", "tinyml.c")}
    attributes = {"tinyml.kind": kind, "tinyml.schedule": kind.title(), "tinyml.overlaps": [[0, 4, 0], [0, 8, 1]]}
    return builder.get().with_attr({**texts, **attributes})


def module(*, packed: tuple[bool, bool]) -> IRModule:
    """Return a layer with two constants, each of which is unpacked or not."""
    builder = relax.BlockBuilder()
    layer = builder.add_func(function("layer", 8, WEIGHTS, WEIGHTS, 8), "layer")
    unpack = builder.add_func(function("unpack", CODES, WEIGHTS), "unpack")
    x = relax.Var("x", relax.TensorType([8], "int32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            arguments: list[relax.Expr] = [x]
            for i, is_packed in enumerate(packed):
                constant = relax.const(np.full(CODES if is_packed else WEIGHTS, i, np.int32))
                if is_packed:
                    made = builder.emit(relax.op.call_tir(unpack, [constant], relax.TensorType([WEIGHTS], "int32")))
                    constant = builder.emit(relax.op.reshape(made, (WEIGHTS,)))
                arguments.append(constant)
            result = builder.emit_output(relax.op.call_tir(layer, arguments, relax.TensorType([8], "int32")))
        builder.emit_func_output(result)
    return builder.get()


def calls(mod: IRModule) -> list[relax.Call]:
    values = [binding.value for block in mod["main"].body.blocks for binding in block.bindings]
    return [value for value in values if str(value.op.name) == "relax.call_tir"]


@pytest.mark.parametrize("packed", [(True, False), (False, True), (True, True)])
def test_what_is_packed_becomes_scratch(packed: tuple[bool, bool]) -> None:
    mod = UnpackInKernels()(module(packed=packed))
    (call,) = calls(mod)
    func = mod[call.args[0]]
    assert [int(p.shape[0]) for p in func.params] == [8, *(CODES if p else WEIGHTS for p in packed), 8]
    assert [int(b.shape[0]) for b in func.body.block.alloc_buffers] == [WEIGHTS] * sum(packed)
    assert [argument.value.numpy()[0] for argument in call.args[1].fields[1:]] == [0, 1]
    assert set(func.attrs["tinyml.assembly"]) == {"layer", "unpack"}
    assert str(func.attrs["tinyml.schedule"]) == "Layer + Unpack"
    lowered = lower_kernels()(mod)
    scratch = int(lowered[call.args[0]].attrs["tinyml.scratch_bytes"])
    assert scratch == sum(packed) * -(-4 * WEIGHTS // 16) * 16


def test_scratch_may_no_longer_lie_over_the_input() -> None:
    mod = UnpackInKernels()(module(packed=(True, False)))
    func = mod[calls(mod)[0].args[0]]
    assert [[int(n) for n in overlap] for overlap in func.attrs["tinyml.overlaps"]] == [[0, 4, 0]]


def test_kernels_that_read_what_is_stored_stay_as_they_are() -> None:
    mod = relax.transform.DeadCodeElimination(["main"])(module(packed=(False, False)))
    assert tvm_ffi.structural_equal(UnpackInKernels()(mod), mod)


def test_twice_changes_nothing_more() -> None:
    once = UnpackInKernels()(module(packed=(True, True)))
    assert tvm_ffi.structural_equal(UnpackInKernels()(once), once)


@needs_simulator
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m3"])
def test_a_network_computes_the_same_with_and_without(kind: Kind, target: str) -> None:
    model = tinyml.load(network(kind).data, name="narrow")
    for disabled, alone in (([], False), (["tinyml.UnpackInKernels"], True)):
        library = tinyml.build(model, target, emit="lib", disabled_passes=disabled)
        assert verify(model, library).differing == 0
        assert ("unpack" in {layer["op"] for layer in library.metadata["layers"]}) == alone
