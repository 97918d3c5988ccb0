"""Options that several commands share."""

from __future__ import annotations

import argparse

from tvm_tinyml.options import CHOICES, OPTIONAL_PASSES


def add_build_options(parser: argparse.ArgumentParser, *, target_required: bool = True) -> None:
    """Add the options of a build."""
    parser.add_argument("--target", metavar="T", required=target_required, help="cortex-m4, cortex-m33+nodsp, ... (see: targets)")
    parser.add_argument("--goal", default="balanced", metavar="GOAL", help=_choices("goal"))
    parser.add_argument("--io", default="caller", metavar="WHERE", help=f"where inputs and outputs live: {_choices('io')}")
    parser.add_argument("--weights", default="flash", metavar="WHERE", help=_choices("weights"))
    parser.add_argument("--float-abi", metavar="ABI", help="hard, softfp or soft; default: hard with an FPU")
    parser.add_argument(
        "--disable-pass",
        action="append",
        default=[],
        metavar="NAME",
        help=f"leave an optional pass out, for finding faults: {', '.join(OPTIONAL_PASSES)}",
    )


def _choices(option: str) -> str:
    return " | ".join(CHOICES[option])
