"""Channels that are constant or not read leave the network, and no byte of an output changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import IRModule, relax

import tvm_tinyml as tinyml
from benchmarks.networks import keyword_spotting, visual_wake_words
from tests.passes.dead_graphs import RANGE, DeadGraph, random_graph
from tests.passes.graphs import Array, calls, inputs_of, names, same
from tvm_tinyml.macs import macs_of_module
from tvm_tinyml.passes import FoldQuantization, RemoveDeadChannels, integer_ops
from tvm_tinyml.passes.integer_ops import attributes_of, shape_of
from tvm_tinyml.reference.evaluate import evaluate

SHAPE = (1, 5, 6, 3)
SAME = {"padding": [1, 1, 1, 1]}
Build = Callable[[DeadGraph, relax.Var], Any]


def removed(build: Build, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> IRModule:
    """Return a small graph after the pass, checked against the graph before it."""
    g = DeadGraph(seed)
    before = g.finish(lambda x: build(g, x), shape)
    after = RemoveDeadChannels()(before)
    check(before, after, g.rng)
    return after


def check(before: IRModule, after: IRModule, rng: np.random.Generator) -> None:
    """Every byte and every shape of the outputs is the same, and a second run finds nothing."""
    for _ in range(2):
        inputs = inputs_of(before, rng)
        for expected, result in zip(evaluate(before, inputs), evaluate(after, inputs), strict=True):
            np.testing.assert_array_equal(result, expected, strict=True)
    assert same(RemoveDeadChannels()(after), after)


def channels(module: IRModule) -> list[int]:
    """Return the channels of every operator's result."""
    return [shape_of(call)[-1] for call in calls(module)]


def constants(call: relax.Call) -> list[Array]:
    """Return weights, biases, multipliers and shifts."""
    return [argument.value.numpy() for argument in call.args[1:]]


# Generated graphs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_a_random_graph_with_dead_channels_computes_the_same_bytes_with_fewer(
    seed: int, rng: np.random.Generator
) -> None:
    before = random_graph(seed)
    after = RemoveDeadChannels()(before)
    assert macs_of_module(after) < macs_of_module(before)
    check(before, after, rng)


def test_four_of_five_channels_of_a_real_architecture_leave() -> None:
    before = FoldQuantization()(tinyml.load(visual_wake_words(dead_share=0.8).data).module)
    after = RemoveDeadChannels()(before)
    assert (macs_of_module(before), macs_of_module(after)) == (7_489_664, 539_526)


def test_a_network_without_dead_channels_stays() -> None:
    module = FoldQuantization()(tinyml.load(keyword_spotting().data).module)
    assert same(RemoveDeadChannels()(module), module)


def test_the_module_that_comes_in_stays() -> None:
    module = random_graph(3)
    before = module.script(show_meta=True)
    after = RemoveDeadChannels()(module)
    assert module.script(show_meta=True) == before
    assert after.attrs["tinyml.reference"] == "tflite"


# Constant channels --------------------------------------------------------------------------------------------


def test_a_filter_of_zeros_leaves_with_its_bias_and_scale_and_its_share_moves_to_the_next_bias() -> None:
    g = DeadGraph(0)
    before = g.finish(lambda x: g.conv(g.conv(x, 4, dead=[1, 2]), 2), SHAPE)
    after = RemoveDeadChannels()(before)
    check(before, after, g.rng)
    (first, second), (first_before, second_before) = calls(after), calls(before)
    for array, full in zip(constants(first), constants(first_before), strict=True):
        np.testing.assert_array_equal(array, full[[0, 3]])
    (weight, bias, *scale), (full, full_bias, *full_scale) = constants(second), constants(second_before)
    np.testing.assert_array_equal(weight, full[..., [0, 3]])
    hidden = evaluate_until(before, 1)[0, 0, 0].astype(np.int32)
    np.testing.assert_array_equal(bias, full_bias + full[:, 0, 0, [1, 2]].astype(np.int32) @ hidden[[1, 2]])
    assert all((a == b).all() for a, b in zip(scale, full_scale, strict=True))


def evaluate_until(module: IRModule, count: int) -> Array:
    """Return the result of the operator of that number, from 1, for an input of zeros."""
    results: list[Array] = []

    def keep(_var: relax.Var, _call: relax.Call, _arguments: Any, result: Any) -> Any:
        results.append(result)
        return result

    evaluate(module, [np.zeros(shape_of(p), np.int8) for p in module["main"].params], keep)
    return results[count - 1]


