"""Quantized groups become integer operators."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import IRModule, relax

from tests.passes.graphs import calls, int8, names, quantized, same, weight
from tests.tflite_models import MODELS
from tvm_tinyml import arithmetic, load
from tvm_tinyml.errors import ModelError
from tvm_tinyml.frontend.qdq import RELU, UNIT_INTERVAL, QdqBuilder, Quantization, Tensor, Weight, clip, hard_swish
from tvm_tinyml.passes import FoldQuantization
from tvm_tinyml.passes.integer_ops import attributes_of
from tvm_tinyml.reference.evaluate import evaluate

OTHER = Quantization(0.25, 7)
"""Not the quantization of the inputs of `quantized`, which is (0.5, -3)."""

Build = Callable[..., Tensor]


def fold(build: Build, *shapes: tuple[int, ...], **options: Any) -> IRModule:
    return FoldQuantization()(quantized(build, *shapes, **options).module)


def one(function: Callable[..., relax.Expr], to: Quantization = OTHER, activation: Any = None) -> Build:
    return lambda q, *xs: q.apply(function, *xs, to=to, name="y", activation=activation)


def pool(kind: Callable[..., relax.Expr], to: Quantization, activation: Any = None) -> Build:
    options: dict[str, Any] = {"pool_size": (2, 2), "strides": (2, 2), "layout": "NHWC"}
    return one(lambda x: kind(x, **options), to, activation)


def convolution(filters: Weight, bias: Any = None, **options: Any) -> Build:
    window: dict[str, Any] = {"strides": (1, 1), "padding": (1, 1, 1, 1), "to": OTHER, "name": "y", **options}
    return lambda q, x: q.conv2d(x, filters, bias, **window)


def transposed(filters: Weight, bias: Any = None, **options: Any) -> Build:
    window: dict[str, Any] = {"strides": (2, 2), "padding": (0, 0, 1, 1), "to": OTHER, "name": "y", **options}
    return lambda q, x: q.conv2d_transpose(x, filters, bias, **window)


# --- structure ------------------------------------------------------------------------------------------------------

SAME = Quantization(0.5, -3)
IMAGE, MATRIX = (1, 4, 4, 2), (3, 5)
RNG = np.random.default_rng(0)
GROUPS: dict[str, tuple[Build, list[tuple[int, ...]], list[str]]] = {
    "convolution": (convolution(weight(RNG, 3, 3, 3, 2, scales=3)), [IMAGE], ["conv2d"]),
    "convolution with bias and relu": (
        convolution(weight(RNG, 3, 3, 3, 2), np.arange(3, dtype=np.int32), activation=RELU),
        [IMAGE],
        ["conv2d"],
    ),
    "depthwise convolution": (convolution(weight(RNG, 2, 3, 3, 1), groups=2), [IMAGE], ["conv2d"]),
    "transposed convolution": (transposed(weight(RNG, 3, 3, 3, 2, scales=3)), [IMAGE], ["conv2d_transpose"]),
    "transposed convolution with bias and relu": (
        transposed(weight(RNG, 3, 3, 3, 2), np.arange(3, dtype=np.int32), activation=RELU),
        [IMAGE],
        ["conv2d_transpose"],
    ),
    "grouped transposed convolution": (
        transposed(weight(RNG, 3, 3, 3, 2, scales=3), np.arange(6, dtype=np.int32), groups=2),
        [IMAGE],
        ["conv2d_transpose"],
    ),
    "dense": (lambda q, x: q.dense(x, weight(RNG, 4, 5), None, to=OTHER, name="y"), [MATRIX], ["dense"]),
    "dense with bias and clip": (
        lambda q, x: q.dense(x, weight(RNG, 4, 5), np.ones(4, np.int32), to=OTHER, name="y", activation=clip(0.0, 6.0)),
        [MATRIX],
        ["dense"],
    ),
    "sum": (one(relax.op.add), [MATRIX, MATRIX], ["add"]),
    "sum with relu": (one(relax.op.add, activation=RELU), [MATRIX, MATRIX], ["add"]),
    "difference": (one(relax.op.subtract), [MATRIX, MATRIX], ["subtract"]),
    "product": (one(relax.op.multiply), [MATRIX, MATRIX], ["multiply"]),
    "average pool that keeps the scale": (pool(relax.op.nn.avg_pool2d, SAME), [IMAGE], ["avg_pool2d"]),
    "average pool that changes the scale": (pool(relax.op.nn.avg_pool2d, OTHER), [IMAGE], ["mean_pool2d"]),
    "largest of a window": (pool(relax.op.nn.max_pool2d, SAME, RELU), [IMAGE], ["max_pool2d"]),
    "mean": (one(lambda x: relax.op.mean(x, [1, 2])), [IMAGE], ["mean"]),
    "sum over axes": (one(lambda x: relax.op.sum(x, [1, 2])), [IMAGE], ["mean"]),
    "softmax": (one(relax.op.nn.softmax, UNIT_INTERVAL), [MATRIX], ["softmax"]),
    "softmax in another scale": (one(relax.op.nn.softmax, OTHER), [MATRIX], ["softmax"]),
    "function": (one(relax.op.tanh), [MATRIX], ["lookup"]),
    "function with bounds": (one(lambda x: relax.op.clip(x, -1.0, 1.0)), [MATRIX], ["lookup"]),
    "function of our own": (one(hard_swish), [MATRIX], ["lookup"]),
    "requantization": (lambda q, x: q.requantize(x, OTHER, "y"), [MATRIX], ["lookup"]),
}


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_becomes_its_integer_operators_and_nothing_else(group: str) -> None:
    build, shapes, expected = GROUPS[group]
    assert names(fold(build, *shapes)) == [f"tinyml.{name}" for name in expected]


@pytest.mark.parametrize("group", GROUPS)
def test_folding_twice_is_folding_once(group: str) -> None:
    build, shapes, _ = GROUPS[group]
    once = fold(build, *shapes)
    assert same(FoldQuantization()(once), once)


def test_the_module_that_comes_in_stays_as_it_is() -> None:
    module = quantized(one(relax.op.add), MATRIX, MATRIX).module
    before = module.script(show_meta=True)
    FoldQuantization()(module)
    assert module.script(show_meta=True) == before


def test_what_works_on_integers_is_left_alone() -> None:
    def build(q: QdqBuilder, x: Tensor) -> Tensor:
        return q.permute(q.reshape(x, (5, 3), "r"), (1, 0), "p")

    module = quantized(build, MATRIX).module
    assert same(FoldQuantization()(module), module)


def test_the_modules_attributes_stay() -> None:
    assert fold(one(relax.op.add), MATRIX, MATRIX, reference="onnx").attrs["tinyml.reference"] == "onnx"


def test_a_tensor_that_two_groups_read_is_read_by_both_operators() -> None:
    def build(q: QdqBuilder, x: Tensor) -> Tensor:
        left = q.apply(relax.op.tanh, x, to=OTHER, name="l")
        return q.apply(relax.op.add, left, x, to=OTHER, name="y")

    first, second = calls(fold(build, MATRIX))
    assert (first.op.name, second.op.name) == ("tinyml.lookup", "tinyml.add")
    assert first.args[0].same_as(second.args[1])


def test_an_unsigned_interface_is_two_lookups() -> None:
    q = QdqBuilder("tflite")
    x = q.input("x", MATRIX, "uint8", Quantization(0.5, 0))
    q.output("y", x, "uint8")
    folded = FoldQuantization()(q.finish("m").module)
    assert names(folded) == ["tinyml.lookup", "tinyml.lookup"]
    values = np.arange(15, dtype=np.uint8).reshape(3, 5) * 17
    (result,) = evaluate(folded, [values])
    np.testing.assert_array_equal(result, values)
    assert result.dtype == np.uint8


# --- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"quantize", "dequantize"}))
def test_the_integer_graph_gives_the_reference_bytes(name: str) -> None:
    for seed in range(5):
        network = MODELS[name](seed)
        folded = FoldQuantization()(load(network.data).module)
        inputs = network.random_inputs(seed)
        for ours, theirs in zip(evaluate(folded, inputs), network.run(inputs), strict=True):
            np.testing.assert_array_equal(ours, theirs.reshape(ours.shape), f"seed {seed}")


@pytest.mark.parametrize(("zero_point", "bias"), [(-128, None), (127, None), (5, 100), (0, -7)])
def test_the_bias_takes_the_input_offset_off(rng: np.random.Generator, zero_point: int, bias: int | None) -> None:
    filters = weight(rng, 2, 3, 3, 2)
    values = None if bias is None else np.full(2, bias, np.int32)
    (call,) = calls(fold(convolution(filters, values), IMAGE, quantizations=[Quantization(0.5, zero_point)]))
    sums = filters.values.astype(np.int64).reshape(2, -1).sum(axis=1)
    np.testing.assert_array_equal(call.args[2].value.numpy(), (bias or 0) - zero_point * sums)
    assert attributes_of(call)["input_zero_point"] == zero_point


def test_the_bias_of_a_transposed_convolution_stays_since_how_many_products_are_summed_differs(
    rng: np.random.Generator,
) -> None:
    (call,) = calls(fold(transposed(weight(rng, 2, 3, 3, 2), np.array([100, -7], np.int32)), IMAGE))
    assert call.args[2].value.numpy().tolist() == [100, -7]
    assert attributes_of(call)["input_zero_point"] == -3


def test_groups_of_a_transposed_convolution_share_scales_and_have_filters_of_their_own(
    rng: np.random.Generator,
) -> None:
    filters = weight(rng, 3, 2, 2, 4, scales=3)
    (call,) = calls(fold(transposed(filters, groups=2), (1, 4, 4, 4)))
    expected = np.concatenate([filters.values[..., :2], filters.values[..., 2:]])
    np.testing.assert_array_equal(call.args[1].value.numpy(), expected)
    multiplier, shift = (call.args[i].value.numpy().astype(np.float64) for i in (3, 4))
    scale = 0.5 * np.tile(filters.scale, 2) / 0.25
    np.testing.assert_allclose(multiplier * 2.0 ** (shift - 31), scale, rtol=2.0**-30)


@pytest.mark.parametrize("zero_point", [-128, 127])
def test_an_input_of_its_zero_point_gives_the_bias_alone(rng: np.random.Generator, zero_point: int) -> None:
    filters = Weight(weight(rng, 2, 3, 3, 2).values, np.float32(1.0))
    build = convolution(filters, np.array([11, -12], np.int32), to=Quantization(1.0, 0))
    folded = fold(build, IMAGE, quantizations=[Quantization(1.0, zero_point)])
    (result,) = evaluate(folded, [np.full(IMAGE, zero_point, np.int8)])
    assert np.unique(result[..., 0]).tolist() == [11]
    assert np.unique(result[..., 1]).tolist() == [-12]


@pytest.mark.parametrize(
    ("activation", "zero_point", "expected"),
    [
        (None, 7, (-128, 127)),
        (RELU, -128, (-128, 127)),
        (RELU, 7, (7, 127)),
        (RELU, 127, (127, 127)),
        (clip(0.0, 6.0), -128, (-128, -128 + 12)),
        (clip(0.0, 6.0), 7, (7, 7 + 12)),
        (clip(0.0, 6.0), 127, (127, 127)),
        (clip(-1.0, 1.0), 0, (-2, 2)),
        (clip(-1.0, 1.0), -128, (-128, -126)),
        (clip(-1.0, 1.0), 127, (125, 127)),
        (clip(-1e9, 0.75), 0, (-128, 2)),
    ],
)
def test_an_activation_becomes_a_clamp_inside_int8(activation: Any, zero_point: int, expected: tuple[int, int]) -> None:
    (call,) = calls(fold(one(relax.op.add, Quantization(0.5, zero_point), activation), MATRIX, MATRIX))
    attributes = attributes_of(call)
    assert (attributes["clamp_min"], attributes["clamp_max"]) == expected
    assert attributes["output_zero_point"] == zero_point


@pytest.mark.parametrize("build", [pool(relax.op.nn.max_pool2d, OTHER, clip(-1.0, 1.0)),
                                   one(relax.op.nn.softmax, OTHER, clip(0.0, 0.5)),
                                   one(relax.op.nn.softmax, UNIT_INTERVAL, clip(0.0, 0.5))])  # fmt: skip
def test_an_activation_holds_where_a_table_follows_or_the_scale_changes(rng: np.random.Generator, build: Build) -> None:
    shape = IMAGE
    model = quantized(build, shape, quantizations=[Quantization(0.125, 0)])
    (result,) = evaluate(FoldQuantization()(model.module), [int8(rng, *shape)])
    spec = model.outputs[0]
    real = (result.astype(np.float64) - (spec.zero_point or 0)) * (spec.scale or 0)
    assert real.max() == (1.0 if real.max() > 0.5 else 0.5)
    assert real.min() >= -1.0


def test_each_channel_has_the_multiplier_of_its_own_scale(rng: np.random.Generator) -> None:
    filters = weight(rng, 3, 3, 3, 2, scales=3)
    (call,) = calls(fold(convolution(filters), IMAGE))
    multiplier, shift = (call.args[i].value.numpy().astype(np.float64) for i in (3, 4))
    np.testing.assert_allclose(multiplier * 2.0 ** (shift - 31), 0.5 * filters.scale / 0.25, rtol=2.0**-30)


def test_onnx_models_round_functions_once_and_tflite_models_as_tflite_does() -> None:
    x = np.arange(-128, 128, dtype=np.int8).reshape(1, 256)
    source, result = Quantization(float(np.float32(0.05)), 3), Quantization(float(np.float32(0.1)), -100)
    build = one(hard_swish, result)
    given = {"quantizations": [source]}
    (onnx,) = evaluate(fold(build, (1, 256), reference="onnx", **given), [x])
    (tflite,) = evaluate(fold(build, (1, 256), reference="tflite", **given), [x])
    real = (x.astype(np.float64) - source.zero_point) * source.scale
    exact = real * np.clip(real + 3, 0, 6) / 6 / result.scale
    away = np.sign(exact) * np.floor(np.abs(exact) + 0.5)
    np.testing.assert_array_equal(onnx, np.clip(away + result.zero_point, -128, 127))
    expected = arithmetic.hard_swish_table(source.scale, source.zero_point, result.scale, result.zero_point)
    np.testing.assert_array_equal(tflite[0], expected)
    assert (onnx != tflite).any()


def rounded(real: Any, zero_point: int) -> Any:
    """Quantize real numbers in units of the output: rounded once, halves away from zero."""
    return np.clip(np.sign(real) * np.floor(np.abs(real) + 0.5) + zero_point, -128, 127)


FINE = Quantization(float(np.float32(0.3137)), -100)
"""A quantization of results to which the scales of the inputs have no simple ratio."""


def folded_and_computed(build: Build, *shapes: tuple[int, ...], reference: str = "onnx") -> tuple[Any, list[Any]]:
    """Return what the integer graph makes of random inputs, and their real values in units of `FINE`."""
    rng = np.random.default_rng(1)
    inputs = [int8(rng, *shape) for shape in shapes]
    (result,) = evaluate(fold(build, *shapes, reference=reference), inputs)
    return result, [(x.astype(np.float64) + 3) * 0.5 / FINE.scale for x in inputs]


@pytest.mark.parametrize("window", [(2, 2), (3, 2)])
def test_an_average_pool_that_changes_the_scale_is_rounded_once(window: tuple[int, int]) -> None:
    h, w = window
    build = one(lambda x: relax.op.nn.avg_pool2d(x, window, window, layout="NHWC"), FINE)
    result, (x,) = folded_and_computed(build, (1, 6 * h, 9 * w, 5))
    np.testing.assert_array_equal(result, rounded(x.reshape(1, 6, h, 9, w, 5).mean((2, 4)), FINE.zero_point))


def test_an_average_pool_with_padding_does_not_count_it() -> None:
    build = one(lambda x: relax.op.nn.avg_pool2d(x, (3, 3), (2, 2), (1, 1, 1, 1), layout="NHWC"), FINE)
    result, (x,) = folded_and_computed(build, (1, 9, 11, 5))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))[:, ::2, ::2]
    np.testing.assert_array_equal(result, rounded(np.nanmean(windows, (-2, -1)), FINE.zero_point))


def test_a_mean_of_an_onnx_model_is_rounded_once_and_of_a_tflite_model_as_tflite_does() -> None:
    build = one(lambda x: relax.op.mean(x, [1, 2]), FINE)
    result, (x,) = folded_and_computed(build, (9, 4, 7, 33))
    np.testing.assert_array_equal(result, rounded(x.mean((1, 2)), FINE.zero_point))
    assert (folded_and_computed(build, (9, 4, 7, 33), reference="tflite")[0] != result).any()


def test_a_product_of_an_onnx_model_is_rounded_once_and_of_a_tflite_model_as_tflite_does() -> None:
    build = one(relax.op.multiply, FINE)
    result, (x, y) = folded_and_computed(build, (60, 60), (60, 60))
    exact = x * y * FINE.scale
    np.testing.assert_array_equal(result, rounded(exact, FINE.zero_point))
    build = one(relax.op.multiply, Quantization(41.37, 0))
    onnx, tflite = (folded_and_computed(build, (60, 60), (60, 60), reference=r)[0] for r in ("onnx", "tflite"))
    assert (onnx != tflite).any()


def test_a_change_of_scale_of_an_onnx_model_is_rounded_once_and_of_a_tflite_model_as_tflite_does() -> None:
    to = Quantization(float(np.float32(1.7)), 5)
    x = np.arange(-128, 128, dtype=np.int8).reshape(1, 256)
    onnx, tflite = (
        evaluate(fold(lambda q, x: q.requantize(x, to, "y"), (1, 256), reference=r), [x])[0] for r in ("onnx", "tflite")
    )
    np.testing.assert_array_equal(onnx, rounded((x.astype(np.float64) + 3) * 0.5 / to.scale, 5))
    assert (onnx != tflite).any()


@pytest.mark.parametrize("scale", [1 / 255, 1 / 256, 1 / 1000, 0.003, 0.05, 0.7])
def test_a_softmax_is_rounded_once_to_any_scale(scale: float) -> None:
    to = Quantization(float(np.float32(scale)), -7)
    result, (x,) = folded_and_computed(one(relax.op.nn.softmax, to), (200, 12))
    real = x * FINE.scale
    exact = np.exp(real - real.max(1, keepdims=True))
    exact /= exact.sum(1, keepdims=True) * to.scale
    # The sum of exponentials has 19 bits behind the point: one in 2**16 of the result, near a half only.
    unlike = result != rounded(exact, -7)
    assert np.all(np.abs(exact[unlike] % 1 - 0.5) < exact[unlike] / 2**16)


# --- refusal --------------------------------------------------------------------------------------------------------


def refused(build: Build, *shapes: tuple[int, ...]) -> str:
    with pytest.raises(ModelError) as error:
        fold(build, *shapes)
    return str(error.value)


def test_float_operators_that_are_left_are_all_named() -> None:
    def build(q: QdqBuilder, x: Tensor) -> Tensor:
        return q.apply(relax.op.cos, q.apply(relax.op.sin, x, to=OTHER, name="a"), to=OTHER, name="y")

    text = refused(build, MATRIX)
    assert re.match(r"4 operators still compute with floats after quantization was folded: ", text)
    assert re.findall(r"(\w+) \('", text) == ["dequantize", "sin", "dequantize", "cos"]
    assert text.endswith("Quantize every tensor of the model, or compile for a target with float kernels.")


def test_a_product_of_two_activations_is_refused() -> None:
    assert "matmul" in refused(one(relax.op.matmul), (3, 4), (4, 2))


def test_a_dense_layer_with_float_weights_is_refused() -> None:
    weights = relax.const(np.ones((5, 4), np.float32))
    assert "matmul" in refused(one(lambda x: relax.op.matmul(x, weights)), MATRIX)


def test_two_float_operators_in_one_group_are_refused() -> None:
    assert "tanh" in refused(one(relax.op.tanh, activation=relax.op.exp), MATRIX)


@pytest.mark.parametrize("classes", [4095, 4096])
def test_a_softmax_whose_sum_overflows_is_refused(classes: int) -> None:
    build = one(relax.op.nn.softmax, UNIT_INTERVAL)
    if classes == 4095:
        assert names(fold(build, (1, classes))) == ["tinyml.softmax"]
        return
    assert refused(build, (1, classes)) == (
        "A softmax over 4096 elements cannot be computed: the sum of exponentials holds 4095. Use fewer classes."
    )


def test_a_scale_of_zero_is_refused() -> None:
    assert "must be finite and above 0" in refused(one(relax.op.multiply, Quantization(0.0, 0)), MATRIX, MATRIX)
