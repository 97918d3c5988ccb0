"""Tensors between convolutions lie as their one reader loads them, where that takes fewer cycles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from tests.layout_networks import layout_network
from tests.passes.dead_graphs import DeadGraph
from tests.passes.graphs import calls, names, same
from tests.passes.simplified import Build, check, simplified, unchanged
from tvm_tinyml import frontend
from tvm_tinyml.choice import KERNEL
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.passes import ApplyRecipes, AssignLayouts, ChooseKernels, LowerToKernels, integer_ops
from tvm_tinyml.passes.apply_recipes import first_kernel
from tvm_tinyml.passes.integer_ops import attributes_of
from tvm_tinyml.passes.steps import own_layout
from tvm_tinyml.passes.tensor_layouts import INPUT_LAYOUT, OUTPUT_LAYOUT, Layout, Planes, Tiles, decoded, encoded
from tvm_tinyml.pipeline import integer_graph
from tvm_tinyml.targets.cortex_m import cortex_m

RECIPES = cortex_m("cortex-m4").recipes("time")
SHAPE = (1, 12, 12, 40)
BORDER = [1, 1, 1, 1]


def chain(g: DeadGraph, x: relax.Var, **depthwise: Any) -> relax.Var:
    """Add a depthwise convolution, whose clamp is that of a ReLU, between two pointwise ones."""
    return g.conv(g.depthwise(g.conv(x, 40), **{"padding": BORDER, "clamp_min": g.zero_point, **depthwise}), 12)


def laid(module: tvm.IRModule) -> list[Layout]:
    """Return the layouts that tensors were given, in order."""
    return [own_layout(call) for call in calls(module) if call.op == integer_ops.lay_out.op]


def layouts(build: Build, shape: tuple[int, ...] = SHAPE) -> list[Layout]:
    """Return the layouts in a small graph, whose results stay what they are."""
    return laid(simplified(AssignLayouts(RECIPES), build, shape))


def test_a_depthwise_convolution_reads_planes_and_a_pointwise_one_tiles() -> None:
    after = simplified(AssignLayouts(RECIPES), chain, SHAPE)
    assert names(after) == ["tinyml.conv2d", "tinyml.lay_out", "tinyml.conv2d", "tinyml.lay_out", "tinyml.conv2d"]
    planes, tiles = laid(after)
    assert isinstance(planes, Planes)
    assert (planes.height, planes.width, planes.channels) == (12, 12, 40)
    assert (planes.top, planes.bottom, planes.left) == (1, 1, 1)
    assert planes.border == attributes_of(calls(after)[2])["input_zero_point"]
    assert tiles == Tiles(12, 12, 40, 1)


def test_planes_have_the_border_that_is_read() -> None:
    (planes, *_) = layouts(lambda g, x: chain(g, x, strides=[2, 2], padding=[0, 0, 1, 1]))
    assert isinstance(planes, Planes)
    assert (planes.top, planes.bottom, planes.left) == (0, 1, 0)
    (planes, *_) = layouts(lambda g, x: chain(g, x, padding=[0, 0, 0, 0]))
    assert isinstance(planes, Planes)
    assert (planes.top, planes.bottom, planes.left) == (0, 0, 0)


def test_rows_of_parts_of_tiles_are_read_pixel_by_pixel() -> None:
    assert [layout.name for layout in layouts(chain, (1, 12, 14, 40))] == ["planes"]


def test_short_sums_are_read_from_tiles_of_halves() -> None:
    """What has few products is faster with halves."""
    found = layouts(lambda g, x: g.conv(g.depthwise(g.conv(g.conv(g.conv(x, 40), 40), 8), padding=BORDER), 40))
    assert [layout.name for layout in found] == ["planes", "tiles of halves"]


def test_a_shift_of_each_channel_makes_no_tiles_of_bytes() -> None:
    """What rounds halves of negative numbers has no constant that flips signs."""
    assert [layout.name for layout in layouts(lambda g, x: chain(g, x, clamp_min=-128))] == ["planes"]


def test_tensors_without_room_stay() -> None:
    """As a block of a MobileNetV2 that widens its input: the depthwise convolution can write over what it reads."""
    assert unchanged(AssignLayouts(RECIPES), chain, (1, 12, 12, 8))
    wide = (1, 12, 12, 7)
    assert unchanged(AssignLayouts(RECIPES), lambda g, x: g.conv(g.depthwise(g.conv(x, 42), padding=BORDER), 7), wide)


def test_each_chain_has_its_own() -> None:
    found = layouts(lambda g, x: chain(g, g.conv(chain(g, x), 40), strides=[2, 2], padding=[0, 0, 1, 1]))
    assert [layout.name for layout in found] == ["planes", "tiles", "planes"]
    assert [layout.width for layout in found] == [12, 12, 12]


@pytest.mark.parametrize(
    "build",
    [
        lambda g, x: [y := g.conv(x, 40), g.depthwise(y, padding=BORDER)],
        lambda g, x: [g.depthwise(y := g.conv(x, 40), padding=BORDER), g.lookup(y)],
        lambda g, x: g.sum(y := g.conv(x, 40), g.depthwise(y, padding=BORDER)),
        lambda g, x: g.depthwise(x, padding=BORDER),
        lambda g, x: g.depthwise(g.lookup(x), padding=BORDER),
        lambda g, x: g.depthwise(g.conv(x, 40), 5, padding=[2, 2, 2, 2]),
        lambda g, x: g.depthwise(g.conv(x, 40), padding=BORDER, strides=[1, 2]),
        lambda g, x: g.depthwise(g.conv(x, 40), padding=[2, 2, 2, 2], dilation=[2, 2]),
        lambda g, x: g.depthwise(g.conv(x, 40), padding=[2, 2, 2, 2]),
        lambda g, x: g.depthwise(g.conv(x, 20), multiplier=2, padding=BORDER),
        lambda g, x: g.conv(g.conv(x, 40), 40),
    ],
    ids=["output", "two readers", "sum", "input", "table", "5x5", "strides", "dilation", "wide border", "multiplier",
         "pointwise"],
)  # fmt: skip
def test_what_no_kernel_reads_so_stays(build: Build) -> None:
    assert unchanged(AssignLayouts(RECIPES), build, SHAPE)


@pytest.mark.parametrize("shape", [(2, 12, 12, 40), (1, 8, 8, 40), (1, 80, 1, 40), (1, 3, 256, 40)])
def test_several_images_and_few_narrow_or_wide_pixels_stay(shape: tuple[int, ...]) -> None:
    assert unchanged(AssignLayouts(RECIPES), chain, shape)


@pytest.mark.parametrize("target", ["cortex-m0plus", "cortex-m3", "cortex-m33+nodsp", "cortex-m55"])
def test_cores_without_such_kernels_have_none(target: str) -> None:
    assert unchanged(AssignLayouts(cortex_m(target).recipes("time")), chain, SHAPE)
    assert unchanged(AssignLayouts({}), chain, SHAPE)


@pytest.mark.parametrize(("target", "chosen"), [("cortex-m7", None), ("cortex-m33", "whole")])
def test_products_of_halves_read_tiles_of_halves_where_there_is_room(target: str, chosen: str | None) -> None:
    """They take twice the bytes of NHWC: no more than the two largest tensors next to each other."""
    assign = AssignLayouts(cortex_m(target).recipes("time"))
    assert [layout.name for layout in laid(simplified(assign, chain, SHAPE))] == ["planes"]
    g = DeadGraph(0)
    before = g.finish(lambda x: chain(g, g.conv(g.conv(x, 100), 20)), SHAPE)
    if chosen:
        assert [layout.name for layout in laid(assign(before))] == ["planes"]
        choice = {KERNEL: "ConvGemm", "product": chosen}
        before = ChooseKernels(lambda calls: [*[None] * (len(calls) - 1), choice])(before)
    planes, halves = laid(assign(before))
    assert isinstance(planes, Planes)
    assert halves == Tiles(12, 12, 40, 2)


@pytest.mark.parametrize("seed", range(8))
def test_random_graphs_keep_their_numbers_and_a_second_run_finds_nothing(seed: int) -> None:
    model = frontend.load(layout_network(seed).data, name="layouts")
    before = integer_graph(model, BuildOptions(goal="time"))
    check(AssignLayouts(RECIPES), before, AssignLayouts(RECIPES)(before), np.random.default_rng(seed))


@pytest.mark.parametrize("chosen", [0, 1])
def test_what_a_schedule_was_found_to_be_best_for_stays(chosen: int) -> None:
    g = DeadGraph(0)
    choices = [{KERNEL: "ReduceInPlace"} if i == chosen else None for i in range(3)]
    before = ChooseKernels(lambda _: choices)(g.finish(lambda x: chain(g, x), SHAPE))
    assert same(AssignLayouts(RECIPES)(before), before)


def test_a_shift_of_each_channel_is_kept_where_it_was_chosen_and_makes_no_tiles() -> None:
    g = DeadGraph(0)
    choices = [None, {KERNEL: "Depthwise", "shift": "own"}, None]
    before = ChooseKernels(lambda _: choices)(g.finish(lambda x: chain(g, x), SHAPE))
    assert [layout.name for layout in laid(AssignLayouts(RECIPES)(before))] == ["planes"]


@pytest.mark.parametrize("asked", [INPUT_LAYOUT, OUTPUT_LAYOUT])
def test_no_recipe_takes_a_layout_that_it_does_not_know(asked: str) -> None:
    g = DeadGraph(0)
    module = g.finish(lambda x: chain(g, x), SHAPE)
    for call in calls(module):
        for layout in (Tiles(12, 12, 9, 1), Planes(12, 12, 40, 3, 3, 1, 0)):
            assert first_kernel(RECIPES, call, {}) is not None
            found = first_kernel(RECIPES, call, {asked: layout})
            # A matrix product writes whatever planes it is asked for.
            assert found is None or (asked == OUTPUT_LAYOUT and isinstance(layout, Planes))


def test_a_layout_that_no_recipe_takes_does_not_reach_the_schedules() -> None:
    g = DeadGraph(0)
    after = AssignLayouts(RECIPES)(g.finish(lambda x: chain(g, x), SHAPE))
    with pytest.raises(AssertionError, match=r"no recipe takes it|not written so"):
        LowerToKernels(cortex_m("cortex-m4").traits)(after)
    assert not any(name.startswith("tinyml.conv") for name in names(ApplyRecipes(RECIPES)(after)))


def test_numbers_say_a_layout() -> None:
    for layout in (Tiles(3, 4, 5, 2), Planes(3, 4, 5, 1, 0, 1, -7)):
        assert decoded(encoded(layout)) == layout


@pytest.mark.parametrize("channels", [1, 2, 7, 8])
@pytest.mark.parametrize("value_bytes", [1, 2])
def test_every_value_has_a_place_of_its_own_in_tiles(channels: int, value_bytes: int) -> None:
    tiles = Tiles(3, 8, channels, value_bytes)
    assert sorted(channel for channel in tiles.order if channel >= 0) == list(range(channels))
    within, pair, onward = tiles.column_steps
    columns = [0]
    for column in range(1, tiles.width):
        columns.append(columns[-1] + (within if column % 2 else pair if column % 4 else onward))
    starts = [tiles.channel_step * (c % tiles.half) + tiles.SECOND * (c // tiles.half) for c in range(channels)]
    places = {row * tiles.row_bytes + column + start for row in range(3) for column in columns for start in starts}
    assert len(places) == 3 * 8 * channels
    assert max(places) < tiles.end <= tiles.size_bytes
    assert all(place % value_bytes == 0 for place in places)


def test_planes_end_behind_what_is_loaded_for_nothing() -> None:
    planes = Planes(5, 7, 3, 1, 1, 1, 0)
    assert planes.plane_bytes == 7 * 7
    assert planes.first == 8
    # The last row but one begins a row above the end; a row and a word behind it are loaded.
    assert planes.size_bytes == 3 * 49 + 7 + 4
