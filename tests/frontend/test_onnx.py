"""ONNX QDQ import: structure of the canonical form, layouts, numbers against onnxruntime, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from benchmarks.onnx_networks import NETWORKS, OnnxNetwork, QdqGraph
from tests.frontend.evaluator import evaluate, operators
from tests.onnx_models import MODELS
from tvm_tinyml.errors import ModelError
from tvm_tinyml.frontend import load
from tvm_tinyml.model import Model, TensorSpec
from tvm_tinyml.passes import FoldQuantization
from tvm_tinyml.reference.evaluate import evaluate as evaluate_integers

SEEDS = range(8)
Array = NDArray[Any]
ANY = np.zeros(1, np.float32)
"""Stands for values that no test looks at."""


def run_reference(model: onnx.ModelProto, inputs: dict[str, Array]) -> list[Array]:
    """Run by onnxruntime, operator by operator as the model has them."""
    ort = pytest.importorskip("onnxruntime", reason="the reference for ONNX models")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    outputs: list[Array] = ort.InferenceSession(model.SerializeToString(), options).run(None, inputs)
    return outputs


def quantized(x: Array, spec: TensorSpec) -> Array:
    assert spec.scale is not None
    assert spec.zero_point is not None
    limits = np.iinfo(spec.dtype)
    return np.clip(np.rint(x / np.float32(spec.scale)) + spec.zero_point, limits.min, limits.max).astype(spec.dtype)


def largest_difference(network: OnnxNetwork, model: Model, seed: int) -> int:
    """Compare the canonical form, computed in real numbers, with onnxruntime."""
    rng = np.random.default_rng(seed)
    floats = [value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for value in network.model.graph.input]
    given, computed_from = {}, []
    for spec, is_float in zip(model.inputs, floats, strict=True):
        real = rng.normal(size=spec.shape).astype(np.float32)
        computed_from.append(quantized(real, spec))
        given[spec.name] = real if is_float else computed_from[-1]
    differences = []
    expected = run_reference(network.model, given)
    for y, e, spec in zip(evaluate(model.module, computed_from), expected, model.outputs, strict=True):
        assert y.shape == e.shape == spec.shape
        e = quantized(e, spec) if e.dtype.kind == "f" else e
        differences.append(np.abs(y.astype(int) - e.astype(int)).max(initial=0))
    return int(max(differences))


@pytest.mark.parametrize("kind", MODELS)
def test_every_operator_means_what_the_reference_computes(kind: str) -> None:
    for seed in SEEDS:
        network = MODELS[kind](seed)
        # One unit: ties of float32 against float64, and a second rounding where quantization follows moved elements.
        assert largest_difference(network, load(network.model), seed) <= 1


@pytest.mark.parametrize("activations", ["int8", "uint8"])
@pytest.mark.parametrize("name", NETWORKS)
def test_whole_networks_stay_near_the_reference(name: str, activations: str) -> None:
    network = NETWORKS[name](0, activations)
    assert largest_difference(network, load(network.model), 0) <= 1


@pytest.mark.parametrize("activations", ["int8", "uint8"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_use_the_range_of_their_activations(name: str, activations: str) -> None:
    network = NETWORKS[name](0, activations)
    model = load(network.model)
    x = quantized(network.random_inputs(1)["input"], model.inputs[0])
    (probabilities,) = evaluate(model.module, [x])
    assert len(np.unique(probabilities)) > 3


def test_names_of_the_reference_are_kept() -> None:
    model = load(NETWORKS["cnn"](0).model, name="cnn")
    assert model.reference == model.module.attrs["tinyml.reference"] == "onnx"
    assert model.name == "cnn"
    assert [parameter.name for parameter in model.module["main"].params] == ["input"]


# Structure ----------------------------------------------------------------------------------------------------


def imported(graph: QdqGraph, *outputs: str) -> Model:
    return load(graph.finish("one", *outputs).model)


def test_convolution_is_dequantize_conv_bias_activation_quantize() -> None:
    graph = QdqGraph(0)
    model = imported(graph, graph.conv(graph.input((1, 3, 7, 9)), 8, activation="Relu", pads=[1, 0, 1, 2]))
    assert operators(model.module) == ["permute_dims", "nn.conv2d", "add", "nn.relu", "quantize", "permute_dims"]
    assert "padding=[1, 0, 1, 2]" in str(model.module)
    assert 'R.Tensor((8, 3, 3, 3), dtype="float32") = R.dequantize(' in str(model.module)


def test_transposed_convolution_is_dequantize_conv_bias_activation_quantize() -> None:
    graph = QdqGraph(0)
    x = graph.input((1, 6, 7, 9))
    options = {"strides": [2, 3], "pads": [1, 0, 1, 2], "output_padding": [0, 1], "dilations": [1, 2]}
    model = imported(graph, graph.conv_transpose(x, 8, group=2, activation="Relu", **options))
    assert operators(model.module) == [
        "permute_dims",
        "nn.conv2d_transpose",
        "add",
        "nn.relu",
        "quantize",
        "permute_dims",
    ]
    text = str(model.module)
    assert "strides=[2, 3], padding=[1, 0, 1, 2], output_padding=[0, 1], dilation=[1, 2], groups=2" in text
    assert 'R.Tensor((4, 3, 3, 6), dtype="float32") = R.dequantize(' in text


@pytest.mark.parametrize(
    ("options", "pads", "added"),
    [
        ({"auto_pad": "SAME_UPPER"}, [0, 0, 1, 1], [0, 0]),
        ({"auto_pad": "SAME_LOWER"}, [1, 1, 0, 0], [0, 0]),
        ({"auto_pad": "VALID"}, [0, 0, 0, 0], [0, 0]),
        ({"output_shape": [7, 10]}, [1, 0, 1, 0], [0, 1]),
        ({"output_shape": [1, 4, 8, 9], "output_padding": [1, 0]}, [1, 0, 1, 0], [1, 0]),
    ],
)
def test_pads_of_a_transposed_convolution_follow_from_its_size(
    options: dict[str, Any], pads: list[int], added: list[int]
) -> None:
    graph = QdqGraph(0)
    y = graph.node("ConvTranspose", graph.input((1, 3, 4, 4)), graph.weight(np.ones((3, 4, 3, 3)), axis=1),
                   strides=[2, 2], value=ANY, **options)  # fmt: skip
    assert f"padding={pads}, output_padding={added}" in str(imported(graph, graph.quantized(y)).module)


def test_interface_keeps_the_order_of_the_model() -> None:
    graph = QdqGraph(0)
    model = imported(graph, graph.conv(graph.input((1, 3, 7, 9)), 8))
    assert model.inputs[0].shape == (1, 3, 7, 9)
    assert model.outputs[0].shape == (1, 8, 5, 7)


def test_one_channel_needs_no_permutation() -> None:
    graph = QdqGraph(0)
    model = imported(graph, graph.conv(graph.input((1, 1, 7, 9)), 1))
    assert operators(model.module) == ["reshape", "nn.conv2d", "add", "quantize", "reshape"]


def test_permutations_of_the_source_that_undo_ours_vanish() -> None:
    graph = QdqGraph(0)
    x = graph.node("Transpose", graph.input((1, 7, 9, 3)), perm=[0, 3, 1, 2])
    model = imported(graph, graph.node("Transpose", graph.conv(x, 8), perm=[0, 2, 3, 1]))
    assert operators(model.module) == ["nn.conv2d", "add", "quantize"]
    assert model.inputs[0].shape == (1, 7, 9, 3)


def test_an_image_is_permuted_once_for_several_consumers() -> None:
    graph = QdqGraph(0)
    x = graph.input((1, 3, 6, 6))
    y = graph.quantized(graph.node("Add", graph.conv(x, 4), graph.conv(x, 4)))
    assert operators(imported(graph, y).module).count("permute_dims") == 2


def test_flatten_before_a_dense_layer_permutes_the_weights() -> None:
    graph = QdqGraph(0)
    x = graph.conv(graph.input((1, 1, 6, 6)), 4)
    model = imported(graph, graph.gemm(graph.node("Flatten", x), 5))
    assert operators(model.module)[4:] == ["reshape", "permute_dims", "matmul", "add", "quantize"]


def test_flatten_before_an_output_permutes_the_activations() -> None:
    graph = QdqGraph(0)
    model = imported(graph, graph.node("Flatten", graph.conv(graph.input((1, 1, 6, 6)), 4)))
    assert operators(model.module)[4:] == ["permute_dims", "reshape"]


def test_squeezed_means_are_only_reshaped() -> None:
    graph = QdqGraph(0)
    x = graph.quantized(graph.node("GlobalAveragePool", graph.input((1, 4, 6, 6))))
    model = imported(graph, graph.node("Flatten", x))
    assert operators(model.module) == ["permute_dims", "mean", "quantize", "reshape"]
    assert "axis=[1, 2], keepdims=True" in str(model.module)


def test_softmax_over_channels_of_an_image_needs_no_permutation_of_its_own() -> None:
    graph = QdqGraph(0)
    y = graph.node("Softmax", graph.conv(graph.input((1, 1, 4, 4)), 3), axis=1)
    assert operators(imported(graph, graph.requantized(y, 1 / 256, -128)).module)[4:6] == ["nn.softmax", "quantize"]


def test_equal_quantization_before_and_after_adds_nothing() -> None:
    graph = QdqGraph(0)
    x = graph.requantized(graph.input((2, 6), quantized=False), 0.1, 3)
    y = graph.requantized(graph.node("Reshape", x, graph.constant([3, 4])), 0.1, 3)
    assert operators(imported(graph, y).module) == ["reshape"]


def test_moved_elements_are_requantized_after_the_move() -> None:
    graph = QdqGraph(0)
    x = graph.requantized(graph.input((2, 6), quantized=False), 0.1, 3)
    y = graph.requantized(graph.node("Reshape", x, graph.constant([3, 4])), 0.2, 3)
    assert operators(imported(graph, y).module) == ["reshape", "quantize"]


def test_a_relu_after_its_own_quantization_is_a_function() -> None:
    graph = QdqGraph(0)
    x = graph.conv(graph.input((1, 1, 6, 6)), 4)
    y = graph.quantized(graph.node("Relu", x))
    assert operators(imported(graph, y).module)[1:6] == ["nn.conv2d", "add", "quantize", "nn.relu", "quantize"]


def test_batch_normalization_goes_into_scales_and_bias() -> None:
    assert operators(load(MODELS["conv_batch_norm"](0).model).module)[1:5] == [
        "nn.conv2d",
        "add",
        "nn.relu",
        "quantize",
    ]


def test_integer_interface_of_uint8_stays() -> None:
    graph = QdqGraph(0, activations="uint8")
    graph.conv(graph.integer_input((1, 1, 6, 6), 0.02, 17), 4)
    model = imported(graph, graph.last("QuantizeLinear"))
    assert model.inputs == (TensorSpec("input", (1, 1, 6, 6), "uint8", float(np.float32(0.02)), 17),)
    assert model.outputs[0].dtype == "uint8"
    main = model.module["main"]
    assert [str(main.params[0].ty.dtype), str(main.ret_ty.dtype)] == ["uint8", "uint8"]
    assert operators(model.module)[0] == operators(model.module)[-1] == "quantize"


def test_float_interface_of_a_uint8_model_is_int8() -> None:
    graph = QdqGraph(0, activations="uint8")
    model = imported(graph, graph.requantized(graph.input((1, 6), quantized=False), 0.25, 100))
    assert model.inputs == (TensorSpec("input", (1, 6), "int8", 0.25, -28),)
    assert model.outputs[0].dtype == "int8"


@pytest.mark.parametrize(("kind", "scale", "zero_point"), [("Sigmoid", 1 / 256, -128), ("Tanh", 1 / 128, 0)])
def test_float_output_of_a_function_gets_the_fixed_quantization(kind: str, scale: float, zero_point: int) -> None:
    graph = QdqGraph(0)
    (output,) = imported(graph, graph.node(kind, graph.input((1, 6)))).outputs
    assert (output.dtype, output.scale, output.zero_point) == ("int8", scale, zero_point)


def test_symbolic_batch_becomes_one() -> None:
    graph = QdqGraph(0)
    assert imported(graph, graph.conv(graph.input((1, 1, 6, 6), batch="N"), 4)).inputs[0].shape == (1, 1, 6, 6)


def test_static_quantization_of_onnxruntime_is_understood(tmp_path: Any) -> None:
    """What the tool that most people use writes: default types, shared parameters, fused activations."""
    tool = pytest.importorskip("onnxruntime.quantization", reason="the reference for ONNX models")
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(0, 0.3, (8, 3, 3, 3)),
        "b1": rng.normal(size=8),
        "w2": rng.normal(0, 0.4, (8, 1, 3, 3)),
        "w3": rng.normal(0, 0.5, (8, 10)),
        "b3": rng.normal(size=10),
        "six": np.float32(6),
    }
    make = onnx.helper.make_node
    nodes = [
        make("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        make("Relu", ["c1"], ["r1"]),
        make("MaxPool", ["r1"], ["m1"], kernel_shape=[2, 2], strides=[2, 2]),
        make("Conv", ["m1", "w2"], ["c2"], group=8, pads=[1, 1, 1, 1]),
        make("Clip", ["c2", "", "six"], ["r2"]),
        make("Add", ["m1", "r2"], ["a"]),
        make("Sigmoid", ["a"], ["s"]),
        make("Mul", ["a", "s"], ["silu"]),
        make("GlobalAveragePool", ["silu"], ["g"]),
        make("Flatten", ["g"], ["f"]),
        make("MatMul", ["f", "w3"], ["d"]),
        make("Add", ["d", "b3"], ["e"]),
        make("Softmax", ["e"], ["y"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "float",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3, 16, 16])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 10])],
        [onnx.numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in weights.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "float.onnx")
    assert load(tmp_path / "float.onnx").inputs[0].dtype == "float32"
    samples = iter([{"x": rng.normal(size=(1, 3, 16, 16)).astype(np.float32)} for _ in range(8)])

    class Samples(tool.CalibrationDataReader):
        def get_next(self) -> Any:
            return next(samples, None)

    tool.quantize_static(tmp_path / "float.onnx", tmp_path / "static.onnx", Samples(), per_channel=True)
    model = onnx.load(tmp_path / "static.onnx")
    imported_model = load(tmp_path / "static.onnx")
    assert imported_model.name == "static"
    assert largest_difference(OnnxNetwork("static", model, {}), imported_model, 1) <= 1


# Refusals -----------------------------------------------------------------------------------------------------


def check_refused(graph: QdqGraph, message: str, *outputs: str) -> None:
    with pytest.raises(ModelError, match=message):
        imported(graph, *outputs)


def test_all_unsupported_operators_are_named_at_once() -> None:
    graph = QdqGraph(0)
    y = graph.quantized(graph.node("Floor", graph.input((1, 4))))
    z = graph.node("QGemm", y, domain="com.microsoft", value=ANY)
    check_refused(graph, r"not supported: Floor 'floor_2', com\.microsoft\.QGemm 'qgemm_5'\. Supported: Abs, ", z)


def test_a_float_tensor_inside_is_named_with_its_consumer() -> None:
    graph = QdqGraph(0)
    y = graph.node("HardSwish", graph.node("Sigmoid", graph.input((1, 4))))
    check_refused(
        graph, "not quantized: tensor 'sigmoid_2' of Sigmoid 'sigmoid_2', taken by HardSwish", graph.quantized(y)
    )


def test_float_weights_are_named() -> None:
    graph = QdqGraph(0)
    y = graph.node("Conv", graph.input((1, 3, 5, 5)), graph.constant(np.ones((2, 3, 3, 3), np.float32)))
    check_refused(graph, "not quantized: constant 'constant_2' is float32", graph.quantized(y))


def test_asymmetric_weights_are_refused() -> None:
    graph = QdqGraph(0)
    values = graph.constant(np.full((2, 3, 3, 3), 255, np.uint8))
    weight = graph.node("DequantizeLinear", values, graph.constant(np.float32(0.1)), graph.constant(np.uint8(3)))
    y = graph.quantized(graph.node("Conv", graph.input((1, 3, 5, 5)), weight))
    check_refused(graph, "the weights 'constant_0' are uint8 and reach from 252 to 252 around their zero point", y)


def test_weights_quantized_along_the_input_channels_are_refused() -> None:
    graph = QdqGraph(0)
    weight = graph.weight(np.ones((2, 3, 3, 3)), axis=1)
    y = graph.quantized(graph.node("Conv", graph.input((1, 3, 5, 5)), weight))
    check_refused(graph, "have scales on axis 1; output channels are axis 0", y)


def test_a_product_of_two_computed_matrices_is_refused() -> None:
    graph = QdqGraph(0)
    y = graph.quantized(graph.node("MatMul", graph.input((3, 4)), graph.input((4, 5))))
    check_refused(graph, r"MatMul 'matmul_4': the weights 'dequantizelinear_3' must be constant", y)


def test_batch_normalization_elsewhere_is_refused() -> None:
    graph = QdqGraph(0)
    parameters = [graph.constant(np.ones(3, np.float32)) for _ in range(4)]
    y = graph.quantized(graph.node("BatchNormalization", graph.input((1, 3, 5, 5)), *parameters))
    check_refused(graph, "BatchNormalization '.*': supported only directly after a Conv or Gemm", y)


def test_batch_normalization_after_a_dense_layer_goes_into_it() -> None:
    assert operators(load(MODELS["gemm_batch_norm"](0).model).module) == [
        "permute_dims",
        "matmul",
        "add",
        "nn.relu",
        "quantize",
    ]


def test_a_hard_sigmoid_is_a_function_of_its_own() -> None:
    graph = QdqGraph(0)
    y = graph.quantized(graph.node("HardSigmoid", graph.input((1, 4))))
    model = imported(graph, y)
    assert operators(model.module) == ["tinyml.hard_sigmoid", "quantize"]
    (call,) = [b.value for b in model.module["main"].body.blocks[0].bindings if "hard_sigmoid" in str(b.value)]
    assert [number.value for number in call.args[1:]] == [pytest.approx(0.2), 0.5]  # ONNX's defaults


def test_divisors_are_constants_other_than_zero() -> None:
    graph = QdqGraph(0)
    x = graph.input((1, 4))
    y = graph.quantized(graph.node("Div", x, graph.quantized(graph.node("Exp", x))))
    check_refused(graph, r"Div 'div_\d+': its divisor 'dequantizelinear_\d+' must be constant", y)
    graph = QdqGraph(0)
    zero = graph.constant(np.float32(0))
    y = graph.quantized(graph.node("Div", graph.input((1, 4)), zero, value=ANY))
    check_refused(graph, "its divisor 'constant_0' has zeros", y)


@pytest.mark.parametrize(
    ("kind", "attributes", "message"),
    [
        ("AveragePool", {"count_include_pad": 1, "pads": [1, 1, 1, 1]}, "count_include_pad is not supported"),
        ("AveragePool", {"ceil_mode": 1, "strides": [2, 2]}, "ceil_mode with windows beyond"),
        ("MaxPool", {"dilations": [2, 2]}, "dilations and storage_order are not supported"),
    ],
)
def test_pools_beyond_the_reference_are_refused(kind: str, attributes: dict[str, Any], message: str) -> None:
    graph = QdqGraph(0)
    y = graph.quantized(graph.node(kind, graph.input((1, 3, 7, 7)), kernel_shape=[2, 2], **attributes))
    check_refused(graph, f"{kind} '.*': {message}", y)


def test_a_convolution_in_one_dimension_is_refused() -> None:
    graph = QdqGraph(0)
    y = graph.conv(graph.input((1, 3, 9)), 4, (3,))
    check_refused(graph, "Conv '.*': its input has 3 dimensions; 4", y)


@pytest.mark.parametrize(
    ("weight", "options", "message"),
    [
        (
            ((3, 4, 3, 3), 0),
            {},
            r"ConvTranspose '.*': the weights '.*' have scales on axis 0; output channels are axis 1",
        ),
        (
            ((3, 4, 3, 3), 1),
            {"pads": [5, 5, 5, 5]},
            r"its shapes or options contradict .* result has shape \[1, -1, -1, 4\]",
        ),
        (((3, 4, 3, 3), 1), {"output_padding": [2, 2]}, "its shapes or options contradict .*output padding"),
        (((6, 4, 3, 3), 1), {}, "its shapes or options contradict .*input channel"),
    ],
)
def test_a_transposed_convolution_that_cannot_be_is_refused(
    weight: tuple[tuple[int, ...], int], options: dict[str, Any], message: str
) -> None:
    graph = QdqGraph(0)
    shape, axis = weight
    x, w = graph.input((1, 3, 4, 4)), graph.weight(np.ones(shape), axis=axis)
    y = graph.node("ConvTranspose", x, w, strides=[2, 2], value=ANY, **options)
    check_refused(graph, message, graph.quantized(y))


def test_batch_normalization_after_a_grouped_transposed_convolution_is_refused() -> None:
    graph = QdqGraph(0)
    y = graph.node(
        "ConvTranspose", graph.input((1, 4, 4, 4)), graph.weight(np.ones((4, 1, 3, 3)), axis=1), group=2, value=ANY
    )
    ones = graph.constant(np.ones(2, np.float32))
    y = graph.node("BatchNormalization", y, ones, ones, ones, ones, value=ANY)
    check_refused(graph, "BatchNormalization '.*': the 2 groups of ConvTranspose '.*' share", graph.quantized(y))


def test_reversed_slices_are_refused() -> None:
    graph = QdqGraph(0)
    y = graph.node("Slice", graph.input((9,)), *[graph.constant([i]) for i in (8, -10, 0, -1)])
    check_refused(graph, r"steps \[-1\]; steps below 1 are not supported", graph.quantized(y))


def test_reflected_padding_is_refused() -> None:
    graph = QdqGraph(0)
    y = graph.node("Pad", graph.input((9,)), graph.constant([1, 1]), mode="reflect")
    check_refused(graph, "mode reflect is not supported", graph.quantized(y))


def test_linear_resize_is_refused() -> None:
    graph = QdqGraph(0)
    scales = graph.constant(np.array([1, 1, 2, 2], np.float32))
    y = graph.node("Resize", graph.input((1, 3, 4, 4)), "", scales, mode="linear")
    check_refused(graph, "mode linear with half_pixel coordinates is not supported", graph.quantized(y))


def test_scales_in_gemm_are_refused() -> None:
    graph = QdqGraph(0)
    y = graph.node("Gemm", graph.input((1, 4)), graph.weight(np.ones((4, 5)), axis=1), alpha=0.5)
    check_refused(graph, r"alpha is 0\.5; 1\.0 is supported", graph.quantized(y))


def test_integers_may_be_moved_before_they_are_dequantized() -> None:
    graph = QdqGraph(0)
    graph.conv(graph.input((1, 3, 6, 6)), 4)
    y = graph.node("Transpose", graph.last("QuantizeLinear"), perm=[0, 3, 1, 2])
    y = graph.node("DequantizeLinear", y, graph.constant(np.float32(0.1)), graph.constant(np.int8(3)))
    network = graph.finish("one", graph.quantized(graph.node("Relu", y)))
    assert largest_difference(network, load(network.model), 0) <= 1


def test_operators_on_integers_themselves_are_refused() -> None:
    graph = QdqGraph(0)
    graph.input((1, 4))
    y = graph.node("Relu", graph.last("QuantizeLinear"))
    y = graph.node("DequantizeLinear", y, graph.constant(np.float32(0.1)), graph.constant(np.int8(3)))
    check_refused(graph, r"Relu '.*': it computes with integers\. Put a DequantizeLinear before it", y)


def test_activations_of_16_bits_with_a_zero_point_are_refused() -> None:
    graph = QdqGraph(0, activations="int16", opset=21)
    y = graph.requantized(graph.node("Relu", graph.input((1, 4))), 0.01, 5)
    check_refused(graph, "quantization to int16 with zero point 5; 0 is supported", y)


def test_activations_of_uint16_are_refused() -> None:
    graph = QdqGraph(0, activations="uint16", opset=21)
    y = graph.quantized(graph.node("Relu", graph.input((1, 4))))
    check_refused(graph, "quantization to uint16; int8, uint8 and int16 are supported", y)


def int16_network(seed: int) -> OnnxNetwork:
    """Return a network of convolutions, a sum, pools and a dense layer on int16."""
    graph = QdqGraph(seed, activations="int16", opset=21)
    x = graph.conv(graph.input((1, 3, 9, 8)), 8, activation="Relu")
    y = graph.conv(graph.conv(x, 8, group=8, pads=[1, 1, 1, 1], activation="Relu"), 8, (1, 1))
    x = graph.quantized(graph.node("Add", x, y))
    x = graph.quantized(graph.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]))
    x = graph.node("Flatten", graph.quantized(graph.node("GlobalAveragePool", x)))
    return graph.finish("int16", graph.gemm(x, 5))


@pytest.mark.parametrize("seed", range(3))
def test_activations_of_16_bits_mean_what_the_reference_computes(seed: int) -> None:
    network = int16_network(seed)
    model = load(network.model)
    # Units are so fine that sums in float32 move results by some.
    assert largest_difference(network, model, seed) <= 4
    assert {str(binding.var.ty.dtype) for binding in model.module["main"].body.blocks[0].bindings} == {
        "int16",
        "float32",
    }


@pytest.mark.parametrize("seed", range(3))
def test_integers_of_16_bits_stay_near_what_they_mean(seed: int) -> None:
    model = load(int16_network(seed).model)
    rng = np.random.default_rng(seed)
    x = rng.integers(-(2**15), 2**15, model.inputs[0].shape).astype(np.int16)
    (meant,) = evaluate(model.module, [x])
    (computed,) = evaluate_integers(FoldQuantization()(model.module), [x])
    # A multiplier of 15 bits is off by 2**-15 at most, which is a unit of the largest results, in each of five layers.
    assert np.abs(meant.astype(int) - computed.astype(int)).max() <= 8


def weighted(kind: str, scale: Any, zero_point: Any, values: Any, **attributes: Any) -> QdqGraph:
    """Return a Conv or Gemm whose weights are given in all parts; its result is the last DequantizeLinear's."""
    graph = QdqGraph(0, opset=21)
    parameters = graph.constant(np.asarray(scale, np.float32)), graph.constant(zero_point)
    weight = graph.node("DequantizeLinear", graph.constant(values), *parameters, value=ANY, **attributes)
    x = graph.input((1, 3, 5, 5) if kind == "Conv" else (1, 2))
    graph.quantized(graph.node(kind, x, weight, value=ANY))
    return graph


