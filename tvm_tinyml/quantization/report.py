"""What quantization did to a network, tensor by tensor and layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tvm_tinyml.tables import table


@dataclass(frozen=True)
class TensorReport:
    """A tensor whose numbers became integers.

    Attributes
    ----------
    low, high : least and largest number on the samples.
    clipped_share : of the numbers, outside of what the integers can express.
    decibels : signal to noise on the samples, everything before it being quantized as well.
    """

    name: str
    dtype: str
    scale: float
    zero_point: int
    low: float
    high: float
    clipped_share: float
    decibels: float


@dataclass(frozen=True)
class LayerReport:
    """A layer's weights.

    Attributes
    ----------
    bits : of a weight.
    weight_bytes : of all, as they are stored.
    decibels : signal to noise of the weights by themselves.
    """

    name: str
    bits: int
    weight_bytes: int
    decibels: float


@dataclass(frozen=True)
class Point:
    """A way to mix precisions, and what it costs.

    Attributes
    ----------
    weight_bytes : of all layers.
    decibels : signal to noise of the outputs on some samples.
    narrow : layers with weights of four bits.
    """

    weight_bytes: int
    decibels: float
    narrow: Sequence[str]


@dataclass(frozen=True)
class QuantizationReport:
    """What was done, and how far the integers are from the float network.

    Attributes
    ----------
    decibels : signal to noise of the outputs, before a softmax, on the calibration samples.
    choices : with a budget: the ways that were compared, the most weights of eight bits first.
    """

    recipe: str
    observer: str
    equalized: bool
    samples: int
    decibels: float
    tensors: Sequence[TensorReport]
    layers: Sequence[LayerReport]
    choices: Sequence[Point] = ()

    @property
    def weight_bytes(self) -> int:
        """Of all layers."""
        return sum(layer.weight_bytes for layer in self.layers)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)

    def text(self) -> str:
        """Return tables for a terminal."""
        tensors = [(t.name, t.dtype, t.low, t.high, 100 * t.clipped_share, t.decibels) for t in self.tensors]
        layers = [(layer.name, layer.bits, layer.weight_bytes, layer.decibels) for layer in self.layers]
        parts = [
            table(("tensor", "type", "low", "high", "clipped, %", "dB"), tensors),
            table(("layer", "bits", "bytes", "weights, dB"), layers),
        ]
        if self.choices:
            rows = [(point.weight_bytes, point.decibels, len(point.narrow)) for point in self.choices]
            parts.append(table(("weights, bytes", "outputs, dB", "layers of 4 bits"), rows))
        return "\n\n".join(parts)
