"""Every numpy operator against tflite-micro's interpreter, byte for byte, on random models of one operator."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.int8_graph import Int8Graph
from benchmarks.tflite_builder import TFLiteBuilder
from tests.reference_interpreter import ReferenceInterpreter, needs_interpreter
from tests.tflite_models import INT16_MODELS, MODELS, Int16Graph, Network
from tvm_tinyml.arithmetic import dense_parameters
from tvm_tinyml.errors import ModelError

SEEDS = 40


def assert_equal(network: Network, case: str) -> None:
    """Compare all outputs of a network on two random inputs."""
    interpreter = ReferenceInterpreter(network.data)
    for input_seed in range(2):
        inputs = network.random_inputs(input_seed)
        for ours, theirs in zip(network.run(inputs), interpreter.run(inputs), strict=True):
            assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), case
            assert np.array_equal(ours, theirs), f"{case}: {np.count_nonzero(ours != theirs)} of {ours.size} differ"


@needs_interpreter
@pytest.mark.parametrize("name", MODELS)
def test_operator_gives_the_bytes_of_the_interpreter(name: str) -> None:
    for seed in range(SEEDS):
        assert_equal(MODELS[name](seed), f"{name}({seed})")


@needs_interpreter
@pytest.mark.parametrize("name", INT16_MODELS)
def test_operator_on_int16_gives_the_bytes_of_the_interpreter(name: str) -> None:
    for seed in range(SEEDS):
        assert_equal(INT16_MODELS[name](seed), f"{name}({seed}) on int16")


@needs_interpreter
@pytest.mark.parametrize("name", ["logistic", "tanh", "softmax"])
def test_function_of_every_int16_at_any_scale_is_that_of_the_interpreter(name: str) -> None:
    for exponent in range(-24, 1):
        for factor in (1.0, 1.0004, 1.37):  # powers of two, next to them and far from them
            graph = Int16Graph(factor * 2.0**exponent)
            network = graph.finish(name, getattr(graph, name)(graph.all_values))
            assert_equal(network, f"{name} {factor} {exponent}")


@needs_interpreter
@pytest.mark.parametrize("name", ["leaky_relu", "abs"])
def test_slopes_of_every_int16_at_any_scale_are_those_of_the_interpreter(name: str) -> None:
    rng = np.random.default_rng(0)
    for exponent in range(-12, 13):
        for ratio in (2.0**exponent, float(2.0 ** (exponent + rng.uniform()))):  # powers of two give halves
            for alpha in (0.5, -0.5, float(rng.uniform(-2, 2))) if name == "leaky_relu" else (None,):
                graph = Int16Graph(0.0001)
                more = [] if alpha is None else [alpha]
                network = graph.finish(name, getattr(graph, name)(graph.all_values, *more, (0.0001 * ratio, 0)))
                assert_equal(network, f"{name} {ratio} {alpha}")


@needs_interpreter
def test_last_bits_of_multipliers_are_those_of_the_interpreter() -> None:
    for seed in range(SEEDS, 300):
        assert_equal(MODELS["knife_edge"](seed), f"knife_edge({seed})")


@needs_interpreter
@pytest.mark.parametrize("activation", ["RELU6", "RELU_N1_TO_1"])
def test_bound_of_an_activation_on_a_half_rounds_as_in_the_interpreter(activation: str) -> None:
    bound = 6.0 if activation == "RELU6" else 1.0
    for steps in range(1, 60):
        for near in (np.float32(0), np.float32(np.inf)):  # the two float32 scales around the half
            graph = Int8Graph(steps, samples=1)
            scale = float(np.nextafter(np.float32(bound / (steps + 0.5)), near))
            x = graph.input((1, 8, 8, 3), (scale, -60))
            assert_equal(graph.finish("pool", graph.max_pool(x, (1, 1), activation=activation)), f"{steps} {near}")


@needs_interpreter
@pytest.mark.parametrize("name", ["logistic", "tanh", "softmax", "hard_swish"])
def test_function_of_every_input_at_any_scale_is_that_of_the_interpreter(name: str) -> None:
    for exponent in range(-20, 8):
        for zero_point in (-128, 0, 127):
            graph = Int8Graph(exponent & 0xFF, samples=1)
            scale = 1.37 * 2.0**exponent
            x = graph.input((16, 64), (scale, zero_point))
            more = [(scale * 2.0 ** (exponent % 16 - 6), 5)] if name == "hard_swish" else []
            assert_equal(graph.finish(name, getattr(graph, name)(x, *more)), f"{name} {scale} {zero_point}")


@needs_interpreter
@pytest.mark.parametrize("error", [0.0199, 0.0201])
def test_bias_scale_of_a_dense_layer_is_refused_where_the_interpreter_refuses_it(error: float) -> None:
    bias_scale = 0.5 * 0.25 + error * 2.0
    builder = TFLiteBuilder()
    x = builder.tensor("x", (1, 1), "int8", scales=0.5)
    w = builder.tensor("w", (1, 1), "int8", scales=0.25, data=np.ones((1, 1), np.int8))
    b = builder.tensor("b", (1,), "int32", scales=bias_scale, data=np.zeros(1, np.int32))
    y = builder.tensor("y", (1, 1), "int8", scales=2.0)
    builder.operator("FULLY_CONNECTED", [x, w, b], [y], "FullyConnectedOptions")
    model = builder.finish([x], [y])
    if error < 0.02:
        ReferenceInterpreter(model)
        dense_parameters(0.5, 0.25, 2.0, 1, bias_scale)
    else:
        with pytest.raises(RuntimeError):
            ReferenceInterpreter(model)
        with pytest.raises(ModelError, match=r"bias scale is 0\.1652, .* 0\.125: .* 0\.02 output scales of 2\.0"):
            dense_parameters(0.5, 0.25, 2.0, 1, bias_scale)


def test_the_same_seed_gives_the_same_model() -> None:
    for name, model in MODELS.items():
        assert model(3).data == model(3).data, name


@pytest.mark.parametrize("name", ["conv", "depthwise", "dense", "add", "sub", "mul", "leaky_relu"])
def test_fitted_outputs_use_the_int8_range(name: str) -> None:
    ranges = []
    for seed in range(SEEDS):
        network = MODELS[name](seed)
        outputs = [network.run(network.random_inputs(i))[0] for i in range(8)]
        ranges.append(int(np.max(outputs)) - int(np.min(outputs)))
    assert np.median(ranges) > 160
