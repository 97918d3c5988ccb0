"""A sum behind a convolution is one operator with it."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax

import tvm_tinyml as tinyml
from benchmarks.channel_blocks import SHARED
from benchmarks.int8_graph import Int8Graph
from benchmarks.networks import image_classification
from tests.passes.dead_graphs import RANGE, DeadGraph
from tests.passes.graphs import Array, calls, names, same
from tests.passes.simplified import simplified, unchanged
from tvm_tinyml.choice import KERNEL
from tvm_tinyml.macs import macs_of_module
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.passes import ChooseKernels, FuseAdds, PlaceChannels, integer_ops
from tvm_tinyml.passes.apply_recipes import Recipes
from tvm_tinyml.passes.choose_kernels import choice_of
from tvm_tinyml.passes.integer_ops import attributes_of, shape_of
from tvm_tinyml.pipeline import integer_graph
from tvm_tinyml.targets.cortex_m import cortex_m

BY_RULES: Recipes = {}
RECIPES = cortex_m("cortex-m4").recipes("time")
EVERYWHERE = pytest.mark.parametrize("recipes", [BY_RULES, RECIPES], ids=["rules", "recipes"])
BORDER = [1, 1, 1, 1]


def conv(g: DeadGraph, x: relax.Var, channels: int = 3) -> relax.Var:
    """Add a convolution that keeps the size, with a filter that Winograd's algorithm does not take."""
    return g.conv(x, channels, 5, padding=[2, 2, 2, 2])


def pointwise(g: DeadGraph, x: relax.Var, weight: Array, shift: Array) -> relax.Var:
    """Add a convolution of pixels with these weights and shifts."""
    numbers = (np.zeros(len(weight)), np.full(len(weight), 2**30), shift)
    constants = [relax.const(weight), *(relax.const(n.astype(np.int32)) for n in numbers)]
    shape = {"strides": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1], "groups": 1}
    return g.emit(integer_ops.conv2d(x, *constants, **shape, input_zero_point=0, output_zero_point=0, **RANGE))


@EVERYWHERE
@pytest.mark.parametrize("side", [0, 1])
def test_a_sum_with_the_result_of_a_convolution_is_one_with_it(recipes: Recipes, side: int) -> None:
    def build(g: DeadGraph, x: relax.Var) -> relax.Expr:
        return g.sum(*(operands := [conv(g, x), x])[side:], *operands[:side])

    assert names(simplified(FuseAdds(recipes), build)) == ["tinyml.conv2d_add"]


@EVERYWHERE
def test_of_two_convolutions_the_last_one_is_taken(recipes: Recipes) -> None:
    after = simplified(FuseAdds(recipes), lambda g, x: g.sum(g.conv(x, 8), conv(g, x, 8)))
    assert names(after) == ["tinyml.conv2d", "tinyml.conv2d_add"]
    assert shape_of(calls(after)[1].args[1]) == [8, 5, 5, 3]


@EVERYWHERE
def test_each_of_several_sums_is_one_with_its_own_convolution(recipes: Recipes) -> None:
    after = simplified(FuseAdds(recipes), lambda g, x: g.sum(y := g.sum(x, conv(g, x)), conv(g, y)))
    assert names(after) == ["tinyml.conv2d_add"] * 2


def test_the_work_of_the_convolution_counts() -> None:
    after = simplified(FuseAdds(RECIPES), lambda g, x: g.sum(conv(g, x), x))
    assert macs_of_module(after) == (5 * 6 * 3) * (5 * 5 * 3)


def test_strides_and_groups_stay() -> None:
    def build(g: DeadGraph, x: relax.Var) -> relax.Expr:
        y = g.conv(x, 6, 1, strides=[2, 2])
        return g.sum(y, g.conv(x, 6, 3, strides=[2, 2], padding=BORDER, groups=2))

    attributes = attributes_of(calls(simplified(FuseAdds(RECIPES), build, (1, 7, 6, 4)))[-1])
    assert (attributes["strides"], attributes["groups"], attributes["padding"]) == ([2, 2], 2, BORDER)


def test_what_was_decided_about_the_convolution_stays() -> None:
    g = DeadGraph(0)
    chosen = {KERNEL: "ConvGemm", "tiles": 3}
    before = g.finish(lambda x: g.sum(conv(g, x), x), (1, 5, 6, 3))
    after = FuseAdds(RECIPES)(ChooseKernels(lambda every: [chosen, *[None] * (len(every) - 1)])(before))
    assert [choice_of(call) for call in calls(after)] == [chosen]


