"""Writes TFLite flatbuffers: tensors, operators, one subgraph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
import tflite
from numpy.typing import ArrayLike, NDArray

_TYPES = {
    "float32": tflite.TensorType.FLOAT32,
    "int8": tflite.TensorType.INT8,
    "uint8": tflite.TensorType.UINT8,
    "int16": tflite.TensorType.INT16,
    "int32": tflite.TensorType.INT32,
    "int64": tflite.TensorType.INT64,
}
_BUFFER_ALIGNMENT = 16  # readers use constants in place


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int
    data: bytes


@dataclass(frozen=True)
class _Operator:
    code: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options_name: str
    options: Mapping[str, int | float | bool]


class TFLiteBuilder:
    """Collects the parts of a model with one subgraph; `finish` writes them.

    >>> builder = TFLiteBuilder()
    >>> x = builder.tensor("x", (1, 4), "int8", scales=0.5)
    >>> y = builder.tensor("y", (1, 4), "int8", scales=0.5)
    >>> builder.operator("RELU", [x], [y])
    >>> builder.finish([x], [y])[4:8]
    b'TFL3'
    """

    def __init__(self) -> None:
        self._tensors: list[_Tensor] = []
        self._operators: list[_Operator] = []

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        *,
        scales: ArrayLike | None = None,
        zero_point: int = 0,
        axis: int = 0,
        data: NDArray[Any] | None = None,
    ) -> int:
        """Add a tensor.

        Parameters
        ----------
        dtype : "int8", "uint8", "int16", "int32", "int64" or "float32".
        scales : one, or one per channel along ``axis``; None for a tensor without quantization.
        data : of a constant, of the shape and type given.

        Returns
        -------
        The tensor's number.
        """
        if data is not None and (data.shape != tuple(shape) or data.dtype != dtype):
            raise ValueError(f"{name}: data are {data.dtype}{data.shape}, the tensor is {dtype}{tuple(shape)}.")
        values = () if scales is None else tuple(float(s) for s in np.atleast_1d(np.asarray(scales, np.float32)))
        content = b"" if data is None else np.ascontiguousarray(data).tobytes()
        zero_points = (zero_point,) * len(values)
        self._tensors.append(_Tensor(name, tuple(map(int, shape)), dtype, values, zero_points, axis, content))
        return len(self._tensors) - 1

    def operator(
        self,
        name: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options_name: str = "",
        **options: int | float | bool,
    ) -> None:
        """Add an operator.

        Parameters
        ----------
        name : in `tflite.BuiltinOperator`, such as "CONV_2D".
        inputs : tensor numbers; -1 for an optional input that is absent.
        options_name : in `tflite.BuiltinOptions`, such as "Conv2DOptions"; empty for none.
        options : the table's fields under their names in the schema's Python form, such as ``StrideH=2``.
        """
        code = getattr(tflite.BuiltinOperator, name)
        self._operators.append(_Operator(code, tuple(inputs), tuple(outputs), options_name, options))

    def finish(self, inputs: Sequence[int], outputs: Sequence[int], description: str = "") -> bytes:
        """Write the model; ``inputs`` and ``outputs`` are tensor numbers."""
        b = flatbuffers.Builder(1024)
        # Buffer 0 is empty by convention: tensors without data refer to it.
        contents = [b"", *(tensor.data for tensor in self._tensors if tensor.data)]
        buffers = self._table_vector(b, "Model", "Buffers", [self._buffer(b, content) for content in contents])
        codes = sorted({operator.code for operator in self._operators})
        code_vector = self._table_vector(b, "Model", "OperatorCodes", [self._operator_code(b, code) for code in codes])
        subgraphs = self._table_vector(b, "Model", "Subgraphs", [self._subgraph(b, codes, inputs, outputs)])
        text = b.CreateString(description)
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, 3)
        tflite.ModelAddOperatorCodes(b, code_vector)
        tflite.ModelAddSubgraphs(b, subgraphs)
        tflite.ModelAddDescription(b, text)
        tflite.ModelAddBuffers(b, buffers)
        b.Finish(tflite.ModelEnd(b), b"TFL3")
        return bytes(b.Output())

    def _subgraph(
        self, b: flatbuffers.Builder, codes: Sequence[int], inputs: Sequence[int], outputs: Sequence[int]
    ) -> int:
        tensors, next_buffer = [], 1
        for tensor in self._tensors:
            tensors.append(self._tensor(b, tensor, next_buffer if tensor.data else 0))
            next_buffer += bool(tensor.data)
        tensor_vector = self._table_vector(b, "SubGraph", "Tensors", tensors)
        operators = [self._operator(b, operator, codes.index(operator.code)) for operator in self._operators]
        operator_vector = self._table_vector(b, "SubGraph", "Operators", operators)
        input_vector = b.CreateNumpyVector(np.asarray(inputs, np.int32))
        output_vector = b.CreateNumpyVector(np.asarray(outputs, np.int32))
        name = b.CreateString("main")
        tflite.SubGraphStart(b)
        tflite.SubGraphAddTensors(b, tensor_vector)
        tflite.SubGraphAddInputs(b, input_vector)
        tflite.SubGraphAddOutputs(b, output_vector)
        tflite.SubGraphAddOperators(b, operator_vector)
        tflite.SubGraphAddName(b, name)
        return int(tflite.SubGraphEnd(b))

    @staticmethod
    def _tensor(b: flatbuffers.Builder, tensor: _Tensor, buffer: int) -> int:
        name = b.CreateString(tensor.name)
        shape = b.CreateNumpyVector(np.asarray(tensor.shape, np.int32))
        quantization = 0
        if tensor.scales:
            scales = b.CreateNumpyVector(np.asarray(tensor.scales, np.float32))
            zero_points = b.CreateNumpyVector(np.asarray(tensor.zero_points, np.int64))
            tflite.QuantizationParametersStart(b)
            tflite.QuantizationParametersAddScale(b, scales)
            tflite.QuantizationParametersAddZeroPoint(b, zero_points)
            tflite.QuantizationParametersAddQuantizedDimension(b, tensor.axis)
            quantization = tflite.QuantizationParametersEnd(b)
        tflite.TensorStart(b)
        tflite.TensorAddShape(b, shape)
        tflite.TensorAddType(b, _TYPES[tensor.dtype])
        tflite.TensorAddBuffer(b, buffer)
        tflite.TensorAddName(b, name)
        if quantization:
            tflite.TensorAddQuantization(b, quantization)
        return int(tflite.TensorEnd(b))

    @staticmethod
    def _operator(b: flatbuffers.Builder, operator: _Operator, code_index: int) -> int:
        options = 0
        if operator.options_name:
            getattr(tflite, f"{operator.options_name}Start")(b)
            for field, value in operator.options.items():
                getattr(tflite, f"{operator.options_name}Add{field}")(b, value)
            options = getattr(tflite, f"{operator.options_name}End")(b)
        inputs = b.CreateNumpyVector(np.asarray(operator.inputs, np.int32))
        outputs = b.CreateNumpyVector(np.asarray(operator.outputs, np.int32))
        tflite.OperatorStart(b)
        tflite.OperatorAddOpcodeIndex(b, code_index)
        tflite.OperatorAddInputs(b, inputs)
        tflite.OperatorAddOutputs(b, outputs)
        if options:
            tflite.OperatorAddBuiltinOptionsType(b, getattr(tflite.BuiltinOptions, operator.options_name))
            tflite.OperatorAddBuiltinOptions(b, options)
        return int(tflite.OperatorEnd(b))

    @staticmethod
    def _operator_code(b: flatbuffers.Builder, code: int) -> int:
        tflite.OperatorCodeStart(b)
        tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(code, 127))  # one byte, for old readers
        tflite.OperatorCodeAddVersion(b, 1)
        tflite.OperatorCodeAddBuiltinCode(b, code)
        return int(tflite.OperatorCodeEnd(b))

    @staticmethod
    def _buffer(b: flatbuffers.Builder, content: bytes) -> int:
        data = 0
        if content:
            b.StartVector(1, len(content), _BUFFER_ALIGNMENT)
            b.head -= len(content)
            b.Bytes[b.head : b.head + len(content)] = content
            data = b.EndVector()
        tflite.BufferStart(b)
        if data:
            tflite.BufferAddData(b, data)
        return int(tflite.BufferEnd(b))

    @staticmethod
    def _table_vector(b: flatbuffers.Builder, table: str, field: str, offsets: Sequence[int]) -> int:
        getattr(tflite, f"{table}Start{field}Vector")(b, len(offsets))
        for offset in reversed(offsets):
            b.PrependUOffsetTRelative(offset)
        return int(b.EndVector())
