"""What a quantized network takes on a device: it is built, and counted on the simulator."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

from tvm_tinyml.api import build
from tvm_tinyml.device.engines import can_simulate
from tvm_tinyml.errors import QuantizationError
from tvm_tinyml.library import Library
from tvm_tinyml.model import Model
from tvm_tinyml.options import nearest
from tvm_tinyml.profile import Profile
from tvm_tinyml.targets.cortex_m import cortex_m

LIMITS = ("ram_limit_bytes", "flash_limit_bytes", "require_tuned")
"""Options that are for the network that is chosen, not for those that it is chosen from."""


@dataclass(frozen=True)
class TensorCost:
    """Of all calls that make a tensor.

    Attributes
    ----------
    constant_bytes : that they read: weights, biases and scales, as they are stored.
    cycles : of one inference; None where there is no simulator of the core.
    """

    constant_bytes: int
    cycles: int | None


@dataclass(frozen=True)
class Cost:
    """Of a library.

    Attributes
    ----------
    flash_bytes, ram_bytes : in all.
    cycles : of one inference; None where there is no simulator of the core.
    tensors : by name, of those of the network that a kernel makes; parts of one have its name and a number behind it.
    """

    flash_bytes: int
    ram_bytes: int
    cycles: int | None
    tensors: Mapping[str, TensorCost] = field(default_factory=dict)

    def of(self, layer: str, layers: Collection[str]) -> TensorCost | None:
        """Return what a layer takes, in parts or as a whole; None where no kernel makes its tensor alone.

        Parameters
        ----------
        layers : names of all layers, of which none is a part of another one.
        """
        named = re.compile(re.escape(layer) + r"\d*")
        parts = [cost for name, cost in self.tensors.items() if named.fullmatch(name) and name not in layers]
        own = [self.tensors[layer]] if layer in self.tensors else parts
        if not own:
            return None
        cycles = [cost.cycles for cost in own if cost.cycles is not None]
        return TensorCost(sum(cost.constant_bytes for cost in own), sum(cycles) if len(cycles) == len(own) else None)


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
        profile = library.profile() if can_simulate(library.metadata["target"].split("+")[0]) else None
        return Cost(
            flash_bytes=library.metadata["flash_bytes"]["total"],
            ram_bytes=library.metadata["ram_bytes"]["total"],
            cycles=profile.cycles if profile else None,
            tensors=_by_tensor(library, profile),
        )

    return cost


def _by_tensor(library: Library, profile: Profile | None) -> dict[str, TensorCost]:
    found: dict[str, TensorCost] = {}
    calls = library.metadata["layers"]
    counted = [layer.cycles for layer in profile.layers] if profile else [None] * len(calls)
    for call, cycles in zip(calls, counted, strict=True):
        before = found.get(call["tensor"], TensorCost(0, 0))
        both = None if cycles is None or before.cycles is None else before.cycles + cycles
        found[call["tensor"]] = TensorCost(before.constant_bytes + call["weight_bytes"], both)
    return found
