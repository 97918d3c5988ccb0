"""Layer by layer beside the peers on the four MLPerf Tiny networks, in one timing model.

``python -m benchmarks.peers --cmsis-nn FOLDER`` prints the tables and writes ``results/peers.json`` and
``results/peers.md``. The peers:

- CMSIS-NN's kernels by layer, from a checkout in FOLDER: see `benchmarks.cmsis_nn`. Without one there are no layers
  beside ours.
- Whole programs: TensorFlow Lite Micro with CMSIS-NN, TinyEngine, and the best that anybody published for a board with
  that core, from ``baselines/peers.json`` in the folder ``shared`` beside the checkout: see `benchmarks.mlperf_tiny`.

What is missing is said, and its columns stay empty.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tvm import relax
from tvm.ir import Op

import tvm_tinyml as tinyml
from benchmarks.baseline import OURS, REAL, content, shared_models
from benchmarks.cmsis_nn import CmsisNN, Layer, compiler_version
from benchmarks.mlperf_tiny import MEMORIES, peers
from tvm_tinyml.benchmark import bench
from tvm_tinyml.caveat import caveat
from tvm_tinyml.passes import FoldQuantization
from tvm_tinyml.passes.integer_ops import attributes_of
from tvm_tinyml.reference.evaluate import evaluate
from tvm_tinyml.samples import sample_inputs
from tvm_tinyml.tables import Cell, text

RESULTS = Path(__file__).with_name("results")
CORES: dict[str, Sequence[str]] = {
    "cortex-m4": ("l4r5zi-120", "zero-wait"),
    "cortex-m7": ("zero-wait",),
    "cortex-m33": ("zero-wait",),
}
"""Cores with their memories."""

OPTIONS = {"goal": "time", "io": "caller", "weights": "flash"}
ALL_CHANNELS = ", all channels"
COLUMNS = ("layer", "output", "MACs", "ours", "per MAC", "CMSIS-NN", "per MAC", "ratio")
TOTALS = ("network", "ours", "CMSIS-NN's kernels", "ratio", "TFLM, whole", "ratio", "TinyEngine", "ratio", "board")
Figures = dict[str, Any]


def integer_layers(model: tinyml.Model, library: tinyml.Library) -> list[Layer]:
    """Return the operators that compute, in order, with what they compute for the benchmark's input."""
    layers: list[Layer] = []

    def note(_var: relax.Var, call: relax.Call, arguments: Sequence[Any], result: Any) -> Any:
        if isinstance(call.op, Op) and str(call.op.name).startswith("tinyml."):
            layers.append(Layer(_name(call, arguments), arguments, attributes_of(call), result))
        return result

    evaluate(FoldQuantization()(model.module), list(sample_inputs(library.metadata["inputs"]).values()), note)
    return layers


def _name(call: relax.Call, arguments: Sequence[Any]) -> str:
    """Return what the library's tables call an operator."""
    name = str(call.op.name).removeprefix("tinyml.")
    depthwise = name == "conv2d" and attributes_of(call)["groups"] == arguments[0].shape[3] > 1
    return "depthwise_conv2d" if depthwise else name


def by_operator(layers: Sequence[Layer], measured: Sequence[Figures]) -> list[int]:
    """Return the cycles of each operator; what was made of it before its kernel, its padding, counts too."""
    waiting, found = 0, []
    for figures in measured:
        waiting += figures["cycles"]
        if len(found) < len(layers) and figures["op"] == layers[len(found)].op:
            found.append(waiting)
            waiting = 0
    assert len(found) == len(layers), "the library computes the operators of the graph in their order"
    found[-1] += waiting
    return found


def measure(name: str, target: str, memories: Sequence[str], peer: CmsisNN | None) -> list[Figures]:
    """Return the figures of a network on a core, for each memory; with constant channels, too, if it has any."""
    model = tinyml.load(content(name), name=name.replace("-", "_"))
    library = tinyml.build(model, target, emit="lib", **OPTIONS)
    layers = integer_layers(model, library)
    theirs = peer.measure(layers, target, memories) if peer else [None] * len(layers)
    builds = {name: library}
    if library.metadata["macs_executed"] < library.metadata["macs"]:
        whole = tinyml.build(model, target, emit="lib", disabled_passes=["tinyml.RemoveDeadChannels"], **OPTIONS)
        builds[f"{name}{ALL_CHANNELS}"] = whole
    return [
        _beside(called, bench(built, model, memory=memory), layers, theirs)
        for called, built in builds.items()
        for memory in memories
    ]


def _beside(name: str, ours: Figures, layers: Sequence[Layer], theirs: Sequence[Any]) -> Figures:
    assert not ours["reference"]["differing"], f"{name} on {ours['target']} differs from the reference"
    return {
        "network": name,
        **{key: ours[key] for key in ("target", "memory", "model_version", "macs", "macs_executed", "cycles")},
        "layers": [
            {
                "op": layer.op,
                "output": list(layer.result.shape),
                "macs": layer.macs,
                "cycles": cycles,
                "cmsis_nn": asdict(their[ours["memory"]]) if their else None,
            }
            for layer, cycles, their in zip(layers, by_operator(layers, ours["layers"]), theirs, strict=True)
        ],
    }


