"""``tvm-tinyml inspect MODEL``."""

from __future__ import annotations

import argparse
import json

from tvm_tinyml.cli.common import path
from tvm_tinyml.tables import table

NAME, HELP = "inspect", "show what a model asks for: operators, multiply-accumulates, weights, RAM"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("model", metavar="MODEL", type=path, help=".tflite or .onnx file")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def execute(options: argparse.Namespace) -> bool:
    """Print the summary."""
    from tvm_tinyml.artifacts.header import formula
    from tvm_tinyml.frontend import load
    from tvm_tinyml.inspection import inspect

    summary = inspect(load(options.model))
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
            layer["weight_bytes"] or None,
            100 * layer["zeros"] / layer["weight_elements"] if layer["weight_elements"] else None,
            layer["dead_channels"] if layer["channels"] else None,
        )
        for layer in summary["layers"]
    ]
    print(table(("layer", "output", "MACs", "constants, bytes", "zeros, %", "dead channels"), rows))
    print()
    print(f"operators               {', '.join(f'{count} {op}' for op, count in summary['operators'].items())}")
    zeros = f"{100 * summary['zero_share']:.1f} % of the weights are zero"
    bound = summary["activation_bytes_bound"]
    print(f"multiply-accumulates    {summary['macs']:,}")
    print(f"constants               {summary['weight_bytes']:,} bytes, {zeros}")
    print(f"dead output channels    {100 * summary['dead_share']:.1f} % (filters of zeros only)")
    print(f"RAM, whole tensors      at least {bound:,} bytes of activations at one operator")
    return True
