"""``tvm-tinyml inspect MODEL``."""

from __future__ import annotations

import argparse
import json
from typing import Any

from tvm_tinyml.cli.common import (
    BUILD_OPTIONS,
    add_build_options,
    add_memory,
    add_quantize,
    build_options,
    load_model,
    path,
)
from tvm_tinyml.tables import Cell, table

NAME, HELP = "inspect", "show what a model asks for (operators, work, weights, RAM), or how a target computes it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("model", metavar="MODEL", type=path, help=".tflite or .onnx file")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--layouts",
        action="store_true",
        help="compile for --target, and show each layer's algorithm, the layout it works in, and what was compared",
    )
    add_build_options(parser, target_required=False)
    add_memory(parser)
    add_quantize(parser)


def execute(options: argparse.Namespace) -> bool:
    """Print the summary, or the layouts."""
    if options.layouts:
        return _layouts(options)
    from tvm_tinyml.errors import TargetError

    for name in ("target", "memory", *BUILD_OPTIONS):
        if getattr(options, name) is not None:
            flag = {"disabled_passes": "disable-pass"}.get(name, name.replace("_", "-"))
            raise TargetError(f"inspect takes --{flag} only with --layouts: what a model asks for depends on no build.")
    return _summary(options)


def _layouts(options: argparse.Namespace) -> bool:
    from tvm_tinyml.api import build
    from tvm_tinyml.errors import TargetError
    from tvm_tinyml.layouts import layouts

    if options.target is None:
        raise TargetError("inspect --layouts needs --target, such as --target cortex-m4.")
    memory = {"memory": options.memory} if options.memory else {}
    found = layouts(build(load_model(options), options.target, emit="lib", **memory, **build_options(options)))
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        _print_layouts(found)
    return True


def _print_layouts(found: dict[str, Any]) -> None:
    from tvm_tinyml.caveat import caveat

    counted = f", cycles in memory {found['memory']}" if found["memory"] else ""
    print(f"{found['model']} on {found['target']}, goal {found['goal']}{counted}")
    results = ", ".join(f"{count} in {layout}" for layout, count in found["tensors"].items())
    print(f"results of layers: {results}; what a kernel needs otherwise it packs into its own scratch")
    print()
    columns = ("layer", "rule", "reads", "writes", "algorithm", "layout in scratch", "scratch, bytes", "cycles")
    print(table((*columns, "packing"), [_layout_row(layer) for layer in found["layers"]]))
    compared = [layer for layer in found["layers"] if len(layer["estimates"]) > 1]
    if compared:
        print("\nwhat recipes compared, by their own estimates in cycles (with Helium, instructions)")
        print(table(("layer", "taken", "estimate", "instead of"), [_compared_row(layer) for layer in compared]))
    if found["memory"]:
        print(f"\n{caveat(found['target'].split('+')[0])}")


def _layout_row(layer: dict[str, Any]) -> tuple[Cell, ...]:
    cycles, packing = layer["cycles"], layer["packing_cycles"]
    share = f"{100 * packing / cycles:.1f} %" if packing else None
    words = (layer[key] or None for key in ("name", "rule", "reads", "writes", "algorithm", "scratch"))
    return (*words, layer["scratch_bytes"] or None, cycles or None, share)


def _compared_row(layer: dict[str, Any]) -> tuple[Cell, ...]:
    (taken, estimate), *others = layer["estimates"].items()
    return (layer["name"], taken, estimate, "; ".join(f"{way} {cost:,}" for way, cost in others))


def _summary(options: argparse.Namespace) -> bool:
    from tvm_tinyml.artifacts.header import formula
    from tvm_tinyml.inspection import inspect

    summary = inspect(load_model(options))
    if options.json:
        print(json.dumps(summary, indent=1))
        return True
    for role in ("inputs", "outputs"):
        for tensor in summary[role]:
            shape = "x".join(str(extent) for extent in tensor["shape"])
            meaning = f", {formula(tensor['scale'], tensor['zero_point'])}" if tensor["scale"] else ""
            print(f"{role[:-1]} {tensor['name']}: {tensor['dtype']} {shape}{meaning}")
    print()
    rows = [
        (
            layer["name"],
            "x".join(str(extent) for extent in layer["shape"] or ()),
            layer["macs"] or None,
            layer["macs_executed"] if layer["macs"] else None,
            layer["weight_bytes"] or None,
            100 * layer["zeros"] / layer["weight_elements"] if layer["weight_elements"] else None,
            layer["dead_channels"] if layer["channels"] else None,
        )
        for layer in summary["layers"]
    ]
    print(table(("layer", "output", "MACs", "executed", "constants, bytes", "zeros, %", "dead channels"), rows))
    print()
    print(f"operators               {', '.join(f'{count} {op}' for op, count in summary['operators'].items())}")
    zeros = f"{100 * summary['zero_share']:.1f} % of the weights are zero"
    bound = summary["activation_bytes_bound"]
    print(f"multiply-accumulates    {summary['macs']:,}")
    print(f"constants               {summary['weight_bytes']:,} bytes, {zeros}")
    print(f"dead output channels    {100 * summary['dead_share']:.1f} % (constant, or not read by anything)")
    if summary["dead_share"]:
        macs, constants = summary["macs_executed"], summary["weight_bytes_executed"]
        print(f"without dead channels   {macs:,} multiply-accumulates, {constants:,} bytes of constants")
    print(f"RAM, whole tensors      at least {bound:,} bytes of activations at one operator")
    return True
