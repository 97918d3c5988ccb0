"""``tvm-tinyml run OUT --input X.npz``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tvm_tinyml.cli.common import path
from tvm_tinyml.device.engines import DEVICES

NAME, HELP = "run", "run a compiled library on arrays"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("library", metavar="OUT", type=path, help="folder that compile wrote")
    parser.add_argument(
        "--input",
        metavar="X.npz",
        required=True,
        type=path,
        help="one array for each input, under its name (a single one may have any); a dimension in front is samples",
    )
    parser.add_argument("--output", metavar="Y.npz", type=path, help="file to write; default: print the outputs")
    parser.add_argument("--on", default="sim", metavar="DEVICE", help=f"{' | '.join(DEVICES)}; default: sim")


def execute(options: argparse.Namespace) -> bool:
    """Run every sample and write or print the outputs."""
    from tvm_tinyml.artifacts.folder import check_file, write_file

    if options.output:
        check_file(Path(options.output))

    from tvm_tinyml.arrays import npz_bytes, read_npz
    from tvm_tinyml.library import Library

    outputs = Library.read(options.library).run(read_npz(options.input), on=options.on)
    options.interrupts.check()
    if options.output:
        write_file(Path(options.output), npz_bytes(outputs))
    else:
        print(json.dumps({name: array.tolist() for name, array in outputs.items()}))
    return True
