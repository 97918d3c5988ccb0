"""What layers take by precision: bytes always, cycles on a device, and nothing of what a target cannot do."""

from __future__ import annotations

import pytest

import tvm_tinyml as tinyml
from tests.quantization.networks import FloatNetwork, cnn, four_layers, keyword_spotting
from tests.simulated import needs_simulator
from tvm_tinyml.errors import ModelError
from tvm_tinyml.quantization.attempt import Attempt, Way, best_attempt
from tvm_tinyml.quantization.costs import Cost, TensorCost
from tvm_tinyml.quantization.precisions import precisions
from tvm_tinyml.quantization.report import LayerReport, QuantizationReport


def report(network: FloatNetwork, recipe: str = "int8", **options: str) -> QuantizationReport:
    how = {"observer": "min-max", "equalization": False, "calibration": network.samples}
    made = tinyml.quantize(network.model, recipe, **how, **options).quantization
    assert made is not None
    return made


def recipes(layer: LayerReport) -> list[str]:
    return [precision.recipe for precision in layer.precisions]


def test_without_a_target_there_are_bytes_of_weights() -> None:
    made = report(four_layers())
    assert "int8, bytes  w4, bytes  int16x8, bytes" in made.text()
    for layer in made.layers:
        assert recipes(layer) == ["int8", "w4", "int16x8"]
        eight, four, sixteen = (precision.weight_bytes for precision in layer.precisions)
        assert four <= eight == sixteen == layer.weight_bytes
        assert {(precision.constant_bytes, precision.cycles) for precision in layer.precisions} == {(None, None)}
    assert sum(layer.precisions[1].weight_bytes for layer in made.layers) < 0.7 * made.weight_bytes


@needs_simulator
@pytest.mark.parametrize("recipe", ["int8", "w4", "int16x8"])
def test_on_a_target_layers_add_up_to_the_network(recipe: str) -> None:
    network = keyword_spotting()
    made = report(network, recipe, target="cortex-m4")
    (whole,) = (point for point in made.choices if point.name == recipe)
    position = recipes(made.layers[0]).index(recipe)
    cycles = sum(layer.precisions[position].cycles or 0 for layer in made.layers)
    stored = sum(layer.precisions[position].constant_bytes or 0 for layer in made.layers)
    assert whole.cycles is not None
    assert whole.flash_bytes is not None
    assert 0.8 * whole.cycles < cycles < whole.cycles
    assert 0.5 * whole.flash_bytes < stored < whole.flash_bytes
    for layer in made.layers:
        assert recipes(layer) == ["int8", "w4", "int16x8"]
        assert all(precision.cycles and precision.constant_bytes for precision in layer.precisions)
    assert "int8, bytes  w4, bytes  int16x8, bytes  int8, cycles  w4, cycles  int16x8, cycles" in made.text()


def test_a_precision_that_an_operator_does_not_have_is_left_out() -> None:
    network = cnn()

    def refused(_attempt: Attempt) -> Cost:
        raise ModelError("not with this type")

    attempt = best_attempt(network.model.module, [network.samples[:1]], "min-max", Way("int8", False, "channel"))
    assert set(precisions(attempt, [network.samples], None)) == {layer.name for layer in report(network).layers}
    assert list(precisions(attempt, [network.samples], refused).values()) == [[]] * len(report(network).layers)


def test_parts_of_a_layer_belong_to_it() -> None:
    parts = {"conv1": TensorCost(1, 2), "conv2": TensorCost(1, 3), "pool": TensorCost(0, 9)}
    assert Cost(0, 0, 0, parts).of("conv", ["conv"]) == TensorCost(2, 5)
    whole = {**parts, "conv": TensorCost(10, 100)}
    assert Cost(0, 0, 0, whole).of("conv", ["conv"]) == TensorCost(10, 100), "it was not cut"
    assert Cost(0, 0, 0, parts).of("fused", ["fused"]) is None
    assert Cost(0, 0, 0, parts).of("conv", ["conv", "conv1"]) == TensorCost(1, 3), "conv1 is another layer"
    assert Cost(0, 0, None, {"conv": TensorCost(4, None)}).of("conv", ["conv"]) == TensorCost(4, None)


@needs_simulator
def test_the_report_shows_bars_for_each_precision() -> None:
    network = cnn()
    model = tinyml.quantize(network.model, calibration=network.samples, observer="min-max", target="cortex-m4")
    page = tinyml.build(model, "cortex-m4", emit="lib").report()
    for title in ("int8, weights, bytes", "w4, constants, bytes", "int16x8, cycles"):
        assert title in page
