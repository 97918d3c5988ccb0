"""How long an inference waits for a constant in flash: counted in the lowered functions, and by the simulator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tests.library.builds import model
from tests.simulated import needs_helium, needs_simulator
from tvm_tinyml.constant_reads import ConstantRead, Turns, constant_reads
from tvm_tinyml.device.timing import load_memory
from tvm_tinyml.flash_waits import bytes_from_flash, flash_wait_cycles
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.passes.kernels.kernel import Rereads
from tvm_tinyml.pipeline import lower_model, package
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.targets.lowering import lower_kernels

CONSTANTS = {1: np.array([5, *range(1, 100)], np.int32)}
HELD_BYTES = 248


def lowered() -> tirx.PrimFunc:
    """Return a function that reads its constants in every way: as extent, by calls, by loads, through a table."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        x = T.arg("x", T.Buffer((40,), "int8"))
        constants = T.arg("constants", T.Buffer((100,), "int32"))
        y = T.arg("output", T.Buffer((40,), "int32"))
        with T.sblock("root"):
            T.reads()
            T.writes()
            with T.serial(3):
                with T.serial(constants[0]) as i:
                    T.evaluate(T.call_extern("int32", "walk", T.address_of(constants[1 + 4 * i]), x.access_ptr("r")))
                T.evaluate(T.call_extern("int32", "again", constants.access_ptr("r", offset=21), y.access_ptr("w")))
            with T.serial(40) as k:
                T.buffer_store(y, constants[x[k].astype("int32")] + constants[60 + k], [k])
    function = builder.get().with_attr({"global_symbol": "f", "tinyml.rereads": {"again": [316, 8, 2]}})
    return lower_kernels()(tvm.IRModule({"f": function}))["f"]


def test_reads_are_found_with_their_loops() -> None:
    table = ConstantRead(1, 0, (Turns(40, 4),), 4)
    assert constant_reads(lowered(), CONSTANTS) == [
        ConstantRead(1, 0, (Turns(3, 0),), 4),
        ConstantRead(1, 4, (Turns(3, 0), Turns(5, 16)), None),
        ConstantRead(1, 84, (Turns(3, 0),), None, Rereads(316, 8, 2)),
        table,
        ConstantRead(1, 240, (Turns(40, 4),), 4),
    ]


def test_a_constant_that_no_operand_is_has_no_reads() -> None:
    assert constant_reads(lowered(), {}) == []


@pytest.mark.parametrize(
    ("size_bytes", "reads", "expected"),
    [
        pytest.param(1000, [ConstantRead(0, 0, (), None)], 1000, id="once, from front to back"),
        pytest.param(1000, [ConstantRead(0, 0, (Turns(7, 0),), None)], 7000, id="again in every turn"),
        pytest.param(200, [ConstantRead(0, 0, (Turns(7, 0),), None)], 200, id="again, but held"),
        pytest.param(1000, [ConstantRead(0, 0, (Turns(10, 100),), None)], 1000, id="a part in every turn"),
        pytest.param(1000, [ConstantRead(0, 0, (Turns(3, 0), Turns(10, 100)), None)], 3000, id="all parts again"),
        pytest.param(1000, [ConstantRead(0, 0, (Turns(10, 100), Turns(3, 0)), None)], 1000, id="each part again, held"),
        pytest.param(1000, [ConstantRead(0, 0, (Turns(2, 500), Turns(3, 0)), None)], 3000, id="each part again"),
        pytest.param(1000, [ConstantRead(0, i, (), None) for i in (0, 900)], 1000, id="one behind the other"),
        pytest.param(1000, 2 * [ConstantRead(0, 0, (), None)], 2000, id="the same twice"),
        pytest.param(1000, 2 * [ConstantRead(0, 900, (), None)], 100, id="the same twice, held"),
        pytest.param(1000, [ConstantRead(0, i, (), None) for i in (0, 1000)], 1000, id="nothing behind the end"),
        pytest.param(1000, [ConstantRead(0, 0, (), None, Rereads(300, 8, 2))], 4000, id="again within a call"),
        pytest.param(1000, [ConstantRead(0, 0, (), None, Rereads(200, 8, 2))], 1000, id="again within a call, held"),
        pytest.param(1000, [ConstantRead(0, 0, (Turns(9, 4),), 4)], 36, id="elements"),
        pytest.param(1000, [ConstantRead(0, 0, (Turns(2000, 1),), 1)], 2000, id="elements of a long table"),
        pytest.param(240, [ConstantRead(0, 0, (Turns(2000, 1),), 1)], 240, id="elements of a table that is held"),
        pytest.param(
            1000,
            [ConstantRead(0, i, (Turns(9, 0), Turns(100, 1)), 1) for i in (0, 100, 200)],
            2700,
            id="together more than is held",
        ),
    ],
)
def test_what_is_held_is_not_read_again(size_bytes: int, reads: list[ConstantRead], expected: int) -> None:
    assert bytes_from_flash(reads, size_bytes, HELD_BYTES) == expected


@needs_simulator
@pytest.mark.parametrize(
    ("name", "core", "disabled"),
    [
        ("kws", "cortex-m4", ()),
        ("ic", "cortex-m4", ()),
        ("kws", "cortex-m0plus", ()),
        ("kws", "cortex-m4", ("tinyml.ApplyRecipes",)),
        ("kws", "cortex-m7", ()),
        pytest.param("ic", "cortex-m55", (), marks=needs_helium),
    ],
)
def test_estimates_are_near_what_the_simulator_counts(name: str, core: str, disabled: tuple[str, ...]) -> None:
    """The three constants that are waited for longest, one by one in RAM."""
    memory, target = "l4r5zi-120", cortex_m(core)
    options = BuildOptions(goal="time", emit="lib", memory=memory, disabled_passes=disabled)
    program = lower_model(model(name), target, options)
    flash = load_memory(memory).data
    assert flash is not None
    estimated = flash_wait_cycles(program, flash)

    def cycles(*in_ram: int) -> int:
        return package(replace(program, in_ram=frozenset(in_ram)), target, options).profile().cycles

    in_flash = cycles()
    for index in sorted(range(len(estimated)), key=lambda i: -estimated[i])[:3]:
        assert estimated[index] == pytest.approx(in_flash - cycles(index), rel=0.12), index
