"""Recipes: 16 bits, 4 bits, and mixed within a budget."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tvm_tinyml as tinyml
from tests.quantization.networks import cnn, keyword_spotting
from tests.simulated import needs_simulator
from tvm_tinyml.errors import QuantizationError, TargetError
from tvm_tinyml.passes import FoldQuantization
from tvm_tinyml.quantization.mixed import all_narrow, bytes_of
from tvm_tinyml.verification import verify


def weights(model: tinyml.Model) -> dict[str, np.ndarray]:
    return {
        str(b.var.name): b.value.args[1].value.numpy()
        for block in FoldQuantization()(model.module)["main"].body.blocks
        for b in block.bindings
        if str(b.value.op.name) in ("tinyml.conv2d", "tinyml.dense")
    }


@needs_simulator
@pytest.mark.parametrize("recipe", ["int8", "int16x8", "w4", "mixed:100%"])
def test_a_library_computes_the_bytes_of_the_integer_graph(recipe: str) -> None:
    network = cnn()
    model = tinyml.quantize(network.model, recipe, calibration=network.samples, observer="min-max")
    result = verify(model, tinyml.build(model, "cortex-m4", emit="lib"))
    assert (result.differing, result.samples) == (0, 3)


def test_more_bits_are_closer() -> None:
    network = keyword_spotting()
    found = {
        recipe: tinyml.quantize(network.model, recipe, calibration=network.samples, observer="min-max").quantization
        for recipe in ("w4", "mixed:80%", "int8", "int16x8")
    }
    decibels = [report.decibels for report in found.values() if report]
    assert len(decibels) == 4
    assert decibels == sorted(decibels)
    assert decibels[-1] > decibels[-2] + 6


def test_activations_of_16_bits_are_symmetric() -> None:
    network = cnn()
    model = tinyml.quantize(network.model, "int16x8", calibration=network.samples, observer="min-max")
    assert {(spec.dtype, spec.zero_point) for spec in (*model.inputs, *model.outputs)} == {("int16", 0)}


def test_layers_with_kernels_for_them_have_four_bits() -> None:
    network = keyword_spotting()
    model = tinyml.quantize(network.model, "w4", calibration=network.samples, observer="min-max")
    report = model.quantization
    assert report is not None
    bits = {layer.name: layer.bits for layer in report.layers}
    assert set(bits.values()) == {4, 8}
    for name, values in weights(model).items():
        assert np.abs(values).max() <= (7 if bits[name] == 4 else 127)
        assert bits[name] == (8 if values.shape[-1] == 1 and values.ndim == 4 and values.shape[1:3] == (3, 3) else 4)


@pytest.mark.parametrize("budget", ["60%", "75.5%", "18000", "100%"])
def test_a_budget_is_kept_and_used(budget: str) -> None:
    network = keyword_spotting()
    model = tinyml.quantize(network.model, f"mixed:{budget}", calibration=network.samples, observer="min-max")
    report = model.quantization
    assert report is not None
    whole = bytes_of(network.model.module, {})
    allowed = whole * float(budget[:-1]) / 100 if budget.endswith("%") else int(budget)
    taken = report.weight_bytes
    assert taken <= allowed
    steps = [point.weight_bytes for point in report.choices]
    assert steps == sorted(steps, reverse=True)
    assert steps[0] == whole
    assert taken == max(step for step in steps if step <= allowed)
    narrow = {layer.name for layer in report.layers if layer.bits == 4}
    assert narrow == set(next(point.narrow for point in report.choices if point.weight_bytes == taken))


def test_a_budget_that_cannot_be_met_is_refused_with_the_nearest_that_can() -> None:
    network = keyword_spotting()
    least = bytes_of(network.model.module, all_narrow(network.model.module))
    with pytest.raises(QuantizationError, match=rf"cannot take 1000 bytes.*Ask for mixed:{least} or more"):
        tinyml.quantize(network.model, "mixed:1000", calibration=network.samples)
    tinyml.quantize(network.model, f"mixed:{least}", calibration=network.samples[:4], observer="min-max")


@pytest.mark.parametrize("recipe", ["mixed:", "mixed:half", "mixed:-3", "mixed:60 %"])
def test_a_budget_that_is_no_number_is_refused(recipe: str) -> None:
    with pytest.raises(QuantizationError, match=re.escape(repr(recipe)) + " names no budget"):
        tinyml.quantize(cnn().model, recipe, calibration="random")


def test_a_target_that_cannot_unpack_refuses_four_bits() -> None:
    network = keyword_spotting()
    model = tinyml.quantize(network.model, "w4", calibration=network.samples[:8], observer="min-max")
    with pytest.raises(TargetError, match=r"6 layers of 'net' have weights of 4 bits, and cortex-m0plus has no kernel"):
        tinyml.build(model, "cortex-m0plus")
    tinyml.build(tinyml.quantize(network.model, calibration="random", observer="min-max"), "cortex-m0plus", emit="lib")


def test_the_report_tells_what_was_done() -> None:
    network = cnn()
    model = tinyml.quantize(network.model, "w4", calibration=network.samples, observer="percentile", equalization=True)
    report = model.quantization
    assert report is not None
    assert (report.recipe, report.observer, report.equalized, report.samples) == ("w4", "percentile", True, 64)
    for tensor in report.tensors:
        assert tensor.low <= tensor.high
        assert 0 <= tensor.clipped_share < 0.05
        assert tensor.decibels > 5
    text = report.text()
    assert all(layer.name in text for layer in report.layers)
    assert report.as_dict()["layers"][0]["bits"] in (4, 8)
