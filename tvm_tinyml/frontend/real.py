"""Builder of the float form, see :mod:`tvm_tinyml.frontend`: the same operators, with nothing quantized yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from tvm_tinyml.frontend.qdq import Function, QdqBuilder, Quantization, Tensor, Weight
from tvm_tinyml.model import TensorSpec

REAL = Quantization(1.0, 0)
"""What the numbers of a float tensor mean: themselves."""


class FloatBuilder(QdqBuilder):
    """Collects the operators of a float network.

    Its tensors are float32 and have the quantization `REAL`, its weights and biases are float32, and a method's `to`
    says nothing.
    """

    real = True

    def input(self, name: str, shape: Sequence[int], dtype: str, quantization: Quantization) -> Tensor:
        """Add a float32 parameter."""
        parameter = relax.Var(self._unique(name, "input"), relax.TensorType(list(shape), "float32"))
        self._parameters.append(parameter)
        self._inputs.append(TensorSpec(name, tuple(shape), "float32"))
        return Tensor(parameter, REAL)

    def output(self, name: str, x: Tensor, dtype: str) -> None:
        """Make `x` the next result of the network."""
        self._results.append(x.expr)
        self._outputs.append(TensorSpec(name, x.shape, "float32"))

    def constant(self, values: NDArray[Any], quantization: Quantization) -> Tensor:
        """Return a constant operand."""
        return Tensor(relax.const(np.ascontiguousarray(values, np.float32)), REAL)

    def nearest(self, number: float, to: Quantization) -> float:
        """Return `number` itself."""
        return number

    def limits(self, to: Quantization) -> tuple[float, float]:
        """Return no limits."""
        return -np.inf, np.inf

    def _dequantize(self, x: Tensor) -> relax.Expr:
        return x.expr

    def _dequantize_weight(self, weight: Weight) -> relax.Expr:
        return relax.const(np.ascontiguousarray(weight.values, np.float32))

    def _add_bias(self, product: relax.Expr, x: Tensor, weight: Weight, bias: NDArray[Any] | None) -> relax.Expr:
        product = self._emit(product)
        # Every layer has a bias: it is what quantization corrects the mean with.
        bias = np.zeros(int(product.ty.shape[-1])) if bias is None else bias
        return self._emit(relax.op.add(product, relax.const(bias.astype(np.float32))))

    def _quantize(self, real: relax.Expr, activation: Function | None, to: Quantization, name: str) -> Tensor:
        if activation is not None:
            real = self._emit(activation(real))
        return Tensor(self._rename(real, name), REAL)

    def _rename(self, real: relax.Expr, name: str) -> relax.Expr:
        """Name the variable that the last binding is of."""
        *self._bindings, last = self._bindings
        assert last.var == real, "what is named is what was computed last"
        return self._emit(last.value, name)
