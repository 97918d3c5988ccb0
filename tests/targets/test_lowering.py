"""From scheduled kernels to plain functions: pointers in, scratch planned, nothing of TVM's runtime."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import IRModule, te, tirx

from tests.passes import kernels
from tests.passes.graphs import integer
from tests.passes.kernels import KERNELS, build, run
from tests.simulated import needs_simulator
from tvm_tinyml.device import ElfObject, strip
from tvm_tinyml.device.elf import UNDEFINED
from tvm_tinyml.passes import integer_ops
from tvm_tinyml.schedules.cortex_m.fallback import Unscheduled
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.targets.llvm_object import compile_kernels, helper_ir
from tvm_tinyml.targets.lowering import STACK_LIMIT_BYTES, finish, lower_kernels, scratch_bytes

C = tvm.target.Target({"kind": "c"})


def several_steps(*sizes: int) -> tirx.PrimFunc:
    """Return a kernel with buffers of these many bytes, the first of which lives until the end."""
    x = te.placeholder((max(sizes),), "int8", "x")
    values = [x]
    for i, size in enumerate(sizes):
        values.append(_tripled(values[-1], size, f"t{i}"))
    result = te.compute((min(sizes),), lambda j: values[1][j] + values[-1][0], "y")
    return te.create_prim_func([x, result])


def _tripled(value: te.Tensor, size: int, name: str) -> te.Tensor:
    return te.compute((size,), lambda j: value[j] * te.const(3, "int8"), name)


def lowered(function: tirx.PrimFunc) -> tirx.PrimFunc:
    module = IRModule({"f": function.with_attr({"global_symbol": "f", "tinyml.kind": "f"})})
    return lower_kernels()(module)["f"]


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_becomes_a_function_of_pointers_that_returns_nothing(name: str) -> None:
    for function in kernels.lowered(name).values():
        plain = lowered(function)
        assert all(isinstance(parameter.ty, tvm.ir.PointerType) for parameter in plain.params)
        assert len(plain.params) == len(function.params) + (scratch_bytes(plain) > 0)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((STACK_LIMIT_BYTES,), 0),
        ((STACK_LIMIT_BYTES + 1,), STACK_LIMIT_BYTES + 16),
        ((1000,), 1008),
        ((300, 300), 608),
        ((300, 200), 304),
    ],
)
def test_a_buffer_beyond_the_stack_limit_becomes_scratch_and_is_noted(sizes: tuple[int, ...], expected: int) -> None:
    plain = lowered(several_steps(*sizes))
    assert scratch_bytes(plain) == expected
    assert [p.name for p in plain.params] == ["x", "y"] + (["scratch"] if expected else [])


def test_scratch_is_one_more_pointer_of_the_call_and_planned_with_the_tensors() -> None:
    window = {"pool_size": [2, 2], "strides": [1, 1], "padding": [0, 0, 0, 0], "clamp_min": -128, "clamp_max": 127}
    module = integer(lambda x: integer_ops.max_pool2d(x, **window), (1, 11, 11, 2))
    library = build(module, "cortex-m4", [Unscheduled()])
    assert library.metadata["ram_bytes"]["workspace"] == 10 * 10 * 2 * 4
    assert library.metadata["layers"][0]["operands"][-1][0] == "workspace"


def test_relax_functions_pass_through() -> None:
    module = integer(lambda x: integer_ops.pad2d(x, padding=[0, 0, 0, 0], value=0), (1, 2, 2, 1))
    assert tvm_ffi.structural_equal(lower_kernels()(module), module)


@needs_simulator
def test_a_kernel_that_overruns_its_parameters_is_not_hidden_by_scratch(rng: np.random.Generator) -> None:
    """The simulator's guards lie around the pool, so scratch of the wrong size would be seen."""
    window = {"pool_size": [3, 3], "strides": [1, 1], "padding": [1, 1, 1, 1], "clamp_min": -128, "clamp_max": 127}
    module = integer(lambda x: integer_ops.avg_pool2d(x, **window), (1, 12, 12, 3))
    x = rng.integers(-128, 128, (1, 12, 12, 3)).astype(np.int8)
    np.testing.assert_array_equal(
        run(build(module, "cortex-m0plus", [Unscheduled()]), [x])[0], run(build(module, "cortex-m0plus"), [x])[0]
    )


def test_the_c_generators_text_calls_nothing_of_tvm() -> None:
    for name in KERNELS:
        for function in kernels.lowered(name).values():
            module = IRModule({"f": lowered(function)})
            text = tvm.get_global_func("target.build.c")(finish(module, C), C).inspect_source()
            body = text[text.index("void f(") :]
            assert not re.search(r"TVM\w*\(|tvm_\w+\(|TVMFFI", body), name


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
def test_an_object_has_the_kernels_under_their_symbols(core: str) -> None:
    function = lowered(several_steps(20))
    item = ElfObject.parse(strip(*compile_kernels(IRModule({"f": function}), cortex_m(core))), "f")
    assert [s.name for s in item.symbols if s.section != UNDEFINED and not s.local] == ["f"]


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m3", "cortex-m4"])
def test_helpers_are_declared_once(core: str) -> None:
    text = helper_ir(cortex_m(core))
    declarations = re.findall(r"^declare .*$", text, re.MULTILINE)
    definitions = re.findall(r"^define \w+ @(\w+)\(", text, re.MULTILINE)
    assert len(declarations) == len(set(declarations))
    assert len(definitions) == len(set(definitions))
    assert text.index("define") > text.rindex("declare")
