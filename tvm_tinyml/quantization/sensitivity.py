"""What an error inside of a network costs at its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule, relax

from tvm_tinyml.passes.float_groups import leaves
from tvm_tinyml.quantization.statistics import batches
from tvm_tinyml.reference.evaluate import recompute, trace

Array = NDArray[Any]


class Sensitivity:
    """A float network with all it computes on some samples, to try what happens if a part of it is another.

    The outputs that count are those before a softmax at the end, which hides what is wrong with classes that are
    unlikely.

    Parameters
    ----------
    inputs : float32 [samples, *shape], one for each input.
    """

    def __init__(self, module: IRModule, inputs: Sequence[Array]) -> None:
        main = module["main"]
        self._bindings = [binding for block in main.body.blocks for binding in block.bindings]
        self._outputs = before_softmax(module)
        self._known = [trace(module, arrays) for arrays in batches(module, inputs)]
        self.power = self._mean_square([[known[output] for output in self._outputs] for known in self._known])
        """Mean square of the outputs."""

    def noise(self, change: Mapping[relax.Expr, Any]) -> float:
        """Return the mean square of what a change does to the outputs.

        Parameters
        ----------
        change : by variable a function of its array, or by constant an array.
        """
        differences = []
        for known in self._known:
            changed = {expr: new(known[expr]) if callable(new) else new for expr, new in change.items()}
            values = recompute(self._bindings, known, changed)
            differences.append([values[output] - known[output] for output in self._outputs])
        return self._mean_square(differences)

    @staticmethod
    def _mean_square(batches: Sequence[Sequence[Array]]) -> float:
        each = [np.square(array, dtype=np.float64).ravel() for arrays in batches for array in arrays]
        return float(np.concatenate(each).mean())


def decibels(power: float, noise: float) -> float:
    """Return the ratio of signal to noise, in dB; infinite without noise."""
    return float(10 * np.log10(power / noise)) if noise > 0 and power > 0 else float("inf")


def before_softmax(module: IRModule) -> list[relax.Var]:
    """Return the outputs of a network, of those that a softmax makes what it reads."""
    main = module["main"]
    values = {binding.var: binding.value for block in main.body.blocks for binding in block.bindings}

    def behind(output: relax.Var) -> relax.Var:
        call = values.get(output)
        return call.args[0] if isinstance(call, relax.Call) and str(call.op.name) == "relax.nn.softmax" else output

    return [behind(leaf) for leaf in leaves(main.body.body)]
