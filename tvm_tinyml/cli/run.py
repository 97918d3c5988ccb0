"""``tvm-tinyml run OUT --input X.npz``."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np

NAME, HELP = "run", "run a compiled library on arrays"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("library", metavar="OUT", help="folder that compile wrote")
    parser.add_argument("--input", metavar="X.npz", required=True, help="one array for each input, under its name")
    parser.add_argument("--output", metavar="Y.npz", help="file to write; default: print the outputs")
    parser.add_argument("--on", default="sim", metavar="DEVICE", help="sim")


def execute(options: argparse.Namespace) -> bool:
    """Run every sample and write or print the outputs."""
    from tvm_tinyml.arrays import read_npz
    from tvm_tinyml.library import Library

    outputs = Library.read(options.library).run(read_npz(options.input), on=options.on)
    if options.output:
        _write(Path(options.output), outputs)
    else:
        print(json.dumps({name: array.tolist() for name, array in outputs.items()}))
    return True


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an ``.npz`` file that appears whole or not at all."""
    from tvm_tinyml.errors import OutputError

    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)
        os.replace(name, path)
    except OSError as error:
        raise OutputError(f"Output file '{path}' cannot be written: {error.strerror}.") from error
