"""``tvm-tinyml compile MODEL --target T -o OUT``."""

from __future__ import annotations

import argparse

from tvm_tinyml.cli.common import add_build_options
from tvm_tinyml.options import CHOICES

NAME, HELP = "compile", "compile a model into a library for a device"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("model", metavar="MODEL", help=".tflite or .onnx file")
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="folder to write")
    parser.add_argument("--name", metavar="NAME", help="name of the model in C; default: from the file's name")
    add_build_options(parser)
    parser.add_argument("--emit", default="both", metavar="FORM", help=" | ".join(CHOICES["emit"]))
    parser.add_argument("--verify", action="store_true", help="run the result on the simulator and compare every byte")
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")


def execute(options: argparse.Namespace) -> bool:
    """Compile, check if asked to, write, and say what was made."""
    from tvm_tinyml.api import build
    from tvm_tinyml.frontend import load
    from tvm_tinyml.verification import verify

    model = load(options.model, name=options.name)
    library = build(
        model,
        options.target,
        goal=options.goal,
        io=options.io,
        weights=options.weights,
        float_abi=options.float_abi,
        emit=options.emit,
        disabled_passes=options.disable_pass,
    )
    if options.verify:
        result = verify(model, library)
        print(f"verified: {result.differing} of {result.compared} output bytes differ over {result.samples} inputs")
        if result.differing:
            return False
    library.write(options.output)
    if not options.quiet:
        ram, flash = library.metadata["ram_bytes"], library.metadata["flash_bytes"]
        print(f"{library.name} for {library.metadata['target']}: {library.metadata['macs']:,} multiply-accumulates")
        print(f"RAM    {ram['total']:,} bytes: workspace {ram['workspace']:,}, stack {ram['stack']:,}, static {ram['static']:,}")
        print(f"flash  {flash['total']:,} bytes: weights {flash['weights']:,}, code {flash['code']:,}")
        print(f"files  {options.output}/: include, lib, src, metadata.json, report.html")
    return True
