"""Reads a TFLite file into plain Python objects, so that a damaged file is noticed in this one place."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import tflite
from numpy.typing import NDArray

from tvm_tinyml.errors import ModelError

MAGIC = b"TFL3"

DTYPES = {
    tflite.TensorType.FLOAT32: "float32",
    tflite.TensorType.FLOAT16: "float16",
    tflite.TensorType.INT32: "int32",
    tflite.TensorType.UINT8: "uint8",
    tflite.TensorType.INT64: "int64",
    tflite.TensorType.BOOL: "bool",
    tflite.TensorType.INT16: "int16",
    tflite.TensorType.INT8: "int8",
    tflite.TensorType.INT4: "int4",
}

OPTIONS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "ADD": (tflite.AddOptions, ("FusedActivationFunction",)),
    "AVERAGE_POOL_2D": (
        tflite.Pool2DOptions,
        ("Padding", "StrideH", "StrideW", "FilterHeight", "FilterWidth", "FusedActivationFunction"),
    ),
    "CONCATENATION": (tflite.ConcatenationOptions, ("Axis", "FusedActivationFunction")),
    "CONV_2D": (
        tflite.Conv2DOptions,
        (
            *("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor", "FusedActivationFunction"),
            "QuantizedBiasType",
        ),
    ),
    "DEPTHWISE_CONV_2D": (
        tflite.DepthwiseConv2DOptions,
        ("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor", "FusedActivationFunction"),
    ),
    "FULLY_CONNECTED": (
        tflite.FullyConnectedOptions,
        ("WeightsFormat", "FusedActivationFunction", "QuantizedBiasType"),
    ),
    "LEAKY_RELU": (tflite.LeakyReluOptions, ("Alpha",)),
    "MAX_POOL_2D": (
        tflite.Pool2DOptions,
        ("Padding", "StrideH", "StrideW", "FilterHeight", "FilterWidth", "FusedActivationFunction"),
    ),
    "MEAN": (tflite.ReducerOptions, ("KeepDims",)),
    "MUL": (tflite.MulOptions, ("FusedActivationFunction",)),
    "RESIZE_NEAREST_NEIGHBOR": (tflite.ResizeNearestNeighborOptions, ("AlignCorners", "HalfPixelCenters")),
    "SOFTMAX": (tflite.SoftmaxOptions, ("Beta",)),
    "STRIDED_SLICE": (
        tflite.StridedSliceOptions,
        ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask", "Offset"),
    ),
    "SUB": (tflite.SubOptions, ("FusedActivationFunction",)),
    "SUM": (tflite.ReducerOptions, ("KeepDims",)),
    "TRANSPOSE_CONV": (tflite.TransposeConvOptions, ("Padding", "StrideH", "StrideW", "FusedActivationFunction")),
}
"""Class and fields of the options that the importer reads, for each operator that has such."""

_OPERATORS = {code: name for name, code in vars(tflite.BuiltinOperator).items() if isinstance(code, int)}

_DAMAGE = (struct.error, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What reading a flatbuffer with offsets out of range raises."""


@dataclass(frozen=True)
class FileTensor:
    """A tensor of the file.

    Attributes
    ----------
    signature : the shape before conversion, -1 for a dimension that may vary.
    scale, zero_point : of one element per channel, along `axis`, per tensor, or none.
    values : of a constant, None otherwise.
    """

    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    dtype: str
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    values: NDArray[Any] | None
    axis: int = 0

    @property
    def real(self) -> NDArray[np.float32]:
        """The real numbers that a constant stands for."""
        assert self.values is not None
        if not self.scale.size or self.dtype.startswith("float"):
            return self.values.astype(np.float32)
        spread = [-1 if i == self.axis and self.scale.size > 1 else 1 for i in range(self.values.ndim)]
        zero_point, scale = (parameter.reshape(spread) for parameter in (self.zero_point, self.scale))
        return ((self.values.astype(np.int32) - zero_point) * scale).astype(np.float32)


