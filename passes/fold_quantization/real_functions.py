"""Functions of one element, as their float operators mean them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

Real = Callable[[NDArray[Any]], NDArray[Any]]


def numbers(call: relax.Call) -> tuple[float, float]:
    """Return the two numbers after the tensor that a function is of."""
    return float(call.args[1].value), float(call.args[2].value)


def _hard_sigmoid(alpha: float, beta: float) -> Real:
    return lambda x: np.clip(alpha * x + beta, 0, 1)


REAL: Mapping[str, Callable[[relax.Call], Real]] = {
    "relax.sigmoid": lambda _: lambda x: 1 / (1 + np.exp(-x)),
    "relax.tanh": lambda _: np.tanh,
    "relax.nn.relu": lambda _: lambda x: np.maximum(x, 0),
    "relax.clip": lambda call: lambda x: np.clip(x, *numbers(call)),
    "relax.nn.leakyrelu": lambda call: lambda x: np.where(x >= 0, x, x * float(call.attrs.alpha)),
    "tinyml.hard_swish": lambda _: lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "tinyml.hard_sigmoid": lambda call: _hard_sigmoid(*numbers(call)),
    "relax.exp": lambda _: np.exp,
    "relax.abs": lambda _: np.abs,
    "relax.negative": lambda _: np.negative,
}
"""By the float operator, from a call to the function of float64."""
