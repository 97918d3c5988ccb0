"""What tuning is worth for sixty odd layers: ``python -m benchmarks.tuned_layers --target T [--memory M]``.

The layers of `layer_shapes`, built with the log that comes with the package, against what the compiler made of them
before it could be tuned (``before_tuning/T.json``, commit 42a4fda). Writes ``results/tuned-layers-T.json``.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from benchmarks.layer_shapes import layer_shapes
from benchmarks.layers import measure
from tvm_tinyml.caveat import caveat
from tvm_tinyml.tables import table

BEFORE = Path(__file__).with_name("before_tuning")
RESULTS = Path(__file__).with_name("results")


def compare(target: str) -> dict[str, Any]:
    """Measure all layers and return the figures beside those of before."""
    before = json.loads((BEFORE / f"{target}.json").read_text(encoding="utf-8"))
    layers = []
    for shape, old in zip(layer_shapes(), before["layers"], strict=True):
        assert shape.name == old["layer"], f"{shape.name} is compared with {old['layer']}"
        new = measure(shape, target, before["memory"])
        costs = {name: [old[name], new[name]] for name in ("cycles", "code_bytes", "ram_bytes")}
        layers.append({"layer": shape.name, **costs, "schedules": new["schedules"], "differing": new["differing"]})
    ratios = [after / ahead for ahead, after in (layer["cycles"] for layer in layers)]
    return {
        "target": target,
        "memory": before["memory"],
        "geometric_mean": round(math.exp(sum(map(math.log, ratios)) / len(ratios)), 4),
        "slower": [layer["layer"] for layer, ratio in zip(layers, ratios, strict=True) if ratio > 1],
        "layers": layers,
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="cortex-m4", choices=sorted(file.stem for file in BEFORE.glob("*.json")))
    options = parser.parse_args()
    results = compare(options.target)
    rows = [
        (
            layer["layer"],
            *layer["cycles"],
            100 * (1 - layer["cycles"][1] / layer["cycles"][0]),
            *layer["code_bytes"],
            *layer["ram_bytes"],
        )
        for layer in results["layers"]
    ]
    print(table(("layer", "cycles", "tuned", "saved, %", "code", "tuned", "RAM", "tuned"), rows))
    print(f"geometric mean {results['geometric_mean']}, slower: {', '.join(results['slower']) or 'none'}")
    wrong = [layer["layer"] for layer in results["layers"] if layer["differing"]]
    print(f"other bytes than the reference: {', '.join(wrong) or 'none'}")
    print(caveat(options.target))
    file = RESULTS / f"tuned-layers-{options.target}.json"
    file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
