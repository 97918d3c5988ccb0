"""Ours beside the peers on the four MLPerf Tiny networks: cycles, instructions, RAM and flash.

``python -m benchmarks.mlperf_tiny`` prints two tables for each core and writes ``results/mlperf_tiny.json``. Peers are
TensorFlow Lite Micro with CMSIS-NN (the better of -O2 and -O3, whole program), TinyEngine where it runs the model, and
the best that anybody published for a board with that core. The first two were run in the same timing model, which did
not yet charge for accesses that are not aligned; the last were measured by their makers. Their figures come from
``baselines/peers.json`` in the folder ``shared`` beside the checkout. Without that folder our own networks of the same
shapes are measured and no peer is shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tvm_tinyml as tinyml
from benchmarks.baseline import OURS, REAL, content, shared_models
from tvm_tinyml.benchmark import bench
from tvm_tinyml.caveat import caveat
from tvm_tinyml.device.timing import load_core
from tvm_tinyml.tables import Cell, table
from tvm_tinyml.targets.cortex_m.cores import CORES

RESULTS = Path(__file__).with_name("results") / "mlperf_tiny.json"

MEMORIES: Mapping[str, str] = {"zero-wait": "cycles_zero_wait", "l4r5zi-120": "cycles_l4r5_flash"}
"""Our memories and the names that the peers' figures have for them."""

KEYS = (
    *("target", "memory", "model_version", "macs", "macs_executed", "cycles", "flash_stall_cycles", "instructions"),
    *("stack_bytes_measured", "ram_bytes", "flash_bytes", "reference"),
)
CYCLES = ("network", "memory", "cycles", "per MAC", "TFLM+CMSIS-NN", "ratio", "TinyEngine", "ratio", "board", "ratio")
SIZES = (
    "network",
    "instructions",
    "TFLM+CMSIS-NN",
    "ratio",
    "RAM, bytes",
    "TFLM+CMSIS-NN",
    "flash, bytes",
    "TFLM+CMSIS-NN",
)
Figures = dict[str, Any]


def peers() -> Figures:
    """Return the peers' figures by model, or nothing."""
    file = shared_models().parents[1] / "baselines" / "peers.json"
    return json.loads(file.read_text(encoding="utf-8"))["models"] if file.exists() else {}


def measure(name: str, target: str) -> list[Figures]:
    """Return the figures of one network on one core, for each memory."""
    model = tinyml.load(content(name), name=name.replace("-", "_"))
    # TFLM's arena holds inputs and outputs, too.
    library = tinyml.build(model, target, emit="lib", goal="time", io="workspace")
    figures = (bench(library, model, memory=memory) for memory in MEMORIES)
    return [{"network": name, **{key: each[key] for key in KEYS}} for each in figures]


def cycles_row(ours: Figures, peer: Figures) -> tuple[Cell, ...]:
    """Return our cycles beside the peers'; each ratio says how many times longer the peer takes.

    A board's figure is compared with our cycles made longer by what the timing model may be off on that core, and not
    at all where that is not known, or without the board's flash.
    """
    target, memory, cycles = ours["target"], ours["memory"], ours["cycles"]
    others = (
        peer.get("tflm_cmsisnn", {}).get(target, {}).get(MEMORIES[memory]),
        peer.get(f"tinyengine_{target}", {}).get(MEMORIES[memory]),
    )
    board = peer.get("best_published_on_board", {}).get(target) if memory != "zero-wait" else None
    percent = load_core(target).error_percent
    claim = board / (cycles * (1 + percent / 100)) if board and percent else None
    beside = [cell for other in others for cell in (other, other / cycles if other else None)]
    return (ours["network"], memory, cycles, cycles / ours["macs"], *beside, board, claim)


def sizes_row(ours: Figures, peer: Figures) -> tuple[Cell, ...]:
    """Return instructions, RAM and flash beside TFLM's, whose sizes are those of its Cortex-M4 program."""
    instructions = peer.get("tflm_cmsisnn", {}).get(ours["target"], {}).get("instructions")
    sizes = peer.get("tflm_cmsisnn_memory", {}) if ours["target"] == "cortex-m4" else {}
    ram = sizes["ram_bytes_data_bss"] + sizes["stack_bytes"] if sizes else None
    return (
        ours["network"],
        ours["instructions"],
        instructions,
        instructions / ours["instructions"] if instructions else None,
        ours["ram_bytes"]["total"],
        ram,
        ours["flash_bytes"]["total"],
        sizes.get("flash_bytes"),
    )


def main() -> None:
    """Measure everything, print it, write it."""
    known = peers()
    names = [*REAL] if shared_models().is_dir() else [*OURS]
    results = []
    for core in CORES:
        by_network = {name: measure(name, core) for name in names}
        beside = {name: known.get(name.removeprefix("mlperf-"), {}) for name in names}
        results += [figures for each in by_network.values() for figures in each]
        print(f"\n{core}")
        print(table(CYCLES, [cycles_row(figures, beside[name]) for name in names for figures in by_network[name]]))
        print()
        print(table(SIZES, [sizes_row(by_network[name][0], beside[name]) for name in names]))
        print(caveat(core))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
