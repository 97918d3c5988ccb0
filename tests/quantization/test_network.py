"""Whole networks: close to the float one, the same bytes in the library, whatever way samples come in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tvm_ffi import structural_equal

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph
from tests.quantization.networks import NETWORKS, FloatNetwork, cnn, integers, keyword_spotting, of
from tests.simulated import needs_simulator
from tvm_tinyml.errors import InputError, QuantizationError
from tvm_tinyml.frontend import load
from tvm_tinyml.passes import FoldQuantization
from tvm_tinyml.quantization.observers import OBSERVERS
from tvm_tinyml.quantization.signal import decibels
from tvm_tinyml.reference.evaluate import evaluate


def signal_to_noise(network: FloatNetwork, model: tinyml.Model) -> float:
    """Return decibels of the outputs in integers against those in floats, over the samples."""
    wanted = evaluate(network.model.module, [network.samples[:, 0]])[0]
    (spec,) = model.outputs
    assert spec.scale is not None
    made = evaluate(FoldQuantization()(model.module), [integers(network.samples[:, 0], model)])[0]
    real = spec.scale * (made.astype(np.float64) - spec.zero_point)
    return decibels(float(np.square(wanted).mean()), float(np.square(wanted - real).mean()))


@pytest.mark.parametrize("observer", [*OBSERVERS, "measured"])
@pytest.mark.parametrize("name", NETWORKS)
def test_integers_stay_close_to_the_float_network(name: str, observer: str) -> None:
    network = NETWORKS[name]()
    model = tinyml.quantize(network.model, calibration=network.samples, observer=observer)
    assert {spec.dtype for spec in (*model.inputs, *model.outputs)} == {"int8"}
    # Ranges that leave numbers out on purpose lose some.
    assert signal_to_noise(network, model) > (12 if observer in ("entropy", "moving-average") else 26)


def test_what_is_measured_is_not_worse_than_an_observer() -> None:
    network = cnn()
    found = {
        name: signal_to_noise(network, tinyml.quantize(network.model, calibration=network.samples, observer=name))
        for name in (*OBSERVERS, "measured")
    }
    assert found["measured"] >= max(found.values()) - 0.5


def test_correcting_biases_and_equalizing_help() -> None:
    network = keyword_spotting()
    found = [
        signal_to_noise(
            network,
            tinyml.quantize(
                network.model, calibration=network.samples, observer="min-max", bias_correction=both, equalization=both
            ),
        )
        for both in (False, True)
    ]
    assert found[1] > found[0]


@needs_simulator
@pytest.mark.parametrize("name", NETWORKS)
def test_a_library_computes_the_bytes_of_the_integer_graph(name: str) -> None:
    network = NETWORKS[name]()
    model = tinyml.quantize(network.model, calibration=network.samples, observer="min-max")
    library = tinyml.build(model, "cortex-m4", emit="lib")
    x = integers(network.samples[:, 0], model)
    (expected,) = evaluate(FoldQuantization()(model.module), [x])
    made = library.run({model.inputs[0].name: network.samples})
    np.testing.assert_array_equal(made[model.outputs[0].name].reshape(expected.shape), expected)


def test_the_same_samples_give_the_same_network() -> None:
    network = NETWORKS["branches"]()
    first, second = (tinyml.quantize(network.model, calibration=network.samples) for _ in range(2))
    assert structural_equal(first.module, second.module)
    assert first.inputs == second.inputs


def batches(network: FloatNetwork) -> Iterator[Any]:
    """As a data loader yields them: batches with labels."""
    for i in range(0, len(network.samples), 10):
        batch = network.samples[i : i + 10, 0]
        yield [batch, np.zeros(len(batch))]


WAYS: dict[str, Callable[[FloatNetwork, Path], Any]] = {
    "array": lambda n, _: n.samples,
    "batch": lambda n, _: n.samples[:, 0],
    "names": lambda n, _: {n.model.inputs[0].name: n.samples},
    "list": lambda n, _: list(n.samples),
    "mappings": lambda n, _: ({n.model.inputs[0].name: sample} for sample in n.samples),
    "loader": lambda n, _: batches(n),
    "file": lambda n, folder: _saved(n, folder),
    "path": lambda n, folder: Path(_saved(n, folder)),
}


def _saved(network: FloatNetwork, folder: Path) -> str:
    np.savez(folder / "x.npz", **{network.model.inputs[0].name: network.samples, "labels": np.arange(64)})
    return str(folder / "x.npz")


@pytest.mark.parametrize("way", WAYS)
def test_samples_come_in_any_form(way: str, tmp_path: Path) -> None:
    network = cnn()
    expected = tinyml.quantize(network.model, calibration=network.samples, observer="min-max", equalization=False)
    given = WAYS[way](network, tmp_path)
    model = tinyml.quantize(network.model, calibration=given, observer="min-max", equalization=False)
    assert structural_equal(model.module, expected.module)


def test_random_samples_are_the_same_each_time() -> None:
    network = cnn()
    first, second = (tinyml.quantize(network.model, calibration="random", observer="min-max") for _ in range(2))
    assert structural_equal(first.module, second.module)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, QuantizationError, r"needs samples of its inputs.*'input.*' float32 \[samples, 1, 10, 9, 3\]"),
        ({"calibration": []}, QuantizationError, "iterable of calibration samples is empty"),
        ({"calibration": 3}, QuantizationError, "Calibration samples are a int"),
        ({"calibration": np.zeros((4, 1, 10, 9, 2))}, InputError, r"has shape \[4, 1, 10, 9, 2\], the model takes"),
        ({"calibration": "no such.npz"}, InputError, "'no such.npz' cannot be read"),
        ({"calibration": np.full((4, 1, 10, 9, 3), np.nan)}, QuantizationError, "numbers .* that are not finite"),
        ({"calibration": "random", "observer": "mean"}, QuantizationError, "no observer 'mean'.*Known: min-max"),
        ({"calibration": "random", "recipe": "int9"}, QuantizationError, "no recipe 'int9'. Did you mean 'int8'"),
    ],
)
def test_what_cannot_be_done_is_said(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        tinyml.quantize(cnn().model, **options)


def test_an_integer_network_is_not_quantized_again() -> None:
    graph = Int8Graph(0)
    model = load(graph.finish("one", graph.conv(graph.input((1, 5, 5, 2)), 3, (3, 3))).data, name="one")
    with pytest.raises(QuantizationError, match="Network 'one' is quantized already"):
        tinyml.quantize(model, calibration="random")


def test_a_weight_that_is_zero_and_a_bias_that_is_large_are_no_obstacle() -> None:
    graph = Int8Graph(0)
    x = graph.input((1, 4, 4, 2), (0.05, 0))
    weights = np.zeros((3, 1, 1, 2), np.int8)
    weights[1] = 1
    y = graph.conv(x, 3, (1, 1), weights=weights, effective_scale=0.01, output=(0.1, 0))
    network = of(graph.finish("zero", y))
    model = tinyml.quantize(network.model, calibration=network.samples, observer="min-max")
    assert signal_to_noise(network, model) > 26


def test_progress_is_told_stage_by_stage() -> None:
    network, told = cnn(), list[tuple[str, int, int]]()
    tinyml.quantize(network.model, calibration=network.samples, progress=lambda *numbers: told.append(numbers))
    stages = {stage for stage, _, _ in told}
    assert {"least and largest numbers", "histograms", "observers", "ranges of tensors", "precisions"} <= stages
    for stage in stages:
        numbers = [(done, total) for other, done, total in told if other == stage]
        assert numbers[-1] == (numbers[-1][1], numbers[-1][1]), f"{stage} ends"
        assert all(0 <= done <= total for done, total in numbers)
