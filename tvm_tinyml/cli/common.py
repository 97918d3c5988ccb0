"""Options that several commands share."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from tvm_tinyml.device.timing import memory_names
from tvm_tinyml.options import CHOICES, OPTIONAL_PASSES

if TYPE_CHECKING:
    from tvm_tinyml.model import Model

RANDOM = "random"

BUILD_OPTIONS = (
    "goal",
    "io",
    "weights",
    "float_abi",
    "disabled_passes",
    "ram_limit_bytes",
    "flash_limit_bytes",
    "pools",
    "tuning_log",
    "require_tuned",
)


OF_FLOATS = ("observer", "narrow", "accuracy_on")
"""Options that say how a float network is quantized."""


def add_build_options(parser: argparse.ArgumentParser, *, target_required: bool = True) -> None:
    """Add the options of a build."""
    parser.add_argument(
        "--target",
        metavar="T",
        required=target_required,
        help="cortex-m4, cortex-m33+nodsp, ... (see: targets)",
    )
    parser.add_argument("--goal", metavar="GOAL", help=f"{choices('goal')}; default: balanced")
    parser.add_argument(
        "--io", metavar="WHERE", help=f"where inputs and outputs live: {choices('io')}; default: caller"
    )
    parser.add_argument("--weights", metavar="WHERE", help=f"{choices('weights')}; default: flash")
    parser.add_argument("--float-abi", metavar="ABI", help="hard, softfp or soft; default: hard with an FPU, else soft")
    fill = "; with --goal time and a --memory that waits, what is left holds weights"
    for memory, title, more in (("ram", "RAM", fill), ("flash", "flash", "")):
        parser.add_argument(
            f"--{memory}-limit",
            type=int,
            dest=f"{memory}_limit_bytes",
            metavar="BYTES",
            help=f"{title} that the library may take; more is an error that says what would fit{more}",
        )
    parser.add_argument(
        "--pool",
        action=_Pools,
        type=_pool,
        dest="pools",
        metavar="NAME=BYTES",
        help="a memory for activations and scratch, such as dtcm=65536; once for each, the fastest first",
    )
    parser.add_argument(
        "--tuning-log", metavar="DIR", type=path, help="records of tune, which go before those that come along"
    )
    parser.add_argument(
        "--require-tuned", action="store_true", default=None, help="an operator without a record is an error"
    )
    parser.add_argument(
        "--disable-pass",
        action="append",
        dest="disabled_passes",
        metavar="NAME",
        help=f"leave an optional pass out, for finding faults: {', '.join(OPTIONAL_PASSES)}",
    )


def _pool(text: str) -> tuple[str, int]:
    name, _, size = text.partition("=")
    if not size.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=BYTES, such as dtcm=65536")
    return name, int(size)


class _Pools(argparse.Action):
    """Collects pools in order."""

    def __call__(
        self, _parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, _option: str | None = None
    ) -> None:
        name, size = values
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest) or {}), name: size})


def add_quantize(parser: argparse.ArgumentParser) -> None:
    """Add what makes a float network an integer one."""
    parser.add_argument(
        "--quantize",
        metavar="RECIPE",
        help="of a float model: int8 | int16x8 | w4 | mixed:60%% (of the bytes of int8 weights, or in bytes: "
        "mixed:20000; of what the target gives: mixed:flash=40000,ram=110%%,cycles=4000000); default with "
        "--calibration: int8",
    )
    parser.add_argument(
        "--calibration",
        metavar="X.npz|random",
        type=path,
        help="samples of a float model's inputs, an array for each; random: numbers that say nothing about accuracy",
    )
    parser.add_argument(
        "--observer",
        metavar="NAME",
        help="how ranges of tensors are found: min-max, moving-average, percentile, entropy, mse, measured; "
        "default: measured",
    )
    parser.add_argument(
        "--narrow",
        metavar="WAY",
        help="what weights of 4 bits are: channel (a scale for each), group (and a multiple of it for every 32 "
        "weights), codebook (16 numbers for each layer); default: codebook",
    )
    parser.add_argument(
        "--accuracy-on",
        metavar="X.npz",
        type=path,
        help="samples with an array 'labels', the class of each: say how often the network is right, before and after",
    )


def load_model(options: argparse.Namespace, name: str | None = None) -> Model:
    """Load the model that is named, and quantize it if it is to be."""
    from tvm_tinyml.errors import TargetError
    from tvm_tinyml.frontend import load
    from tvm_tinyml.quantization import quantize
    from tvm_tinyml.quantization.progress import silent

    model = load(options.model, name=name)
    if options.quantize is None and options.calibration is None:
        for name in OF_FLOATS:
            if getattr(options, name):
                raise TargetError(f"{flag(name)} is for float models: it needs --calibration X.npz.")
        return model
    recipe = options.quantize or "int8"
    # What precisions take on the target is measured where it counts, or is shown.
    measures = "=" in recipe or getattr(options, "verbose", False)
    target = getattr(options, "target", None) if measures else None
    memory = {"memory": options.memory} if getattr(options, "memory", None) else {}
    quantized = quantize(
        model,
        recipe,
        calibration=options.calibration,
        observer=options.observer or "measured",
        narrow=options.narrow or "codebook",
        accuracy_on=options.accuracy_on,
        target=target,
        progress=silent if getattr(options, "quiet", False) or not is_terminal() else _show,
        **({} if target is None else {**build_options(options), **memory}),
    )
    if options.calibration == RANDOM and not getattr(options, "quiet", False):
        print(
            "Calibrated on random numbers: sizes and cycles are right; what the network computes is not to be used.",
            file=sys.stderr,
        )
    return quantized


def is_terminal() -> bool:
    """Return whether somebody sees what is written beside the results."""
    return sys.stderr.isatty()


def _show(stage: str, done: int, total: int) -> None:
    """Write how far quantization is over a line of the terminal, which is empty in the end."""
    print(f"\rquantizing: {stage} {done}/{total}\033[K" if done < total else "\r\033[K", end="", file=sys.stderr)


def add_memory(parser: argparse.ArgumentParser) -> None:
    """Add ``--memory``."""
    parser.add_argument(
        "--memory",
        metavar="M",
        help=f"what code and constants lie in, for cycles and --ram-limit: {' | '.join(memory_names())}, or a .toml "
        "file; default: zero-wait, or what the folder was compiled for",
    )


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Add ``--quiet``."""
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")


def build_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return those of the build's options that were given."""
    given = {name: getattr(options, name, None) for name in BUILD_OPTIONS}
    return {name: value for name, value in given.items() if value is not None}


def flag(name: str) -> str:
    """Return how an option is written."""
    return f"--{name.replace('_', '-')}"


def choices(option: str) -> str:
    """Return what an option takes, for its help."""
    return " | ".join(CHOICES[option])


def path(text: str) -> str:
    """Return a path from the command line; an empty one, as from an unset variable, is an error."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return text
