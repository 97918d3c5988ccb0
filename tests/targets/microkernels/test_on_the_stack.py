"""Microkernels without floating-point registers: each kind of line, and all recipes, exact in both forms."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph, Network
from tests.compile.toolchains import HostLibrary, need
from tests.simulated import needs_simulator
from tests.targets.microkernels.alone import Argument, on_core
from tvm_tinyml.benchmark import bench
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.on_the_stack import assembly_on_the_stack, c_on_the_stack

pytestmark = needs_simulator

TARGETS = ("cortex-m4+nofp", "cortex-m7+nofp", "cortex-m33+nofp")

KERNEL = Microkernel(
    name="sums",
    parameters=("const int32_t *x", "int32_t *y", "int32_t a", "int32_t b", "int32_t c"),
    assembly=[
        *(
            "push {r2-r5, lr}",
            "vldmia r0!, {s0, s1-s2}",
            "vldmia r0!, {s5}",
            "vldm r0, {s3}",
            "vmov s4, r2",
            "ldr r4, [sp, #20]",
        ),
        *(
            "vmov s6, s7, r3, r4",
            "vmov r2, s0",
            "vmov r3, s1",
            "add r2, r2, r3",
            "vmov r3, r4, s2, s3",
            "add r2, r2, r3",
        ),
        *(
            "subs r2, r2, r4",
            "it ne",
            "vmovne r2, s5",
            "str r2, [r1]",
            "vmov r5, s4",
            "ldr r3, [sp]",
            "subs r3, r3, r5",
        ),
        *("str r3, [r1, #4]", "vmov r2, s6", "vmov r3, s7", "strd r2, r3, [r1, #8]", "add r2, sp, #20", "ldr r2, [r2]"),
        *("str r2, [r1, #16]", "str r0, [r1, #20]", "pop {r2-r5, pc}"),
    ],
    portable="",
)
"""Every kind of line that is rewritten: loads, moves of one and of two, a condition, the stack below them."""


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m33"])
@pytest.mark.parametrize("equal", [False, True])
def test_every_kind_of_line_does_the_same(core: str, equal: bool) -> None:
    x = np.array([5, 7, 20, 99, 32 if equal else 8], np.int32)
    arguments: list[Argument] = [x, np.zeros(6, np.int32), -3, 11, 13]
    assembly = (
        assembly_on_the_stack(KERNEL.as_assembly()).split(f"{KERNEL.name}:\n")[1].split("\n.size")[0].splitlines()
    )
    assert not any(line.startswith("v") for line in assembly)
    rewritten = Microkernel("sums", KERNEL.parameters, assembly, "")
    found, expected = on_core(core, rewritten, arguments)[1], on_core(core, KERNEL, arguments)[1]
    np.testing.assert_array_equal(found[:5], expected[:5])
    np.testing.assert_array_equal(found[:5], [0 if equal else 99, 0, 11, 13, 13])


def test_what_needs_no_such_register_stays() -> None:
    lines = ["push {r4, lr}", "ldr r4, [sp, #8]", "pop {r4, pc}"]
    kernel = Microkernel("f", ("int32_t a",), lines, "  (void)a;\n")
    assert assembly_on_the_stack(kernel.as_assembly()) == kernel.as_assembly()
    assert c_on_the_stack(kernel.as_c()) == kernel.as_c().replace(" && defined(__ARM_FP)", "")


def convolution(
    shape: tuple[int, ...], channels: int, kernel: tuple[int, int] = (1, 1), **settings: object
) -> Callable[[], Network]:
    def network() -> Network:
        graph = Int8Graph(2)
        x = graph.input(shape, (0.05, -4))
        return graph.finish("layer", graph.conv(x, channels, kernel, **settings))  # type: ignore[arg-type]

    return network


def separable(shape: tuple[int, ...], kernel: tuple[int, int], **settings: object) -> Callable[[], Network]:
    def network() -> Network:
        graph = Int8Graph(2)
        x = graph.input(shape, (0.05, -4))
        return graph.finish("layer", graph.depthwise(x, kernel, **settings))  # type: ignore[arg-type]

    return network


def dense(rows: int, length: int, units: int) -> Callable[[], Network]:
    def network() -> Network:
        graph = Int8Graph(2)
        return graph.finish("layer", graph.dense(graph.input((rows, length), (0.05, -4)), units))

    return network


LAYERS = {
    "pairs of channels": convolution((1, 8, 5, 64), 6),
    "single channels": convolution((1, 5, 5, 40), 3),
    "short sums": convolution((1, 8, 5, 8), 6),
    "copied weights": convolution((1, 9, 9, 30), 6, (3, 3), strides=(2, 2)),
    "three by three": convolution((1, 16, 16, 16), 16, (3, 3)),
    "depthwise": separable((1, 9, 9, 8), (3, 3)),
    "depthwise, stride": separable((1, 9, 9, 8), (3, 3), strides=(2, 2)),
    "depthwise, any window": separable((1, 9, 9, 5), (4, 5)),
    "depthwise, few taps": separable((1, 9, 9, 5), (1, 5)),
    "dense rows": dense(1, 70, 13),
    "dense": dense(9, 32, 8),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", LAYERS)
def test_recipes_are_the_same_and_exact(name: str, target: str, tmp_path: Path) -> None:
    network = LAYERS[name]()
    model = tinyml.load(network.data, name="layer")
    with_fpu = tinyml.build(model, target.removesuffix("+nofp"), goal="time", emit="lib")
    library = tinyml.build(model, target, goal="time")
    assert bench(library, model)["reference"]["differing"] == 0
    assert [l["schedule"] for l in library.metadata["layers"]] == [l["schedule"] for l in with_fpu.metadata["layers"]]
    inputs = network.random_inputs(1)
    found = HostLibrary(library, tmp_path, misalign=1).run(inputs)[0]
    np.testing.assert_array_equal(found, network.run(inputs)[0].reshape(found.shape))


@pytest.mark.parametrize("name", ["pairs of channels", "depthwise", "dense rows"])
def test_a_soft_float_compiler_takes_the_assembly(name: str, tmp_path: Path) -> None:
    """For a core with the FPU, too, where a program must not use it."""
    library = tinyml.build(tinyml.load(LAYERS[name]().data, name="layer"), "cortex-m4", goal="time", float_abi="soft")
    source = library.sources["tvmgen_layer.c"]
    assert not re.search(r'^    "v\w+ ', source, re.MULTILINE)
    library.write(tmp_path)
    command = [
        need("arm-none-eabi-gcc"),
        "-mcpu=cortex-m4",
        "-mthumb",
        "-mfloat-abi=soft",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
    ]
    command += [
        "-I",
        str(tmp_path / "include"),
        "-S",
        str(tmp_path / "src" / "tvmgen_layer.c"),
        "-o",
        str(tmp_path / "s"),
    ]
    subprocess.run(command, check=True)
    assert "smlad" in (tmp_path / "s").read_text()
