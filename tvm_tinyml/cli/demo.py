"""``tvm-tinyml demo``."""

from __future__ import annotations

import argparse
from pathlib import Path

from tvm_tinyml.cli.common import path

NAME, HELP = "demo", "compile a small classifier of digits and run it on a simulated Cortex-M4"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--target", default="cortex-m4", metavar="T", help="default: cortex-m4")
    parser.add_argument(
        "-o", "--output", default="demo-out", metavar="OUT", type=path, help="folder to write; default: demo-out"
    )


def execute(options: argparse.Namespace) -> bool:
    """Compile, run over the test pictures, write, and say what came out."""
    from tvm_tinyml.artifacts.folder import check_folder

    check_folder(Path(options.output))

    from tvm_tinyml.api import build
    from tvm_tinyml.caveat import caveat
    from tvm_tinyml.demo import digits
    from tvm_tinyml.frontend import load

    content, images, labels = digits()
    library = build(load(content, name="digits"), options.target)
    print(f"compiled 'digits' for {options.target}; running {len(images)} pictures on the simulator", flush=True)
    (scores,) = library.run(images).values()
    right = int((scores.reshape(len(images), -1).argmax(axis=1) == labels).sum())
    profile = library.profile(images[:1])
    options.interrupts.check()
    library.write(options.output)
    ram, flash = library.metadata["ram_bytes"], library.metadata["flash_bytes"]
    print(f"accuracy      {right} of {len(labels)} right, {100 * right / len(labels):.1f} %")
    print(f"cycles        {profile.cycles:,} an inference, memory {profile.memory}")
    print(f"instructions  {profile.instructions:,}, {library.metadata['macs_executed']:,} multiply-accumulates")
    print(f"RAM           {ram['total']:,} bytes: workspace {ram['workspace']:,}, stack {ram['stack']:,}")
    print(f"flash         {flash['total']:,} bytes: weights {flash['weights']:,}, code {flash['code']:,}")
    print(f"files         {options.output}/include/tvmgen_digits.h    the interface")
    print(f"              {options.output}/lib/libtvmgen_digits.a     link this, or")
    print(f"              {options.output}/src/                       build this")
    print(f"              {options.output}/report.html                open this")
    print(caveat(profile.target.split("+")[0]))
    return True
