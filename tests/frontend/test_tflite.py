"""TFLite import: structure of the canonical form, numbers against tflite-micro, refusals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite
from numpy.typing import NDArray

from benchmarks import networks
from benchmarks.int8_graph import Int8Graph, Network
from benchmarks.tflite_builder import TFLiteBuilder
from tests import reference_interpreter
from tests.frontend.evaluator import evaluate, operators
from tests.reference_interpreter import needs_interpreter
from tests.tflite_models import MODELS
from tvm_tinyml.arithmetic import softmax_exp_table
from tvm_tinyml.errors import ModelError
from tvm_tinyml.frontend import load
from tvm_tinyml.model import Model, TensorSpec

SEEDS = range(6)


def integers(x: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """Quantize a float tensor of the source as its spec says; integers stay."""
    if x.dtype.kind != "f":
        return x
    limits = np.iinfo(spec.dtype)
    assert spec.scale is not None
    assert spec.zero_point is not None
    rounded = np.clip(np.rint(x / np.float32(spec.scale)) + spec.zero_point, limits.min, limits.max)
    return rounded.astype(spec.dtype)


def largest_difference(network: Network, model: Model, seed: int) -> int:
    """Compare the canonical form, computed in real numbers, with the interpreter."""
    inputs = network.random_inputs(seed)
    expected = reference_interpreter.run(network.data, inputs)
    computed = evaluate(model.module, [integers(x, s) for x, s in zip(inputs, model.inputs, strict=True)])
    differences = []
    for y, e, spec in zip(computed, expected, model.outputs, strict=True):
        assert y.shape == e.shape == spec.shape
        differences.append(np.abs(y.astype(int) - integers(e, spec).astype(int)).max(initial=0))
    return int(max(differences))


@needs_interpreter
@pytest.mark.parametrize("kind", MODELS)
def test_every_operator_means_what_the_reference_computes(kind: str) -> None:
    drawn = [MODELS[kind](seed) for seed in SEEDS]
    # One unit: the reference rounds multipliers to 31 bits and rounds twice.
    assert max(largest_difference(network, load(network.data), seed) for seed, network in enumerate(drawn)) <= 1


@needs_interpreter
@pytest.mark.parametrize(
    "build", [networks.keyword_spotting, networks.image_classification, networks.anomaly_detection]
)
def test_whole_networks_stay_near_the_reference(build: Callable[[], Network]) -> None:
    network = build()
    # Single roundings add up over the layers.
    assert largest_difference(network, load(network.data), 0) <= 3


def test_convolution_is_dequantize_conv_bias_activation_quantize() -> None:
    graph = Int8Graph(0)
    x = graph.input((1, 7, 9, 3))
    model = load(graph.finish("one", graph.conv(x, 8, (3, 3), strides=(2, 2), activation="RELU6")).data)
    assert operators(model.module) == ["nn.conv2d", "add", "clip", "quantize"]
    text = str(model.module)
    assert 'data_layout="NHWC", kernel_layout="OHWI"' in text
    assert "strides=[2, 2], padding=[1, 1, 1, 1], dilation=[1, 1], groups=1" in text
    assert 'conv_2d_1: R.Tensor((1, 4, 5, 8), dtype="int8") = R.quantize(' in text


def test_same_padding_of_an_even_image_is_larger_at_the_end() -> None:
    graph = Int8Graph(0)
    model = load(graph.finish("one", graph.conv(graph.input((1, 8, 8, 3)), 4, (3, 3), strides=(2, 2))).data)
    assert "padding=[0, 0, 1, 1]" in str(model.module)


def test_depthwise_weight_becomes_one_filter_for_each_channel() -> None:
    graph = Int8Graph(0)
    model = load(graph.finish("one", graph.depthwise(graph.input((1, 6, 6, 3)), (3, 3), multiplier=2)).data)
    assert 'R.Tensor((6, 3, 3, 1), dtype="float32") = R.dequantize(' in str(model.module)
    assert "groups=3" in str(model.module)


def test_a_transposed_convolution_cuts_off_what_the_result_has_no_place_for() -> None:
    graph = Int8Graph(0)
    x = graph.input((1, 4, 5, 3))
    y = graph.transpose_conv(x, 8, (3, 4), strides=(2, 2), activation="RELU")
    model = load(graph.finish("one", y).data)
    assert operators(model.module) == ["nn.conv2d_transpose", "add", "nn.relu", "quantize"]
    text = str(model.module)
    assert "strides=[2, 2], padding=[0, 1, 1, 1], output_padding=[0, 0], dilation=[1, 1], groups=1" in text
    assert 'data_layout="NHWC", kernel_layout="OHWI"' in text
    assert model.outputs[0].shape == (1, 8, 10, 8)


def test_a_transposed_convolution_adds_what_its_filter_does_not_reach() -> None:
    graph = Int8Graph(0)
    y = graph.transpose_conv(graph.input((1, 4, 5, 3)), 8, (1, 2), strides=(3, 3))
    assert "padding=[0, 0, 0, 0], output_padding=[2, 1]" in str(load(graph.finish("one", y).data).module)


def test_dense_of_higher_rank_is_reshaped_around() -> None:
    graph = Int8Graph(0)
    data = graph.finish("one", graph.dense(graph.input((2, 3, 10)), 4, activation="RELU")).data
    assert operators(load(data).module)[0] == "reshape"
    assert operators(load(data).module)[1:5] == ["permute_dims", "matmul", "add", "nn.relu"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("concat", ["concat"]),
        ("pad", ["nn.pad"]),
        ("padv2", ["nn.pad"]),
        ("resize_nearest", ["image.resize2d"]),
        ("slice", ["strided_slice"]),
        ("split", ["split"]),
        ("abs", ["abs", "quantize"]),
        ("hard_swish", ["tinyml.hard_swish", "quantize"]),
        ("leaky_relu", ["nn.leakyrelu", "quantize"]),
        ("logistic", ["sigmoid", "quantize"]),
        ("mean", ["mean", "quantize"]),
        ("relu6", ["clip", "quantize"]),
        ("max_pool", ["nn.max_pool2d", "quantize"]),
        ("sum", ["sum", "quantize"]),
        ("tanh", ["tanh", "quantize"]),
    ],
)
def test_operators_of_the_canonical_form(kind: str, expected: list[str]) -> None:
    assert operators(load(MODELS[kind](0).data).module) == expected


@pytest.mark.parametrize(("kind", "expected"), [("EXP", "exp"), ("NEG", "negative"), ("ABS", "abs")])
@pytest.mark.parametrize("dtype", ["int8", "int16", "float32"])
def test_functions_are_imported_of_integers_and_floats(kind: str, expected: str, dtype: str) -> None:
    builder = TFLiteBuilder()
    scales = None if dtype == "float32" else 0.02
    x, y = (builder.tensor(name, (1, 6), dtype, scales=scales) for name in "xy")
    builder.operator(kind, [x], [y], f"{kind.capitalize()}Options")
    rest = [] if dtype == "float32" else ["quantize"]
    assert operators(load(builder.finish([x], [y])).module) == [expected, *rest]


def shaped(kind: str, shape: Sequence[int], options_name: str = "", *constants: Any, **options: Any) -> bytes:
    """Return a model of one operator from ``x`` [1, 6, 1, 2] to ``y``, which share their quantization."""
    builder = TFLiteBuilder()
    x = builder.tensor("x", (1, 6, 1, 2), "int8", scales=0.02, zero_point=-3)
    arrays = [np.asarray(c, np.int32) for c in constants]
    numbers = [builder.tensor("c", array.shape, "int32", data=array) for array in arrays]
    y = builder.tensor("y", shape, "int8", scales=0.02, zero_point=-3)
    builder.operator(kind, [x, *numbers], [y], options_name, **options)
    return builder.finish([x], [y])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (shaped("SQUEEZE", (6, 2), "SqueezeOptions"), "reshape"),
        (shaped("EXPAND_DIMS", (1, 6, 1, 1, 2), "ExpandDimsOptions", 2), "reshape"),
        (shaped("TRANSPOSE", (1, 1, 6, 2), "TransposeOptions", [0, 2, 1, 3]), "reshape"),
    ],
)
def test_elements_that_stay_in_order_are_reshaped(data: bytes, expected: str) -> None:
    module = load(data).module
    assert operators(module) == [expected]
    x = np.arange(12, dtype=np.int8).reshape(1, 6, 1, 2)
    np.testing.assert_array_equal(evaluate(module, [x])[0].ravel(), x.ravel())


@pytest.mark.parametrize(("kind", "low"), [("RELU_N1_TO_1", -53), ("RELU_0_TO_1", -3)])
def test_limits_of_one(kind: str, low: int) -> None:
    module = load(shaped(kind, (1, 6, 1, 2))).module
    assert operators(module) == ["clip", "quantize"]
    x = np.linspace(-128, 127, 12).astype(np.int8).reshape(1, 6, 1, 2)
    np.testing.assert_array_equal(evaluate(module, [x])[0], np.clip(x, low, 47))


def test_parts_of_different_sizes() -> None:
    builder = TFLiteBuilder()
    x = builder.tensor("x", (1, 7), "int8", scales=0.5)
    sizes = builder.tensor("sizes", (3,), "int32", data=np.array([1, -1, 2], np.int32))
    axis = builder.tensor("axis", (), "int32", data=np.array(-1, np.int32))
    parts = [builder.tensor(f"y{i}", (1, size), "int8", scales=0.5) for i, size in enumerate((1, 4, 2))]
    builder.operator("SPLIT_V", [x, sizes, axis], parts, "SplitVOptions", NumSplits=3)
    model = load(builder.finish([x], parts))
    values = np.arange(7, dtype=np.int8).reshape(1, 7)
    assert [part.tolist() for part in evaluate(model.module, [values])] == [[[0]], [[1, 2, 3, 4]], [[5, 6]]]


@pytest.mark.parametrize(
    ("begin", "end", "masks", "expected"),
    [
        (5, 0, {}, [5, 3, 1]),
        (5, 0, {"EndMask": 1}, [5, 3, 1]),
        (4, 0, {"EndMask": 1}, [4, 2, 0]),
        (2, 0, {"BeginMask": 1}, [6, 4, 2]),
        (-2, -20, {}, [5, 3, 1]),
        (20, -6, {}, [6, 4, 2]),
        (0, 0, {"BeginMask": 1, "EndMask": 1}, [6, 4, 2, 0]),
    ],
)
def test_slices_backwards(begin: int, end: int, masks: dict[str, int], expected: list[int]) -> None:
    builder = TFLiteBuilder()
    x = builder.tensor("x", (7,), "int8", scales=0.5)
    numbers = [builder.tensor("c", (1,), "int32", data=np.array([i], np.int32)) for i in (begin, end, -2)]
    y = builder.tensor("y", (len(expected),), "int8", scales=0.5)
    builder.operator("STRIDED_SLICE", [x, *numbers], [y], "StridedSliceOptions", **masks)
    module = load(builder.finish([x], [y])).module
    assert operators(module) == ["strided_slice"]
    assert evaluate(module, [np.arange(7, dtype=np.int8)])[0].tolist() == expected


@pytest.mark.parametrize(("scale", "beta"), [(0.3, 0.5), (0.3, 4.0), (0.25, 0.7)])
def test_beta_is_a_factor_of_the_scale(scale: float, beta: float) -> None:
    module = load(one_operator("SOFTMAX", "SoftmaxOptions", scale=scale, Beta=beta)).module
    (dequantize, *_) = module["main"].body.blocks[0].bindings
    factor = float(dequantize.value.args[1].value.numpy())
    np.testing.assert_array_equal(softmax_exp_table(factor), softmax_exp_table(scale, beta))


def test_module_says_which_reference_is_meant() -> None:
    model = load(MODELS["conv"](0).data)
    assert model.reference == model.module.attrs["tinyml.reference"] == "tflite"


def test_biases_keep_their_integers() -> None:
    bias = np.array([2**31 - 1, -(2**31), 7], np.int32)
    builder = TFLiteBuilder()
    x = builder.tensor("x", (1, 4), "int8", scales=0.3)
    w = builder.tensor("w", (3, 4), "int8", scales=[0.1, 0.2, 0.3], data=np.ones((3, 4), np.int8))
    b = builder.tensor("b", (3,), "int32", scales=[0.03, 0.06, 0.09], data=bias)
    y = builder.tensor("y", (1, 3), "int8", scales=1.0)
    builder.operator("FULLY_CONNECTED", [x, w, b], [y], "FullyConnectedOptions")
    model = load(builder.finish([x], [y]))
    constants = [
        argument.value.numpy()
        for binding in model.module["main"].body.blocks[0].bindings
        for argument in binding.value.args
        if hasattr(argument, "value") and hasattr(argument.value, "numpy")
    ]
    np.testing.assert_array_equal(next(c for c in constants if c.dtype == np.int32), bias)
    scale = np.float32(0.3) * np.array([0.1, 0.2, 0.3], np.float32)
    assert any(np.array_equal(c, scale) for c in constants)


# Interfaces ---------------------------------------------------------------------------------------------------


def relu_model(input_type: str, output_type: str) -> bytes:
    """Return x -> QUANTIZE -> RELU -> QUANTIZE or DEQUANTIZE -> y with a one-sided int8 tensor inside."""
    builder = TFLiteBuilder()
    zero_points = {"int8": -100, "uint8": 28, "float32": 0}

    def port(name: str, dtype: str) -> int:
        scales = None if dtype == "float32" else 0.5
        return builder.tensor(name, (2, 3), dtype, scales=scales, zero_point=zero_points[dtype])

    x, y = port("x", input_type), port("y", output_type)
    a = builder.tensor("a", (2, 3), "int8", scales=0.5, zero_point=-100)
    b = builder.tensor("b", (2, 3), "int8", scales=0.5, zero_point=-100)
    builder.operator("QUANTIZE", [x], [a])
    builder.operator("RELU", [a], [b])
    builder.operator("DEQUANTIZE" if output_type == "float32" else "QUANTIZE", [b], [y])
    return builder.finish([x], [y])


def test_float_interface_becomes_int8() -> None:
    model = load(relu_model("float32", "float32"))
    assert model.inputs == (TensorSpec("x", (2, 3), "int8", 0.5, -100),)
    assert model.outputs == (TensorSpec("y", (2, 3), "int8", 0.5, -100),)
    assert operators(model.module) == ["nn.relu", "quantize"]


def test_uint8_stays_the_interface_and_is_int8_inside() -> None:
    model = load(relu_model("uint8", "uint8"))
    assert model.inputs == (TensorSpec("x", (2, 3), "uint8", 0.5, 28),)
    assert model.outputs == (TensorSpec("y", (2, 3), "uint8", 0.5, 28),)
    assert operators(model.module) == ["quantize", "nn.relu", "quantize", "quantize"]
    x = np.array([[0, 27, 28], [29, 200, 255]], np.uint8)
    np.testing.assert_array_equal(evaluate(model.module, [x])[0], np.maximum(x, 28))


def test_float_output_of_softmax_gets_the_fixed_quantization() -> None:
    builder = TFLiteBuilder()
    x = builder.tensor("x", (1, 5), "int8", scales=0.5)
    y, z = builder.tensor("y", (1, 5), "float32"), builder.tensor("z", (1, 5), "float32")
    builder.operator("DEQUANTIZE", [x], [y])
    builder.operator("SOFTMAX", [y], [z], "SoftmaxOptions", Beta=1.0)
    (output,) = load(builder.finish([x], [z])).outputs
    assert (output.dtype, output.scale, output.zero_point) == ("int8", 1 / 256, -128)


def test_a_tensor_may_be_input_and_output() -> None:
    builder = TFLiteBuilder()
    x = builder.tensor("x", (1, 5), "int8", scales=0.5)
    model = load(builder.finish([x], [x, x]))
    assert [spec.name for spec in model.outputs] == ["x", "x"]
    assert operators(model.module) == []


# Real models --------------------------------------------------------------------------------------------------

REAL = {
    "ad01_int8": {"matmul": 10, "nn.relu": 9, "quantize": 10},
    "kws_ref_model": {"nn.conv2d": 9, "nn.avg_pool2d": 1, "matmul": 1, "nn.softmax": 1, "quantize": 12},
    "pretrainedResnet_quant": {"nn.conv2d": 9, "add": 13, "nn.avg_pool2d": 1, "matmul": 1, "quantize": 15},
    "vww_96_int8": {"nn.conv2d": 27, "nn.relu": 27, "nn.avg_pool2d": 1, "matmul": 1, "quantize": 30},
}


@needs_interpreter
@pytest.mark.parametrize("name", REAL)
def test_real_models(shared: Path, name: str) -> None:
    file = shared / "models" / "mlperf_tiny" / f"{name}.tflite"
    if not file.is_file():
        pytest.skip(f"needs the model {file.name}")
    model = load(file)
    assert model.name == name
    counts = Counter(operators(model.module))
    assert {kind: counts[kind] for kind in REAL[name]} == REAL[name]
    x = np.random.default_rng(0).integers(-128, 128, model.inputs[0].shape).astype(np.int8)
    (expected,) = reference_interpreter.run(file.read_bytes(), [x])
    (computed,) = evaluate(model.module, [x])
    # Single roundings add up over up to 27 layers.
    assert np.abs(computed.astype(int) - expected).max() <= 3


# Refusals -----------------------------------------------------------------------------------------------------


def one_operator(
    kind: str,
    options_name: str = "",
    *,
    weight: dict[str, Any] | None = None,
    shape: Sequence[int] = (1, 4),
    result: Sequence[int] = (1, 4),
    dtype: str = "int8",
    scale: float = 0.5,
    **options: Any,
) -> bytes:
    """Return a model of one operator with input ``x``, result ``y`` and perhaps a constant ``w``."""
    builder = TFLiteBuilder()
    scales = None if dtype == "float32" else scale
    x = builder.tensor("x", shape, dtype, scales=scales)
    y = builder.tensor("y", result, dtype, scales=scales)
    inputs = [x]
    if weight is not None:
        inputs.append(builder.tensor("w", **weight))
    builder.operator(kind, inputs, [y], options_name, **options)
    return builder.finish([x], [y])


SQUARE = {"shape": (4, 4), "dtype": "int8", "scales": 0.1, "data": np.ones((4, 4), np.int8)}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (one_operator("RELU", dtype="int32"), "Tensor 'x' is int32; activations of int8, uint8 and int16"),
        (one_operator("RELU", result=(2, 2)), r"RELU 'y': the result has shape \(1, 4\), the file says \(2, 2\)"),
        (
            one_operator("SOFTMAX", "SoftmaxOptions", scale=0.3, Beta=1.25),
            "SOFTMAX 'y': beta is 1.25, whose product with the input's scale 0.3.* is no float32 number",
        ),
        (one_operator("SOFTMAX"), "SOFTMAX without SoftmaxOptions"),
        (
            one_operator("CONCATENATION", "ConcatenationOptions", Axis=1, FusedActivationFunction=1),
            "CONCATENATION 'y': a fused activation is not supported",
        ),
        (
            one_operator("ADD", "AddOptions", weight=SQUARE, FusedActivationFunction=4),
            "ADD 'y': fused activation 4 is not supported",
        ),
        (
            one_operator("FULLY_CONNECTED", "FullyConnectedOptions", weight=SQUARE | {"zero_point": 3}),
            "FULLY_CONNECTED 'y': the weights 'w' have zero point 3, 0 is supported",
        ),
        (
            one_operator("FULLY_CONNECTED", "FullyConnectedOptions", weight=SQUARE | {"scales": [0.1, 0.2]}),
            "the weights 'w' of shape .* have 2 scales",
        ),
        (
            one_operator("FULLY_CONNECTED", "FullyConnectedOptions", weight=SQUARE | {"data": None}),
            "FULLY_CONNECTED 'y': input 1, 'w', must be constant",
        ),
        (one_operator("FULLY_CONNECTED", "FullyConnectedOptions"), "FULLY_CONNECTED 'y': input 1 is missing"),
        (
            one_operator("FULLY_CONNECTED", "FullyConnectedOptions", shape=(1, 6), weight=SQUARE),
            "FULLY_CONNECTED 'y': its shapes or options contradict each other",
        ),
        (one_operator("RELU", shape=(0, 4)), r"Input 'x' has shape \(0, 4\)"),
        (
            one_operator("FULLY_CONNECTED", "FullyConnectedOptions", weight=SQUARE, WeightsFormat=1),
            "FULLY_CONNECTED 'y': shuffled weights are not supported",
        ),
        (
            one_operator(
                "FULLY_CONNECTED",
                "FullyConnectedOptions",
                weight=SQUARE | {"dtype": "uint8", "data": np.ones((4, 4), "B")},
            ),
            "FULLY_CONNECTED 'y': the weights 'w' are uint8, int8 is supported",
        ),
        (
            one_operator(
                "RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions", AlignCorners=True, HalfPixelCenters=True
            ),
            "align_corners and half_pixel_centers exclude each other",
        ),
        (one_operator("STRIDED_SLICE", "StridedSliceOptions", EllipsisMask=1), "'y': EllipsisMask is not supported"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load(data)


def transposed(size: Sequence[int] | None, result: Sequence[int] = (1, 4, 4, 2)) -> bytes:
    """Return a TRANSPOSE_CONV of 2x2 with stride 2 on 2x2 pixels; without `size` that is an input of the model."""
    builder = TFLiteBuilder()
    data = None if size is None else np.array(size, np.int32)
    shape = builder.tensor("size", (4,), "int32", data=data)
    w = builder.tensor("w", (2, 2, 2, 3), "int8", scales=0.1, data=np.ones((2, 2, 2, 3), np.int8))
    x = builder.tensor("x", (1, 2, 2, 3), "int8", scales=0.5)
    y = builder.tensor("y", result, "int8", scales=0.5)
    builder.operator("TRANSPOSE_CONV", [shape, w, x], [y], "TransposeConvOptions", StrideH=2, StrideW=2, Padding=1)
    return builder.finish([x], [y])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (transposed(None), "TRANSPOSE_CONV 'y': input 0, 'size', must be constant"),
        (
            transposed((1, 9, 4, 2), (1, 9, 4, 2)),
            "TRANSPOSE_CONV 'y': its shapes or options contradict .*output padding",
        ),
        (transposed((1, 4, 4, 2), (1, 4, 5, 2)), r"the result has shape \(1, 4, 4, 2\), the file says \(1, 4, 5, 2\)"),
        (transposed((1, 0, 4, 2), (1, 0, 4, 2)), r"TRANSPOSE_CONV 'y': .*the result has shape \[1, 0, 4, 2\]"),
    ],
)
def test_a_transposed_convolution_of_an_impossible_size_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load(data)


def test_a_bias_that_is_not_int32_is_refused() -> None:
    builder = TFLiteBuilder()
    x = builder.tensor("x", (1, 4), "int8", scales=0.5)
    w = builder.tensor("w", (4, 4), "int8", scales=0.5, data=np.ones((4, 4), np.int8))
    b = builder.tensor("b", (4,), "float32", data=np.ones(4, np.float32))
    y = builder.tensor("y", (1, 4), "int8", scales=0.5)
    builder.operator("FULLY_CONNECTED", [x, w, b], [y], "FullyConnectedOptions")
    with pytest.raises(ModelError, match="the bias 'b' is float32, int32 is supported"):
        load(builder.finish([x], [y]))


def test_a_float_output_without_an_operator_is_named() -> None:
    builder = TFLiteBuilder()
    x = builder.tensor("x", (1, 4), "float32")
    builder.operator("RELU", [builder.tensor("a", (1,), "int8", scales=1.0)], [builder.tensor("b", (1,), "int8")])
    with pytest.raises(ModelError, match="tensor 'x', an output of the model, is float32"):
        load(builder.finish([x], [x]))


def test_all_unsupported_operators_are_named_at_once() -> None:
    builder = TFLiteBuilder()
    tensors = [builder.tensor(f"t{i}", (1, 4), "int8", scales=0.5) for i in range(4)]
    builder.operator("FLOOR", tensors[:1], tensors[1:2])
    builder.operator("RELU", tensors[1:2], tensors[2:3])
    builder.operator("CEIL", tensors[2:3], tensors[3:])
    with pytest.raises(ModelError, match=r"not supported: FLOOR 't1', CEIL 't3'\. Supported: ABS, ADD, ") as caught:
        load(builder.finish(tensors[:1], tensors[3:]))
    assert "RELU 't2'" not in str(caught.value)


def test_scales_that_differ_in_a_concatenation_are_refused() -> None:
    builder = TFLiteBuilder()
    a = builder.tensor("a", (1, 4), "int8", scales=0.5)
    b = builder.tensor("b", (1, 4), "int8", scales=0.25)
    y = builder.tensor("y", (1, 8), "int8", scales=0.5)
    builder.operator("CONCATENATION", [a, b], [y], "ConcatenationOptions", Axis=1)
    with pytest.raises(ModelError, match=r"'y': its operands are quantized differently.*scale=0.5.*scale=0.25"):
        load(builder.finish([a, b], [y]))


def test_several_subgraphs_are_refused() -> None:
    data = bytearray(MODELS["relu"](0).data)
    table = tflite.Model.GetRootAsModel(bytes(data), 0)._tab
    length = table.Vector(table.Offset(8)) - 4  # of the vector of subgraphs
    data[length : length + 4] = (2).to_bytes(4, "little")
    with pytest.raises(ModelError, match="has 2 subgraphs, 1 is supported"):
        load(bytes(data))


@pytest.mark.parametrize("kind", ["conv", "strided_slice", "split"])
def test_a_file_cut_off_anywhere_is_a_clear_error(kind: str) -> None:
    data = MODELS[kind](0).data
    for length in range(0, len(data), max(1, len(data) // 200)):
        with pytest.raises(ModelError, match=r"damaged|has no operators|neither a TFLite nor an ONNX model"):
            load(data[:length])


def test_a_damaged_file_never_fails_otherwise(rng: np.random.Generator) -> None:
    for kind in ("conv", "dense", "mean", "concat", "transpose"):
        data = MODELS[kind](0).data
        for _ in range(60):
            damaged = bytearray(data)
            damaged[int(rng.integers(8, len(data)))] = int(rng.integers(256))
            with suppress(ModelError):
                load(bytes(damaged))
