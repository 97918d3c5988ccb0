"""Which layers get weights of four bits, by what that costs at the outputs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from tvm import IRModule

from tvm_tinyml.errors import QuantizationError
from tvm_tinyml.passes.float_groups import Group, groups
from tvm_tinyml.passes.integer_ops import shape_of
from tvm_tinyml.passes.pack_weights import LEAST_BYTES
from tvm_tinyml.quantization.grids import weight_bytes
from tvm_tinyml.quantization.report import Point

Bits = Mapping[str, int]
"""By the names of layers, of their weights."""

Decibels = Callable[[Bits], float]
"""From bits to the signal to noise of the outputs."""

MIXED = "mixed:"


def can_be_narrow(group: Group) -> bool:
    """Return whether there are kernels for a layer with weights of four bits that are stored so."""
    if not group.is_layer or group.kind == "relax.nn.conv2d_transpose" or group.weight.value.numpy().size < LEAST_BYTES:
        return False
    calls = [b.value for b in group.product if str(b.value.op.name) == "relax.nn.conv2d"]
    return all(int(call.attrs.groups) == 1 for call in calls)


def bytes_of(module: IRModule, bits: Bits, narrow: str = "channel") -> int:
    """Return the bytes of all weights of a float network once they have so many bits."""
    layers = [group for group in groups(module["main"]) if group.is_layer]
    return sum(weight_bytes(shape_of(group.weight), bits.get(group.name, 8), narrow) for group in layers)


def budget_of(recipe: str, module: IRModule, narrow: str) -> int:
    """Return the bytes that ``mixed:60%`` or ``mixed:20000`` allows weights.

    Raises
    ------
    QuantizationError : it is neither, or less than weights of four bits take.
    """
    text = recipe.removeprefix(MIXED)
    if not re.fullmatch(r"\d+%?|\d+\.\d+%", text):
        raise QuantizationError(
            f"{recipe!r} names no budget. Write {MIXED}60% of the bytes of 8-bit weights, or {MIXED}20000 bytes."
        )
    whole, least = bytes_of(module, {}), bytes_of(module, all_narrow(module), narrow)
    budget = round(whole * float(text[:-1]) / 100) if text.endswith("%") else int(text)
    if budget < least:
        raise QuantizationError(
            f"Weights cannot take {budget} bytes: {whole} with 8 bits, {least} with 4 bits wherever there are kernels "
            f"for them. Ask for {MIXED}{least} or more."
        )
    return budget


def all_narrow(module: IRModule) -> dict[str, int]:
    """Return 4 bits for each layer that can have them."""
    return {group.name: 4 for group in groups(module["main"]) if can_be_narrow(group)}


def mixed(module: IRModule, budget_bytes: int, narrow: str, decibels: Decibels) -> tuple[Bits, list[Point]]:
    """Return bits that keep to a budget, and all steps on the way from 8 bits everywhere to 4.

    Layers become narrow one after the other, first those that cost the least signal for each byte saved when only they
    are. Source: the order by sensitivity of Dong et al., HAWQ, ICCV 2019; here the cost is measured.
    """
    whole = bytes_of(module, {})

    def point(names: list[str]) -> Point:
        bits = dict.fromkeys(names, 4)
        return Point(bytes_of(module, bits, narrow), decibels(bits), tuple(names))

    def cost(one: Point) -> float:
        noise = 10 ** (-one.decibels / 10)
        return (noise - least_noise) / (whole - one.weight_bytes)

    steps = [point([])]
    least_noise = 10 ** (-steps[0].decibels / 10)
    order = [one.narrow[0] for one in sorted((point([name]) for name in all_narrow(module)), key=cost)]
    steps += [point(order[:count]) for count in range(1, len(order) + 1)]
    chosen = next(step for step in steps if step.weight_bytes <= budget_bytes)
    return dict.fromkeys(chosen.narrow, 4), steps
