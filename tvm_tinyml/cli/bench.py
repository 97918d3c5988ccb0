"""``tvm-tinyml bench MODEL|OUT --target T``."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_tinyml.cli.common import (
    OF_FLOATS,
    add_build_options,
    add_memory,
    add_quantize,
    add_quiet,
    build_options,
    flag,
    load_model,
    path,
)
from tvm_tinyml.device.engines import DEVICES
from tvm_tinyml.device.timing import GROUPS
from tvm_tinyml.tables import Cell, table

if TYPE_CHECKING:
    from tvm_tinyml.comparison import Comparison
    from tvm_tinyml.library import Library
    from tvm_tinyml.model import Model

NAME, HELP = "bench", "estimate what one inference costs: cycles and instructions by layer, RAM, flash"

PRINT = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("model", metavar="MODEL|OUT", type=path, help=".tflite or .onnx file, or a compiled folder")
    add_build_options(parser, target_required=False)
    add_memory(parser)
    parser.add_argument("--on", default="sim", metavar="DEVICE", help=f"{' | '.join(DEVICES)}; default: sim")
    parser.add_argument("--json", metavar="FILE", type=path, help="write the figures as JSON; - prints them")
    parser.add_argument(
        "--against", metavar="FILE", type=path, help="print what changed since a run that wrote this file with --json"
    )
    parser.add_argument("--markdown", action="store_true", help="with --against: print it in Markdown")
    parser.add_argument(
        "--fail-above",
        metavar="PERCENT",
        type=_percent,
        help="with --against: exit 1 if cycles, RAM or flash grew by more",
    )
    add_quantize(parser)
    add_quiet(parser)


def execute(options: argparse.Namespace) -> bool:
    """Print the table or write the JSON; fail when bytes differ from the reference, or figures grew too much."""
    from tvm_tinyml.artifacts.folder import check_file, write_file
    from tvm_tinyml.comparison import Comparison, Figures

    file = Path(options.json) if options.json not in (None, PRINT) else None
    if file:
        check_file(file)
    before = Figures.read(options.against) if _compares(options) else None

    from tvm_tinyml.benchmark import bench

    library, model = _compiled(options) if Path(options.model).is_dir() else _built(options)
    figures = bench(library, model, on=options.on, memory=options.memory)
    comparison = Comparison.of(before, Figures.of(figures), options.against) if before else None
    text = json.dumps(figures, indent=1)
    options.interrupts.check()
    if file:
        write_file(file, f"{text}\n".encode())
    if options.json == PRINT:
        print(text)
    elif not options.quiet:
        if comparison:
            print(comparison.report(markdown=options.markdown))
        else:
            _print(figures)
    exact = figures["reference"] is None or figures["reference"]["differing"] == 0
    if comparison and not exact:  # which the comparison does not show
        print(f"tvm-tinyml: {_reference(figures)}.", file=sys.stderr)
    return _kept(comparison, options.fail_above) and exact


def _percent(text: str) -> float:
    try:
        percent = float(text)
    except ValueError:
        percent = math.nan
    if not 0 <= percent < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of percent from 0 on")
    return percent


def _compares(options: argparse.Namespace) -> bool:
    from tvm_tinyml.errors import TargetError

    if options.against is None and (options.markdown or options.fail_above is not None):
        option = "--markdown" if options.markdown else "--fail-above"
        raise TargetError(f"{option} needs --against and a file of figures to compare with.")
    return options.against is not None


def _kept(comparison: Comparison | None, percent: float | None) -> bool:
    """Return whether nothing grew by more than is allowed; say what did."""
    changes = comparison.grown(percent) if comparison and percent is not None else []
    for change in changes:
        print(
            f"tvm-tinyml: {change.name} grew by {change.percent:.2f} %, from {change.before:,} to {change.now:,}, and "
            f"{percent:g} % is allowed.",
            file=sys.stderr,
        )
    return not changes


def _built(options: argparse.Namespace) -> tuple[Library, Model]:
    from tvm_tinyml.api import build
    from tvm_tinyml.errors import TargetError

    model = load_model(options)
    if options.target is None:
        raise TargetError("bench of a model needs --target, such as --target cortex-m4.")
    memory = {"memory": options.memory} if options.memory else {}
    return build(model, options.target, emit="lib", **memory, **build_options(options)), model


def _compiled(options: argparse.Namespace) -> tuple[Library, None]:
    """Return the library of a folder; options of a build must be left out or say what it was built for."""
    from tvm_tinyml.errors import TargetError
    from tvm_tinyml.library import Library

    for name in ("quantize", "calibration", *OF_FLOATS):
        if getattr(options, name) is not None:
            raise TargetError(f"'{options.model}' is compiled: {flag(name)} is for a float model. Leave it out.")
    library = Library.read(options.model)
    built = {**library.metadata, **library.metadata["options"]}
    for name, value in {"target": options.target, **build_options(options)}.items():
        if value is not None and value != built[name]:
            raise TargetError(
                f"'{options.model}' was compiled with {name} {_plain(built[name])}, and {_plain(value)} is asked for. "
                "Compile the model anew, or leave the option out."
            )
    return library, None


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={size}" for name, size in value.items()) or "none"
    return ", ".join(value) or "none" if isinstance(value, list) else f"'{value}'"


def _print(figures: dict[str, Any]) -> None:
    from tvm_tinyml.caveat import caveat

    core = figures["target"].split("+")[0]
    clock_hz = figures["clock_hz"]
    waits = any(layer["flash_stall_cycles"] for layer in figures["layers"])
    columns = ("layer", "MACs", "cycles", "per MAC", "instructions", *GROUPS, *(("flash waits",) if waits else ()))
    print(f"{figures['model']} on {figures['target']}, memory {figures['memory']}, simulated")
    print(table(columns, [_row(layer, waits) for layer in figures["layers"]]))
    ram, flash, reference = figures["ram_bytes"], figures["flash_bytes"], figures["reference"]
    macs, executed = figures["macs"], figures["macs_executed"]
    per_mac = f", {figures['cycles'] / executed:.2f} per MAC" if executed else ""
    time = f", {1000 * figures['cycles'] / clock_hz:.2f} ms at {clock_hz / 1e6:g} MHz" if clock_hz else ""
    stalls = f", {figures['flash_stall_cycles']:,} of them flash" if waits else ""
    print()
    print(f"MACs          {executed:,}{f' of {macs:,} in the model' if executed != macs else ''}")
    print(f"cycles        {figures['cycles']:,}{per_mac}{time}{stalls}")
    print(f"instructions  {figures['instructions']:,}")
    print(
        f"RAM           {ram['total']:,} bytes: workspace {ram['workspace']:,}, stack {ram['stack']:,}, "
        f"static {ram['static']:,}"
    )
    print(f"flash         {flash['total']:,} bytes: weights {flash['weights']:,}, code {flash['code']:,}")
    if reference:
        print(f"reference     {_reference(figures)}")
    print(caveat(core))


def _reference(figures: dict[str, Any]) -> str:
    reference = figures["reference"]
    return f"{reference['differing']} of {reference['of']} output bytes differ from {reference['name']}"


def _row(layer: dict[str, Any], waits: bool) -> tuple[Cell, ...]:
    cycles, macs, instructions = layer["cycles"], layer["macs"], layer["instructions"]
    shares = (f"{100 * n / instructions:.0f} %" if n else None for n in layer["instructions_by_group"].values())
    flash = (f"{100 * layer['flash_stall_cycles'] / cycles:.0f} %" if cycles else None,) if waits else ()
    return (layer["name"], macs or None, cycles, cycles / macs if macs else None, instructions, *shares, *flash)
