"""Channels that must stay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import relax

from tvm_tinyml.passes.remove_dead_channels.links import Mask, Operator, channels_of


def live_channels(main: relax.Function, operators: Sequence[Operator]) -> dict[relax.Var, Mask]:
    """Return which channels of each tensor must stay: all of inputs and outputs, and what those need.

    The smallest masks that satisfy all links; they only grow until nothing asks for more. An operator of whose result
    nothing stays asks for nothing.
    """
    live = {operator.var: np.zeros(channels_of(operator.var), bool) for operator in operators}
    live |= {param: np.ones(channels_of(param), bool) for param in main.params}
    for output in outputs_of(main):
        live[output][:] = True
    size = -1
    while size != (size := sum(int(mask.sum()) for mask in live.values())):
        for operator in reversed(operators):
            _grow(operator, live)
    return live


def outputs_of(main: relax.Function) -> list[relax.Var]:
    """Return the variables that ``main`` returns."""
    result = main.body.body
    fields = list(result.fields) if isinstance(result, relax.Tuple) else [result]
    return [field for field in fields if isinstance(field, relax.Var)]


def _grow(operator: Operator, live: dict[relax.Var, Mask]) -> None:
    kept = live[operator.var]
    if not kept.any():
        return
    variables = [(operand, link) for operand, link in operator.links if isinstance(operand, relax.Var)]
    for operand, link in variables:
        kept |= link.imposed(live[operand])
    kept |= operator.rigid
    for operand, link in variables:
        live[operand] |= link.needed(kept)
