"""Transposed convolutions become ordinary ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tvm import IRModule, relax

from tests.passes.graphs import PLAIN, calls, conv2d, inputs_of, integer, names, same
from tvm_tinyml.passes import TransposedToConvolutions, integer_ops
from tvm_tinyml.passes.integer_ops import attributes_of, shape_of
from tvm_tinyml.passes.transposed_to_convolutions import Axis, window, windows
from tvm_tinyml.reference.evaluate import evaluate


def transposed(rng: np.random.Generator, shape: Sequence[int], filters: Sequence[int], **attributes: Any) -> IRModule:
    """Return a module of one integer transposed convolution; `filters` is the shape of its weights, OHWI."""
    channels = filters[0]
    weight = relax.const(rng.integers(-128, 128, filters).astype(np.int8))
    bias = rng.integers(-5000, 5000, channels)
    multiplier, shift = rng.integers(2**30, 2**31, channels), rng.integers(-9, -5, channels)
    rest = [relax.const(array.astype(np.int32)) for array in (bias, multiplier, shift)]
    options: dict[str, Any] = {"strides": [2, 2], "padding": [0, 0, 0, 0], "output_padding": [0, 0]}
    options |= {"dilation": [1, 1], "groups": 1, "input_zero_point": -3, **PLAIN, **attributes}
    return integer(lambda x: integer_ops.conv2d_transpose(x, weight, *rest, **options), shape)


def check_bytes(module: IRModule, rng: np.random.Generator) -> None:
    """Compare with the reference's own transposed convolution; no tensor on the way may be empty."""
    inputs, rewritten = inputs_of(module, rng), TransposedToConvolutions()(module)
    np.testing.assert_array_equal(evaluate(rewritten, inputs)[0], evaluate(module, inputs)[0])
    assert all(min(shape_of(call)) > 0 for call in calls(rewritten))


# --- structure ------------------------------------------------------------------------------------------------------


def test_a_stride_of_one_is_a_convolution_with_the_reversed_filter(rng: np.random.Generator) -> None:
    before = transposed(rng, (1, 5, 6, 4), (3, 3, 2, 4), strides=[1, 1], padding=[1, 0, 0, 1], clamp_min=-5)
    (old,), (new,) = calls(before), calls(TransposedToConvolutions()(before))
    assert new.op.name == "tinyml.conv2d"
    np.testing.assert_array_equal(new.args[1].value.numpy(), old.args[1].value.numpy()[:, ::-1, ::-1])
    assert attributes_of(new)["padding"] == [1, 1, 2, 0]
    unchanged = ("strides", "dilation", "groups", "input_zero_point", "output_zero_point", "clamp_min", "clamp_max")
    assert [attributes_of(new)[name] for name in unchanged] == [attributes_of(old)[name] for name in unchanged]


def test_a_dilation_without_stride_stays_a_dilation(rng: np.random.Generator) -> None:
    module = TransposedToConvolutions()(transposed(rng, (1, 5, 6, 4), (3, 3, 2, 4), strides=[1, 1], dilation=[2, 3]))
    (call,) = calls(module)
    assert shape_of(call.args[1]) == [3, 3, 2, 4]
    assert attributes_of(call)["dilation"] == [2, 3]


def test_phases_are_channels_of_one_convolution_and_then_pixels(rng: np.random.Generator) -> None:
    module = TransposedToConvolutions()(transposed(rng, (1, 5, 6, 16), (8, 2, 2, 16)))
    assert names(module) == ["tinyml.conv2d", "relax.reshape", "relax.permute_dims", "relax.reshape"]
    convolution = calls(module)[0]
    assert shape_of(convolution.args[1]) == [4 * 8, 1, 1, 16]
    assert attributes_of(convolution)["padding"] == [0, 0, 0, 0]


def test_phases_of_columns_alone_lie_in_order_already(rng: np.random.Generator) -> None:
    module = TransposedToConvolutions()(transposed(rng, (1, 5, 6, 16), (8, 1, 2, 16), strides=[1, 2]))
    assert names(module) == ["tinyml.conv2d", "relax.reshape"]


