"""Segments of a network are computed stripe by stripe, and no byte changes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from tvm import IRModule, relax

import tvm_tinyml as tinyml
from tests.image_networks import image_network
from tests.passes.dead_graphs import DeadGraph
from tests.passes.graphs import calls, conv2d, inputs_of, integer, names
from tvm_tinyml.passes import CutIntoStripes, FoldQuantization, integer_ops
from tvm_tinyml.passes.cut_into_stripes import Segment, is_segment
from tvm_tinyml.passes.cut_into_stripes.segment import bindings_of
from tvm_tinyml.passes.integer_ops import attributes_of, shape_of
from tvm_tinyml.reference.evaluate import evaluate

SHAPE, FILTERS = (1, 8, 5, 4), (6, 3, 3, 4)


def segments_of(module: IRModule) -> list[Segment]:
    """Return every segment in two, three and as many stripes as there are rows."""
    count = len(bindings_of(module))
    return [
        segment
        for first, last in itertools.combinations_with_replacement(range(count), 2)
        for stripes in {2, 3, shape_of(bindings_of(module)[last].var)[1]}
        if is_segment(module, segment := Segment(first, last, stripes))
    ]


def test_a_convolution_becomes_one_for_each_stripe_with_its_own_border(rng: np.random.Generator) -> None:
    module = CutIntoStripes([Segment(0, 0, 2)])(conv2d(rng, SHAPE, FILTERS, padding=[1, 1, 1, 1]))
    assert names(module) == ["tinyml.view", "tinyml.conv2d", "tinyml.view", "tinyml.conv2d", "tinyml.join"]
    views, convolutions = calls(module)[0:4:2], calls(module)[1:4:2]
    assert [attributes_of(call) for call in views] == [
        {"begin": 0, "shape": [1, 5, 5, 4]},
        {"begin": 3 * 5 * 4, "shape": [1, 5, 5, 4]},
    ]
    assert [attributes_of(call)["padding"] for call in convolutions] == [[1, 1, 0, 1], [0, 1, 1, 1]]


@pytest.mark.parametrize("seed", range(6))
def test_no_byte_changes_whatever_is_cut(seed: int, rng: np.random.Generator) -> None:
    module = FoldQuantization()(tinyml.load(image_network(seed).data, name="m").module)
    inputs = inputs_of(module, rng)
    expected = evaluate(module, inputs)
    segments = segments_of(module)
    assert segments
    for segment in segments:
        for ours, reference in zip(evaluate(CutIntoStripes([segment])(module), inputs), expected, strict=True):
            np.testing.assert_array_equal(ours, reference, str(segment))


def test_functions_of_int16_are_cut(rng: np.random.Generator) -> None:
    g = DeadGraph(0)
    module = g.finish(g.int16_functions, SHAPE)
    inputs, segment = inputs_of(module, rng), Segment(0, 5, 2)
    assert is_segment(module, segment)
    cut = CutIntoStripes([segment])(module)
    assert names(cut).count("tinyml.interpolate") == 2
    np.testing.assert_array_equal(evaluate(cut, inputs)[0], evaluate(module, inputs)[0])


def test_constants_beside_an_image_may_have_no_rows(rng: np.random.Generator) -> None:
    """An image of one row would take more rows from them; an image of more would take its own."""
    options = {"input1_zero_point": 0, "input2_zero_point": 0, "left_shift": 0, "output_multiplier": 2**30}
    options |= {"output_shift": -5, "output_zero_point": 0, "clamp_min": -128, "clamp_max": 127}

    def product(image: tuple[int, ...], constant: tuple[int, ...]) -> IRModule:
        values = relax.const(rng.integers(-128, 128, constant).astype(np.int8))
        return integer(lambda x: integer_ops.multiply(x, values, **options), image)

    for constant in ((1, 8, 5, 4), (8, 1, 1), (1, 8, 1, 1)):
        assert not is_segment(product((1, 8, 5, 4), constant), Segment(0, 0, 2))
        assert not is_segment(product((1, 1, 5, 4), constant), Segment(0, 0, 2))
    for constant in ((1, 1, 5, 4), (1, 5, 4), (5, 4), (4,), (1,)):
        module = product((1, 8, 5, 4), constant)
        inputs = inputs_of(module, rng)
        cut = CutIntoStripes([Segment(0, 0, 2)])(module)
        np.testing.assert_array_equal(evaluate(cut, inputs)[0], evaluate(module, inputs)[0])


def test_operators_of_constants_alone_are_no_segments(rng: np.random.Generator) -> None:
    image = relax.const(rng.integers(-128, 128, SHAPE).astype(np.int8))
    table = relax.const(rng.integers(-128, 128, 256).astype(np.int8))
    module = integer(lambda x: integer_ops.lookup(image, table), SHAPE)
    assert not is_segment(module, Segment(0, 0, 2))


def test_without_segments_nothing_changes(rng: np.random.Generator) -> None:
    module = conv2d(rng, SHAPE, FILTERS, padding=[1, 1, 1, 1])
    assert names(CutIntoStripes([])(module)) == names(module)


def test_a_stripe_can_be_cut_again(rng: np.random.Generator) -> None:
    module = conv2d(rng, SHAPE, FILTERS, padding=[1, 1, 1, 1])
    inputs = inputs_of(module, rng)
    once = CutIntoStripes([Segment(0, 0, 2)])(module)
    twice = CutIntoStripes([Segment(1, 1, 2)])(once)
    np.testing.assert_array_equal(evaluate(twice, inputs)[0], evaluate(module, inputs)[0])


@pytest.mark.parametrize(
    "segment", [Segment(0, 0, 1), Segment(0, 0, 9), Segment(-1, 0, 2), Segment(0, 1, 2), Segment(1, 0, 2)]
)
def test_what_is_no_segment_is_told(segment: Segment, rng: np.random.Generator) -> None:
    assert not is_segment(conv2d(rng, SHAPE, FILTERS, padding=[1, 1, 1, 1]), segment)


def test_images_one_behind_the_other_are_not_cut(rng: np.random.Generator) -> None:
    assert not is_segment(conv2d(rng, (2, *SHAPE[1:]), FILTERS), Segment(0, 0, 2))


def test_an_operator_that_reads_more_than_rows_is_not_cut() -> None:
    attributes = {"axes": [1, 2], "keepdims": 1, "input_zero_point": 0, "left_shift": 0, "multiplier": 2**30}
    epilogue = {"shift": -3, "output_zero_point": 0, "clamp_min": -128, "clamp_max": 127}
    module = integer(lambda x: integer_ops.mean(x, **attributes, **epilogue), SHAPE)
    assert not is_segment(module, Segment(0, 0, 2))


def test_an_operator_whose_result_is_read_elsewhere_ends_its_segment() -> None:
    found = 0
    for seed in range(12):
        bindings = bindings_of(module := FoldQuantization()(tinyml.load(image_network(seed).data, name="m").module))
        for i, binding in enumerate(bindings[:-2]):
            if any(binding.var.same_as(argument) for later in bindings[i + 2 :] for argument in later.value.args):
                assert not is_segment(module, Segment(i, i + 1, 2))
                found += 1
    assert found
