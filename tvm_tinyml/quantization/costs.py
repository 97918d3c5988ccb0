"""What a quantized network takes on a device: it is built, and counted on the simulator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

from tvm_tinyml.api import build
from tvm_tinyml.device.engines import can_simulate
from tvm_tinyml.errors import QuantizationError
from tvm_tinyml.model import Model
from tvm_tinyml.options import nearest
from tvm_tinyml.targets.cortex_m import cortex_m

LIMITS = ("ram_limit_bytes", "flash_limit_bytes", "require_tuned")
"""Options that are for the network that is chosen, not for those that it is chosen from."""


@dataclass(frozen=True)
class Cost:
    """Of a library.

    Attributes
    ----------
    flash_bytes, ram_bytes : in all.
    cycles : of one inference; None where there is no simulator of the core.
    """

    flash_bytes: int
    ram_bytes: int
    cycles: int | None


Costs = Callable[[Model], Cost]


def costs_on(target: str | None, options: Mapping[str, Any]) -> Costs | None:
    """Return what builds networks for a target, with options of `build` but its limits, and returns what they take.

    Returns
    -------
    None without a target.

    Raises
    ------
    TargetError : there is no such target.
    QuantizationError : an option is none of `build`'s, or there is no target for it.
    """
    known = [name for name in signature(build).parameters if name not in ("model", "target")]
    for name in options:
        if name not in known:
            close = nearest(name, known)
            raise QuantizationError(f"There is no option {name!r}.{close} Those of builds: {', '.join(known)}.")
        if target is None:
            raise QuantizationError(f"Option {name!r} is one of builds, which tell costs on a target. Name a target.")
    if target is None:
        return None
    cortex_m(target)
    others = {name: value for name, value in options.items() if name not in LIMITS}

    def cost(model: Model) -> Cost:
        library = build(model, target, **{**others, "emit": "lib"})
        counted = can_simulate(library.metadata["target"].split("+")[0])
        return Cost(
            flash_bytes=library.metadata["flash_bytes"]["total"],
            ram_bytes=library.metadata["ram_bytes"]["total"],
            cycles=library.profile().cycles if counted else None,
        )

    return cost