@pytest.mark.parametrize(
    ("through", "left"),
    [
        pytest.param(lambda g, y: g.depthwise(y, 3), [2, 2], id="depthwise"),
        pytest.param(lambda g, y: g.depthwise(y, 3, 2), [2, 4], id="depthwise with a multiplier"),
        pytest.param(lambda g, y: g.lookup(y), [2, 2], id="lookup"),
        pytest.param(lambda g, y: g.int16_functions(y), [2] * 7, id="functions of int16"),
        pytest.param(lambda g, y: g.sum(y, y), [2, 2], id="sum"),
        pytest.param(lambda g, y: g.sum(y, g.constant(4), integer_ops.subtract), [2, 2], id="minus a constant"),
        pytest.param(lambda g, y: g.product(y, g.constant(1, 1, 1, 1)), [2, 2], id="times a number"),
        pytest.param(lambda g, y: g.pool(y), [2, 2], id="average"),
        pytest.param(lambda g, y: g.pool(y, padding=[1, 1, 1, 1]), [2, 2], id="average with a border"),
        pytest.param(lambda g, y: g.pool(y, integer_ops.mean_pool2d, **SAME), [2, 2], id="average of another scale"),
        pytest.param(lambda g, y: g.pool(y, integer_ops.max_pool2d, **SAME), [2, 2], id="largest"),
        pytest.param(lambda g, y: g.mean(y, keepdims=True), [2, 2], id="mean"),
        pytest.param(lambda g, y: g.concat(y, g.conv(y, 3), y), [2, 3, 7], id="concat"),
        pytest.param(lambda g, y: g.concat(y, y, axis=1), [2, 2], id="concat of rows"),
        pytest.param(lambda g, y: g.emit(relax.op.reshape(y, (1, 6, 5, 4))), [2, 2], id="reshape"),
        pytest.param(lambda g, y: g.emit(relax.op.reshape(y, (1, 5, 3, 8))), [2, 4], id="two pixels to one"),
        pytest.param(lambda g, y: g.emit(relax.op.reshape(y, (1, 5, 12, 2))), [2, 1], id="a pixel to two"),
        pytest.param(lambda g, y: g.emit(relax.op.permute_dims(y, [0, 2, 1, 3])), [2, 2], id="rows and columns"),
        pytest.param(lambda g, y: g.emit(relax.op.strided_slice(y, [1, 2], [1, 0], [4, 6], [1, 2])), [2, 2], id="crop"),
        pytest.param(lambda g, y: g.resize(y, 7, 9), [2, 2], id="resize"),
    ],
)
def test_constants_go_through_what_works_channel_by_channel(through: Build, left: list[int]) -> None:
    # A bias that saturates, so that both dead channels hold the same and may become one.
    module = removed(lambda g, x: g.conv(through(g, g.conv(x, 4, dead=[1, 3], bias=10**5)), 2))
    assert channels(module) == [*left, 2]


def test_constants_go_through_flattened_images_and_dense_layers() -> None:
    module = removed(lambda g, x: g.dense(g.dense(g.flat(g.conv(x, 4, dead=[0])), 5, dead=[1, 4]), 3))
    assert channels(module) == [3, 3 * 30, 3, 3]


@pytest.mark.parametrize(("other", "left"), [(0, 2), (1, 4)])
def test_a_border_of_another_number_makes_a_channel_not_constant(other: int, left: int) -> None:
    def build(g: DeadGraph, x: relax.Var) -> relax.Var:
        y = g.conv(x, 4, dead=[0, 1], bias=0)
        width = (0, 0, 1, 1, 1, 1, 0, 0)
        return g.conv(g.emit(relax.op.nn.pad(y, width, pad_value=g.zero_point ^ other)), 2)

    assert channels(removed(build)) == [left, left, 2]


# Borders ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bias", "padding", "left"),
    [(0, [1, 1, 1, 1], 2), (900, [1, 1, 1, 1], 4), (900, [0, 0, 0, 1], 4), (900, [0, 0, 0, 0], 2)],
)
def test_behind_a_border_only_constants_that_equal_it_leave(bias: int, padding: list[int], left: int) -> None:
    module = removed(lambda g, x: g.conv(g.conv(x, 4, dead=[0, 2], bias=bias), 2, 3, padding=padding))
    assert channels(module) == [left, 2]


