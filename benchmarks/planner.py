"""The planner beside greedy by size and the lower bound, on 200 random graphs: ``python -m benchmarks.planner``.

Writes ``results/planner.json``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.memory_graphs import SEEDS, memory_graph
from tvm_tinyml.passes.plan_memory import Lifetime, check_plan, liveness_bound, plan
from tvm_tinyml.tables import table

RESULTS = Path(__file__).with_name("results") / "planner.json"
ALIGNMENT_BYTES = 16


def greedy_by_size(lifetimes: Mapping[int, Lifetime], alignment_bytes: int) -> int:
    """Return the pool of the usual planner: largest first, each into the smallest gap; no distances.

    Source: Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020, section 5.2.
    """
    placed: list[tuple[int, int, Lifetime]] = []
    for life in sorted(lifetimes.values(), key=lambda life: (-life.size_bytes, life.first)):
        size = -(-life.size_bytes // alignment_bytes) * alignment_bytes
        best, smallest, free = None, None, 0
        for start, end, other in placed:
            if other.overlaps(life):
                if start - free >= size and (smallest is None or start - free < smallest):
                    best, smallest = free, start - free
                free = max(free, end)
        offset = free if best is None else best
        placed.append((offset, offset + size, life))
        placed.sort(key=lambda one: one[0])
    return max(end for _, end, _ in placed)


def measure(seed: int) -> dict[str, Any]:
    """Return the figures of one graph, in bytes."""
    graph = memory_graph(seed)
    start = time.process_time()
    made = plan(graph.lifetimes, ALIGNMENT_BYTES, graph.distances)
    seconds = time.process_time() - start
    check_plan(graph.lifetimes, made.offsets, graph.distances)
    return {
        "seed": seed,
        "kind": graph.kind,
        "tensors": len(graph.lifetimes),
        "bound": liveness_bound(graph.lifetimes, ALIGNMENT_BYTES, graph.distances),
        "planner": made.pool_bytes,
        "greedy_by_size": greedy_by_size(graph.lifetimes, ALIGNMENT_BYTES),
        "optimal": made.is_optimal,
        "seconds": round(seconds, 2),
    }


def summary(results: list[dict[str, Any]]) -> dict[str, float]:
    """Return by how much plans are above the bound, in percent, and the longest time."""
    figures: dict[str, float] = {"graphs": len(results), "tensors": max(r["tensors"] for r in results)}
    for planner in ("planner", "greedy_by_size"):
        above = [100 * (r[planner] / r["bound"] - 1) for r in results]
        figures[f"{planner}, mean %"] = round(sum(above) / len(above), 2)
        figures[f"{planner}, largest %"] = round(max(above), 1)
    figures["proven optimal"] = sum(r["optimal"] for r in results)
    return {**figures, "longest s": max(r["seconds"] for r in results)}


def main() -> None:
    """Plan all, print, write."""
    results = [measure(seed) for seed in SEEDS]
    kinds = {kind: [r for r in results if r["kind"] == kind] for kind in dict.fromkeys(r["kind"] for r in results)}
    figures = {kind: summary(some) for kind, some in [*kinds.items(), ("all", results)]}
    print(table(("above the bound", *figures["all"]), [(kind, *values.values()) for kind, values in figures.items()]))
    RESULTS.write_text(json.dumps({"summary": figures, "graphs": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
