"""Recipes: 16 bits, 4 bits, and mixed within a budget."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import tvm_tinyml as tinyml
from tests.quantization.networks import cnn, four_layers, keyword_spotting
from tests.simulated import needs_simulator
from tvm_tinyml.errors import QuantizationError, TargetError
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.passes import FoldQuantization
from tvm_tinyml.passes.weight_codes import Kind, coding_of
from tvm_tinyml.pipeline import compile_model
from tvm_tinyml.quantization.grids import NARROW
from tvm_tinyml.quantization.mixed import all_narrow, budgets_of, bytes_of, mixed
from tvm_tinyml.quantization.report import Point, QuantizationReport
from tvm_tinyml.quantization.statistics import batches
from tvm_tinyml.reference.evaluate import evaluate
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.verification import verify


def evaluate_all(model: tinyml.Model, inputs: np.ndarray) -> np.ndarray:
    made = [evaluate(model.module, arrays)[0] for arrays in batches(model.module, [inputs])]
    return np.concatenate(made).reshape(len(inputs), -1)


def weights(model: tinyml.Model) -> dict[str, np.ndarray]:
    return {
        str(b.var.name): b.value.args[1].value.numpy()
        for block in FoldQuantization()(model.module)["main"].body.blocks
        for b in block.bindings
        if str(b.value.op.name) in ("tinyml.conv2d", "tinyml.dense")
    }


@needs_simulator
@pytest.mark.parametrize(
    ("recipe", "narrow"),
    [
        ("int8", "channel"),
        ("int16x8", "channel"),
        ("mixed:100%", "channel"),
        *(("w4", way) for way in NARROW),
    ],
)
def test_a_library_computes_the_bytes_of_the_integer_graph(recipe: str, narrow: str) -> None:
    network = cnn()
    model = tinyml.quantize(network.model, recipe, calibration=network.samples, observer="min-max", narrow=narrow)
    result = verify(model, tinyml.build(model, "cortex-m4", emit="lib"))
    assert (result.differing, result.samples) == (0, 3)


def test_more_bits_are_closer() -> None:
    network = four_layers()
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


@pytest.mark.parametrize(
    ("narrow", "kind"), [("channel", Kind.PLAIN), ("group", Kind.SCALED), ("codebook", Kind.TABLE)]
)
def test_layers_with_kernels_for_them_have_four_bits(narrow: str, kind: Kind) -> None:
    network = keyword_spotting()
    model = tinyml.quantize(network.model, "w4", calibration=network.samples, observer="min-max", narrow=narrow)
    report = model.quantization
    assert report is not None
    bits = {layer.name: layer.bits for layer in report.layers}
    assert set(bits.values()) == {4, 8}
    for name, values in weights(model).items():
        coding = coding_of(values)
        assert (coding.kind if coding else None) == (kind if bits[name] == 4 else None)
        assert bits[name] == (8 if values.shape[-1] == 1 and values.ndim == 4 and values.shape[1:3] == (3, 3) else 4)


@pytest.mark.parametrize("budget", ["60%", "75.5%", "5000", "100%"])
def test_a_budget_is_kept_and_used(budget: str) -> None:
    network = four_layers()
    model = tinyml.quantize(network.model, f"mixed:{budget}", calibration=network.samples, observer="min-max")
    report = model.quantization
    assert report is not None
    whole = bytes_of(network.model.module, {}, "codebook")
    allowed = whole * float(budget[:-1]) / 100 if budget.endswith("%") else int(budget)
    taken = report.weight_bytes
    assert taken <= allowed
    steps = [point.weight_bytes for point in report.choices]
    assert steps == sorted(steps, reverse=True)
    assert steps[0] == whole
    best = max((point for point in report.choices if point.weight_bytes <= allowed), key=lambda point: point.decibels)
    assert (taken, {layer.name for layer in report.layers if layer.bits == 4}) == (best.weight_bytes, set(best.narrow))


def test_a_budget_that_cannot_be_met_is_refused_with_the_nearest_that_can() -> None:
    network = four_layers()
    least = bytes_of(network.model.module, all_narrow(network.model.module), "codebook")
    with pytest.raises(QuantizationError, match=rf"no way to keep to weights of 1,000.*mixed:weights={least} or more"):
        tinyml.quantize(network.model, "mixed:1000", calibration=network.samples)
    tinyml.quantize(network.model, f"mixed:weights={least}", calibration=network.samples[:4], observer="min-max")


def device(recipe: str) -> QuantizationReport:
    network = four_layers()
    how = {"calibration": network.samples[:16], "observer": "min-max", "narrow": "channel"}
    model = tinyml.quantize(network.model, recipe, **how, target="cortex-m4", memory="zero-wait")
    assert model.quantization is not None
    return model.quantization


@needs_simulator
def test_budgets_on_a_device_are_kept_and_used() -> None:
    loose = device("mixed:cycles=1000%")
    whole, narrow = loose.choices[0], loose.choices[-1]
    assert (whole.name, whole.narrow) == ("int8", ())
    assert len(narrow.narrow) == len(loose.choices) - 1 == 4
    for before, point in pairwise(loose.choices):
        assert point.narrow[:-1] == before.narrow
        assert point.name == f"and {point.narrow[-1]}"
    assert whole.flash_bytes is not None
    assert narrow.flash_bytes is not None
    assert narrow.flash_bytes < whole.flash_bytes
    middle = loose.choices[1]
    tight = device(f"mixed:flash={middle.flash_bytes},cycles={middle.cycles}")
    assert {layer.name for layer in tight.layers if layer.bits == 4} == set(middle.narrow)


@needs_simulator
def test_budgets_that_exclude_each_other_name_the_nearest() -> None:
    with pytest.raises(QuantizationError, match=r"keep to flash of 1,000: with weights of 8 bits it is \d+,\d+"):
        device("mixed:flash=1000")
    with pytest.raises(QuantizationError, match=r"no way to keep to flash of") as refused:
        device("mixed:flash=85%,ram=100%")
    assert re.search(r"\d of 4 layers stay at 8 bits: with 4, each takes ram of \d,\d+ or more", str(refused.value))
    flash = re.search(r"Ask for (mixed:flash=\d+) or more", str(refused.value))
    assert flash
    device(f"{flash[1]},ram=100%")


def test_budgets_that_no_step_keeps_to_together_name_a_step() -> None:
    """Each layer saves 1,000 bytes of flash and costs 10 cycles; the first two allow for both budgets never."""
    module = four_layers().model.module

    def point(names: Sequence[str], _on_target: bool) -> Point:
        count = len(names)
        return Point("", 4000 - 500 * count, 40.0 - count, tuple(names), 9000 - 1000 * count, 100, 50 + 10 * count)

    budgets = budgets_of("mixed:flash=7000,cycles=60")
    with pytest.raises(QuantizationError) as refused:
        mixed(module, budgets, point)
    assert "No step keeps to all budgets at once" in str(refused.value)
    near = re.search(r"mixed:flash=\d+,cycles=\d+", str(refused.value))
    assert near
    bits, steps = mixed(module, budgets_of(near[0]), point)
    assert len(steps) == 5
    assert 1 <= len(bits) <= 2


def test_budgets_of_a_device_need_one() -> None:
    with pytest.raises(QuantizationError, match=r"Budgets of ram, cycles are those of a target\. Name one"):
        tinyml.quantize(cnn().model, "mixed:ram=3000,cycles=1000", calibration="random")
    with pytest.raises(QuantizationError, match="There is no budget of 'rom'"):
        tinyml.quantize(cnn().model, "mixed:rom=3000", calibration="random")


def test_options_that_nobody_has_are_refused() -> None:
    with pytest.raises(QuantizationError, match=r"There is no option 'goals'\. Did you mean 'goal'\?"):
        tinyml.quantize(cnn().model, calibration="random", target="cortex-m4", goals="time")
    with pytest.raises(QuantizationError, match="There is no option 'observers'"):
        tinyml.quantize(cnn().model, calibration="random", observers="mse")
    with pytest.raises(QuantizationError, match=r"Option 'goal' is one of builds.* Name a target"):
        tinyml.quantize(cnn().model, calibration="random", goal="time")
    with pytest.raises(TargetError, match="cortex-m44"):
        tinyml.quantize(cnn().model, calibration="random", target="cortex-m44")


@needs_simulator
def test_with_a_target_the_report_tells_what_precisions_take() -> None:
    eight, four = device("w4").choices
    assert (eight.name, four.name) == ("int8", "w4")
    assert eight.flash_bytes is not None
    assert four.flash_bytes is not None
    assert four.flash_bytes < eight.flash_bytes
    assert "cycles" in device("int8").text()


def test_accuracy_is_told_for_samples_with_labels(tmp_path: Path) -> None:
    network = keyword_spotting()
    inputs = network.samples[:40]
    labels = evaluate_all(network.model, inputs).argmax(axis=1)
    labels[:10] = (labels[:10] + 1) % 12
    np.savez(tmp_path / "scored.npz", inputs=inputs, labels=labels)
    for scored in (tmp_path / "scored.npz", (inputs, labels)):
        model = tinyml.quantize(
            network.model, "int16x8", calibration=network.samples, observer="min-max", accuracy_on=scored
        )
        assert model.quantization is not None
        found = model.quantization.accuracy
        assert found is not None
        assert (found.samples, found.float_right) == (40, 0.75)
        assert abs(found.integer_right - 0.75) <= 1 - found.same <= 0.2
        assert found.text() in model.quantization.text()


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    network = keyword_spotting()
    inputs = network.samples[:4]
    np.savez(tmp_path / "bare.npz", inputs=inputs)
    for scored, text in (
        (tmp_path / "bare.npz", "has no array 'labels'"),
        ((inputs, np.zeros(3, int)), "There are 4 samples and 3 labels of type int64"),
        ((inputs, np.zeros(4)), "labels of type float64"),
        ((inputs, np.array([0, 1, 2, 12])), "Labels 0 to 12 do not fit 'net' with 1 outputs, the first of 12 numbers"),
    ):
        with pytest.raises(QuantizationError, match=text):
            tinyml.quantize(network.model, calibration="random", accuracy_on=scored)


@pytest.mark.parametrize("recipe", ["mixed:", "mixed:half", "mixed:-3", "mixed:60 %"])
def test_a_budget_that_is_no_number_is_refused(recipe: str) -> None:
    with pytest.raises(QuantizationError, match=re.escape(repr(recipe)) + " names no budget"):
        tinyml.quantize(cnn().model, recipe, calibration="random")


def test_a_target_that_cannot_unpack_refuses_four_bits() -> None:
    """All that there are can: here is one without recipes."""
    network, bare = keyword_spotting(), replace(cortex_m("cortex-m4"), recipes=lambda _goal: {})
    model = tinyml.quantize(network.model, "w4", calibration=network.samples[:8], observer="min-max")
    with pytest.raises(TargetError, match=r"6 layers of 'net' have weights of 4 bits, and cortex-m4 has no kernel"):
        compile_model(model, bare, BuildOptions())
    eight = tinyml.quantize(network.model, calibration="random", observer="min-max")
    compile_model(eight, bare, BuildOptions(emit="lib"))


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