@pytest.mark.parametrize(("bias", "left"), [(0, 2), (900, 4)])
def test_a_depthwise_filter_over_a_border_makes_a_constant_only_of_the_zero_point(bias: int, left: int) -> None:
    module = removed(lambda g, x: g.conv(g.depthwise(g.conv(x, 4, dead=[0, 2], bias=bias), 3, **SAME), 2))
    assert channels(module) == [left, left, 2]


def test_a_depthwise_filter_of_zeros_makes_a_constant_of_anything() -> None:
    module = removed(lambda g, x: g.conv(g.depthwise(g.conv(x, 4), 3, dead=[1], **SAME), 2))
    assert channels(module) == [3, 3, 2]


def test_the_mean_of_an_image_that_is_known_is_a_constant_even_behind_a_border() -> None:
    module = removed(lambda g, x: g.dense(g.mean(g.depthwise(g.conv(x, 4, dead=[0], bias=900), 3, **SAME)), 2))
    assert channels(module) == [3, 3, 3, 2]


# Channels that nothing reads ----------------------------------------------------------------------------------


def test_a_channel_that_no_weight_reads_leaves() -> None:
    module = removed(lambda g, x: g.conv(g.depthwise(g.conv(x, 5), 3, **SAME), 4, 3, unread=[0, 4], **SAME))
    assert channels(module) == [3, 3, 4]


def test_a_channel_that_only_dead_channels_read_leaves() -> None:
    def build(g: DeadGraph, x: relax.Var) -> relax.Var:
        y = g.conv(x, 4)
        z = g.conv(y, 3, unread=[1, 2])
        w = g.conv(y, 3)  # reads all of y, but nobody reads w
        return g.conv(g.concat(z, w), 2, unread=[3, 4, 5])

    module = removed(build)
    assert names(module) == ["tinyml.conv2d"] * 3
    assert channels(module) == [2, 3, 2]


def test_a_channel_stays_that_one_of_two_readers_reads() -> None:
    module = removed(lambda g, x: [g.conv(y := g.conv(x, 4), 2, unread=[0, 1]), g.conv(y, 2, unread=[1, 2])])
    assert channels(module) == [3, 2, 2]


def test_a_network_input_keeps_its_channels() -> None:
    module = removed(lambda g, x: g.conv(x, 4, unread=[0, 1]))
    assert shape_of(module["main"].params[0]) == list(SHAPE)
    assert shape_of(calls(module)[0].args[1]) == [4, 1, 1, 3]


def test_an_output_keeps_its_dead_channels() -> None:
    module = removed(lambda g, x: g.conv(g.conv(x, 4, dead=[2]), 4, dead=[0, 1]))
    assert channels(module) == [3, 4]


# Branches -----------------------------------------------------------------------------------------------------


def test_a_residual_sum_loses_the_channels_that_are_dead_on_both_sides() -> None:
    def build(g: DeadGraph, x: relax.Var) -> relax.Var:
        left, right = g.conv(x, 6, dead=[0, 1, 2]), g.conv(x, 6, dead=[1, 2, 3])
        return g.conv(g.sum(left, right), 2)

    assert channels(removed(build)) == [4, 4, 4, 2]


def test_a_sum_that_nothing_reads_lets_both_sides_go() -> None:
    module = removed(lambda g, x: g.conv(g.sum(g.conv(x, 6), g.conv(x, 6)), 2, unread=[4, 5]))
    assert channels(module) == [4, 4, 4, 2]


def test_a_channel_that_another_reader_needs_stays_in_a_sum() -> None:
    def build(g: DeadGraph, x: relax.Var) -> list[relax.Var]:
        y = g.conv(x, 4, dead=[0, 1], bias=900)
        return [g.conv(g.sum(y, g.lookup(y)), 2), g.conv(y, 2, 3, **SAME)]

    assert channels(removed(build)) == [4, 4, 4, 2, 2]


def test_a_sum_with_the_input_keeps_its_channels() -> None:
    module = removed(lambda g, x: g.conv(g.sum(x, g.conv(x, 3, dead=[1])), 2, unread=[0]))
    assert channels(module) == [3, 3, 2]


def test_a_gate_loses_the_channels_of_what_it_scales() -> None:
    def build(g: DeadGraph, x: relax.Var) -> relax.Var:
        y = g.conv(x, 6, dead=[0, 1])
        return g.conv(g.product(y, g.conv(g.mean(y, keepdims=True), 6, dead=[1, 2])), 2, unread=[5])

    # Channel 1 is dead on both sides; channel 5 is read by the gate alone.
    assert channels(removed(build)) == [5, 5, 5, 5, 2]


