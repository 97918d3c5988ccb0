"""Sums of two tensors of one shape on cores without SMLAD."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from tvm_tinyml.choice import NONE, Knobs
from tvm_tinyml.passes.integer_ops import Attributes, shape_of
from tvm_tinyml.passes.kernels.kernel import Kernel, Recipe
from tvm_tinyml.targets.cortex_m.microkernels import scalar_add
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.recipes.elementwise import sum_function, sum_kernel


class ScalarSum(Recipe):
    """``tinyml.add`` or ``tinyml.subtract`` without broadcasting.

    Parameters
    ----------
    kind : "add" or "subtract".
    narrow : with instructions of the Armv6-M only.
    """

    def __init__(self, kind: str, *, narrow: bool) -> None:
        self._kind = kind
        self._narrow = narrow

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE) -> Kernel | None:
        """Return the kernel, or None where its conditions are not met."""
        if knobs or shape_of(arguments[0]) != shape_of(arguments[1]):
            return None
        found = scalar_sum(self._kind, attributes, narrow=self._narrow)
        return None if found is None else sum_kernel(self._kind, arguments, *found, ScalarSum.__name__)


def scalar_sum(kind: str, attributes: Attributes, *, narrow: bool) -> tuple[Microkernel, NDArray[np.int32]] | None:
    """Return the microkernel of an "add" or "subtract", and its constants, or None where none is exact."""
    form = scalar_add.fit(sum_function(kind, attributes))
    return None if form is None else (scalar_add.add(form, narrow=narrow), form.words)
