"""Which parts of wider tensors are written and read where they lie, and which are copied."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from tvm import IRModule

import tvm_tinyml as tinyml
from benchmarks.channel_blocks import BLOCKS, SHARED
from benchmarks.int8_graph import Int8Graph, Value
from tests.channel_networks import channel_network
from tests.passes.graphs import calls, inputs_of, names, same
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.passes import PlaceChannels
from tvm_tinyml.passes.apply_recipes import Recipes
from tvm_tinyml.passes.integer_ops import attributes_of
from tvm_tinyml.passes.place_channels import Parts
from tvm_tinyml.pipeline import integer_graph
from tvm_tinyml.reference.evaluate import evaluate
from tvm_tinyml.targets.cortex_m import cortex_m

RECIPES = cortex_m("cortex-m4").recipes("time")
Build = Callable[[Int8Graph, Value], "Value | Sequence[Value]"]


def graph_of(build: Build, shape: Sequence[int] = (1, 6, 6, 8)) -> IRModule:
    """Return the integer graph of a network with one input, and one output or several."""
    graph = Int8Graph(1, samples=2)
    outputs = build(graph, graph.input(shape, SHARED))
    network = graph.finish("m", *([outputs] if isinstance(outputs, Value) else outputs))
    return integer_graph(tinyml.load(network.data, name="m"), BuildOptions())


def conv(graph: Int8Graph, x: Value, channels: int = 4, size: int = 1) -> Value:
    """Add a convolution with the quantization of all that is put together."""
    return graph.conv(x, channels, (size, size), output=SHARED)


def placed(build: Build, recipes: Recipes = RECIPES, parts: Parts = Parts.ALL) -> list[str]:
    """Return the operators after the pass in order, with the step of each `spread`; one that copies is called a copy.

    The pass changes no byte, and nothing when it runs again.
    """
    before = graph_of(build)
    after = PlaceChannels(recipes, parts)(before)
    check(before, after, recipes)
    return [_shown(call) for call in calls(after)]


def _shown(call: object) -> str:
    name = str(call.op.name).removeprefix("tinyml.")  # type: ignore[attr-defined]
    if name not in ("spread", "interleave"):
        return name
    attributes = attributes_of(call)
    return f"{'copy' if attributes.get('copied') else name} {attributes['step']}"


def check(before: IRModule, after: IRModule, recipes: Recipes = RECIPES) -> None:
    """Compare the bytes of both modules, and what the pass makes of the second with it."""
    inputs = inputs_of(before, np.random.default_rng(0))
    for ours, reference in zip(evaluate(after, inputs), evaluate(before, inputs), strict=True):
        np.testing.assert_array_equal(ours, reference)
    assert same(PlaceChannels(recipes)(after), after)


def test_parts_are_spread_where_they_are_computed() -> None:
    found = placed(lambda g, x: conv(g, g.concat([conv(g, x, 4), conv(g, x, 6, 3), g.max_pool(x, (1, 1))], 3)))
    assert found == ["conv2d", "spread 18", "conv2d", "spread 18", "max_pool2d", "spread 18", "interleave 18", "conv2d"]


def test_a_part_that_is_put_together_of_others_is_no_tensor_of_its_own() -> None:
    def build(graph: Int8Graph, x: Value) -> Value:
        inner = graph.concat([conv(graph, x), conv(graph, x)], 3)
        return conv(graph, graph.concat([conv(graph, inner), inner], 3))

    found = placed(build)
    assert found == [*["conv2d", "spread 12"] * 2, "interleave 12", "conv2d", "spread 12", "interleave 12", "conv2d"]


def test_a_list_that_begins_as_another_one_begins_with_that() -> None:
    def build(graph: Int8Graph, x: Value) -> Value:
        features = [conv(graph, x), conv(graph, x)]
        for _ in range(2):
            features.append(conv(graph, graph.concat(features, 3)))
        return conv(graph, graph.concat(features, 3))

    found = placed(build)
    assert found[:5] == [*["conv2d", "spread 16"] * 2, "interleave 16"]
    assert found[5:] == [*["conv2d", "spread 16", "interleave 16"] * 2, "conv2d"]


def read_with_a_border(graph: Int8Graph, x: Value) -> list[Value]:
    """Let a convolution with a border read a part: its border is a copy that knows no steps."""
    part = conv(graph, x)
    return [conv(graph, graph.concat([part, conv(graph, x)], 3)), conv(graph, part, 4, 3)]


def read_by_a_sum(graph: Int8Graph, x: Value) -> list[Value]:
    """Let a sum read a part."""
    part = conv(graph, x)
    return [conv(graph, graph.concat([part, conv(graph, x)], 3)), graph.add(part, conv(graph, x))]


def read_as_an_output(graph: Int8Graph, x: Value) -> list[Value]:
    """Return a part as an output, too."""
    part = conv(graph, x)
    return [conv(graph, graph.concat([part, conv(graph, x)], 3)), part]


@pytest.mark.parametrize("build", [read_with_a_border, read_by_a_sum, read_as_an_output])
def test_a_part_with_a_reader_that_knows_no_steps_is_copied(build: Build) -> None:
    found = placed(build)
    assert found.count("copy 8") == 1
    assert found.count("spread 8") == 1


def test_a_part_is_read_where_it_lies_by_a_reader_that_knows_steps() -> None:
    def build(graph: Int8Graph, x: Value) -> list[Value]:
        part = conv(graph, x)
        return [conv(graph, graph.concat([part, conv(graph, x)], 3)), graph.depthwise(part, (3, 3)), conv(graph, part)]

    found = placed(build)
    assert found.count("spread 8") == 2
    assert not any(name.startswith("copy") for name in found)


def test_inputs_tables_and_second_places_are_copied() -> None:
    def build(graph: Int8Graph, x: Value) -> Value:
        twice, table = conv(graph, x), graph.relu(x, output=SHARED)
        return conv(graph, graph.concat([twice, x, table, twice], 3))

    found = placed(build)
    assert found.count("spread 24") == 1
    assert found.count("copy 24") == 3


def test_a_part_of_two_is_written_in_one_and_copied_from_there_to_the_other() -> None:
    def build(graph: Int8Graph, x: Value) -> Value:
        a, b = conv(graph, x), conv(graph, x)
        left, right = graph.concat([a, conv(graph, x, 2)], 3), graph.concat([b, conv(graph, x, 6), a], 3)
        return conv(graph, graph.add(conv(graph, left), conv(graph, right)))

    found = placed(build)
    assert sum(name.startswith("copy") for name in found) == 1
    assert found.count("spread 6") + found.count("spread 14") == 4


def test_without_recipes_every_part_is_copied_at_the_end() -> None:
    found = placed(lambda g, x: conv(g, g.concat([conv(g, x), conv(g, x)], 3)), recipes={})
    assert found == ["conv2d", "conv2d", "copy 8", "copy 8", "interleave 8", "conv2d"]


def three(graph: Int8Graph, x: Value) -> Value:
    """Put three tensors together."""
    return conv(graph, graph.concat([conv(graph, x), conv(graph, x), conv(graph, x)], 3))


def test_the_last_part_alone_may_be_written_where_it_belongs() -> None:
    found = placed(three, parts=Parts.LAST)
    assert found == ["conv2d"] * 2 + ["copy 12"] * 2 + ["conv2d", "spread 12", "interleave 12", "conv2d"]


def test_no_part_need_be_written_where_it_belongs() -> None:
    assert placed(three, parts=Parts.NONE) == ["conv2d"] * 3 + ["copy 12"] * 3 + ["interleave 12", "conv2d"]


def test_channels_are_read_where_they_lie_or_brought_together_once() -> None:
    def build(graph: Int8Graph, x: Value) -> list[Value]:
        left, right = graph.split(x, 2, 3)
        return [conv(graph, left), graph.depthwise(left, (3, 3)), graph.add(right, right), graph.hard_swish(right)]

    found = placed(build)
    assert found.count("copy 4") == 1
    together = found.index("copy 4")
    assert found.index("conv2d") < together
    assert {"add", "lookup"} & {*found[together:]}


def test_channels_that_are_a_part_are_copied_as_they_lie() -> None:
    def build(graph: Int8Graph, x: Value) -> Value:
        left, right = graph.split(x, 2, 3)
        return conv(graph, graph.concat([left, conv(graph, right, 6)], 3))

    assert placed(build) == ["channels", "channels", "copy 10", "conv2d", "spread 10", "interleave 10", "conv2d"]


def test_a_graph_without_channels_put_together_or_cut_stays() -> None:
    module = graph_of(lambda g, x: conv(g, g.concat([x, x], 1)))
    assert "tinyml.join" in names(module)
    assert same(PlaceChannels(RECIPES)(module), module)


@pytest.mark.parametrize("parts", Parts)
@pytest.mark.parametrize("name", BLOCKS)
def test_known_blocks_keep_every_byte(name: str, parts: Parts) -> None:
    before = integer_graph(tinyml.load(BLOCKS[name]().data, name="m"), BuildOptions())
    check(before, PlaceChannels(RECIPES, parts)(before))


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m0plus", "cortex-m55"])
def test_random_networks_keep_every_byte(core: str) -> None:
    recipes = cortex_m(core).recipes("balanced")
    found: list[str] = []
    for seed in range(40):
        before = integer_graph(tinyml.load(channel_network(seed).data, name="m"), BuildOptions())
        after = PlaceChannels(recipes, list(Parts)[seed % 3])(before)
        check(before, after, recipes)
        found += [_shown(call).split()[0] for call in calls(after)]
    assert found.count("copy") > 100
    assert (found.count("spread") > 30) == (core == "cortex-m4")
