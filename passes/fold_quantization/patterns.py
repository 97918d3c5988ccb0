"""The shapes of quantized groups, and what their constants say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from tvm import relax
from tvm.relax.dpl import DFPattern, is_const, is_op, wildcard

from tvm_tinyml.arithmetic import RANGES, quantize_value

Match = Mapping[DFPattern, relax.Expr]


@dataclass(frozen=True)
class Quantization:
    """Scale (float32 value), zero point and type of one tensor."""

    scale: float
    zero_point: int
    dtype: str = "int8"


class Dequantized:
    """``dequantize(x, scale, zero_point)`` of an activation."""

    def __init__(self) -> None:
        self.x, self._scale, self._zero = wildcard(), is_const(), is_const()
        self.pattern = is_op("relax.dequantize")(self.x, self._scale, self._zero)

    def quantization(self, match: Match) -> Quantization:
        """Return what the integers mean."""
        return quantization_of(match[self._scale], match[self._zero])


class Filter:
    """``dequantize(w, scale, 0, axis=0)`` of constant weights."""

    def __init__(self) -> None:
        self.weight, self._scale = is_const(), is_const()
        self.pattern = is_op("relax.dequantize")(self.weight, self._scale, is_const())

    def values(self, match: Match) -> np.ndarray:
        """Return the int8 weights, output channels first."""
        weights: np.ndarray = match[self.weight].value.numpy()
        return weights

    def scales(self, match: Match) -> np.ndarray:
        """Return the scale of the whole filter, or of each output channel."""
        scales: np.ndarray = match[self._scale].value.numpy()
        return scales.reshape(-1)


class Biased:
    """``real`` or ``add(real, bias)``, the bias ``dequantize(int32, ...)`` or ``astype(int64) * scale``."""

    def __init__(self, real: DFPattern) -> None:
        self._bias = is_const()
        dequantized = is_op("relax.dequantize")(self._bias, is_const(), is_const())
        scaled = is_op("relax.multiply")(is_op("relax.astype")(self._bias), is_const())
        self.pattern = is_op("relax.add")(real, dequantized | scaled) | real

    def values(self, match: Match) -> np.ndarray | None:
        """Return the bias, int32 or int64, or None."""
        return match[self._bias].value.numpy() if self._bias in match else None


class Quantized:
    """``quantize(act(real), scale, zero_point)``, `act` being nothing, relu or clip."""

    def __init__(self, real: DFPattern) -> None:
        self._scale, self._zero = is_const(), is_const()
        self._low, self._high = wildcard(), wildcard()
        self._relu = is_op("relax.nn.relu")(real)
        self._clip = is_op("relax.clip")(real, self._low, self._high)
        self.pattern = is_op("relax.quantize")(self._relu | self._clip | real, self._scale, self._zero)

    def quantization(self, match: Match) -> Quantization:
        """Return what the result's integers mean."""
        return quantization_of(match[self._scale], match[self._zero])

    def clamp(self, match: Match) -> dict[str, int]:
        """Return the attributes that every epilogue takes: output zero point, clamp of the fused activation."""
        output = self.quantization(match)
        low, high = -np.inf, np.inf
        if self._relu in match:
            low = 0.0
        elif self._clip in match:
            low, high = (float(match[bound].value) for bound in (self._low, self._high))
        return {"output_zero_point": output.zero_point, **self._bounds(output, low, high)}

    @staticmethod
    def _bounds(output: Quantization, low: float, high: float) -> dict[str, int]:
        least, largest = RANGES[output.dtype]

        def integer(bound: float, default: int) -> int:
            if not np.isfinite(bound):
                return default
            return int(np.clip(quantize_value(bound, output.scale, output.zero_point), least, largest))

        return {"clamp_min": integer(low, least), "clamp_max": integer(high, largest)}


def quantization_of(scale: relax.Expr, zero_point: relax.Expr) -> Quantization:
    """Return what the constants of a `quantize` or `dequantize` say."""
    zero = zero_point.value.numpy()
    return Quantization(float(scale.value.numpy()), int(zero), str(zero.dtype))
