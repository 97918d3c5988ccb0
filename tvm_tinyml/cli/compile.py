"""``tvm-tinyml compile MODEL --target T -o OUT``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tvm_tinyml.cli.common import (
    add_build_options,
    add_memory,
    add_quantize,
    add_quiet,
    build_options,
    choices,
    load_model,
    path,
)
from tvm_tinyml.tables import table

NAME, HELP = "compile", "compile a model into a library for a device"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("model", metavar="MODEL", type=path, help=".tflite or .onnx file")
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        required=True,
        type=path,
        help="folder to write; what an earlier compile wrote there is replaced",
    )
    parser.add_argument("--name", metavar="NAME", help="name of the model in C; default: from the file's name")
    add_build_options(parser)
    add_memory(parser)
    parser.add_argument("--emit", default="both", metavar="FORM", help=f"{choices('emit')}; default: both")
    parser.add_argument("--verify", action="store_true", help="run the result on the simulator and compare every byte")
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="show what --goal ram had to choose from, RAM against work, and what quantization did to each tensor",
    )
    add_quantize(parser)
    add_quiet(parser)


def execute(options: argparse.Namespace) -> bool:
    """Compile, check if asked to, write, and say what was made."""
    from tvm_tinyml.artifacts.folder import check_folder

    check_folder(Path(options.output))

    from tvm_tinyml.api import build
    from tvm_tinyml.errors import TargetError
    from tvm_tinyml.verification import verify

    if options.verify and options.emit == "c":
        raise TargetError("--verify runs the object form, and --emit c makes none. Use --emit lib or --emit both.")
    model = load_model(options, options.name)
    memory = options.memory or "zero-wait"
    library = build(model, options.target, emit=options.emit, memory=memory, **build_options(options))
    if options.verify:
        result = verify(model, library)
        found = f"{result.differing} of {result.compared} output bytes differ over {result.samples} inputs"
        if result.differing:
            print(f"tvm-tinyml: verification failed: {found}. Nothing was written.", file=sys.stderr)
            return False
        if not options.quiet:
            print(f"verified: {found}")
    options.interrupts.check()
    library.write(options.output)
    if not options.quiet:
        ram, flash = library.metadata["ram_bytes"], library.metadata["flash_bytes"]
        macs = library.metadata["macs_executed"]
        parts = (("include", True), ("lib", library.archive), ("src", library.sources))
        written = [name for name, content in parts if content]
        print(f"{library.name} for {library.metadata['target']}: {macs:,} multiply-accumulates")
        print(
            f"RAM    {ram['total']:,} bytes: workspace {ram['workspace']:,}, stack {ram['stack']:,}, "
            f"static {ram['static']:,}"
        )
        kernels = library.metadata["kernels"]
        print(f"tuned  {kernels['tuned']} of {kernels['total']} kernels")
        print(f"flash  {flash['total']:,} bytes: weights {flash['weights']:,}, code {flash['code']:,}")
        if ram["static"]:
            print(f"copied {ram['static']:,} bytes of weights from flash to RAM, by start-up code")
        if model.quantization:
            report = model.quantization
            print(
                f"quantized {report.recipe}: {report.decibels:.1f} dB signal to noise on {report.samples} calibration "
                f"samples, weights of {report.weight_bytes:,} bytes"
            )
            if report.accuracy:
                print(report.accuracy.text())
        if options.verbose:
            if model.quantization:
                print(model.quantization.text())
            print(_cuts(library.metadata))
        print(f"files  {options.output}/: {', '.join(written)}, metadata.json, report.html")
    return True


def _cuts(metadata: dict[str, Any]) -> str:
    """Return a table of the ways to compute layers in stripes of rows."""
    if not metadata["cuts"]:
        return "stripes of rows: not looked for; --goal ram does"
    rows = [
        (
            " ".join(str(stripes) for stripes in cut["stripes"]) or "none",
            cut["peak_bytes"],
            100 * cut["extra_macs"] / metadata["macs"],
            "taken" if cut["taken"] else None,
        )
        for cut in metadata["cuts"]
    ]
    return table(("stripes of each segment", "workspace, about", "extra work, %", ""), rows)
