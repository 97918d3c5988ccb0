"""Tables of element-wise functions, rounded as the model's own tool would."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import relax

from tvm_tinyml import arithmetic
from tvm_tinyml.passes.fold_quantization.groups import Function, Tabulate
from tvm_tinyml.passes.fold_quantization.patterns import Quantization

Real = Callable[[np.ndarray], np.ndarray]


def _exact(real: Callable[[relax.Call], Real]) -> Tabulate:
    """Tabulate by evaluating the function in double and rounding once."""

    def tabulate(source: Quantization, result: Quantization, call: relax.Call) -> np.ndarray:
        return arithmetic.table_of(real(call), source.scale, source.zero_point, result.scale, result.zero_point)

    return tabulate


def _numbers(call: relax.Call) -> tuple[float, float]:
    """Return the two numbers after the tensor that a function is of."""
    return float(call.args[1].value), float(call.args[2].value)


def _hard_sigmoid(alpha: float, beta: float) -> Real:
    return lambda x: np.clip(alpha * x + beta, 0, 1)


_EXACT = {
    "relax.sigmoid": _exact(lambda _: lambda x: 1 / (1 + np.exp(-x))),
    "relax.tanh": _exact(lambda _: np.tanh),
    "relax.nn.relu": _exact(lambda _: lambda x: np.maximum(x, 0)),
    "relax.clip": _exact(lambda call: lambda x: np.clip(x, *_numbers(call))),
    "relax.nn.leakyrelu": _exact(lambda call: lambda x: np.where(x >= 0, x, x * float(call.attrs.alpha))),
    "tinyml.hard_swish": _exact(lambda _: lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "tinyml.hard_sigmoid": _exact(lambda call: _hard_sigmoid(*_numbers(call))),
    "relax.exp": _exact(lambda _: np.exp),
    "relax.abs": _exact(lambda _: np.abs),
    "relax.negative": _exact(lambda _: np.negative),
}


def _fixed_output(table: Callable[[float, int], np.ndarray], output: Quantization, name: str) -> Tabulate:
    """TFLite's fixed-point version when the result has its fixed quantization, the exact one otherwise."""

    def tabulate(source: Quantization, result: Quantization, call: relax.Call) -> np.ndarray:
        if result == output:
            return table(source.scale, source.zero_point)
        return _EXACT[name](source, result, call)

    return tabulate


def _tflite_clip(source: Quantization, result: Quantization, call: relax.Call) -> np.ndarray:
    if _numbers(call) == (0.0, 6.0) and source == result:
        return arithmetic.relu6_table(source.scale, source.zero_point)
    return _EXACT["relax.clip"](source, result, call)


_TFLITE: dict[str, Tabulate] = {
    **_EXACT,
    "relax.sigmoid": _fixed_output(arithmetic.logistic_table, Quantization(1 / 256, -128), "relax.sigmoid"),
    "relax.tanh": _fixed_output(arithmetic.tanh_table, Quantization(1 / 128, 0), "relax.tanh"),
    "relax.nn.relu": lambda s, r, _: arithmetic.relu_table(s.scale, s.zero_point, r.scale, r.zero_point),
    "relax.clip": _tflite_clip,
    "relax.nn.leakyrelu": lambda s, r, call: arithmetic.leaky_relu_table(
        s.scale, s.zero_point, r.scale, r.zero_point, float(call.attrs.alpha)
    ),
    "tinyml.hard_swish": lambda s, r, _: arithmetic.hard_swish_table(s.scale, s.zero_point, r.scale, r.zero_point),
}

_ARITY = {"relax.clip": 3, "tinyml.hard_sigmoid": 3}

FUNCTIONS: dict[str, dict[str, Tabulate]] = {"tflite": _TFLITE, "onnx": _EXACT}
"""By the model's reference, then by the float operator."""


def function_groups(reference: str) -> list[Function]:
    """Return the groups of element-wise functions for models of that reference."""
    return [Function(name, _ARITY.get(name, 1), tabulate) for name, tabulate in FUNCTIONS[reference].items()]