@dataclass(frozen=True)
class FileOperator:
    """An operator of the file; -1 stands for an optional input that is absent."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class FileGraph:
    """The one subgraph of a file; operators are in the order of execution."""

    tensors: tuple[FileTensor, ...]
    operators: tuple[FileOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read(content: bytes) -> FileGraph:
    """Read the file's subgraph.

    Raises
    ------
    ModelError : the file is damaged, has several subgraphs, or a tensor of a kind that is not supported.
    """
    try:
        model = tflite.Model.GetRootAsModel(content, 0)
        subgraphs = model.SubgraphsLength()
        if subgraphs != 1:
            raise ModelError(
                f"The TFLite model has {subgraphs} subgraphs, 1 is supported. Export the network without control flow "
                "and without variables."
            )
        graph = model.Subgraphs(0)
        tensors = tuple(_tensor(model, graph.Tensors(i)) for i in range(graph.TensorsLength()))
        operators = tuple(_operator(model, graph.Operators(i)) for i in range(graph.OperatorsLength()))
        inputs, outputs = _indices(graph.InputsAsNumpy()), _indices(graph.OutputsAsNumpy())
    except _DAMAGE as error:
        raise ModelError(
            f"The TFLite file is damaged or cut off ({len(content)} bytes): {error}. Copy or export it again."
        ) from error
    _check_indices(tensors, operators, inputs, outputs)
    return FileGraph(tensors, operators, inputs, outputs)


def _tensor(model: Any, tensor: Any) -> FileTensor:
    name = tensor.Name().decode()
    dtype = DTYPES.get(tensor.Type(), f"type {tensor.Type()}")
    shape = _indices(tensor.ShapeAsNumpy())
    if tensor.Sparsity() is not None:
        raise ModelError(f"Tensor '{name}' is stored as a sparse tensor, which is not supported. Export it dense.")
    if tensor.IsVariable():
        raise ModelError(f"Tensor '{name}' is a variable; networks with state are not supported.")
    quantization = tensor.Quantization()
    scale = zero_point = 0
    if quantization is not None:
        scale, zero_point = quantization.ScaleAsNumpy(), quantization.ZeroPointAsNumpy()
    return FileTensor(
        name,
        shape,
        _indices(tensor.ShapeSignatureAsNumpy()) or shape,
        dtype,
        np.array(_vector(scale), np.float32),
        np.array(_vector(zero_point), np.int64),
        _values(model.Buffers(tensor.Buffer()), name, dtype, shape),
        0 if quantization is None else quantization.QuantizedDimension(),
    )


def _values(buffer: Any, name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any] | None:
    size = buffer.DataLength()
    if size == 0:
        return None
    if dtype == "int4" or dtype not in DTYPES.values():
        raise ModelError(f"Constant '{name}' has {dtype}, which is not supported. Quantize it to int8.")
    expected = prod(shape) * np.dtype(dtype).itemsize
    if size != expected:
        raise ModelError(f"The TFLite file is damaged: constant '{name}' has {size} bytes, its shape needs {expected}.")
    values: NDArray[Any] = buffer.DataAsNumpy().view(dtype).reshape(shape)
    return values


def _operator(model: Any, operator: Any) -> FileOperator:
    code = model.OperatorCodes(operator.OpcodeIndex())
    kind = _OPERATORS.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "unknown")
    if kind == "CUSTOM":
        kind = f"CUSTOM {(code.CustomCode() or b'').decode()}"
    options: dict[str, Any] = {}
    if kind in OPTIONS:
        type_, fields = OPTIONS[kind]
        if operator.BuiltinOptionsType() != getattr(tflite.BuiltinOptions, type_.__name__):
            raise ValueError(f"operator {kind} without {type_.__name__}")
        table = operator.BuiltinOptions()
        record = type_()
        record.Init(table.Bytes, table.Pos)
        options = {field: getattr(record, field)() for field in fields}
    outputs = _indices(operator.OutputsAsNumpy())
    if not outputs:
        raise ValueError(f"operator {kind} without outputs")
    return FileOperator(kind, _indices(operator.InputsAsNumpy()), outputs, options)


def _vector(array: Any) -> list[Any]:
    """Return the list of a flatbuffer vector, which reads as the number 0 when it is absent."""
    return [] if isinstance(array, int) else list(array.tolist())


def _indices(array: Any) -> tuple[int, ...]:
    return tuple(_vector(array))


def _check_indices(
    tensors: tuple[FileTensor, ...],
    operators: tuple[FileOperator, ...],
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
) -> None:
    produced = [i for operator in operators for i in operator.outputs]
    consumed = [i for operator in operators for i in operator.inputs if i != -1]
    for i in [*inputs, *outputs, *produced, *consumed]:
        if not 0 <= i < len(tensors):
            raise ModelError(f"The TFLite file is damaged: it has {len(tensors)} tensors and refers to number {i}.")