def layer_rows(figures: Figures) -> Iterator[tuple[Cell, ...]]:
    """Yield the rows of a network's table, the sum of the layers that both have last."""
    for layer in figures["layers"]:
        shape = "x".join(str(extent) for extent in layer["output"])
        yield _row(layer["op"], shape, layer["macs"], layer["cycles"], layer["cmsis_nn"])
    both = [layer for layer in figures["layers"] if layer["cmsis_nn"]]
    if both:
        cycles = sum(layer["cmsis_nn"]["cycles"] for layer in both)
        yield _row(
            "sum of these", "", *(sum(layer[k] for layer in both) for k in ("macs", "cycles")), {"cycles": cycles}
        )


def _row(name: str, shape: str, macs: int, ours: int, theirs: Figures | None) -> tuple[Cell, ...]:
    cycles = theirs["cycles"] if theirs else None
    per_mac = (ours / macs if macs else None, cycles / macs if macs and cycles else None)
    return (name, shape, macs or None, ours, per_mac[0], cycles, per_mac[1], cycles / ours if cycles else None)


def total_row(figures: Figures, whole: Figures) -> tuple[Cell, ...]:
    """Return a network's cycles beside those of whole programs, and of the best board whatever its memory."""
    cycles, memory, target = figures["cycles"], MEMORIES[figures["memory"]], figures["target"]
    kernels = sum(layer["cmsis_nn"]["cycles"] for layer in figures["layers"] if layer["cmsis_nn"]) or None
    others = (
        kernels,
        whole.get("tflm_cmsisnn", {}).get(target, {}).get(memory),
        whole.get(f"tinyengine_{target}", {}).get(memory),
    )
    beside = [cell for other in others for cell in (other, other / cycles if other else None)]
    return (figures["network"], cycles, *beside, whole.get("best_published_on_board", {}).get(target))


def markdown(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Return rows under a header as a table in Markdown.

    >>> print(markdown(("layer", "cycles"), [("conv2d", 1200), ("softmax", None)]))
    | layer | cycles |
    | --- | ---: |
    | conv2d | 1,200 |
    | softmax | - |
    """
    numeric = [any(isinstance(row[i], int | float) for row in rows) for i in range(len(header))]
    rule = ["---:" if right else "---" for right in numeric]
    cells = [[text(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (list(header), rule, *cells))


def report(found: Figures, known: Figures) -> str:
    """Return everything as a page in Markdown."""
    lines = ["# Layer by layer beside the peers", "", *found["about"], ""]
    for target, memories in CORES.items():
        for memory in memories:
            chosen = [f for f in found["networks"] if (f["target"], f["memory"]) == (target, memory)]
            totals = [total_row(figures, known.get(_model(figures), {})) for figures in chosen]
            lines += [f"## {target}, {memory}", "", markdown(TOTALS, totals), ""]
            for figures in chosen:
                lines += [f"### {figures['network']}", "", markdown(COLUMNS, list(layer_rows(figures))), ""]
            lines += [caveat(target), ""]
    return "\n".join(lines)


def _model(figures: Figures) -> str:
    network: str = figures["network"]
    return network.removeprefix("mlperf-").removesuffix(ALL_CHANNELS)


def about(peer: Path | None, known: Figures, version: str) -> list[str]:
    """Return where the figures come from, and which are missing."""
    options = ", ".join(f"{name} {value}" for name, value in OPTIONS.items())
    ours = (
        f"Ours: commit {_commit(Path(__file__).parent)}, {options}; cycles of one inference by timing model {version}. "
        "MACs are those of the model; channels that are constant are not computed, unless it says so."
    )
    if peer:
        kernels = (
            f"CMSIS-NN: commit {_commit(peer)}, {compiler_version()}, of each layer the faster of -O2 and -O3, in the "
            "same model; kernels alone, called through the library's own wrappers; every output byte compared."
        )
    else:
        kernels = "CMSIS-NN is missing: give a checkout with --cmsis-nn."
    if known:
        others = (
            "Whole programs: TensorFlow Lite Micro 90b983c2b3f1 with CMSIS-NN 4ab83cc3cc98 and TinyEngine 47bb283ce9d7 "
            "(not bit-exact), GCC 12.2, in a model that did not yet charge for accesses that are not aligned; board: "
            "the best published result for that core, measured by its maker with the memory of the board."
        )
    else:
        others = (
            "Whole programs are missing: there is no baselines/peers.json in the folder shared beside the checkout."
        )
    return [f"- {line}" for line in (ours, kernels, others)]


def _commit(folder: Path) -> str:
    command = ["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def main() -> None:
    """Measure everything, print it, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cmsis-nn", metavar="FOLDER", type=Path, help="checkout of github.com/ARM-software/CMSIS-NN")
    options = parser.parse_args()
    peer, known = CmsisNN(options.cmsis_nn) if options.cmsis_nn else None, peers()
    names = [*REAL] if shared_models().is_dir() else [*OURS]
    networks = [
        figures for core, memories in CORES.items() for name in names for figures in measure(name, core, memories, peer)
    ]
    found = {"about": about(options.cmsis_nn, known, networks[0]["model_version"]), "networks": networks}
    page = report(found, known)
    print(page)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "peers.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "peers.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
