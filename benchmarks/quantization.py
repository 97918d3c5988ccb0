"""How much quantization costs: ``python -m benchmarks.quantization [MODEL ...]``.

The four networks of MLPerf Tiny, float, calibrated with seeded inputs or real ones (`calibration_data`) and computed as
integers, beside the published int8 files of the same networks. Writes ``results/quantization.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

import tvm_tinyml as tinyml
from benchmarks.baseline import shared_models
from benchmarks.calibration_data import images, log_mels
from tvm_tinyml.arrays import fit
from tvm_tinyml.model import Model
from tvm_tinyml.passes import FoldQuantization
from tvm_tinyml.quantization.network import MEASURED
from tvm_tinyml.quantization.observers import OBSERVERS
from tvm_tinyml.quantization.signal import before_softmax, decibels
from tvm_tinyml.reference.evaluate import takes_samples, trace
from tvm_tinyml.tables import table

RESULTS = Path(__file__).with_name("results")

Array = NDArray[Any]

CALIBRATION_SEED, SCORE_SEED = 1, 2


@dataclass(frozen=True)
class Case:
    """A float network, its published int8 file, and inputs: from a number of samples and a seed."""

    name: str
    real: str
    published: str
    inputs: Callable[[int, int], Array]
    calibration: int
    scored: int


CASES = (
    Case("ad", "ad01_fp32", "ad01_int8", log_mels, 200, 200),
    Case("ic", "pretrainedResnet", "pretrainedResnet_quant", lambda n, seed: 255 * images(n, 32, seed), 100, 100),
    Case("vww", "vww_96_float", "vww_96_int8", lambda n, seed: images(n, 96, seed), 100, 100),
)


def logits(model: Model, inputs: Array) -> Array:
    """Return what a network computes before a softmax at its end, float64 [samples, ...].

    Parameters
    ----------
    model : float, or quantized: then it is computed in integers, and these are taken for what they mean.
    inputs : float32 [samples, *shape].
    """
    if model.is_float:
        (output,) = before_softmax(model.module)
        return _values(model, inputs, output).astype(np.float64)
    integers, scale, zero_point = _integers_before_softmax(model)
    folded = Model(model.name, FoldQuantization()(model.module), model.inputs, model.outputs, model.reference)
    (named,) = {
        binding.var
        for block in folded.module["main"].body.blocks
        for binding in block.bindings
        if binding.var.name == integers
    }
    arrays, _ = fit(inputs, [vars(spec) for spec in model.inputs])
    return scale * (_values(folded, arrays[0], named).astype(np.float64) - zero_point)


def _values(model: Model, inputs: Array, variable: relax.Var) -> Array:
    assert takes_samples(model.module)
    parts = np.array_split(inputs, max(1, len(inputs) // 10))
    return np.concatenate(
        [
            trace(
                model.module, [part.reshape(-1, *part.shape[2:]) if part.ndim > len(model.inputs[0].shape) else part]
            )[variable]
            for part in parts
        ]
    )


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
    dequantize = values[real.args[0]]
    tensor, scale, zero_point = dequantize.args
    return str(tensor.name), float(scale.value.numpy()), int(zero_point.value.numpy())


def signal_to_noise(wanted: Array, made: Array) -> float:
    """Return decibels."""
    return decibels(float(np.square(wanted).mean()), float(np.square(wanted - made).mean()))


def measure(case: Case, observers: Sequence[str]) -> dict[str, Any]:
    """Quantize with each observer and compare with the float network."""
    folder = shared_models()
    real, published = (tinyml.load(folder / f"{name}.tflite") for name in (case.real, case.published))
    calibration, scored = case.inputs(case.calibration, CALIBRATION_SEED), case.inputs(case.scored, SCORE_SEED)
    wanted = logits(real, scored)
    rows: dict[str, Any] = {"published": {"decibels": signal_to_noise(wanted, logits(published, scored))}}
    for observer in observers:
        started = time.perf_counter()
        model = tinyml.quantize(real, calibration=calibration, observer=observer)
        seconds = time.perf_counter() - started
        rows[observer] = {"decibels": signal_to_noise(wanted, logits(model, scored)), "seconds": seconds}
        print(case.name, observer, rows[observer], flush=True)
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(case.name for case in CASES))
    parser.add_argument("--observer", action="append", choices=[*OBSERVERS, MEASURED])
    options = parser.parse_args()
    observers = options.observer or [*OBSERVERS, MEASURED]
    found = {c.name: measure(c, observers) for c in CASES if c.name in (options.models or [c.name])}
    rows = [(name, *(each["decibels"] for each in found[name].values())) for name in found]
    print(table(("network", "published, dB", *observers), rows))
    (RESULTS / "quantization.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
