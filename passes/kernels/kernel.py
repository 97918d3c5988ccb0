"""A kernel before it is scheduled, and what the lowering must know of the core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tvm import relax, te, tirx

from tvm_tinyml.passes.integer_ops import Attributes


@dataclass(frozen=True)
class KernelTraits:
    """What the compute definition of a kernel depends on.

    Attributes
    ----------
    dot_length : int8 products that one step of the core's dot product takes (1: it has none). Reductions are cut
        into a part that is a multiple of it and a tail.
    """

    dot_length: int


@dataclass(frozen=True)
class Kernel:
    """One PrimFunc and the tensors it is called with.

    Attributes
    ----------
    kind : name of the computation, as the tables show it.
    func : parameters are `arguments` in order, then the result.
    arguments : activations as given, constants packed as the kernel reads them.
    macs : multiply-accumulates of one call, padding included.
    """

    kind: str
    func: tirx.PrimFunc
    arguments: Sequence[relax.Expr]
    macs: int = 0


Lowering = Callable[[Sequence[relax.Expr], Attributes, KernelTraits], Kernel]
"""From an operator's arguments and attributes to its kernel."""


def constant(expr: relax.Expr) -> NDArray[np.generic]:
    """Return the value of a constant argument."""
    array: NDArray[np.generic] = expr.value.numpy()
    return array


def placeholder(name: str, like: relax.Expr) -> te.Tensor:
    """Return a kernel parameter of the shape and dtype of `like`."""
    return te.placeholder([int(i) for i in like.ty.shape], str(like.ty.dtype), name)
