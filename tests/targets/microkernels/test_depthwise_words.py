"""Depthwise convolutions of few taps: each form of the microkernel alone, at the ends of its numbers and its memory."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.simulated import needs_simulator
from tests.targets.microkernels.alone import on_core, on_host
from tests.targets.microkernels.test_depthwise import FORMS, OUTPUTS, Problem
from tvm_tinyml.device import Simulator, assemble
from tvm_tinyml.device.memory import MemoryMap
from tvm_tinyml.targets.cortex_m.microkernels.depthwise_words import MOST_TAPS, Geometry, Words, group_starts
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel

pytestmark = needs_simulator

CORES = ("cortex-m4", "cortex-m7", "cortex-m33")
ORDERS = [(core, mixed) for core in CORES for mixed in (False, True)]
KERNELS = ((1, 1), (1, 2), (3, 1), (2, 2), (1, 5), (2, 3), (7, 1), (2, 4))
CHANNELS = ((1, 4), (1, 7), (1, 12), (2, 2), (2, 3), (2, 6), (4, 1), (4, 3), (8, 2))
"""Multiplier and input channels."""


def kernel_of(problem: Problem, *, mixed: bool, turned: bool = False) -> tuple[Microkernel, list[NDArray[Any]]]:
    """Return the kernel of a problem and its arguments, the image third and the output last.

    turned : pairs of pixels lie in a column.
    """
    _, height, width, channels = problem.x.shape
    count, kernel_h, kernel_w = problem.w.shape
    row, stride_h, stride_w = width * channels, *problem.strides
    out_h, out_w = (height - kernel_h) // stride_h + 1, (width - kernel_w) // stride_w + 1
    words = Words(kernel_h * kernel_w, min(problem.multiplier_of, 4), problem.output, mixed)
    steps = [(out_w, stride_w * channels, count), (out_h, stride_h * row, out_w * count)]
    (columns, *column), (rows, *line) = reversed(steps) if turned else steps
    offsets = [r * row + s * channels for r in range(kernel_h) for s in range(kernel_w)]
    geometry = Geometry(offsets, columns, rows, *column, *line)
    constants = words.pack(problem.scales, problem.multiplier_of)
    numbers = np.array(words.geometry(geometry, len(constants)), np.int32)
    y = np.full((out_h, out_w, count), 99, np.int8)
    return words.microkernel(), [constants, numbers, problem.x.astype(np.int8), y]


def problem_of(
    rng: np.random.Generator,
    outputs: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    form: str,
    **options: int,
) -> Problem:
    """Return a problem with so many outputs, and pixels behind the last window that nothing reads."""
    size = [kernel[i] + strides[i] * (outputs[i] - 1) for i in range(2)]
    more = [int(rng.integers(0, stride)) for stride in strides]
    return Problem(rng, (size[0] + more[0], size[1] + more[1]), kernel, strides, form, **options)


@pytest.mark.parametrize(("core", "mixed"), ORDERS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_any_taps_channels_and_sizes_are_exact(
    core: str, mixed: bool, kernel: tuple[int, int], rng: np.random.Generator
) -> None:
    for i, (multiplier, channels) in enumerate(CHANNELS):
        form, size = FORMS[(i + len(kernel)) % len(FORMS)], (1 + i % 4, 1 + i % 7)
        strides = 1 + i % 2, 1 + i % 3
        problem = problem_of(rng, size, kernel, strides, form, channels=channels, multiplier=multiplier)
        microkernel, arguments = kernel_of(problem, mixed=mixed, turned=i % 3 == 2)
        found = on_core(core, microkernel, arguments, misaligned=[2, 3])[3]
        np.testing.assert_array_equal(found, problem.expected)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shared", [1, 2, 4])
def test_every_number_of_taps_and_rounding_is_exact(
    shared: int, form: str, mixed: bool, rng: np.random.Generator
) -> None:
    """What has no floating-point register lies on the stack: how much that is depends on both."""
    for taps in range(1, MOST_TAPS + 1):
        problem = problem_of(rng, (2, 5), (1, taps), (1, 1), form, channels=5, multiplier=shared)
        microkernel, arguments = kernel_of(problem, mixed=mixed)
        found = on_core("cortex-m7" if mixed else "cortex-m4", microkernel, arguments, misaligned=[2, 3])[3]
        np.testing.assert_array_equal(found, problem.expected)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("outputs", list(itertools.product((1, 2, 3), (1, 2, 3, 4))))
def test_odd_numbers_of_pixels_and_single_ones_are_exact(
    outputs: tuple[int, int], turned: bool, mixed: bool, rng: np.random.Generator
) -> None:
    problem = problem_of(rng, outputs, (2, 2), (2, 1), "scaled", channels=6)
    microkernel, arguments = kernel_of(problem, mixed=mixed, turned=turned)
    found = on_core("cortex-m4", microkernel, arguments, misaligned=[2, 3])[3]
    np.testing.assert_array_equal(found, problem.expected)


@pytest.mark.parametrize(("x", "w"), list(itertools.product((-128, 127), (-128, 127))))
@pytest.mark.parametrize("form", ["scaled", "zero point above the clamp", "clamped"])
@pytest.mark.parametrize("multiplier", [1, 2, 4])
def test_the_largest_products_are_exact(
    x: int, w: int, form: str, multiplier: int, rng: np.random.Generator
) -> None:
    problem = problem_of(rng, (2, 3), (2, 4), (1, 1), form, channels=4, multiplier=multiplier, x=x, w=w)
    for core, mixed in (("cortex-m4", False), ("cortex-m33", False), ("cortex-m7", True)):
        microkernel, arguments = kernel_of(problem, mixed=mixed)
        found = on_core(core, microkernel, arguments, misaligned=[2, 3])[3]
        np.testing.assert_array_equal(found, problem.expected)


@pytest.mark.parametrize("form", ["scaled", *OUTPUTS])
@pytest.mark.parametrize("multiplier", [1, 2, 4])
def test_the_body_in_c_does_the_same(multiplier: int, form: str, rng: np.random.Generator, tmp_path: Path) -> None:
    for taps, outputs in ((5, (2, 3)), (1, (1, 1))):
        problem = problem_of(rng, outputs, (1, taps), (1, 2), form, channels=5, multiplier=multiplier)
        microkernel, arguments = kernel_of(problem, mixed=False)
        folder = tmp_path / str(taps)
        folder.mkdir()
        np.testing.assert_array_equal(on_host(microkernel, arguments, folder)[3], problem.expected)
        other, _ = kernel_of(problem, mixed=True)
        assert other.portable == microkernel.portable


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(("multiplier", "channels"), [(1, 7), (2, 3), (4, 1)])
def test_nothing_is_read_behind_the_image(
    multiplier: int, channels: int, mixed: bool, rng: np.random.Generator
) -> None:
    """The image ends where memory does, so that one byte more is a fault."""
    problem = problem_of(rng, (2, 3), (2, 2), (1, 1), "scaled", channels=channels, multiplier=multiplier)
    kernel, (constants, numbers, x, y) = kernel_of(problem, mixed=mixed)
    at = MemoryMap().ram.end - x.nbytes
    with Simulator("cortex-m4") as simulator:
        simulator.load([assemble(f"{kernel.as_assembly()}\n.global {kernel.name}", "cortex-m4")])
        to = simulator.allocate(y.nbytes)
        simulator.write(at, x.tobytes())
        places = [simulator.place_constant(words.tobytes()) for words in (constants, numbers)]
        simulator.call(kernel.name, *places, at, to)
        found = np.frombuffer(simulator.read(to, y.nbytes), np.int8).reshape(y.shape)
    np.testing.assert_array_equal(found, problem.expected)


@pytest.mark.parametrize("mixed", [False, True])
def test_registers_of_the_caller_are_kept(mixed: bool, rng: np.random.Generator) -> None:
    """Also those of the floating-point unit that belong to it: a caller adds them up before and after."""
    problem = problem_of(rng, (1, 2), (1, 6), (1, 1), "scaled", channels=4)
    kernel, arguments = kernel_of(problem, mixed=mixed)
    kept = [f"s{i}" for i in range(16, 32)]
    core = [f"r{i}" for i in range(4, 12)]
    lines = ["push {r4-r11, lr}", "vpush {s16-s31}", "sub sp, #4"]
    lines += [f"movw {register}, #{1000 + i}" for i, register in enumerate(core)]
    lines += [f"vmov {register}, r{4 + i % 8}" for i, register in enumerate(kept)]
    lines += [f"bl {kernel.name}", "movs r0, #0"]
    lines += [f"add r0, r0, {register}" for register in core]
    lines += [line for register in kept for line in (f"vmov r1, {register}", "add r0, r0, r1")]
    lines += ["add sp, #4", "vpop {s16-s31}", "pop {r4-r11, pc}"]
    caller = Microkernel("caller", kernel.parameters, lines, "")
    source = f"{kernel.as_assembly()}\n{caller.as_assembly()}\n.global caller"
    with Simulator("cortex-m4", check_alignment=True) as simulator:
        simulator.load([assemble(source, "cortex-m4")])
        places = []
        for array in arguments:
            places.append(simulator.allocate(array.nbytes, offset=4))
            simulator.write(places[-1], array.tobytes())
        result = simulator.call("caller", *places).value
        found = np.frombuffer(simulator.read(places[3], arguments[3].nbytes), np.int8)
    np.testing.assert_array_equal(found, problem.expected.ravel())
    each = sum(range(1000, 1008))
    assert result == 3 * each


def test_the_last_group_of_channels_ends_with_the_last_channel() -> None:
    assert group_starts(4).tolist() == [0]
    assert group_starts(13).tolist() == [0, 4, 8, 9]
    assert group_starts(16).tolist() == [0, 4, 8, 12]