def test_a_difference_stays() -> None:
    assert unchanged(FuseAdds(RECIPES), lambda g, x: g.sum(conv(g, x), x, integer_ops.subtract))


@EVERYWHERE
def test_a_result_that_is_wanted_besides_stays(recipes: Recipes) -> None:
    assert unchanged(FuseAdds(recipes), lambda g, x: [g.sum(y := conv(g, x), x), g.lookup(y)])
    assert unchanged(FuseAdds(recipes), lambda g, x: [g.sum(y := conv(g, x), x), y])
    assert unchanged(FuseAdds(recipes), lambda g, x: g.sum(y := conv(g, x), y))


def test_a_convolution_that_is_not_the_last_before_the_sum_stays() -> None:
    """It would have to wait, and its input with it."""
    assert unchanged(FuseAdds(RECIPES), lambda g, x: g.sum(conv(g, x), g.lookup(x)))


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (3,), (1, 5, 6, 1), (1, 5, 6, 3)])
def test_a_sum_with_a_constant_or_a_tensor_of_another_shape_stays(shape: tuple[int, ...]) -> None:
    assert unchanged(FuseAdds(BY_RULES), lambda g, x: g.sum(conv(g, x), g.constant(*shape)))
    assert unchanged(FuseAdds(BY_RULES), lambda g, x: g.sum(g.pool(x, pool_size=[5, 6]), conv(g, x)))


def test_a_convolution_whose_kernel_makes_no_blocks_of_pixels_stays() -> None:
    """That is, by Winograd's algorithm or depthwise; loops by rules take either."""

    def by_winograd(g: DeadGraph, x: relax.Var) -> relax.Expr:
        return g.sum(g.conv(x, 16, 3, padding=BORDER), x)

    def depthwise(g: DeadGraph, x: relax.Var) -> relax.Expr:
        return g.sum(g.depthwise(x, padding=BORDER), x)

    for build in (by_winograd, depthwise):
        assert unchanged(FuseAdds(RECIPES), build, (1, 16, 16, 16))
        assert names(simplified(FuseAdds(BY_RULES), build, (1, 16, 16, 16))) == ["tinyml.conv2d_add"]


def test_a_convolution_with_a_channel_that_no_microkernel_takes_stays() -> None:
    def build(g: DeadGraph, x: relax.Var, scale: int) -> relax.Expr:
        shift = np.where(np.arange(12) == 3, scale, -9)
        return g.sum(pointwise(g, x, g.int8(12, 1, 1, 12), shift), x)

    assert unchanged(FuseAdds(RECIPES), lambda g, x: build(g, x, 2), (1, 5, 6, 12))
    assert not unchanged(FuseAdds(RECIPES), lambda g, x: build(g, x, -9), (1, 5, 6, 12))


def test_a_convolution_with_weights_of_four_bits_stays() -> None:
    def build(g: DeadGraph, x: relax.Var) -> relax.Expr:
        weight = g.rng.integers(-7, 8, (16, 1, 1, 16)).astype(np.int8)
        return g.sum(pointwise(g, x, weight, np.full(16, -6)), x)

    assert unchanged(FuseAdds(RECIPES), build, (1, 5, 6, 16))


@EVERYWHERE
def test_a_convolution_of_int16_stays(recipes: Recipes) -> None:
    model = tinyml.load(image_classification(dtype="int16").data, name="m")
    graph = integer_graph(model, BuildOptions())
    assert "tinyml.add" in names(graph)
    assert same(FuseAdds(recipes)(graph), graph)


def test_channels_of_wider_tensors_stay_where_they_are() -> None:
    g = Int8Graph(1, samples=2)
    x = g.input((1, 6, 6, 8), SHARED)
    left, right = g.split(x, 2, 3)
    y = g.add(left, g.conv(left, 4, (1, 1), output=SHARED), output=SHARED)
    z = g.conv(right, 4, (1, 1), output=SHARED)
    network = g.finish("m", g.conv(g.concat([g.add(z, g.conv(z, 4, (1, 1)), output=SHARED), y], 3), 5, (1, 1)))
    placed = PlaceChannels(RECIPES)(integer_graph(tinyml.load(network.data, name="m"), BuildOptions()))
    assert names(placed).count("tinyml.add") == 2
    assert same(FuseAdds(RECIPES)(placed), placed)


def test_a_module_without_sums_is_the_same_object() -> None:
    g = DeadGraph(0)
    module = g.finish(lambda x: conv(g, x), (1, 5, 6, 3))
    assert FuseAdds(RECIPES)(module).same_as(module)
    assert isinstance(module, tvm.IRModule)
