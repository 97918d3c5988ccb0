"""Signal to noise, and where it counts."""

from __future__ import annotations

import numpy as np
from tvm import IRModule, relax

from tvm_tinyml.passes.float_groups import leaves

MOST = 200.0
"""Decibels, also without any noise."""


def decibels(power: float, noise: float) -> float:
    """Return the ratio of signal to noise, in dB."""
    return min(MOST, float(10 * np.log10(power / noise))) if noise > 0 and power > 0 else MOST


def before_softmax(module: IRModule) -> list[relax.Var]:
    """Return the outputs of a network, of those that a softmax makes what it reads.

    A softmax hides what is wrong with classes that are unlikely.
    """
    main = module["main"]
    values = {binding.var: binding.value for block in main.body.blocks for binding in block.bindings}

    def behind(output: relax.Var) -> relax.Var:
        call = values.get(output)
        return call.args[0] if isinstance(call, relax.Call) and str(call.op.name) == "relax.nn.softmax" else output

    return [behind(leaf) for leaf in leaves(main.body.body)]