def test_phases_whose_filters_differ_are_convolutions_of_their_own(rng: np.random.Generator) -> None:
    module = TransposedToConvolutions()(transposed(rng, (1, 5, 6, 16), (8, 3, 3, 16), padding=[0, 0, 1, 1]))
    convolutions = [call for call in calls(module) if call.op.name == "tinyml.conv2d"]
    assert [shape_of(call.args[1])[1:3] for call in convolutions] == [[2, 2], [2, 1], [1, 2], [1, 1]]
    assert [shape_of(call) for call in convolutions] == [[1, 5, 6, 8]] * 4
    assert names(module).count("relax.concat") == 3


@pytest.mark.parametrize("filters", [(7, 3, 3, 16), (16, 3, 3, 7)])
def test_few_channels_are_too_little_work_to_take_phases_apart(
    rng: np.random.Generator, filters: tuple[int, ...]
) -> None:
    module = TransposedToConvolutions()(transposed(rng, (1, 5, 6, filters[3]), filters, padding=[0, 0, 1, 1]))
    assert names(module).count("tinyml.conv2d") == 1


def test_phases_of_a_depthwise_one_stay_depthwise(rng: np.random.Generator) -> None:
    module = TransposedToConvolutions()(transposed(rng, (1, 5, 6, 4), (4, 2, 2, 1), groups=4))
    convolutions = [call for call in calls(module) if call.op.name == "tinyml.conv2d"]
    assert [shape_of(call.args[1]) for call in convolutions] == [[4, 1, 1, 1]] * 4
    assert "relax.permute_dims" not in names(module)


def test_multipliers_and_shifts_are_those_of_the_filter_in_every_phase(rng: np.random.Generator) -> None:
    before = transposed(rng, (1, 5, 6, 16), (8, 2, 2, 16))
    (old,), (new, *_) = calls(before), calls(TransposedToConvolutions()(before))
    for i in (3, 4):
        np.testing.assert_array_equal(new.args[i].value.numpy(), np.tile(old.args[i].value.numpy(), 4))


def test_a_phase_that_no_weight_reaches_has_a_filter_of_zeros_and_the_bias(rng: np.random.Generator) -> None:
    before = transposed(rng, (1, 5, 6, 16), (8, 1, 1, 16), output_padding=[1, 1])
    (old,), (new, *_) = calls(before), calls(TransposedToConvolutions()(before))
    filters = new.args[1].value.numpy().reshape(4, 8, 16)
    assert filters[0].any()
    assert not filters[1:].any()
    np.testing.assert_array_equal(new.args[2].value.numpy().reshape(4, 8)[1:], [old.args[2].value.numpy()] * 3)


# --- geometry -------------------------------------------------------------------------------------------------------


def test_a_window_begins_where_it_multiplies_least() -> None:
    (together,) = windows(Axis(size=12, result=24, kernel=4, stride=2, dilation=1, cut=1), 1.25)
    assert (len(together.taps[0]), together.positions, together.skip) == (2, 13, 1)
    aligned = window(Axis(size=12, result=24, kernel=4, stride=2, dilation=1, cut=1), range(2))
    assert (len(aligned.taps[0]), aligned.positions) == (3, 12)


def test_every_product_of_the_transposed_convolution_is_in_one_window_once() -> None:
    for kernel in range(1, 6):
        for stride in range(1, 5):
            for dilation in range(1, 4):
                for cut in range(4):
                    axis = Axis(5, 9, kernel, stride, dilation, cut)
                    expected = {
                        (i * stride + tap * dilation - cut, i, tap) for i in range(axis.size) for tap in range(kernel)
                    }
                    for limit in (0.0, np.inf):
                        found = products(axis, windows(axis, limit))
                        assert len(found) == len(set(found))
                        assert set(found) == {p for p in expected if 0 <= p[0] < axis.result}, axis


def products(axis: Axis, plan: Sequence[Any]) -> list[tuple[int, int, int]]:
    """Return element of the result, element of the input and element of the filter of each product."""
    found = []
    for number, w in enumerate(plan):
        for phase, taps in enumerate(w.taps):
            for position in range(w.positions):
                result = position * axis.stride + (number if len(plan) > 1 else phase) - w.skip
                for i, tap in enumerate(taps):
                    source = position + i * w.dilation - w.before
                    if tap >= 0 and 0 <= source < axis.size and 0 <= result < axis.result:
                        found.append((result, source, tap))
    return found


