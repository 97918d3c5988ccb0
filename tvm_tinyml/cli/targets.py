"""``tvm-tinyml targets``."""

from __future__ import annotations

import argparse

from tvm_tinyml.tables import table

NAME, HELP = "targets", "list the targets and what each can do"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no options."""


def execute(_options: argparse.Namespace) -> bool:
    """Print the table."""
    from tvm_tinyml.targets.cortex_m.cores import CORES

    rows = [
        (core.name, " ".join(f"+no{feature}" for feature in sorted(core.features)) or None, core.summary)
        for core in CORES.values()
    ]
    print(table(("target", "may lack", "core"), rows))
    return True