FILTER = np.ones((2, 3, 3, 3), np.int8)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (weighted("Conv", 0.0, np.int8(0), FILTER), "have a scale that is not positive"),
        (weighted("Conv", [0.1] * 3, np.zeros(3, np.int8), FILTER, axis=0), "3 scales for 2 channels on axis 0"),
        (weighted("Conv", 0.1, np.uint16(0), FILTER.astype(np.uint16)), "constants of type uint16 are not supported"),
        (weighted("MatMul", 0.1, np.int8(0), np.ones((2, 2, 2), np.int8)), "weights of 3 dimensions; 2 are supported"),
        (
            weighted("MatMul", np.full((1, 2), 0.1), np.zeros((1, 2), np.int8), np.ones((2, 2), np.int8), block_size=2),
            "scales in blocks are not supported",
        ),
    ],
)
def test_weights_that_cannot_be_used_are_refused(graph: QdqGraph, message: str) -> None:
    check_refused(graph, message, graph.last("DequantizeLinear"))


@pytest.mark.parametrize(
    ("sizes", "scales", "options", "message"),
    [
        ([1, 6, 4, 4], None, {}, "it changes batch or channels"),
        (None, [1, 1, 1.3, 1], {}, r"scales that give height and width 5\.2 and 4 are not supported"),
        ([1, 3, 8, 8], None, {"antialias": 1}, "axes and antialias are not supported"),
    ],
)
def test_resizing_beyond_the_nearest_pixel_is_refused(
    sizes: list[int] | None, scales: list[float] | None, options: dict[str, int], message: str
) -> None:
    graph = QdqGraph(0, opset=18)
    target = [graph.constant(np.array(scales, np.float32))] if scales else ["", graph.constant(sizes)]
    y = graph.node("Resize", graph.input((1, 3, 4, 4)), "", *target, mode="nearest", value=ANY, **options)
    check_refused(graph, message, graph.quantized(y))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (("MaxPool", "x", {"kernel_shape": [2, 2], "outputs": 2}), "its second output, the indices"),
        (("ReduceMean", "x", {"noop_with_empty_axes": 1}), "a mean or sum over no axes is not supported"),
        (("Pad", "x", "pads", {}), "negative pads are not supported"),
        (("Reshape", "x", {}), "input 1 is missing"),
        (("Reshape", "x", "x", {}), "input 1, '.*', must be constant"),
        (("Reshape", "x", "pads", {}), "its shapes or options contradict each other"),
        (("Relu", "", {}), "input 0 is missing"),
        (("Concat", "x", "none", {"axis": 0}), "tensor 'none' is used before it is computed"),
        (("Concat", "x", "pads", {"axis": 0}), "constant '.*' is int64"),
        (("PRelu", "x", "pads", {}), "input 1, '.*', has 8 elements; 1 is supported"),
        (("Add", "x", "weight", {}), "Constant 'dequantizelinear_.*' is int8 with 2 scales"),
    ],
)
def test_what_is_wrong_with_a_node_is_said(node: tuple[Any, ...], message: str) -> None:
    graph = QdqGraph(0, opset=18)
    names = {
        "x": graph.input((1, 3, 5, 5)),
        "pads": graph.constant([0, 0, -1, 0, 0, 0, 0, 0]),
        "weight": graph.weight(np.ones((2, 3))),
    }
    kind, *inputs, options = node
    made = graph.node(kind, *[names.get(name, name) for name in inputs], value=ANY, **options)
    check_refused(graph, message, graph.quantized(made if isinstance(made, str) else made[0]))


