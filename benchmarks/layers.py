"""Cycles per multiply-accumulate of sixty odd layers: ``python -m benchmarks.layers [--target T] [--memory M]``.

Writes ``results/layers-T.json``. Every layer's output is compared with the reference.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import tvm_tinyml as tinyml
from benchmarks.layer_shapes import LayerShape, layer_shapes
from tvm_tinyml.benchmark import bench
from tvm_tinyml.caveat import caveat
from tvm_tinyml.tables import table

RESULTS = Path(__file__).with_name("results")

LIMIT = 4.0
"""Cycles per multiply-accumulate that no layer of enough work may exceed on a Cortex-M4 with flash."""


def counts(shape: LayerShape) -> bool:
    """Return whether the limit is meant for a layer: 16 products an output and 8 channels at least."""
    return shape.taps >= 16 and shape.channels_out >= 8


def measure(shape: LayerShape, target: str, memory: str, goal: str = "time") -> dict[str, Any]:
    """Return the figures of one layer."""
    model = tinyml.load(shape.network().data, name="layer")
    library = tinyml.build(model, target, emit="lib", goal=goal, memory=memory)
    figures = bench(library, model)
    return {
        "layer": shape.name,
        "macs": shape.network().macs,
        "cycles": figures["cycles"],
        "cycles_per_mac": round(figures["cycles"] / shape.network().macs, 3),
        "schedules": sorted({layer["schedule"] or "copy" for layer in library.metadata["layers"]}),
        "code_bytes": figures["flash_bytes"]["code"],
        "ram_bytes": figures["ram_bytes"]["total"],
        "differing": figures["reference"]["differing"],
    }


def main() -> None:
    """Measure all, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="cortex-m4")
    parser.add_argument("--memory", default="l4r5zi-120")
    options = parser.parse_args()
    results = []
    for shape in layer_shapes():
        figures = measure(shape, options.target, options.memory)
        over = counts(shape) and figures["cycles_per_mac"] > LIMIT
        results.append({**figures, "counts": counts(shape), "over": over})
    columns = ("layer", "macs", "cycles", "cycles_per_mac", "code_bytes", "ram_bytes")
    print(table((*columns, ""), [(*(r[c] for c in columns), "over" if r["over"] else "") for r in results]))
    wrong = [r["layer"] for r in results if r["differing"]]
    print(f"over {LIMIT:g} cycles per MAC: {sum(r['over'] for r in results)} of {sum(r['counts'] for r in results)}")
    print(f"other bytes than the reference: {', '.join(wrong) or 'none'}")
    print(caveat(options.target.split("+")[0]))
    written = {"target": options.target, "memory": options.memory, "layers": results}
    (RESULTS / f"layers-{options.target}.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