def test_a_concat_of_one_operand_is_that_operand() -> None:
    module = removed(lambda g, x: g.conv(g.concat(g.conv(x, 2, dead=[0, 1]), g.conv(x, 3)), 2))
    assert names(module) == ["tinyml.conv2d", "tinyml.conv2d"]


@pytest.mark.parametrize(
    "move",
    [
        pytest.param(lambda y: relax.op.permute_dims(y, [0, 3, 1, 2]), id="channels to rows"),
        pytest.param(lambda y: relax.op.strided_slice(y, [3], [1], [5], [1]), id="some channels"),
        pytest.param(lambda y: relax.op.nn.pad(y, (0, 0, 0, 0, 0, 0, 1, 1)), id="more channels"),
        pytest.param(lambda y: relax.op.reshape(y, (1, 5, 9, 4)), id="parts of pixels"),
    ],
)
def test_what_moves_channels_keeps_them(move: Callable[[relax.Var], relax.Expr]) -> None:
    def build(g: DeadGraph, x: relax.Var) -> relax.Var:
        return g.conv(g.emit(move(g.conv(x, 6, dead=[0, 1]))), 2)

    assert channels(removed(build))[0] == 6


def test_a_split_keeps_its_channels() -> None:
    def build(g: DeadGraph, x: relax.Var) -> relax.Var:
        halves = g.emit(relax.op.split(g.conv(x, 6, dead=[0, 1]), [3], axis=3))
        return g.conv(g.emit(relax.TupleGetItem(halves, 0)), 2)

    assert shape_of(calls(removed(build))[0]) == [1, 5, 6, 6]


# Groups, batches, extremes ------------------------------------------------------------------------------------


def test_a_depthwise_convolution_keeps_one_group_for_each_channel() -> None:
    module = removed(lambda g, x: g.conv(g.depthwise(g.conv(x, 6, dead=[1, 4]), 3, 2, **SAME), 2), seed=2)
    depthwise = calls(module)[1]
    assert attributes_of(depthwise)["groups"] == shape_of(depthwise.args[0])[3]
    assert shape_of(depthwise.args[1])[0] == 2 * shape_of(depthwise.args[0])[3]


def test_all_results_of_a_depthwise_channel_stay_where_one_does() -> None:
    module = removed(lambda g, x: g.conv(g.depthwise(g.conv(x, 3), 3, 2), 2, unread=[1, 2, 3]))
    assert channels(module) == [2, 4, 2]


def test_a_depthwise_convolution_of_one_channel_that_is_left_loses_more() -> None:
    module = removed(lambda g, x: g.conv(g.depthwise(g.conv(x, 3), 3, 2), 2, unread=[1, 2, 3, 4, 5]))
    assert channels(module) == [1, 1, 2]


def test_a_convolution_in_groups_keeps_its_channels() -> None:
    module = removed(lambda g, x: g.conv(g.conv(g.conv(x, 4, dead=[0]), 4, groups=2, dead=[1]), 2))
    assert channels(module) == [4, 4, 2]


def test_images_of_a_batch_stay_apart() -> None:
    module = removed(lambda g, x: g.dense(g.flat(g.conv(x, 4, dead=[0, 3])), 2), (3, 2, 2, 3))
    assert [shape_of(call) for call in calls(module)] == [[3, 2, 2, 2], [3, 8], [3, 2]]


def test_one_channel_stays_where_all_are_dead() -> None:
    module = removed(lambda g, x: g.conv(g.depthwise(g.conv(x, 4, dead=range(4)), 3), 2))
    assert channels(module) == [1, 1, 2]


@pytest.mark.parametrize(("bias", "left"), [(2**31 - 1, 4), (-(2**31), 4), (2**30, 3)])
def test_channels_stay_whose_share_would_not_fit_the_bias(bias: int, left: int) -> None:
    def build(g: DeadGraph, x: relax.Var) -> relax.Var:
        y = g.conv(x, 4, dead=[1], bias=900)
        numbers = [np.full(2, number, np.int32) for number in (bias, 2**30, -20)]
        options = {"strides": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1], "groups": 1}
        zero_points = {"input_zero_point": g.zero_point, "output_zero_point": 0}
        arguments = [relax.const(array) for array in (g.int8(2, 1, 1, 4) | 1, *numbers)]
        return g.emit(integer_ops.conv2d(y, *arguments, **options, **zero_points, **RANGE))

    assert channels(removed(build)) == [left, 2]
