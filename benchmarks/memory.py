"""What each goal costs: RAM, flash and cycles of the four MLPerf Tiny networks on a Cortex-M4 with its flash.

``python -m benchmarks.memory`` prints a table and writes ``results/memory.json``. Inputs and outputs live in the
workspace, so that RAM is all that an application must reserve. TensorFlow Lite Micro with CMSIS-NN stands beside it,
from ``baselines/peers.json`` in the folder ``shared`` beside the checkout; without that folder our own networks of the
same shapes are measured.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tvm_tinyml as tinyml
from benchmarks.baseline import OURS, REAL, content, shared_models
from benchmarks.mlperf_tiny import peers
from tvm_tinyml.benchmark import bench
from tvm_tinyml.caveat import caveat
from tvm_tinyml.options import CHOICES
from tvm_tinyml.tables import Cell, table

RESULTS = Path(__file__).with_name("results") / "memory.json"
TARGET, MEMORY = "cortex-m4", "l4r5zi-120"

HEADER = (
    *("network", "goal", "RAM, bytes", "workspace", "stack", "flash, bytes", "weights", "code", "cycles"),
    *("MACs executed", "differing", "stripes"),
)


def measure(name: str, goal: str) -> dict[str, Any]:
    """Return the figures of one network for one goal."""
    model = tinyml.load(content(name), name=name.replace("-", "_"))
    library = tinyml.build(model, TARGET, emit="lib", goal=goal, io="workspace", memory=MEMORY)
    figures = bench(library, model)
    taken = next((cut["stripes"] for cut in library.metadata["cuts"] if cut["taken"]), [])
    keys = ("model_version", "cycles", "macs", "macs_executed", "ram_bytes", "flash_bytes", "reference")
    return {"network": name, "goal": goal, **{key: figures[key] for key in keys}, "stripes": taken}


def row(figures: dict[str, Any]) -> tuple[Cell, ...]:
    """Return a line of the table."""
    ram, flash, stripes = figures["ram_bytes"], figures["flash_bytes"], figures["stripes"]
    return (
        *(figures["network"], figures["goal"], ram["total"], ram["workspace"], ram["stack"]),
        *(flash["total"], flash["weights"], flash["code"], figures["cycles"], figures["macs_executed"]),
        *(figures["reference"]["differing"], " ".join(map(str, stripes)) or None),
    )


def tflm_row(name: str, peer: dict[str, Any]) -> tuple[Cell, ...]:
    """Return TFLM's line."""
    sizes = peer["tflm_cmsisnn_memory"]
    ram, stack = sizes["ram_bytes_data_bss"], sizes["stack_bytes"]
    cycles = peer["tflm_cmsisnn"][TARGET]["cycles_l4r5_flash"]
    known = (name, "TFLM + CMSIS-NN", ram + stack, ram, stack, sizes["flash_bytes"])
    return (*known, None, None, cycles, None, None, None)


def main() -> None:
    """Measure everything, print it, write it."""
    known, results, rows = peers(), [], []
    for name in [*REAL] if shared_models().is_dir() else [*OURS]:
        measured = [measure(name, goal) for goal in CHOICES["goal"]]
        results += measured
        rows += [row(figures) for figures in measured]
        if peer := known.get(name.removeprefix("mlperf-")):
            rows.append(tflm_row(name, peer))
    print(f"{TARGET}, {MEMORY}, inputs and outputs in the workspace")
    print(table(HEADER, rows))
    print(caveat(TARGET))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
