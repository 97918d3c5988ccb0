"""Smallest graphs for the tests of passes, and what is in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm_ffi
from numpy.typing import NDArray
from tvm import IRModule, relax

from tvm_tinyml.frontend.qdq import QdqBuilder, Quantization, Tensor, Weight
from tvm_tinyml.model import Model, TensorSpec
from tvm_tinyml.passes import integer_ops

Array = NDArray[Any]
PLAIN = {"output_zero_point": -3, "clamp_min": -128, "clamp_max": 127}
"""Attributes of an epilogue without an activation."""


def quantized(
    build: Callable[..., Tensor],
    *shapes: Sequence[int],
    quantizations: Sequence[Quantization] = (),
    reference: str = "tflite",
) -> Model:
    """Return the network of ``build(builder, *inputs)``; input i has shape and quantization i, or scale 1/2 and -3."""
    q = QdqBuilder(reference)
    given = [*quantizations, *[Quantization(0.5, -3)] * (len(shapes) - len(quantizations))]
    inputs = [q.input(f"x{i}", s, "int8", z) for i, (s, z) in enumerate(zip(shapes, given, strict=True))]
    q.output("y", build(q, *inputs), "int8")
    return q.finish("m")


def integer(call: Callable[..., relax.Expr], *shapes: Sequence[int], dtype: str = "int8") -> IRModule:
    """Return a module whose ``main`` is that one call of the integer dialect."""
    builder = relax.BlockBuilder()
    inputs = [relax.Var(f"x{i}", relax.TensorType(list(shape), dtype)) for i, shape in enumerate(shapes)]
    with builder.function("main", inputs):
        with builder.dataflow():
            result = builder.emit_output(builder.normalize(call(*inputs)))
        builder.emit_func_output(result)
    return builder.get().with_attr("tinyml.reference", "tflite")


def model_of(module: IRModule) -> Model:
    """Return a model around a module whose interface is plain integers."""
    main = module["main"]
    inputs = tuple(tensor_spec(f"x{i}", parameter) for i, parameter in enumerate(main.params))
    return Model("m", module, inputs, (tensor_spec("y", main.body.body),), "tflite")


def tensor_spec(name: str, tensor: relax.Expr) -> TensorSpec:
    """Describe a tensor of plain integers."""
    return TensorSpec(name, tuple(int(i) for i in tensor.ty.shape), str(tensor.ty.dtype))


def conv2d(
    rng: np.random.Generator,
    shape: Sequence[int],
    filters: Sequence[int],
    *,
    bias: Array | None = None,
    shifts: tuple[int, int] = (-9, -6),
    **attributes: Any,
) -> IRModule:
    """Return a module of one integer convolution with random weights; `filters` is their shape, OHWI."""
    weight, rest = _weighted(rng, filters, bias, shifts)
    options: dict[str, Any] = {"strides": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1], "groups": 1}
    options |= {"input_zero_point": -3, **PLAIN, **attributes}
    return integer(lambda x: integer_ops.conv2d(x, weight, *rest, **options), shape)


def dense(rng: np.random.Generator, rows: int, length: int, channels: int) -> IRModule:
    """Return a module of one integer dense layer with random weights."""
    weight, rest = _weighted(rng, (channels, length), None, (-9, -6))
    return integer(lambda x: integer_ops.dense(x, weight, *rest, **PLAIN), (rows, length))


def _weighted(
    rng: np.random.Generator, filters: Sequence[int], bias: Array | None, shifts: tuple[int, int]
) -> tuple[relax.Expr, list[relax.Expr]]:
    channels = filters[0]
    weight = rng.integers(-128, 128, filters).astype(np.int8)
    bias = rng.integers(-5000, 5000, channels).astype(np.int32) if bias is None else bias
    multiplier = rng.integers(2**30, 2**31, channels).astype(np.int32)
    shift = rng.integers(shifts[0], shifts[1] + 1, channels).astype(np.int32)
    return relax.const(weight), [relax.const(array) for array in (bias, multiplier, shift)]


def weight(rng: np.random.Generator, *shape: int, scales: int = 1) -> Weight:
    """Return random weights with one scale or one for each output channel."""
    scale = rng.uniform(0.01, 0.02, () if scales == 1 else (scales,))
    return Weight(rng.integers(-127, 128, shape).astype(np.int8), scale.astype(np.float32))


def int8(rng: np.random.Generator, *shape: int) -> Array:
    """Return random int8 numbers, both ends among them."""
    values = rng.integers(-128, 128, shape).astype(np.int8)
    values.reshape(-1)[:2] = (-128, 127)[: values.size]
    return values


def inputs_of(module: IRModule, rng: np.random.Generator) -> list[Array]:
    """Return random inputs for ``main``."""
    return [int8(rng, *integer_ops.shape_of(parameter)) for parameter in module["main"].params]


def calls(module: IRModule) -> list[relax.Call]:
    """Return the calls of ``main`` in order."""
    bindings = [binding.value for block in module["main"].body.blocks for binding in block.bindings]
    return [value for value in bindings if isinstance(value, relax.Call)]


def names(module: IRModule) -> list[str]:
    """Return the operators of ``main`` in order."""
    return [str(call.op.name) for call in calls(module)]


def same(a: IRModule, b: IRModule) -> bool:
    """Return whether two modules are structurally equal, constants included."""
    return bool(tvm_ffi.structural_equal(a, b))
