"""Ours beside the peers on the four MLPerf Tiny networks: instructions, RAM and flash.

``python -m benchmarks.mlperf_tiny`` prints a table for each core and writes ``results/mlperf_tiny.json``. Peers are
TensorFlow Lite Micro with CMSIS-NN (the better of -O2 and -O3, whole program, counted in an emulator) and, where it
runs the model, TinyEngine; their figures come from ``baselines/peers.json`` in the folder ``shared`` beside the
checkout. Without that folder our own networks of the same shapes are measured and no peer is shown.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tvm_tinyml as tinyml
from benchmarks.baseline import OURS, REAL, content, shared_models
from tvm_tinyml.benchmark import bench
from tvm_tinyml.tables import table
from tvm_tinyml.targets.cortex_m.cores import CORES

RESULTS = Path(__file__).with_name("results") / "mlperf_tiny.json"
Peers = dict[str, Any]


def peers() -> Peers:
    """Return the peers' figures by model, or nothing."""
    file = shared_models().parents[1] / "baselines" / "peers.json"
    return json.loads(file.read_text(encoding="utf-8"))["models"] if file.exists() else {}


def measure(name: str, target: str) -> dict[str, Any]:
    """Return the figures of one network on one core."""
    library = tinyml.build(tinyml.load(content(name), name=name.replace("-", "_")), target, emit="lib")
    figures = bench(library)
    keys = ("macs", "instructions", "stack_bytes_measured", "ram_bytes", "flash_bytes", "memory", "model_version")
    return {"network": name, "target": target, **{key: figures[key] for key in keys}}


def row(figures: dict[str, Any], peer: Peers) -> tuple[Any, ...]:
    """Return a line of the table: ours, the peers', and the ratio."""
    cmsis = peer.get("tflm_cmsisnn", {}).get(figures["target"], {}).get("instructions")
    engine = peer.get(f"tinyengine_{figures['target']}", {}).get("instructions")
    ours = figures["instructions"]
    return (
        figures["network"],
        ours,
        ours / figures["macs"],
        cmsis,
        cmsis / ours if cmsis else None,
        engine,
        figures["ram_bytes"]["total"],
        figures["flash_bytes"]["total"],
    )


def main() -> None:
    """Measure everything, print it, write it."""
    known = peers()
    names = [*REAL] if shared_models().is_dir() else [*OURS]
    header = (
        "network",
        "instructions",
        "per MAC",
        "TFLM+CMSIS-NN",
        "ratio",
        "TinyEngine",
        "RAM, bytes",
        "flash, bytes",
    )
    results = []
    for core in CORES:
        figures = [measure(name, core) for name in names]
        results += figures
        print(f"\n{core}")
        print(table(header, [row(f, known.get(f["network"].removeprefix("mlperf-"), {})) for f in figures]))
    print("\nInstructions of one inference, counted on a simulator: not cycles, and no board was measured.")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