def test_inputs_of_other_types_are_refused() -> None:
    model = NETWORKS["cnn"](0).model
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    with pytest.raises(ModelError, match="Input 'input' is int64; float32, int8, uint8 and int16 are supported"):
        load(model)


def test_functions_of_the_model_itself_are_refused() -> None:
    model = NETWORKS["cnn"](0).model
    model.functions.add(name="f", domain="custom")
    with pytest.raises(ModelError, match="has functions of its own"):
        load(model)


def test_a_weight_that_batch_normalization_turns_into_128_is_refused() -> None:
    graph = QdqGraph(0)
    parameters = graph.constant(np.float32(0.1)), graph.constant(np.int8(0))
    weight = graph.node("DequantizeLinear", graph.constant(np.full((2, 3, 3, 3), -128, np.int8)), *parameters)
    y = graph.node("Conv", graph.input((1, 3, 5, 5)), weight)
    ones, minus = (graph.constant(np.full(2, n, np.float32)) for n in (1, -1))
    y = graph.quantized(graph.node("BatchNormalization", y, minus, ones, ones, ones))
    check_refused(graph, "makes 128 of a weight of -128", y)


def test_a_dimension_that_varies_is_named() -> None:
    model = NETWORKS["cnn"](0).model
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    with pytest.raises(ModelError, match=r"Input 'input': dimension 2 \(height\) is not fixed"):
        load(model)


@pytest.mark.parametrize("opset", [13, 14, 18, 19, 21, 22])
def test_supported_opsets(opset: int) -> None:
    graph = QdqGraph(0, opset=opset)
    x = graph.conv(graph.input((1, 3, 8, 8)), 4, activation="Relu")
    x = graph.quantized(graph.node("AveragePool", x, kernel_shape=[2, 2]))
    network = graph.finish("one", graph.gemm(graph.node("Flatten", x), 5))
    assert largest_difference(network, load(network.model), 0) <= 1


def test_constant_operators_are_constants() -> None:
    network = MODELS["conv_clip"](0)
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    constants = [onnx.helper.make_node("Constant", [], [i.name], value=i) for i in model.graph.initializer]
    nodes = [*constants, *model.graph.node]
    del model.graph.initializer[:]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    assert str(load(model).module) == str(load(network.model).module)


def test_other_opsets_are_refused() -> None:
    model = NETWORKS["cnn"](0).model
    model.opset_import[0].version = 10
    with pytest.raises(ModelError, match="has opset 10, 11 to 22 are supported"):
        load(model)
