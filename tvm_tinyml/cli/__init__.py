"""The command line: ``tvm-tinyml COMMAND``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from tvm_tinyml import __version__
from tvm_tinyml.cli import bench, compile, demo, inspect, run, targets
from tvm_tinyml.errors import DeviceError, TinyMLError

DONE, CHECK_FAILED, BAD_USE, DEVICE_TROUBLE = 0, 1, 2, 3

COMMANDS = (inspect, compile, run, bench, targets, demo)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_USE, f"{self.prog}: {message}. See {self.prog} --help.\n")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = _Parser(prog="tvm-tinyml", description="Compile trained networks into libraries for small devices.")
    top.add_argument("--version", action="version", version=f"tvm-tinyml {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for command in COMMANDS:
        sub = commands.add_parser(command.NAME, help=command.HELP, description=command.HELP)
        command.add_arguments(sub)
        sub.set_defaults(execute=command.execute)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code: 0 done, 1 a check failed, 2 bad input or use, 3 device trouble."""
    options = parser().parse_args(arguments)
    try:
        passed: bool = options.execute(options)
    except DeviceError as error:
        print(f"tvm-tinyml: {error}", file=sys.stderr)
        return DEVICE_TROUBLE
    except TinyMLError as error:
        print(f"tvm-tinyml: {error}", file=sys.stderr)
        return BAD_USE
    return DONE if passed else CHECK_FAILED
