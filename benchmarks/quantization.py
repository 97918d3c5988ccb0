"""What quantization costs: ``python -m benchmarks.quantization [CASE ...]``.

``ad``, ``ic``, ``vww``: three networks of MLPerf Tiny, float, calibrated and scored with seeded inputs like theirs:
decibels of signal to noise, beside the published int8 files. ``kws``: the fourth with real samples: 100 calibrate, and
the other 400 are scored once for each configuration. ``digits``: networks trained by `examples.digits`, scored on the
half of the pictures that they did not learn from. ``bytes``: libraries against the integer graph in numpy, 100 inputs
each. ``devices``: cycles, flash and RAM of weights of four bits beside eight, by the timing model. Writes
``results/quantization-CASE.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

import tvm_tinyml as tinyml
from benchmarks.baseline import shared_models
from benchmarks.calibration_data import Keywords, images, keywords, log_mels
from tvm_tinyml.arrays import fit
from tvm_tinyml.model import Model
from tvm_tinyml.passes import FoldQuantization
from tvm_tinyml.quantization.attempt import MEASURED
from tvm_tinyml.quantization.grids import NARROW
from tvm_tinyml.quantization.mixed import bytes_of
from tvm_tinyml.quantization.observers import OBSERVERS
from tvm_tinyml.quantization.signal import before_softmax, decibels
from tvm_tinyml.reference.evaluate import evaluate, takes_samples, trace
from tvm_tinyml.tables import table
from tvm_tinyml.verification import verify

RESULTS = Path(__file__).with_name("results")

DEVICES = (
    *(("cortex-m4", "time", memory) for memory in ("l4r5zi-120", "zero-wait")),
    *((core, "balanced", "zero-wait") for core in ("cortex-m3", "cortex-m0plus")),
)
"""Core, goal and memory."""

Array = NDArray[Any]
Rows = dict[str, dict[str, Any]]
"""By configuration."""

CALIBRATION_SEED, SCORE_SEED, BOOTSTRAP_SEED = 1, 2, 3

RESAMPLES = 10_000

TOGETHER = 10
"""Samples that are computed at a time."""

CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {
    **{observer: {"observer": observer} for observer in (*OBSERVERS, MEASURED)},
    "min-max, nothing corrected": {"observer": "min-max", "bias_correction": False, "equalization": False},
    "int16x8": {"recipe": "int16x8"},
    **{
        f"{recipe}, {narrow}": {"recipe": recipe, "narrow": narrow}
        for recipe in ("w4", "mixed:60%")
        for narrow in NARROW
    },
}
"""What is compared: options of `quantize`."""

SOME = (MEASURED, "min-max", "int16x8", *(name for name in CONFIGURATIONS if name.startswith(("w4", "mixed"))))
"""Of these, for networks that are trained here."""


@dataclass(frozen=True)
class Case:
    """A float network, its published int8 file, and inputs: from a number of samples and a seed."""

    real: str
    published: str
    inputs: Callable[[int, int], Array]
    samples: int


CASES = {
    "ad": Case("ad01_fp32", "ad01_int8", log_mels, 200),
    "ic": Case("pretrainedResnet", "pretrainedResnet_quant", lambda n, seed: 255 * images(n, 32, seed), 100),
    "vww": Case("vww_96_float", "vww_96_int8", lambda n, seed: images(n, 96, seed), 100),
}


# What networks compute ------------------------------------------------------------------------------------------------


def outputs(model: Model, inputs: Array) -> Array:
    """Return the outputs of a network in real numbers, float64 [samples, ...]; a quantized one computes in integers."""
    if model.is_float:
        return np.concatenate([evaluate(model.module, [part])[0] for part in _parts(model, inputs)]).astype(np.float64)
    (spec,), folded = model.outputs, FoldQuantization()(model.module)
    assert spec.scale is not None
    assert spec.zero_point is not None
    made = np.concatenate([evaluate(folded, [part])[0] for part in _parts(model, inputs)])
    return spec.scale * (made.astype(np.float64) - spec.zero_point)


def logits(model: Model, inputs: Array) -> Array:
    """Return what a network computes before a softmax at its end, as `outputs`."""
    if model.is_float:
        (variable,), module, scale, zero_point = before_softmax(model.module), model.module, 1.0, 0
    else:
        name, scale, zero_point = _integers_before_softmax(model)
        module = FoldQuantization()(model.module)
        bindings = [binding for block in module["main"].body.blocks for binding in block.bindings]
        variable = next(binding.var for binding in bindings if binding.var.name == name)
    assert takes_samples(module)
    made = np.concatenate([trace(module, [part])[variable] for part in _parts(model, inputs)])
    return scale * (made.astype(np.float64) - zero_point)


def with_float_activations(model: Model, inputs: Array) -> Array:
    """Return the outputs of a quantized network of which only the weights are rounded: what they allow at best."""

    def skip(_var: relax.Var, call: relax.Call, arguments: Sequence[Any], result: Any) -> Any:
        rounds = str(call.op.name) in ("relax.quantize", "relax.dequantize") and arguments[0].dtype == np.float32
        return arguments[0] if rounds else result

    return evaluate(model.module, [inputs.astype(np.float32)], skip)[0].astype(np.float64)


def _parts(model: Model, inputs: Array) -> list[Array]:
    """Return the inputs as the model takes them, some samples at a time."""
    arrays, _ = fit(inputs, [vars(spec) for spec in model.inputs])
    flat = arrays[0].reshape(-1, *arrays[0].shape[2:])
    return np.array_split(flat, max(1, len(flat) // TOGETHER))


def _integers_before_softmax(model: Model) -> tuple[str, float, int]:
    """Return name, scale and zero point of the tensor that the softmax at the end reads, or of the output."""
    main = model.module["main"]
    values = {binding.var: binding.value for block in main.body.blocks for binding in block.bindings}
    (spec,) = model.outputs
    assert spec.scale is not None
    assert spec.zero_point is not None
    real = values[values[main.body.body].args[0]]
    if str(real.op.name) != "relax.nn.softmax":
        return str(main.body.body.name), spec.scale, spec.zero_point
    tensor, scale, zero_point = values[real.args[0]].args
    return str(tensor.name), float(scale.value.numpy()), int(zero_point.value.numpy())


def signal_to_noise(wanted: Array, made: Array) -> float:
    """Return decibels."""
    return decibels(float(np.square(wanted).mean()), float(np.square(wanted - made).mean()))


# Cases ----------------------------------------------------------------------------------------------------------------


def signals(case: Case, chosen: Mapping[str, Mapping[str, Any]]) -> Rows:
    """Return decibels of the logits for the published file and each configuration."""
    real, published = (tinyml.load(shared_models() / f"{name}.tflite") for name in (case.real, case.published))
    calibration, scored = (case.inputs(case.samples, seed) for seed in (CALIBRATION_SEED, SCORE_SEED))
    wanted = logits(real, scored)
    rows: Rows = {"published int8": {"decibels": signal_to_noise(wanted, logits(published, scored))}}
    for name, options in chosen.items():
        model, seconds = _quantized(real, calibration, options)
        ratio = signal_to_noise(wanted, logits(model, scored))
        rows[name] = {"decibels": ratio, **_sizes(real, model), "seconds": seconds}
        if model.inputs[0].dtype == "int16":
            best = (
                signal_to_noise(wanted, with_float_activations(model, scored)) if case.real.startswith("ad") else None
            )
            rows[name]["float activations, decibels"] = best
        print(name, rows[name], flush=True)
    return rows


def spotted(chosen: Mapping[str, Mapping[str, Any]]) -> Rows:
    """Return accuracy, agreement with the float network and divergence from its softmax, on samples never looked at."""
    folder = shared_models()
    real, published = (tinyml.load(folder / f"{n}.tflite") for n in ("kws_ref_model_float32", "kws_ref_model"))
    calibration, scored = keywords(folder.parents[1] / "data" / "kws01" / "kws01_dev.npz")
    wanted = outputs(real, scored.samples)
    other = _divergence(wanted, outputs(published, scored.samples), published.outputs[0].scale or 0.0)
    rows: Rows = {
        "float": {"accuracy": _accuracy(wanted, scored)},
        "published int8": _scores(published, scored, wanted, other),
    }
    for name, options in chosen.items():
        model, seconds = _quantized(real, calibration.samples, options)
        rows[name] = {**_scores(model, scored, wanted, other), **_sizes(real, model), "seconds": seconds}
        print(name, rows[name], flush=True)
    return rows


def digits(chosen: Mapping[str, Mapping[str, Any]]) -> Rows:
    """Return the accuracy of our own networks, which are trained here."""
    import torch

    from examples.digits.networks import NETWORKS, train
    from tvm_tinyml import demo

    seen, unseen = demo.halves()
    rows: Rows = {}
    for name, build in NETWORKS.items():
        network = train(build, seen)
        real = tinyml.load(torch.export.export(network, (torch.zeros(1, 1, 8, 8),)), name=name)
        pictures = [np.asarray(half.images, np.float32).reshape(-1, 1, 8, 8) for half in (seen, unseen)]
        right = {"float": _right(real, pictures[1], unseen.labels)}
        for configuration, options in chosen.items():
            model, _ = _quantized(real, pictures[0][:100], options)
            right[configuration] = _right(model, pictures[1], unseen.labels)
        rows[name] = right
        print(name, right, flush=True)
    return rows


def same_bytes() -> Rows:
    """Return how many bytes of libraries differ from the integer graph in numpy, on 100 random inputs."""
    ways = [("int8", "codebook"), ("int16x8", "codebook"), *(("w4", narrow) for narrow in NARROW)]
    rows: Rows = {}
    for name, case in {**CASES, "kws": Case("kws_ref_model_float32", "", _like_keywords, 100)}.items():
        real = tinyml.load(shared_models() / f"{case.real}.tflite")
        for recipe, narrow in ways:
            how: dict[str, Any] = {"observer": "min-max", "equalization": False, "narrow": narrow}
            model = tinyml.quantize(real, recipe, calibration=case.inputs(20, CALIBRATION_SEED), **how)
            result = verify(model, tinyml.build(model, "cortex-m4", emit="lib"), samples=100)
            row = f"{name} {recipe}{f' {narrow}' if recipe == 'w4' else ''}"
            rows[row] = {"differing": result.differing, "of": result.compared}
            print(row, result, flush=True)
    return rows


def on_devices() -> Rows:
    """Return what weights of four bits take beside those of eight: cycles, flash and RAM.

    Only sizes are compared: ranges are those of a few samples.
    """
    rows: Rows = {}
    spotting = Case("kws_ref_model_float32", "", _like_keywords, 100)
    cases = {**{name: CASES[name] for name in ("ad", "vww")}, "kws": spotting}
    for name, case in cases.items():
        real = tinyml.load(shared_models() / f"{case.real}.tflite")
        for recipe, narrow in (("int8", "channel"), *(("w4", narrow) for narrow in NARROW)):
            how: dict[str, Any] = {"observer": "min-max", "equalization": False, "narrow": narrow}
            model = tinyml.quantize(real, recipe, calibration=case.inputs(4, CALIBRATION_SEED), **how)
            for target, goal, memory in DEVICES:
                library = tinyml.build(model, target, goal=goal, memory=memory, io="workspace", emit="lib")
                row = f"{name} {recipe}{f' {narrow}' if recipe == 'w4' else ''}, {target} {memory} {goal}"
                taken = {"flash, bytes": library.flash_bytes, "RAM, bytes": library.ram_bytes}
                rows[row] = {"cycles": library.profile().cycles, **taken}
                print(row, rows[row], flush=True)
    return rows


def _like_keywords(count: int, seed: int) -> Array:
    return np.random.default_rng(seed).normal(-10, 20, (count, 49, 10, 1)).astype(np.float32)


def _quantized(real: Model, calibration: Array, options: Mapping[str, Any]) -> tuple[Model, float]:
    started = time.perf_counter()
    model = tinyml.quantize(real, calibration=calibration, **options)
    return model, round(time.perf_counter() - started, 1)


def _sizes(real: Model, model: Model) -> dict[str, Any]:
    report = model.quantization
    assert report is not None
    whole = bytes_of(real.module, {}, report.narrow)
    return {"weight_bytes": report.weight_bytes, "of_int8": report.weight_bytes / whole, "equalized": report.equalized}


def _right(model: Model, inputs: Array, labels: Array) -> float:
    return float((outputs(model, inputs).argmax(1) == labels).mean())


def _accuracy(made: Array, scored: Keywords) -> float:
    return float((made.argmax(1) == scored.labels).mean())


def _scores(model: Model, scored: Keywords, wanted: Array, other: Array) -> dict[str, Any]:
    """Return what a network scores.

    Parameters
    ----------
    other : divergences of the published file, sample by sample.
    """
    made = outputs(model, scored.samples)
    own = _divergence(wanted, made, model.outputs[0].scale or 0.0)
    draws = np.random.default_rng(BOOTSTRAP_SEED).integers(0, len(own), (RESAMPLES, len(own)))
    low, high = np.quantile((own - other)[draws].mean(axis=1), (0.025, 0.975))
    return {
        "accuracy": _accuracy(made, scored),
        "agreement": float((made.argmax(1) == wanted.argmax(1)).mean()),
        "divergence": float(own.mean()),
        "more_than_published": [float(low), float(high)],
    }


def _divergence(wanted: Array, made: Array, scale: float) -> Array:
    """Return for each sample the Kullback-Leibler divergence from the float softmax; a 0 counts as half of a scale."""
    ratio = np.log(np.maximum(wanted, 1e-12) / np.maximum(made, scale / 2))
    divergence: Array = (wanted * ratio).sum(axis=1)
    return divergence


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [*CASES, "kws", "digits", "bytes", "devices"]
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(names))
    parser.add_argument("--only", action="append", choices=CONFIGURATIONS, help="these, beside results that there are")
    options = parser.parse_args()
    chosen = {name: CONFIGURATIONS[name] for name in options.only or CONFIGURATIONS}
    few = {name: chosen[name] for name in SOME if name in chosen}
    runs: dict[str, Callable[[], Rows]] = {
        **{name: (lambda case=case: signals(case, chosen)) for name, case in CASES.items()},
        "kws": lambda: spotted(chosen),
        "digits": lambda: digits(few),
        "bytes": same_bytes,
        "devices": on_devices,
    }
    for name in options.cases or names:
        found = runs[name]()
        columns = list(dict.fromkeys(key for row in found.values() for key in row))
        print(table(("", *columns), [(row, *(_cell(found[row].get(key)) for key in columns)) for row in found]))
        file = RESULTS / f"quantization-{name}.json"
        before = json.loads(file.read_text(encoding="utf-8")) if options.only and file.exists() else {}
        file.write_text(json.dumps(before | found, indent=1) + "\n", encoding="utf-8")


def _cell(value: Any) -> str | None:
    if isinstance(value, list):
        return " to ".join(f"{number:.5f}" for number in value)
    return f"{value:.4g}" if isinstance(value, float) else None if value is None else str(value)


if __name__ == "__main__":
    main()