# --- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zero_point", [-128, -3, 127])
@pytest.mark.parametrize(
    ("shape", "filters", "window"),
    [
        ((1, 4, 5, 3), (5, 3, 3, 3), {"padding": [0, 0, 1, 1]}),
        ((2, 4, 5, 8), (8, 3, 3, 8), {"padding": [0, 0, 1, 1]}),
        ((1, 4, 5, 8), (8, 4, 4, 8), {"padding": [1, 1, 1, 1]}),
        ((1, 4, 5, 2), (3, 2, 5, 2), {"strides": [3, 2], "output_padding": [2, 1]}),
        ((1, 4, 5, 8), (9, 4, 2, 8), {"strides": [3, 3], "padding": [1, 0, 0, 1]}),
        ((1, 4, 5, 2), (3, 3, 3, 2), {"strides": [2, 1], "dilation": [2, 2]}),
        ((1, 4, 5, 4), (6, 3, 3, 2), {"groups": 2}),
        ((1, 4, 5, 16), (16, 3, 3, 8), {"groups": 2}),
        ((2, 4, 5, 3), (3, 3, 2, 1), {"groups": 3, "padding": [1, 0, 0, 1]}),
        ((1, 4, 5, 2), (4, 2, 2, 2), {"padding": [3, 4, 2, 3]}),
        ((1, 1, 1, 1), (1, 5, 5, 1), {"strides": [4, 1], "padding": [2, 2, 2, 2]}),
        ((1, 1, 3, 2), (3, 1, 1, 2), {"strides": [3, 3], "padding": [1, 1, 0, 0], "output_padding": [2, 0]}),
        ((1, 3, 1, 8), (8, 1, 1, 8), {"strides": [3, 3], "padding": [1, 1, 0, 0], "output_padding": [0, 2]}),
    ],
)
def test_no_byte_changes(
    rng: np.random.Generator, shape: tuple[int, ...], filters: tuple[int, ...], window: dict[str, Any], zero_point: int
) -> None:
    check_bytes(transposed(rng, shape, filters, input_zero_point=zero_point, **window), rng)


def test_no_byte_changes_whatever_is_drawn(rng: np.random.Generator) -> None:
    for _ in range(150):
        groups, depth, filters = int(rng.choice([1, 1, 2])), int(rng.choice([1, 2, 8])), int(rng.choice([1, 3, 8]))
        kernel, strides, dilation, size = (rng.integers(1, high, 2) for high in (6, 5, 3, 6))
        full = (size - 1) * strides + (kernel - 1) * dilation + 1
        before = rng.integers(0, np.minimum(full, 4))
        after = rng.integers(0, np.minimum(full - before, 4))
        options = {"strides": strides, "dilation": dilation, "padding": [*before, *after], "groups": groups}
        options |= {"output_padding": rng.integers(0, strides), "input_zero_point": rng.choice([-128, 5, 127])}
        integers = {k: int(v) if np.ndim(v) == 0 else [int(i) for i in v] for k, v in options.items()}
        shape = (int(rng.integers(1, 3)), int(size[0]), int(size[1]), groups * depth)
        check_bytes(transposed(rng, shape, (groups * filters, int(kernel[0]), int(kernel[1]), depth), **integers), rng)


# --- what stays -----------------------------------------------------------------------------------------------------


def test_an_ordinary_convolution_stays(rng: np.random.Generator) -> None:
    module = conv2d(rng, (1, 5, 6, 4), (3, 3, 3, 4), strides=[2, 2], padding=[1, 1, 1, 1])
    assert same(TransposedToConvolutions()(module), module)


def test_twice_is_once_and_the_module_that_comes_in_stays(rng: np.random.Generator) -> None:
    module = transposed(rng, (1, 5, 6, 16), (8, 3, 3, 16))
    before = module.script(show_meta=True)
    once = TransposedToConvolutions()(module)
    assert same(TransposedToConvolutions()(once), once)
    assert once.attrs["tinyml.reference"] == "tflite"
    assert module.script(show_meta=True) == before
