"""Channels that hold the same constant for every input of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule, relax

from tvm_tinyml.passes.integer_ops import attributes_of, shape_of
from tvm_tinyml.passes.remove_dead_channels.links import Mask, Operator, Weighted, channels_of, taps_of

INT32_MAX = 2**31 - 1


@dataclass(frozen=True)
class Constants:
    """Which channels of a tensor are constant, and what they hold; the values of the others mean nothing."""

    mask: Mask
    values: NDArray[np.int64]


def constant_channels(mod: IRModule, operators: Sequence[Operator]) -> dict[relax.Var, Constants]:
    """Return the constant channels of each tensor that has some.

    What a channel holds is found by running the reference once: a channel that does not depend on the input holds the
    same for zeros as for anything else. So borders, clamps and roundings are as the reference has them.
    """
    known = _known_channels(mod["main"], operators)
    if not any(mask.any() for mask in known.values()):
        return {}
    # The reference reads the integer dialect, which belongs to this package.
    from tvm_tinyml.reference.evaluate import evaluate

    constants: dict[relax.Var, Constants] = {}

    def collect(var: relax.Var, _call: relax.Call, _arguments: Sequence[Any], result: Any) -> Any:
        if known[var].any() and isinstance(result, np.ndarray):
            pixels = result.reshape(-1, channels_of(var))
            mask = known[var] & (pixels == pixels[0]).all(axis=0)
            constants[var] = Constants(mask, pixels[0].astype(np.int64))
        return result

    evaluate(mod, [np.zeros(shape_of(p), str(p.ty.dtype)) for p in mod["main"].params], collect)
    return constants


def _known_channels(main: relax.Function, operators: Sequence[Operator]) -> dict[relax.Var, Mask]:
    """Return the channels of each tensor that do not depend on the input."""
    known: dict[relax.Expr, Mask] = {param: np.zeros(channels_of(param), bool) for param in main.params}
    for operator in operators:
        mask = np.ones(channels_of(operator.var), bool)
        for operand, link in operator.links:
            is_variable = isinstance(operand, relax.Var)
            mask &= link.known(known[operand] if is_variable else np.ones(channels_of(operand), bool))
        known[operator.var] = mask
    return known


def with_foldable(operator: Operator, constants: Mapping[relax.Var, Constants]) -> Operator:
    """Return the operator with the constant channels marked whose share can move to the bias.

    Behind a border only channels that hold what the border holds, the input's zero point, have the same share
    everywhere. Where the new biases could leave 32 bits, no channel is marked.
    """
    operand, link = operator.links[0] if operator.links else (None, None)
    if not isinstance(link, Weighted) or operand not in constants:
        return operator
    foldable = constants[operand].mask
    attributes = attributes_of(operator.value)
    if any(attributes.get("padding", ())):
        foldable = foldable & (constants[operand].values == attributes["input_zero_point"])
    shares = shares_of(operator.value, constants[operand])[:, foldable]
    bias = operator.value.args[2].value.numpy().astype(np.int64)
    if (np.abs(bias) + np.abs(shares).sum(axis=1) > INT32_MAX).any():
        return operator
    return replace(operator, links=[(operand, replace(link, foldable=foldable))])


def shares_of(call: relax.Call, constants: Constants) -> NDArray[np.int64]:
    """Return what each channel adds to the sums of a convolution or dense layer: results by channels."""
    shares: NDArray[np.int64] = taps_of(call).sum(axis=1, dtype=np.int64) * constants.values
    return shares
