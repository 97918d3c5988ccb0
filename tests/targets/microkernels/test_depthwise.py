"""Depthwise convolutions: each microkernel alone and in whole layers, for any shape and at the bounds of the tricks."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph, Network
from tests.compile.toolchains import HostLibrary
from tests.image_networks import depthwise_layer
from tests.simulated import needs_simulator
from tests.targets.microkernels.alone import Argument, on_core, on_host
from tvm_tinyml.arithmetic import multiply_by_quantized_multiplier
from tvm_tinyml.benchmark import bench
from tvm_tinyml.device import Simulator, assemble
from tvm_tinyml.device.memory import MemoryMap
from tvm_tinyml.reference import operators
from tvm_tinyml.targets.cortex_m.microkernels import depthwise, depthwise_rows, planes, scaled_output
from tvm_tinyml.targets.cortex_m.microkernels.depthwise import Slide
from tvm_tinyml.targets.cortex_m.microkernels.depthwise_column import STRIDES
from tvm_tinyml.targets.cortex_m.microkernels.depthwise_words import MOST_TAPS
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Output, choose_output
from tvm_tinyml.targets.cortex_m.microkernels.planes_of_halves import fill_halves, pack_halves
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import ScaledOutput, Scales

pytestmark = needs_simulator

Ints = NDArray[np.int64]
CORES = ("cortex-m4", "cortex-m7", "cortex-m33")
OUTPUTS = {
    "plain": (-128, -128, 127),
    "clamped": (-20, -20, 60),
    "zero point above the clamp": (127, -128, 127),
    "clamped below the zero point": (3, -100, 90),
}
FORMS = ("scaled", *OUTPUTS)
"""How sums are rounded: with one shift for all channels, or with a shift of each."""

SHARED_SHIFT = 10


# --- packing ----------------------------------------------------------------------------------------------------------


class Rows:
    """Some rows of an image in NHWC, and the columns of their planes: "p" a pixel, "z" border."""

    def __init__(self, rng: np.random.Generator, columns: str, channels: int, *, rows: int = 3, gap: int = 2) -> None:
        self.columns, self.channels, self.rows = columns, channels, rows
        self.read = min(channels, planes.CHANNELS)
        self.pixels = columns.count("p")
        self.row_step = self.pixels * channels + gap
        self.x = rng.integers(-128, 128, rows * self.row_step).astype(np.int8)
        self.border = rng.integers(-128, 128, planes.CHANNELS).astype(np.int8)

    @property
    def expected(self) -> NDArray[np.int8]:
        """Planes of the channels that are read, [rows, channels, columns]."""
        image = np.tile(self.border[: self.read, None], (self.rows, 1, len(self.columns)))
        front = self.columns.index("p")
        for row, column in itertools.product(range(self.rows), range(self.pixels)):
            start = row * self.row_step + column * self.channels
            image[row, :, front + column] = self.x[start : start + self.read]
        return image

    def arguments(self, to: NDArray[Any], units: int, step: int) -> list[Argument]:
        """Return what every packing kernel is called with."""
        sizes = (self.rows, units, self.channels, self.row_step, step)
        return [to, self.x, self.border, *sizes]


def strips(image: NDArray[np.int8], stride: int) -> NDArray[np.int8]:
    """Cut planes [rows, channels, columns] into strips, [strip, row, channel, byte]."""
    _, channels, columns = image.shape
    starts = range(0, columns - 3, 2 if stride == 1 else 4)
    order = [0, 1, 2, 3] if stride == 1 else [0, 2, 1, 3]
    cut = np.stack([image[:, :, start : start + 4][:, :, order] for start in starts])
    return np.pad(cut, ((0, 0), (0, 0), (0, planes.CHANNELS - channels), (0, 0)))


STRIPS = (
    *((1, first, last) for first in ("pp", "zp", "zz") for last in ((), ("pz",), ("zz",), ("pp", "zz"))),
    *((2, first, last) for first in ((), ("zppp",), ("zzpp",)) for last in ((), ("pzzz",), ("pppz",))),
)


def strip_problem(
    rng: np.random.Generator, stride: int, first: Any, last: tuple[str, ...], units: int, channels: int
) -> tuple[Microkernel, Rows, list[Argument], NDArray[np.int8]]:
    middle = "p" * (2 if stride == 1 else 4) * units
    problem = Rows(rng, "".join((*first, middle, *last)), channels)
    pack = planes.pack_overlapping if stride == 1 else planes.pack_side_by_side
    expected = strips(problem.expected, stride)
    arguments = problem.arguments(np.zeros_like(expected), units, expected[0].nbytes)
    return pack(problem.read, first, last), problem, arguments, expected


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize(("stride", "first", "last"), STRIPS)
def test_any_width_and_border_is_cut_into_strips(
    core: str, stride: int, first: Any, last: tuple[str, ...], rng: np.random.Generator
) -> None:
    for units in (1, 2, 5):
        kernel, problem, arguments, expected = strip_problem(rng, stride, first, last, units, 4 + units % 3)
        found = on_core(core, kernel, arguments, misaligned=[1])[0]
        np.testing.assert_array_equal(found[:, :, : problem.read], expected[:, :, : problem.read])


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_fewer_than_four_channels_are_cut_into_strips(stride: int, channels: int, rng: np.random.Generator) -> None:
    for units in (0, 1, 4):
        first, last = ("zp", ("pz",)) if stride == 1 else (("zppp",), ("ppzz",))
        kernel, _, arguments, expected = strip_problem(rng, stride, first, last, units, channels)
        found = on_core("cortex-m4", kernel, arguments, misaligned=[1])[0]
        np.testing.assert_array_equal(found[:, :, :channels], expected[:, :, :channels])


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_cutting_into_strips_in_c_does_the_same(
    stride: int, channels: int, rng: np.random.Generator, tmp_path: Path
) -> None:
    first, last = ("zp", ("pp", "zz")) if stride == 1 else (("zzpp",), ("pppz",))
    kernel, problem, arguments, expected = strip_problem(rng, stride, first, last, 3, channels)
    found = on_host(kernel, arguments, tmp_path)[0]
    np.testing.assert_array_equal(found[:, :, : problem.read], expected[:, :, : problem.read])


def halves_problem(
    rng: np.random.Generator, first: str, last: str, pairs: int, channels: int
) -> tuple[Microkernel, Rows, list[Argument], NDArray[np.int16]]:
    problem = Rows(rng, f"{first}{'pp' * pairs}{last}", channels)
    expected = np.zeros((problem.rows, planes.CHANNELS, len(problem.columns)), np.int16)
    expected[:, : problem.read] = problem.expected
    arguments = problem.arguments(np.zeros_like(expected), pairs, expected[0, 0].nbytes)
    return pack_halves(problem.read, first, last), problem, arguments, expected


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize(("first", "last"), list(itertools.product(("", "zp"), ("", "pz"))))
def test_any_width_is_widened(core: str, first: str, last: str, rng: np.random.Generator) -> None:
    for pairs, channels in itertools.product((0, 1, 2, 5), (4, 7)):
        if first or last or pairs:
            kernel, problem, arguments, expected = halves_problem(rng, first, last, pairs, channels)
            found = on_core(core, kernel, arguments, misaligned=[1])[0]
            np.testing.assert_array_equal(found[:, : problem.read], expected[:, : problem.read])


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_widening_in_c_and_of_few_channels_does_the_same(
    channels: int, rng: np.random.Generator, tmp_path: Path
) -> None:
    kernel, problem, arguments, expected = halves_problem(rng, "zp", "pz", 3, channels)
    for found in (on_host(kernel, arguments, tmp_path)[0], on_core("cortex-m4", kernel, arguments, misaligned=[1])[0]):
        np.testing.assert_array_equal(found[:, : problem.read], expected[:, : problem.read])


def test_border_is_filled_line_by_line(rng: np.random.Generator, tmp_path: Path) -> None:
    start = rng.integers(-99, 99, (4, 10)).astype(np.int16)
    expected = start.copy()
    expected[:3, :4] = -7
    arguments: list[Argument] = [start, np.array([-7], np.int8), 3, 2, 20]
    for found in (on_core("cortex-m4", fill_halves(), arguments)[0], on_host(fill_halves(), arguments, tmp_path)[0]):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_packing_reads_nothing_behind_the_image(channels: int, rng: np.random.Generator) -> None:
    """The image ends where memory does, so that one byte more is a fault."""
    end = MemoryMap().ram.end
    problems = [strip_problem(rng, 1, "zp", ("pz",), 2, channels), strip_problem(rng, 2, (), ("pppz",), 2, channels)]
    for kernel, problem, _, expected in problems:
        with Simulator("cortex-m4") as simulator:
            simulator.load([assemble(f"{kernel.as_assembly()}\n.global {kernel.name}", "cortex-m4")])
            to, border = simulator.allocate(expected.nbytes), simulator.allocate(planes.CHANNELS)
            bytes_of_rows = problem.rows * problem.row_step - (problem.row_step - problem.pixels * channels)
            sizes = (problem.rows, 2, channels, problem.row_step, expected[0].nbytes)
            simulator.call(kernel.name, to, end - bytes_of_rows, border, *sizes)


# --- products ---------------------------------------------------------------------------------------------------------


class Problem:
    """A depthwise convolution without padding: an image, weights, scales, and what comes out."""

    def __init__(
        self,
        rng: np.random.Generator,
        size: tuple[int, int],
        kernel: tuple[int, int],
        strides: tuple[int, int],
        form: str,
        *,
        channels: int = 2,
        multiplier: int = 1,
        **extreme: int,
    ) -> None:
        zero_point, low, high = OUTPUTS["plain" if form == "scaled" else form]
        self.channels, self.multiplier_of, self.strides, self.form = channels, multiplier, strides, form
        self.rounding = choose_output(zero_point, low, high)
        shape, count = (1, *size, channels), channels * multiplier
        self.x = np.full(shape, extreme["x"]) if "x" in extreme else rng.integers(-128, 128, shape)
        kernels = (count, *kernel)
        self.w = np.full(kernels, extreme["w"]) if "w" in extreme else rng.integers(-127, 128, kernels)
        self.bias = rng.integers(-20000, 20000, count)
        self.multiplier = rng.integers(1 << 30, 1 << 31, count)
        least = 3 if form == "scaled" else 1
        self.shift = rng.integers(least, SHARED_SHIFT, count)
        self.zero_point = np.full(count, zero_point)
        self._clamp = {"output_zero_point": zero_point, "clamp_min": low, "clamp_max": high}

    def clamp_to(self, low: int, high: int) -> None:
        """Expect other bounds."""
        self._clamp |= {"clamp_min": low, "clamp_max": high}

    @property
    def expected(self) -> NDArray[np.int8]:
        """Rows, columns and channels of the output."""
        scales = [values.astype(np.int32) for values in (self.bias, self.multiplier, -self.shift)]
        x, w = self.x.astype(np.int8), self.w[..., None].astype(np.int8)
        return operators.conv2d(x, w, *scales, strides=self.strides, groups=self.channels, **self._clamp)[0]

    @property
    def output(self) -> Output | ScaledOutput:
        if self.form != "scaled":
            return self.rounding
        return ScaledOutput(SHARED_SHIFT, self.rounding.low, self.rounding.high)

    @property
    def scales(self) -> Scales:
        weight = self.w.reshape(len(self.w), -1)
        scale = (weight, self.bias, self.multiplier, self.shift, self.zero_point)
        if self.form != "scaled":
            return scaled_output.doubled(*scale)
        assert isinstance(self.output, ScaledOutput)
        found = scaled_output.scaled(self.output, *scale)
        assert found is not None
        return found

    @property
    def planes(self) -> NDArray[np.int8]:
        """The image, [rows, channels, columns]."""
        return np.ascontiguousarray(self.x[0].transpose(0, 2, 1)).astype(np.int8)

    def slide(self, rows: int, columns: int, *, any_step: bool = False) -> tuple[Microkernel, list[Argument]]:
        """Return the kernel for strips and its arguments, the output third."""
        stride, image = self.strides[0], self.planes
        needed = stride * 2 * -(-columns // 2) + 4  # columns that make whole strips, and one more with a stride
        cut = strips(np.pad(image, ((0, 0), (0, 0), (0, max(0, needed - image.shape[2])))), stride)
        y = np.full((rows, columns, len(self.w)), 99, np.int8)
        slide = Slide.of(stride, None if any_step else y[0].nbytes, rows, self.output)
        constants = depthwise.pack_slide(self.scales, stride, self.multiplier_of, self.output)
        sizes = (len(self.w), columns, cut[0].nbytes, len(self.w), slide.last_argument(rows, y[0].nbytes))
        return slide.microkernel(), [constants, cut, y, *sizes]


def problem_for_slide(
    rng: np.random.Generator, stride: int, rows: int, columns: int, form: str, **options: int
) -> Problem:
    size = (stride * (rows - 1) + 3, stride * (columns - 1) + 3)
    return Problem(rng, size, (3, 3), (stride, stride), form, **options)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("any_step", [False, True])
def test_strips_of_any_height_and_width_are_exact(
    core: str, stride: int, form: str, any_step: bool, rng: np.random.Generator
) -> None:
    """Every number of rows behind the unrolled loop, which runs never, once and several times."""
    for rows in range(1, 10):
        columns = 1 + (rows + stride) % 5
        problem = problem_for_slide(rng, stride, rows, columns, form, channels=1 + rows % 4)
        kernel, arguments = problem.slide(rows, columns, any_step=any_step)
        np.testing.assert_array_equal(on_core(core, kernel, arguments, misaligned=[2])[2], problem.expected)


@pytest.mark.parametrize("stride", STRIDES)
def test_a_little_is_read_behind_the_last_strip_and_no_more(stride: int, rng: np.random.Generator) -> None:
    """Memory ends ``BEYOND`` bytes behind the strips."""
    problem = problem_for_slide(rng, stride, 5, 4, "scaled", channels=4)
    kernel, (constants, cut, y, *sizes) = problem.slide(5, 4)
    cut = cut[: 2 + (stride == 2)]
    with Simulator("cortex-m4") as simulator:
        simulator.load([assemble(f"{kernel.as_assembly()}\n.global {kernel.name}", "cortex-m4")])
        places = [simulator.place_constant(constants.tobytes()), MemoryMap().ram.end - depthwise.BEYOND - cut.nbytes]
        places += [simulator.allocate(y.nbytes)]
        simulator.write(places[1], cut.tobytes())
        simulator.call(kernel.name, *places, *sizes)
        found = np.frombuffer(simulator.read(places[2], y.nbytes), np.int8).reshape(y.shape)
    np.testing.assert_array_equal(found, problem.expected)


@pytest.mark.parametrize("stride", STRIDES)
def test_several_outputs_share_a_plane(stride: int, rng: np.random.Generator) -> None:
    problem = problem_for_slide(rng, stride, 5, 4, "scaled", channels=4, multiplier=3)
    kernel, arguments = problem.slide(5, 4)
    np.testing.assert_array_equal(on_core("cortex-m4", kernel, arguments, misaligned=[2])[2], problem.expected)


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize(("channels", "any_step"), [(1500, False), (5000, False), (depthwise.LARGEST_STEP // 2, True)])
def test_rows_of_outputs_may_be_far_apart(stride: int, channels: int, any_step: bool, rng: np.random.Generator) -> None:
    """Beyond the largest offset of a store within a turn, and of one instruction that adds."""
    problem = problem_for_slide(rng, stride, 4, 2, "scaled", channels=4)
    _, arguments = problem.slide(4, 2)
    y = np.full((4, 2, channels), 99, np.int8)
    slide = Slide.of(stride, None if any_step else y[0].nbytes, 4, problem.output)
    arguments = [*arguments[:2], y, *arguments[3:6], channels, slide.last_argument(4, y[0].nbytes)]
    found = on_core("cortex-m4", slide.microkernel(), arguments)[2]
    np.testing.assert_array_equal(found[:, :, :4], problem.expected)
    assert (found[:, :, 4:] == 99).all()


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize(("x", "w"), list(itertools.product((-128, 127), (-128, 127))))
@pytest.mark.parametrize("form", ["scaled", "zero point above the clamp"])
def test_strips_of_the_largest_products_are_exact(
    stride: int, x: int, w: int, form: str, rng: np.random.Generator
) -> None:
    problem = problem_for_slide(rng, stride, 4, 2, form, x=x, w=w)
    kernel, arguments = problem.slide(4, 2)
    for core in CORES:
        np.testing.assert_array_equal(on_core(core, kernel, arguments, misaligned=[2])[2], problem.expected)


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("any_step", [False, True])
def test_strips_in_c_do_the_same(
    stride: int, form: str, any_step: bool, rng: np.random.Generator, tmp_path: Path
) -> None:
    for rows, columns in ((7, 6), (2, 3), (4, 1)):
        problem = problem_for_slide(rng, stride, rows, columns, form, channels=3)
        kernel, arguments = problem.slide(rows, columns, any_step=any_step)
        folder = tmp_path / str(rows)
        folder.mkdir()
        np.testing.assert_array_equal(on_host(kernel, arguments, folder)[2], problem.expected)


KERNELS = ((1, 1), (1, 5), (2, 2), (3, 3), (5, 4), (7, 7), (3, 11))


def rows_problem(
    rng: np.random.Generator,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    outputs: int,
    columns: int,
    form: str,
    **options: int,
) -> tuple[Problem, Microkernel, list[Argument]]:
    rows = 3
    size = (strides[0] * (rows - 1) + kernel[0], strides[1] * (columns - 1) + kernel[1])
    problem = Problem(rng, size, kernel, strides, form, **options)
    microkernel = depthwise_rows.Rows(outputs, *kernel, *strides, problem.output)
    image = problem.planes.astype(np.int16)
    slack = (columns - 1) * strides[1] + 2 * microkernel.row_words - image.shape[2]
    image = np.pad(image, ((0, 0), (0, 0), (0, slack + image.shape[2] % 2)), constant_values=77)
    image = image[..., : image.shape[2] // 2 * 2].copy()
    count = len(problem.w)
    y = np.full((rows, columns, count), 99, np.int8)
    layer = depthwise_rows.Geometry(count, y[0].nbytes, columns, rows, image[0].nbytes, image[0, 0].nbytes)
    constants = microkernel.pack(problem.scales, problem.multiplier_of)
    geometry = np.array(microkernel.geometry(layer), np.int32)
    return problem, microkernel.microkernel(), [constants, geometry, image, y, count]


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_rows_of_any_kernel_and_stride_are_exact(
    core: str, kernel: tuple[int, int], stride: int, rng: np.random.Generator
) -> None:
    for i, outputs in enumerate((1, 2, 3, 4)):
        for columns in (outputs, outputs + 1, 2 * outputs + 1):
            form = FORMS[(i + columns) % len(FORMS)]
            problem, microkernel, arguments = rows_problem(
                rng, kernel, (1 + columns % 3, stride), outputs, columns, form, channels=1 + columns % 4
            )
            np.testing.assert_array_equal(on_core(core, microkernel, arguments, misaligned=[3])[3], problem.expected)


@pytest.mark.parametrize(("x", "w"), list(itertools.product((-128, 127), (-128, 127))))
def test_rows_of_the_largest_products_are_exact(x: int, w: int, rng: np.random.Generator) -> None:
    problem, microkernel, arguments = rows_problem(rng, (11, 11), (1, 1), 4, 6, "clamped", x=x, w=w, multiplier=2)
    for core in CORES:
        np.testing.assert_array_equal(on_core(core, microkernel, arguments, misaligned=[3])[3], problem.expected)


@pytest.mark.parametrize("kernel", [(2, 2), (3, 7)])
@pytest.mark.parametrize("form", FORMS)
def test_rows_in_c_do_the_same(kernel: tuple[int, int], form: str, rng: np.random.Generator, tmp_path: Path) -> None:
    problem, microkernel, arguments = rows_problem(rng, kernel, (1, 2), 3, 7, form, channels=2, multiplier=2)
    np.testing.assert_array_equal(on_host(microkernel, arguments, tmp_path)[3], problem.expected)


# --- guards -----------------------------------------------------------------------------------------------------------


SCALED = ScaledOutput(SHARED_SHIFT, -128, 127)


def scaled(weight: Any, bias: int, multiplier: int, shift: int, zero_point: int = -128) -> Scales | None:
    """Constants of one channel."""
    values = (np.array([value], np.int64) for value in (weight, bias, multiplier, shift, zero_point))
    return scaled_output.scaled(SCALED, *values)


def differs(weight: Ints, bias: int, multiplier: int, shift: int, zero_point: int, scales: Scales) -> bool:
    """Return whether any sum of int8 inputs is rounded to another output than the reference's."""
    low, high = (int(np.where(weight > 0, a, b) @ weight) for a, b in ((-128, 127), (127, -128)))
    products = np.arange(low, high + 1)
    values = multiply_by_quantized_multiplier(products + bias, np.int64(multiplier), np.int64(-shift))
    expected = np.clip(values + zero_point, -128, 127)
    up = int(scales.weight[0, 0] // weight[0])
    stored = products * up + scales.bias[0]
    assert abs(stored).max() < 1 << 31
    found = np.clip((stored * scales.multiplier[0] // (1 << 32) + scales.constant[0]) >> SHARED_SHIFT, -128, 127)
    return bool((found != expected).any())


@pytest.mark.parametrize("shift", range(23))
def test_a_scaled_channel_gives_the_same_output_for_every_sum(shift: int, rng: np.random.Generator) -> None:
    """Those of a smaller shift by construction, the others where a bias was found."""
    found = 0
    for _ in range(8):
        weight = rng.integers(1, 8 if shift < 3 else 128, 9) * rng.choice([-1, 1], 9)
        bias = int(rng.integers(-20000, 20000))
        multiplier = int(rng.integers(1 << 30, 1 << 31))
        scales = scaled(weight, bias, multiplier, shift)
        if scales is not None:
            assert not differs(weight, bias, multiplier, shift, -128, scales)
            found += 1
    assert found >= (8 if shift < SHARED_SHIFT else 2)


def test_a_channel_that_no_bias_fits_is_refused(rng: np.random.Generator) -> None:
    """Its outputs change at so many sums that a multiplier of fewer bits misses one of them."""
    multipliers = rng.integers(1 << 30, 1 << 31, 20)
    refused = [scaled(rng.integers(1, 128, 121), 77, int(multiplier), SHARED_SHIFT) for multiplier in multipliers]
    assert None in refused


@pytest.mark.parametrize(
    ("weight", "bias", "shift", "fits"),
    [
        ([127], 0, 3, True),
        ([128], 0, 3, False),  # 2**15 is no int16
        ([-128], 0, 3, True),
        ([63], 0, 2, True),
        ([64], 0, 2, False),
        ([1], 1 << 22, 3, True),
        ([1], 1 << 24, 3, True),  # sums beyond 32 bits if scaled, but all of one output
        ([1], 0, -1, False),
    ],
)
def test_a_channel_is_scaled_only_where_everything_fits(weight: list[int], bias: int, shift: int, fits: bool) -> None:
    multiplier = (1 << 31) - 1
    scales = scaled(weight, bias, multiplier, shift)
    assert (scales is not None) == fits
    assert scales is None or not differs(np.array(weight), bias, multiplier, shift, -128, scales)


def test_a_channel_that_is_dead_is_its_zero_point() -> None:
    scales = scaled([0], 0, 0, 0, -77)
    assert scales is not None
    assert scales.constant[0] >> SHARED_SHIFT == -77


# --- layers -----------------------------------------------------------------------------------------------------------


def built(network: Network, target: str = "cortex-m4") -> tuple[list[str], set[str]]:
    """Schedules and kinds of microkernels that a layer is made of; its bytes are compared with the reference."""
    model = tinyml.load(network.data, name="layer")
    library = tinyml.build(model, target)
    functions = {line.split("(")[0] for line in library.sources["tvmgen_layer.c"].split("static void ")[1:]}
    assert bench(library, model)["reference"]["differing"] == 0
    return [layer["schedule"] for layer in library.metadata["layers"]], {name.split("_")[1] for name in functions}


@pytest.mark.parametrize("width", range(1, 10))
@pytest.mark.parametrize("stride", [1, 2])
def test_every_height_width_and_number_of_channels_is_covered(
    width: int, stride: int, rng: np.random.Generator
) -> None:
    for i, target in enumerate(CORES):
        height = int(rng.integers(1, 10))
        activation = ("NONE", "RELU", "RELU6")[(i + width) % 3]
        padding = "VALID" if min(height, width) > 2 and i == 0 else "SAME"
        network = depthwise_layer(
            (height, width),
            channels=2 + (3 * width + i) % 8,
            strides=(stride, stride),
            padding=padding,
            activation=activation,
            zero_point=(-128, 127, 3)[i],
            seed=width,
        )
        assert built(network, target)[0] == ["Depthwise"]


@pytest.mark.parametrize("kernel", [(1, 1), (1, 5), (3, 1), (2, 2), (5, 5), (10, 4), (3, 3), (11, 11)])
@pytest.mark.parametrize("case", range(4))
def test_every_kernel_stride_and_dilation_is_covered(
    kernel: tuple[int, int], case: int, rng: np.random.Generator
) -> None:
    strides, dilation = (((1, 1), (1, 1)), ((2, 1), (1, 1)), ((3, 3), (1, 1)), ((1, 1), (2, 3)))[case]
    few_taps = kernel[0] * kernel[1] <= MOST_TAPS  # planes have what the kernel for those does not take
    multiplier, channels = (1 + 2 * (case % 2), 3) if few_taps else (1 + case % 2, int(rng.integers(2, 10)))
    settings = {"strides": strides, "dilation": dilation, "multiplier": multiplier, "batch": 1 + case % 3}
    size = int(rng.integers(3, 14)), int(rng.integers(3, 14))
    network = depthwise_layer(size, channels, kernel, seed=case, activation="RELU", **settings)
    assert built(network)[0] == ["Depthwise"]


def test_an_image_larger_than_the_scratch_is_computed_in_blocks() -> None:
    network = depthwise_layer((61, 96), 6, activation="RELU")
    library = tinyml.build(tinyml.load(network.data, name="layer"), "cortex-m4")
    assert library.metadata["ram_bytes"]["workspace"] < 10_000
    assert built(network)[1] >= {"strips", "slide"}


@pytest.mark.parametrize("size", [(700, 1), (1, 700), (2, 301)])
def test_a_long_thin_image_is_computed_along_its_length(size: tuple[int, int]) -> None:
    for stride in (1, 2):
        assert built(depthwise_layer(size, 5, strides=(stride, stride), activation="RELU"))[0] == ["Depthwise"]


@pytest.mark.parametrize(("stride", "expected"), [(1, {"strips", "slide"}), (2, {"quads", "slide"})])
def test_kernels_of_three_by_three_slide_down_strips(stride: int, expected: set[str]) -> None:
    assert built(depthwise_layer((12, 12), 8, strides=(stride, stride), activation="RELU"))[1] >= expected


def test_a_scale_above_one_is_left_to_the_schedules() -> None:
    network = depthwise_layer((6, 6), 4, effective_scale=2.5, output=(0.1, -128), activation="RELU")
    assert "Depthwise" not in built(network)[0]


def test_layers_that_differ_in_size_alone_share_their_code() -> None:
    """Half the width and twice the channels, as in a network that narrows."""
    graph = Int8Graph(0, samples=2)
    x = graph.input((1, 12, 12, 8), (0.05, -4))
    for channels in (8, 16):
        x = graph.depthwise(x, (3, 3), activation="RELU")
        x = graph.conv(x, 2 * channels, (1, 1), strides=(2, 2), activation="RELU")
    library = tinyml.build(tinyml.load(graph.finish("layer", x).data, name="layer"), "cortex-m4")
    text = library.sources["tvmgen_layer.c"]
    assert text.count("static void tinyml_slide_1_n0_") == 2  # assembly and C of one function


@pytest.mark.parametrize(
    "settings", [{"activation": "RELU"}, {"strides": (2, 2)}, {"dilation": (2, 2), "multiplier": 2}]
)
def test_layers_in_c_give_the_reference_bytes(settings: dict[str, Any], tmp_path: Path) -> None:
    network = depthwise_layer((9, 8), 7, batch=2, **settings)
    library = tinyml.build(tinyml.load(network.data, name="layer"), "cortex-m4")
    inputs = network.random_inputs(1)
    found = HostLibrary(library, tmp_path, misalign=1).run(inputs)[0]
    np.testing.assert_array_equal(found, network.run(inputs)[0].reshape(found.shape))
