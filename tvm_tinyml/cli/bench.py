"""``tvm-tinyml bench MODEL|OUT --target T``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tvm_tinyml.cli.common import add_build_options
from tvm_tinyml.tables import table

NAME, HELP = "bench", "count what one inference costs: instructions by layer, RAM, flash"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("model", metavar="MODEL|OUT", help=".tflite or .onnx file, or a folder that compile wrote")
    add_build_options(parser, target_required=False)
    parser.add_argument("--on", default="sim", metavar="DEVICE", help="sim")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON; - prints them")


def execute(options: argparse.Namespace) -> bool:
    """Print the table or write the JSON; fail when bytes differ from the reference."""
    from tvm_tinyml.api import build
    from tvm_tinyml.benchmark import bench
    from tvm_tinyml.errors import TargetError
    from tvm_tinyml.frontend import load
    from tvm_tinyml.library import Library

    if Path(options.model).is_dir():
        model, library = None, Library.read(options.model)
    else:
        if options.target is None:
            raise TargetError("bench of a model needs --target, such as --target cortex-m4.")
        model = load(options.model)
        library = build(
            model,
            options.target,
            goal=options.goal,
            io=options.io,
            weights=options.weights,
            float_abi=options.float_abi,
            disabled_passes=options.disable_pass,
        )
    figures = bench(library, model, on=options.on)
    if options.json == "-":
        print(json.dumps(figures, indent=1))
    else:
        if options.json:
            Path(options.json).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        _print(figures)
    return figures["reference"] is None or figures["reference"]["differing"] == 0


def _print(figures: dict) -> None:  # type: ignore[type-arg]
    rows = [
        (
            layer["name"],
            layer["macs"] or None,
            layer["instructions"],
            layer["instructions"] / layer["macs"] if layer["macs"] else None,
        )
        for layer in figures["layers"]
    ]
    print(f"{figures['model']} on {figures['target']}, simulated")
    print(table(("layer", "MACs", "instructions", "per MAC"), rows))
    ram, flash = figures["ram_bytes"], figures["flash_bytes"]
    print()
    print(f"instructions  {figures['instructions']:,} ({figures['instructions'] / max(figures['macs'], 1):.2f} per MAC)")
    print(f"RAM           {ram['total']:,} bytes: workspace {ram['workspace']:,}, stack {ram['stack']:,}, static {ram['static']:,}")
    print(f"flash         {flash['total']:,} bytes: weights {flash['weights']:,}, code {flash['code']:,}")
    if figures["reference"]:
        reference = figures["reference"]
        print(f"reference     {reference['differing']} of {reference['of']} output bytes differ from {reference['name']}")
    print("Instructions are counted on a simulator. They are not cycles, and no board was measured.")
