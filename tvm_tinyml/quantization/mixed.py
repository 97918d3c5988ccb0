"""Which layers get weights of four bits, by what that costs at the outputs and saves on the device."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tvm import IRModule

from tvm_tinyml.errors import QuantizationError
from tvm_tinyml.options import nearest
from tvm_tinyml.passes.float_groups import Group, groups
from tvm_tinyml.passes.integer_ops import shape_of
from tvm_tinyml.passes.pack_weights import LEAST_BYTES
from tvm_tinyml.quantization.grids import weight_bytes
from tvm_tinyml.quantization.report import Point

Bits = Mapping[str, int]
"""By the names of layers, of their weights."""

MIXED = "mixed:"

QUANTITIES = {
    "weights": "weight_bytes",
    "flash": "flash_bytes",
    "ram": "ram_bytes",
    "cycles": "cycles",
}
"""What may have a budget, and the attribute of `Point` that says what is taken."""


@dataclass(frozen=True)
class Budget:
    """What a network may take at most.

    Attributes
    ----------
    quantity : a key of `QUANTITIES`.
    limit : a number, or a share of what the network takes with weights of 8 bits.
    is_share : which of the two.
    """

    quantity: str
    limit: float
    is_share: bool

    def most(self, whole: Point) -> int:
        """Return the number, from what weights of 8 bits take."""
        return round(self.limit * self.of(whole)) if self.is_share else int(self.limit)

    def of(self, point: Point) -> int:
        """Return what a way to mix takes."""
        taken: int | None = getattr(point, QUANTITIES[self.quantity])
        if taken is None:
            raise QuantizationError(
                f"A budget of {self.quantity} is one on a device that can be simulated: name a Cortex-M as the target."
            )
        return taken


def can_be_narrow(group: Group) -> bool:
    """Return whether there are kernels for a layer with weights of four bits that are stored so."""
    if not group.is_layer or group.kind == "relax.nn.conv2d_transpose" or group.weight.value.numpy().size < LEAST_BYTES:
        return False
    calls = [b.value for b in group.product if str(b.value.op.name) == "relax.nn.conv2d"]
    return all(int(call.attrs.groups) == 1 for call in calls)


def all_narrow(module: IRModule) -> dict[str, int]:
    """Return 4 bits for each layer that can have them."""
    return {group.name: 4 for group in groups(module["main"]) if can_be_narrow(group)}


def bytes_of(module: IRModule, bits: Bits, narrow: str) -> int:
    """Return the bytes of all weights of a float network once they have so many bits."""
    layers = [group for group in groups(module["main"]) if group.is_layer]
    return sum(weight_bytes(shape_of(group.weight), bits.get(group.name, 8), narrow) for group in layers)


def budgets_of(recipe: str) -> list[Budget]:
    """Return what ``mixed:60%``, ``mixed:20000`` or ``mixed:flash=40000,ram=110%`` allows.

    Raises
    ------
    QuantizationError : it is none of these.
    """
    found = []
    for part in recipe.removeprefix(MIXED).split(","):
        quantity, _, limit = part.rpartition("=")
        if quantity not in ("", *QUANTITIES):
            close = nearest(quantity, tuple(QUANTITIES))
            raise QuantizationError(f"There is no budget of {quantity!r}.{close} Known: {', '.join(QUANTITIES)}.")
        if not re.fullmatch(r"\d+%?|\d+\.\d+%", limit):
            raise QuantizationError(
                f"{recipe!r} names no budget. Write {MIXED}60% of the bytes of 8-bit weights, {MIXED}20000 bytes, or "
                f"{MIXED}flash=40000,ram=110%,cycles=4000000 of a target."
            )
        is_share = limit.endswith("%")
        value = float(limit.removesuffix("%"))
        found.append(Budget(quantity or "weights", value / 100 if is_share else value, is_share))
    return found


def check_weights(budgets: Sequence[Budget], module: IRModule, narrow: str) -> None:
    """Refuse budgets of weights that they cannot keep to, before anything is computed.

    Raises
    ------
    QuantizationError : weights of 4 bits wherever there are kernels for them take more.
    """
    ends = [Point("", bytes_of(module, bits, narrow), 0.0) for bits in ({}, all_narrow(module))]
    for budget in budgets:
        if budget.quantity == "weights" and budget.most(ends[0]) < ends[1].weight_bytes:
            raise QuantizationError(_refusal([budget], ends))


def mixed(
    module: IRModule, budgets: Sequence[Budget], point: Callable[[Sequence[str], bool], Point]
) -> tuple[Bits, list[Point]]:
    """Return bits that keep to all budgets, and all steps on the way from 8 bits everywhere to 4.

    Layers become narrow one after the other, first those that cost the least signal for each byte saved when only they
    are; those that break a budget of RAM or cycles by themselves never do. Of the steps within the budgets that with
    the most signal is taken.
    Source: the order by sensitivity of Dong et al., HAWQ, ICCV 2019; here the cost is measured.

    Parameters
    ----------
    point : what a network takes if some layers are narrow; and whether it is to be known what that is on a target.

    Raises
    ------
    QuantizationError : no step keeps to the budgets.
    """
    whole = point([], True)
    least_noise = 10 ** (-whole.decibels / 10)

    def cost(one: Point) -> float:
        return (10 ** (-one.decibels / 10) - least_noise) / (whole.weight_bytes - one.weight_bytes)

    growing = [budget for budget in budgets if budget.quantity in ("ram", "cycles")]
    singles = [point([name], bool(growing)) for name in all_narrow(module)]
    allowed = [one for one in singles if all(budget.of(one) <= budget.most(whole) for budget in growing)]
    order = [one.narrow[0] for one in sorted(allowed, key=cost)]
    steps = [whole, *(point(order[:count], True) for count in range(1, len(order) + 1))]
    within = [step for step in steps if all(budget.of(step) <= budget.most(whole) for budget in budgets)]
    if not within:
        raise QuantizationError(_refusal(budgets, steps) + _left_out(growing, whole, singles))
    chosen = max(within, key=lambda step: step.decibels)
    return dict.fromkeys(chosen.narrow, 4), steps


def _left_out(growing: Sequence[Budget], whole: Point, singles: Sequence[Point]) -> str:
    """Say what kept layers from becoming narrow, and from where on it would not."""
    parts = []
    for budget in growing:
        broken = [budget.of(one) for one in singles if budget.of(one) > budget.most(whole)]
        if broken:
            parts.append(
                f" {len(broken)} of {len(singles)} layers stay at 8 bits: with 4, each takes {budget.quantity} of "
                f"{min(broken):,} or more by itself."
            )
    return "".join(parts)


def _refusal(budgets: Sequence[Budget], steps: Sequence[Point]) -> str:
    """Say which budget is missed by every step, and the nearest that can be met."""
    whole = steps[0]
    for budget in budgets:
        least = min(budget.of(step) for step in steps)
        if least > budget.most(whole):
            return (
                f"There is no way to keep to {budget.quantity} of {budget.most(whole):,}: with weights of 8 bits it is "
                f"{budget.of(whole):,}, and {least:,} at least. Ask for {MIXED}{budget.quantity}={least} or more."
            )
    best = min(steps, key=lambda step: max(budget.of(step) / max(budget.most(whole), 1) for budget in budgets))
    near = ",".join(f"{budget.quantity}={max(budget.of(best), budget.most(whole))}" for budget in budgets)
    return f"No step keeps to all budgets at once. The nearest that can be met: {MIXED}{near}."
