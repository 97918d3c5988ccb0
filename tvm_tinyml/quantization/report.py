"""What quantization did to a network, tensor by tensor and layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tvm_tinyml.quantization.accuracy import Accuracy
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
class Precision:
    """What a layer takes in a network of one precision.

    Attributes
    ----------
    recipe : ``int8``, ``w4`` or ``int16x8``: all layers have it that can.
    weight_bytes : of the weights alone.
    constant_bytes : of all that its kernels read from flash: weights, biases and scales; None without a target, and
        where the layer shares its kernel with an operator behind it.
    cycles : of one inference; None without a target that can be simulated, too.
    """

    recipe: str
    weight_bytes: int
    constant_bytes: int | None = None
    cycles: int | None = None


@dataclass(frozen=True)
class LayerReport:
    """A layer's weights.

    Attributes
    ----------
    bits : of a weight.
    weight_bytes : of all, as they are stored.
    decibels : signal to noise of the weights by themselves.
    precisions : what it takes with this one and with others.
    """

    name: str
    bits: int
    weight_bytes: int
    decibels: float
    precisions: Sequence[Precision] = ()


@dataclass(frozen=True)
class Point:
    """A choice of precisions, and what it costs.

    Attributes
    ----------
    name : of the recipe, or of the layer that is narrow in addition to those of the point before.
    weight_bytes : of all layers.
    decibels : signal to noise of the outputs on some samples.
    narrow : layers with weights of four bits.
    flash_bytes, ram_bytes, cycles : of the library; None without a target.
    """

    name: str
    weight_bytes: int
    decibels: float
    narrow: Sequence[str] = ()
    flash_bytes: int | None = None
    ram_bytes: int | None = None
    cycles: int | None = None


@dataclass(frozen=True)
class QuantizationReport:
    """What was done, and how far the integers are from the float network.

    Attributes
    ----------
    decibels : signal to noise of the outputs, before a softmax, on the calibration samples.
    narrow : what weights of four bits are.
    choices : with a budget or a target: what was compared, the most weights of eight bits first.
    accuracy : on samples with labels, if there were any.
    """

    recipe: str
    observer: str
    equalized: bool
    samples: int
    decibels: float
    tensors: Sequence[TensorReport]
    layers: Sequence[LayerReport]
    narrow: str = "channel"
    choices: Sequence[Point] = ()
    accuracy: Accuracy | None = None

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
            self._precisions(),
        ]
        if self.choices:
            rows = [
                (p.name, p.weight_bytes, p.flash_bytes, p.ram_bytes, p.cycles, p.decibels, len(p.narrow))
                for p in self.choices
            ]
            head = ("precision", "weights, bytes", "flash", "RAM", "cycles", "outputs, dB", "layers of 4 bits")
            parts.append(table(head, rows))
        if self.accuracy:
            parts.append(self.accuracy.text())
        return "\n\n".join(part for part in parts if part)

    def _precisions(self) -> str:
        """Return a table of what each layer takes by precision, as far as it is known."""
        if not self.layers or not self.layers[0].precisions:
            return ""
        every = [precision for layer in self.layers for precision in layer.precisions]
        known = {name for name in ("constant_bytes", "cycles") if any(getattr(p, name) is not None for p in every)}
        size = "constant_bytes" if "constant_bytes" in known else "weight_bytes"
        shown = [(size, "bytes"), *([("cycles", "cycles")] if "cycles" in known else [])]
        head = [f"{precision.recipe}, {unit}" for _, unit in shown for precision in self.layers[0].precisions]
        rows = [
            (layer.name, *(getattr(precision, name) for name, _ in shown for precision in layer.precisions))
            for layer in self.layers
        ]
        return table(("layer", *head), rows)
