"""``tvm-tinyml targets``: what ``--target`` and ``--memory`` take."""

from __future__ import annotations

import argparse

from tvm_tinyml.tables import table

NAME, HELP = "targets", "list the targets, and the memories that they can be simulated with"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no options."""


def execute(_options: argparse.Namespace) -> bool:
    """Print both tables."""
    from tvm_tinyml.device.timing import load_memory, memory_names
    from tvm_tinyml.targets.cortex_m.cores import CORES

    rows = [
        (core.name, " ".join(f"+no{feature}" for feature in sorted(core.features)) or None, core.summary)
        for core in CORES.values()
    ]
    print(table(("target", "may lack", "core"), rows))
    print()
    print(table(("memory", "what it is"), [(name, load_memory(name).summary) for name in memory_names()]))
    return True
