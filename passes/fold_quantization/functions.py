"""Element-wise functions: tables of 256 entries, rounded as the model's own tool would, and what int16 has for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import relax

from tvm_tinyml import arithmetic
from tvm_tinyml.passes.fold_quantization.groups import Function, Tabulate
from tvm_tinyml.passes.fold_quantization.int16_functions import INT16_FUNCTIONS
from tvm_tinyml.passes.fold_quantization.patterns import Quantization
from tvm_tinyml.passes.fold_quantization.real_functions import REAL, Real, numbers


def _exact(real: Callable[[relax.Call], Real]) -> Tabulate:
    """Tabulate by evaluating the function in double and rounding once."""

    def tabulate(source: Quantization, result: Quantization, call: relax.Call) -> np.ndarray:
        return arithmetic.table_of(real(call), source.scale, source.zero_point, result.scale, result.zero_point)

    return tabulate


_EXACT = {name: _exact(real) for name, real in REAL.items()}


def _fixed_output(table: Callable[[float, int], np.ndarray], output: Quantization, name: str) -> Tabulate:
    """TFLite's fixed-point version when the result has its fixed quantization, the exact one otherwise."""

    def tabulate(source: Quantization, result: Quantization, call: relax.Call) -> np.ndarray:
        if result == output:
            return table(source.scale, source.zero_point)
        return _EXACT[name](source, result, call)

    return tabulate


def _tflite_clip(source: Quantization, result: Quantization, call: relax.Call) -> np.ndarray:
    if numbers(call) == (0.0, 6.0) and source == result:
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
    "relax.abs": lambda s, r, _: arithmetic.abs_table(s.scale, s.zero_point, r.scale, r.zero_point),
}

_ARITY = {"relax.clip": 3, "tinyml.hard_sigmoid": 3}

FUNCTIONS: dict[str, dict[str, Tabulate]] = {"tflite": _TFLITE, "onnx": _EXACT}
"""By the model's reference, then by the float operator."""


def function_groups(reference: str) -> list[Function]:
    """Return the groups of element-wise functions for models of that reference."""
    of_int16 = INT16_FUNCTIONS[reference]
    return [
        Function(name, _ARITY.get(name, 1), tabulate, of_int16[name]) for name, tabulate in FUNCTIONS[reference].items()
    ]
