"""An average over the whole image behind a convolution is one operator with it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tvm import relax

import tvm_tinyml as tinyml
from benchmarks.networks import keyword_spotting
from tests.passes.dead_graphs import DeadGraph
from tests.passes.graphs import calls, names, same
from tests.passes.simplified import simplified, unchanged
from tvm_tinyml.macs import macs_of_module
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.passes import FusePools, integer_ops
from tvm_tinyml.pipeline import integer_graph
from tvm_tinyml.targets.cortex_m import cortex_m

RECIPES = cortex_m("cortex-m4").recipes("time")
Average = Callable[[DeadGraph, relax.Var], relax.Var]

WINDOW = {"pool_size": [5, 6], "strides": [5, 6]}
TAPS = {"multiplier": int(2**31 / 30 * 16), "shift": -12}
"""Of a mean of 30 pixels, shifted left by 8 before."""

AVERAGES: dict[str, Average] = {
    "avg_pool2d": lambda g, x: g.pool(x, **WINDOW),
    "mean_pool2d": lambda g, x: g.pool(x, integer_ops.mean_pool2d, **WINDOW),
    "mean": lambda g, x: g.mean(x),
    "mean that keeps the axes": lambda g, x: g.mean(x, keepdims=True),
}


@pytest.mark.parametrize("name", AVERAGES)
@pytest.mark.parametrize("kernel", [1, 5])
def test_an_average_of_the_result_of_a_convolution_is_one_with_it(name: str, kernel: int) -> None:
    def build(g: DeadGraph, x: relax.Var) -> relax.Expr:
        return AVERAGES[name](g, g.conv(x, 7, kernel, padding=[kernel // 2] * 4))

    (both,) = calls(simplified(FusePools(RECIPES), build))
    assert both.op.name == f"tinyml.conv2d_{name.split()[0]}"


def test_the_work_of_the_convolution_counts() -> None:
    after = simplified(FusePools(RECIPES), lambda g, x: g.mean(g.conv(x, 7, 2)))
    assert macs_of_module(after) == (4 * 5 * 7) * (2 * 2 * 3)


@pytest.mark.parametrize(
    "window",
    [{"pool_size": [4, 6]}, {"pool_size": [5, 5], "strides": [5, 6]}, {"pool_size": [6, 6], "padding": [1, 0, 0, 0]}],
    ids=str,
)
def test_a_window_that_is_not_the_image_stays(window: dict[str, list[int]]) -> None:
    assert unchanged(FusePools(RECIPES), lambda g, x: g.pool(g.conv(x, 4), **window))


@pytest.mark.parametrize("axes", [[1], [3], [1, 2, 3]])
def test_a_mean_over_other_axes_stays(axes: list[int]) -> None:
    def build(g: DeadGraph, x: relax.Var) -> relax.Expr:
        options = {"input_zero_point": g.zero_point, "left_shift": 0, "multiplier": 2**30, "shift": -3}
        y = integer_ops.mean(g.conv(x, 4), axes=axes, keepdims=0, **options, **g._output())
        return g.emit(y)

    assert unchanged(FusePools(RECIPES), build)


def test_the_largest_of_the_image_stays() -> None:
    assert unchanged(FusePools(RECIPES), lambda g, x: g.pool(g.conv(x, 4), integer_ops.max_pool2d, **WINDOW))


def test_averages_of_several_images_stay() -> None:
    assert unchanged(FusePools(RECIPES), lambda g, x: g.mean(g.conv(x, 4)), (2, 5, 6, 3))


@pytest.mark.parametrize("name", AVERAGES)
def test_a_result_that_is_wanted_besides_stays(name: str) -> None:
    assert unchanged(FusePools(RECIPES), lambda g, x: [AVERAGES[name](g, y := g.conv(x, 4)), g.lookup(y)])
    assert unchanged(FusePools(RECIPES), lambda g, x: [AVERAGES[name](g, y := g.conv(x, 4)), y])


def test_a_convolution_whose_kernel_makes_no_blocks_of_pixels_stays() -> None:
    border = [1, 1, 1, 1]
    assert unchanged(FusePools(RECIPES), lambda g, x: g.mean(g.depthwise(x, padding=border)), (1, 5, 6, 8))
    assert unchanged(FusePools(RECIPES), lambda g, x: g.mean(g.conv(x, 16, 3, padding=border)), (1, 16, 16, 16))
    assert unchanged(FusePools({}), lambda g, x: g.mean(g.conv(x, 4)))


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m3", "cortex-m7", "cortex-m55"])
def test_every_core_has_a_kernel_of_both(core: str) -> None:
    recipes = cortex_m(core).recipes("balanced")
    after = simplified(FusePools(recipes), lambda g, x: g.mean(g.conv(x, 8)), (1, 5, 6, 4))
    assert names(after) == ["tinyml.conv2d_mean"]


def test_a_convolution_of_int16_stays() -> None:
    model = tinyml.load(keyword_spotting(dtype="int16").data, name="m")
    graph = integer_graph(model, BuildOptions())
    assert "tinyml.avg_pool2d" in names(graph)
    assert same(FusePools(RECIPES)(graph), graph)


def test_several_averages_are_each_one_with_its_convolution(rng: np.random.Generator) -> None:
    count = int(rng.integers(2, 5))
    after = simplified(FusePools(RECIPES), lambda g, x: [g.mean(g.conv(x, 4)) for _ in range(count)])
    assert names(after) == ["tinyml.conv2d_mean"] * count
