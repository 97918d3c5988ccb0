"""What each network costs today: the figures that no change may worsen by more than 1 %.

``python -m benchmarks.baseline`` prints the table; with ``--update`` it writes ``baseline.json``, to be committed with
a reason. The gate itself is ``tests/compile/test_baseline.py``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tvm_tinyml as tinyml
from benchmarks.networks import anomaly_detection, image_classification, keyword_spotting, visual_wake_words
from tvm_tinyml.benchmark import bench
from tvm_tinyml.caveat import caveat
from tvm_tinyml.samples import sample_inputs
from tvm_tinyml.tables import table

FILE = Path(__file__).with_name("baseline.json")
TARGETS = ("cortex-m0plus", "cortex-m4")
MEMORY = "l4r5zi-120"
TOLERANCE = 0.01
"""Cycles, instructions, RAM and flash may grow by this share."""

FIGURES = ("cycles", "instructions", "ram_bytes", "flash_bytes")

OURS: Mapping[str, Callable[[], bytes]] = {
    "kws": lambda: keyword_spotting().data,
    "vww-dead-80": lambda: visual_wake_words(dead_share=0.8).data,
    "ic": lambda: image_classification().data,
    "ad": lambda: anomaly_detection().data,
}
"""Networks with the shapes of MLPerf Tiny and random weights from seeds; one with 80 % dead channels."""

REAL: Mapping[str, str] = {
    "mlperf-kws": "kws_ref_model.tflite",
    "mlperf-vww": "vww_96_int8.tflite",
    "mlperf-ic": "pretrainedResnet_quant.tflite",
    "mlperf-ad": "ad01_int8.tflite",
}
"""The real models, which are no part of the repository."""


def shared_models() -> Path:
    """Return where the real models are, if they are."""
    root = Path(__file__).parents[1]
    return Path(os.environ.get("TVM_TINYML_SHARED", root.parent / "shared")) / "models" / "mlperf_tiny"


def content(name: str) -> bytes:
    """Return the model file of a network of either kind."""
    return OURS[name]() if name in OURS else (shared_models() / REAL[name]).read_bytes()


def measure(name: str, target: str) -> dict[str, Any]:
    """Return cycles, instructions, RAM, flash and a hash of the outputs for the benchmark's input."""
    library = tinyml.build(tinyml.load(content(name), name="model"), target, emit="lib", memory=MEMORY)
    figures = bench(library)
    outputs = library.run(sample_inputs(library.metadata["inputs"]))
    return {
        "cycles": figures["cycles"],
        "instructions": figures["instructions"],
        "ram_bytes": figures["ram_bytes"]["total"],
        "flash_bytes": figures["flash_bytes"]["total"],
        "outputs_sha256": hashlib.sha256(b"".join(o.tobytes() for o in outputs.values())).hexdigest()[:16],
    }


def available() -> list[str]:
    """Return the networks that can be measured here."""
    return [*OURS, *(name for name, file in REAL.items() if (shared_models() / file).exists())]


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true", help="write baseline.json")
    update = parser.parse_args().update
    known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    rows = []
    for name in available():
        for target in TARGETS:
            now, before = measure(name, target), known.get(name, {}).get(target, {})
            known.setdefault(name, {})[target] = now
            rows.append((name, target, *(cell for f in FIGURES for cell in (before.get(f), now[f]))))
    header = ("network", "target", *(f"{f} {when}" for f in FIGURES for when in ("before", "now")))
    print(table(header, rows))
    for target in TARGETS:
        print(caveat(target))
    if update:
        FILE.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
