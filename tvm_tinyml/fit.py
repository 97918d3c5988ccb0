"""Does a library fit its device? If not: by how much, because of what, and what would."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import replace

from tvm_tinyml.errors import FitError
from tvm_tinyml.library import Library
from tvm_tinyml.options import CHOICES, BuildOptions

Compile = Callable[[BuildOptions], Library]


def fits(library: Library, options: BuildOptions) -> bool:
    """Return whether a library keeps to both limits."""
    return not list(_excess(library, options))


def check_fit(library: Library, options: BuildOptions, compile_with: Compile) -> None:
    """Refuse a library that is larger than the limits of its build.

    Parameters
    ----------
    compile_with : compiles the same model with other options, to tell what would fit.

    Raises
    ------
    FitError : with the bytes that are needed and available, the largest tensor, and the options that would fit.
    """
    for kind, needed, limit in _excess(library, options):
        key, what = ("weight_bytes", "constants") if kind == "flash" else ("output_bytes", "output")
        largest = max(library.metadata["layers"], key=operator.itemgetter(key))
        message = (
            f"{library.name} needs {needed:,} bytes of {kind} with goal {options.goal}, {needed - limit:,} more than "
            f"the {limit:,} it may take. Largest: the {what} of {largest['name']}, {largest[key]:,} bytes. "
            f"{_advice(library, options, compile_with)}"
        )
        raise FitError(message, needed_bytes=needed, available_bytes=limit)


def _excess(library: Library, options: BuildOptions) -> Iterator[tuple[str, int, int]]:
    """Yield what is needed and what there is, of each memory that does not suffice."""
    for name, pool in library.metadata["pools"].items():
        if pool["limit_bytes"] is not None and pool["size_bytes"] > pool["limit_bytes"]:
            yield f"pool {name}", pool["size_bytes"], pool["limit_bytes"]
    for kind, needed, limit in (
        ("RAM", library.metadata["ram_bytes"]["total"], options.ram_limit_bytes),
        ("flash", library.metadata["flash_bytes"]["total"], options.flash_limit_bytes),
    ):
        if limit is not None and needed > limit:
            yield kind, needed, limit


def _advice(library: Library, options: BuildOptions, compile_with: Compile) -> str:
    """Say which other goals and places of inputs and weights would fit, and what they cost; or what comes closest."""
    free = replace(options, ram_limit_bytes=None, flash_limit_bytes=None, require_tuned=False)
    others = [replace(free, goal=goal) for goal in CHOICES["goal"] if goal != options.goal]
    if options.weights == "ram":
        others += [replace(free, goal=goal, weights="flash") for goal in CHOICES["goal"]]
    found = [(other, compile_with(other)) for other in others]
    fitting = [f"{_name(other, options)} ({_cost(made, library)})" for other, made in found if fits(made, options)]
    if fitting:
        return f"Would fit: {'; '.join(fitting)}."
    ram, flash = (min(made.metadata[key]["total"] for _, made in found) for key in ("ram_bytes", "flash_bytes"))
    return (
        f"No goal would fit: the least is {ram:,} bytes of RAM, and {flash:,} of flash. Take a smaller model or device."
    )


def _name(other: BuildOptions, options: BuildOptions) -> str:
    weights = f" --weights {other.weights}" if other.weights != options.weights else ""
    return f"--goal {other.goal}{weights}"


def _cost(made: Library, library: Library) -> str:
    """Return what a library takes, and its work beside another one's."""
    ram, flash = made.metadata["ram_bytes"]["total"], made.metadata["flash_bytes"]["total"]
    before, macs = library.metadata["macs_executed"], made.metadata["macs_executed"]
    extra = f", {100 * (macs / before - 1):+.0f} % multiply-accumulates" if macs != before else ""
    return f"RAM {ram:,}, flash {flash:,} bytes{extra}"
