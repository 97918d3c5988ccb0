"""Sums of two tensors of one shape on cores without SMLAD."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax

from tvm_tinyml.choice import NONE, Knobs
from tvm_tinyml.passes.integer_ops import Attributes, shape_of
from tvm_tinyml.passes.kernels.kernel import Kernel, Recipe
from tvm_tinyml.targets.cortex_m.microkernels import scalar_add
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
        form = scalar_add.fit(sum_function(self._kind, attributes))
        if form is None:
            return None
        kernel = scalar_add.add(form, narrow=self._narrow)
        return sum_kernel(self._kind, arguments, kernel, form.words, ScalarSum.__name__)
