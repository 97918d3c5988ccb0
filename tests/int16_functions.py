"""Functions of one int16 tensor: each as a model with an input of every number, and how near to the real function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from tvm_tinyml.frontend.qdq import Function, QdqBuilder, Quantization, hard_sigmoid, hard_swish
from tvm_tinyml.model import Model

NUMBERS = np.arange(-(2**15), 2**15).astype(np.int16).reshape(64, 1024)
"""Every int16 number."""


@dataclass(frozen=True)
class Case:
    """A function between two scales.

    Attributes
    ----------
    function, real : the float operator, and its meaning for float64.
    operator : of the integer dialect, that it becomes.
    units : bound of an element's error, in units of the result, where the real result is in its range.
    """

    function: Function
    real: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    input_scale: float
    output_scale: float
    operator: str
    units: float
    reference: str = "onnx"

    def model(self) -> Model:
        """Return the model of that function."""
        q = QdqBuilder(self.reference)
        x = q.input("x", NUMBERS.shape, "int16", Quantization(self.input_scale, 0, "int16"))
        q.output("y", q.apply(self.function, x, to=Quantization(self.output_scale, 0, "int16"), name="y"), "int16")
        return q.finish("m")

    def exact(self) -> NDArray[np.float64]:
        """Return the real results in units of the output."""
        scales = float(np.float32(self.input_scale)), float(np.float32(self.output_scale))
        return self.real(NUMBERS.astype(np.float64) * scales[0]) / scales[1]


def leaky(alpha: float) -> dict[str, Any]:
    return {
        "function": lambda e: relax.op.nn.leakyrelu(e, alpha),
        "real": lambda x: np.where(x >= 0, x, np.float64(np.float32(alpha)) * x),
        "operator": "slopes",
    }


def over(reach: float) -> float:
    """Return the scale whose numbers reach so far."""
    return reach / 32767


ABS: dict[str, Any] = {"function": relax.op.abs, "real": np.abs, "operator": "slopes"}
NEGATIVE: dict[str, Any] = {"function": relax.op.negative, "real": np.negative, "operator": "slopes"}
EXP: dict[str, Any] = {"function": relax.op.exp, "real": np.exp, "operator": "interpolate"}
HARD_SWISH: dict[str, Any] = {
    "function": hard_swish,
    "real": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "operator": "interpolate",
}
HARD_SIGMOID: dict[str, Any] = {
    "function": lambda e: hard_sigmoid(e, 1 / 6, 0.5),
    "real": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "operator": "requantize",
}
FALLING: dict[str, Any] = {
    "function": lambda e: hard_sigmoid(e, -0.25, 0.5),
    "real": lambda x: np.clip(0.5 - x / 4, 0, 1),
    "operator": "interpolate",
}
SIGMOID: dict[str, Any] = {
    "function": relax.op.sigmoid,
    "real": lambda x: 1 / (1 + np.exp(-x)),
    "operator": "interpolate",
}
TANH: dict[str, Any] = {"function": relax.op.tanh, "real": np.tanh, "operator": "interpolate"}

CASES: dict[str, Case] = {
    "leaky_relu": Case(**leaky(0.1), input_scale=over(9), output_scale=over(9), units=0.75),
    "leaky_relu to a smaller scale": Case(**leaky(0.3), input_scale=over(9), output_scale=over(0.7), units=0.75),
    "leaky_relu to a larger scale": Case(**leaky(0.5), input_scale=over(1), output_scale=over(8), units=0.75),
    "leaky_relu to a tiny scale": Case(**leaky(0.3), input_scale=over(9), output_scale=over(0.001), units=0.75),
    "leaky_relu to a huge scale": Case(**leaky(-0.3), input_scale=over(0.001), output_scale=over(9), units=0.75),
    "leaky_relu that rises on both sides": Case(**leaky(-1.7), input_scale=over(2), output_scale=over(3), units=0.75),
    "leaky_relu without a slope": Case(**leaky(0.0), input_scale=over(2), output_scale=over(3), units=0.75),
    "abs": Case(**ABS, input_scale=over(4), output_scale=over(4), units=0),
    "abs to another scale": Case(**ABS, input_scale=over(4), output_scale=over(3), units=0.75),
    "negative": Case(**NEGATIVE, input_scale=over(4), output_scale=over(4), units=0),
    "negative to another scale": Case(**NEGATIVE, input_scale=over(4), output_scale=over(5), units=0.75),
    "hard_sigmoid": Case(**HARD_SIGMOID, input_scale=over(12), output_scale=over(2), units=1.25),
    "hard_sigmoid of a small range": Case(**HARD_SIGMOID, input_scale=over(0.1), output_scale=over(1), units=1.25),
    "hard_sigmoid that falls": Case(**FALLING, input_scale=over(5), output_scale=over(2), units=10.1),
    "hard_swish": Case(**HARD_SWISH, input_scale=over(10), output_scale=over(10), units=6),
    "hard_swish to another scale": Case(**HARD_SWISH, input_scale=over(7), output_scale=over(11), units=5),
    "exp": Case(**EXP, input_scale=over(3), output_scale=over(float(np.exp(3))), units=3.1),
    "exp of TFLite": Case(**EXP, input_scale=over(3), output_scale=over(float(np.exp(3))), units=4, reference="tflite"),
    "sigmoid to another scale": Case(**SIGMOID, input_scale=over(8), output_scale=over(2), units=1.1),
    "tanh to another scale": Case(**TANH, input_scale=over(8), output_scale=over(2), units=1.6),
}
"""Every function that has no test of its own, at scales that networks have."""
