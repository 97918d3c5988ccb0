"""A network as the compiler sees it: one Relax module in canonical form and what its inputs and outputs mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvm import IRModule

if TYPE_CHECKING:
    from tvm_tinyml.quantization.report import QuantizationReport


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    Attributes
    ----------
    name : the tensor's own name in the model file.
    shape : static, as the model has it.
    dtype : ``int8``, ``uint8``, ``int16``, ``int32`` or ``float32``.
    scale, zero_point : real value = scale * (integer - zero_point); None for a float tensor.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class Model:
    """An imported network.

    Attributes
    ----------
    name : stem of the file, made a C identifier.
    module : Relax module with one function ``main`` in the canonical form of :mod:`tvm_tinyml.frontend`.
    inputs, outputs : in the model's order; ``main`` has one parameter for each input.
    reference : whose rounding the integers follow where tools differ: ``tflite`` or ``onnx``.
    quantization : what `quantize` did to a float network; None for one that was imported as it is.
    """

    name: str
    module: IRModule
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    reference: str
    quantization: QuantizationReport | None = None

    @property
    def is_float(self) -> bool:
        """Whether it computes with floats, and has to be quantized before it is built."""
        return any(spec.dtype == "float32" and spec.scale is None for spec in self.inputs)
