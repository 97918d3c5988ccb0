"""The command line: ``tvm-tinyml COMMAND``."""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from tvm_tinyml import __version__
from tvm_tinyml.cli import bench, compile, demo, inspect, run, targets, tune
from tvm_tinyml.cli.interrupts import Interrupts
from tvm_tinyml.errors import DeviceError, TinyMLError
from tvm_tinyml.hidden_torch import torch_hidden
from tvm_tinyml.options import nearest

DONE, CHECK_FAILED, BAD_USE, DEVICE_TROUBLE = 0, 1, 2, 3

INTERRUPTED, READER_GONE = 130, 141
"""What shells say of a program that SIGINT or SIGPIPE ended."""

COMMANDS = (inspect, compile, run, bench, tune, targets, demo)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, an unknown option first."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(allow_abbrev=False, **arguments)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        given = sys.argv[1:] if args is None else list(args)
        if self._subparsers is None:
            self._check_options(given)
        namespace, extra = super().parse_known_args(given, namespace)
        if extra:
            self.error(f"there is no place for {' '.join(map(repr, extra))}")
        return namespace, extra

    def error(self, message: str) -> NoReturn:
        end = "" if message.endswith((".", "?")) else "."
        self.exit(BAD_USE, f"{self.prog}: {message}{end} See {self.prog} --help.\n")

    def _check_options(self, given: Sequence[str]) -> None:
        known = list(self._option_string_actions)
        for word in given:
            if word == "--":
                return
            option = word.partition("=")[0]
            if option.startswith("--") and option not in known:
                self.error(f"there is no option {option}.{nearest(option, known)}")


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
    """Run a command and return the exit code.

    Returns
    -------
    0 done, 1 a check failed, 2 bad input or use, 3 device trouble; 130 interrupted, 141 nobody reads the output.
    """
    with Interrupts() as interrupts:
        try:
            return _run(arguments, interrupts)
        except KeyboardInterrupt:
            pass
        except Exception as error:
            if not interrupts.came:
                return _explain(error)
        gc.collect()  # what TVM was building when it was interrupted complains when it goes: let it go unheard
    return _fail("interrupted.", INTERRUPTED)


def _explain(error: Exception) -> int:
    """Print what a user can use of an error and return the exit code; raise again what is a fault of ours."""
    match error:
        case DeviceError():
            return _fail(error, DEVICE_TROUBLE)
        case TinyMLError():
            return _fail(error, BAD_USE)
        case BrokenPipeError():
            _discard_output()
            return READER_GONE
        case OSError():  # a full disk, a folder for temporary files that is not there, ...
            _discard_output()
            where = f": {error.filename!r}" if error.filename else ""
            return _fail(f"{error.strerror or error}{where}.", BAD_USE)
    raise error


def _run(arguments: Sequence[str] | None, interrupts: Interrupts) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a tensor may have a name that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        options = parser().parse_args(arguments, argparse.Namespace(interrupts=interrupts))
        with torch_hidden():
            import_module("tvm")
        passed: bool = options.execute(options)
    finally:
        if sys.stdout is not None:
            sys.stdout.flush()
    return DONE if passed else CHECK_FAILED


def _fail(message: object, code: int) -> int:
    with contextlib.suppress(OSError):
        print(f"tvm-tinyml: {message}", file=sys.stderr)
    return code


def _discard_output() -> None:
    """Let what is left in the buffer go nowhere, or the interpreter would try to write it at its end."""
    with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
