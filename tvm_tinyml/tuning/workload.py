"""What is tuned: one operator of the integer dialect with its constants, as plain data for another process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule, relax
from tvm.ir import GenericConst, Op

from tvm_tinyml.macs import macs_of
from tvm_tinyml.model import Model, TensorSpec
from tvm_tinyml.passes.choose_kernels import is_integer
from tvm_tinyml.passes.integer_ops import Attributes, attributes_of, shape_of

SEED = 6594

LEAST_PIXELS = 128
"""Of a part of an operator: 32 tiles, more than any kernel takes at a time."""

TILE_ROWS = 4
"""A part has a multiple of so many rows: whole tiles of the largest Winograd algorithm, as most of the operator has."""


@dataclass(frozen=True)
class Tensor:
    """An argument whose value is known when the network runs."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, eq=False)
class Workload:
    """One operator. Two are equal if all of it is, in any process.

    Attributes
    ----------
    operator : name in the dialect, ``tinyml.conv2d``.
    arguments : constants as arrays, the others as `Tensor`.
    attributes : integers and lists of integers.
    """

    operator: str
    arguments: tuple[Tensor | NDArray[Any], ...]
    attributes: Attributes

    @classmethod
    def of(cls, call: relax.Call) -> Workload:
        """Return the workload of a call of the integer dialect."""
        arguments = (
            argument.value.numpy()
            if isinstance(argument, GenericConst)
            else Tensor(tuple(shape_of(argument)), str(argument.ty.dtype))
            for argument in call.args
        )
        return cls(str(call.op.name), tuple(arguments), attributes_of(call))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the operator: the same for equal workloads, in any process, and for no others."""
        found = hashlib.sha256(json.dumps([self.operator, dict(self.attributes)], sort_keys=True).encode())
        for argument in self.arguments:
            is_constant = not isinstance(argument, Tensor)
            found.update(f"\n{is_constant} {argument.dtype} {list(argument.shape)} ".encode())
            if is_constant:
                found.update(np.ascontiguousarray(argument).tobytes())
        return found.hexdigest()

    @cached_property
    def call(self) -> relax.Call:
        """The operator, called with fresh variables."""
        arguments = [
            relax.Var(f"x{i}", relax.TensorType(argument.shape, argument.dtype))
            if isinstance(argument, Tensor)
            else relax.const(argument, str(argument.dtype))
            for i, argument in enumerate(self.arguments)
        ]
        call = relax.Call(Op.get(self.operator), arguments, attrs=self.attributes)
        return relax.BlockBuilder().normalize(call)

    @property
    def macs(self) -> int:
        """Multiply-accumulates, padding included."""
        return macs_of(self.call)

    def model(self) -> Model:
        """Return a network of this operator alone."""
        call = self.call
        parameters = [argument for argument in call.args if isinstance(argument, relax.Var)]
        result = relax.Var("y", call.ty)
        block = relax.DataflowBlock([relax.VarBinding(result, call)])
        main = relax.Function(parameters, relax.SeqExpr([block], result), call.ty).with_attr("global_symbol", "main")
        inputs = tuple(TensorSpec(f"x{i}", tuple(shape_of(p)), str(p.ty.dtype)) for i, p in enumerate(parameters))
        output = TensorSpec("y", tuple(shape_of(call)), str(call.ty.dtype))
        return Model("layer", IRModule({"main": main}), inputs, (output,), "tflite")

    def inputs(self) -> list[NDArray[Any]]:
        """Return values for the tensors, from a fixed seed: the whole range, and both ends of it."""
        rng = np.random.default_rng(SEED)
        return [_values(rng, tensor) for tensor in self.arguments if isinstance(tensor, Tensor)]

    def rows(self, most_macs: int, least_pixels: int = LEAST_PIXELS) -> Workload:
        """Return a convolution's first rows, with all of its padding: a convolution of a smaller image.

        Parameters
        ----------
        most_macs : about so many multiply-accumulates stay; an operator with no more stays as it is.
        least_pixels : of the result; so many stay in any case.
        """
        image = self.arguments[0]
        if self.operator != "tinyml.conv2d" or self.macs <= most_macs or not isinstance(image, Tensor):
            return self
        batch, height, *rest = image.shape
        top, _, bottom, _ = self.attributes["padding"]
        _, out_h, out_w, _ = shape_of(self.call)
        kept = max(out_h * most_macs // self.macs, -(-least_pixels // (batch * out_w)))
        kept = -(-kept // TILE_ROWS) * TILE_ROWS
        window = self.attributes["dilation"][0] * (self.arguments[1].shape[1] - 1) + 1
        needed = max((kept - 1) * self.attributes["strides"][0] + window - top - bottom, 1)
        if kept >= out_h or needed >= height:
            return self
        fewer = Tensor((batch, needed, *rest), image.dtype)
        return Workload(self.operator, (fewer, *self.arguments[1:]), self.attributes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Workload) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[type[Workload], tuple[Any, ...]]:
        """Return what other processes need: not what is remembered here, which has objects of TVM."""
        return Workload, (self.operator, self.arguments, self.attributes)


def _values(rng: np.random.Generator, tensor: Tensor) -> NDArray[Any]:
    dtype = np.dtype(tensor.dtype)
    limits = np.iinfo(dtype)
    values = rng.integers(limits.min, limits.max, tensor.shape, dtype=dtype, endpoint=True)
    flat = values.reshape(-1)
    flat[: len(flat) // 16] = limits.min
    flat[len(flat) // 16 : len(flat) // 8] = limits.max
    return values


def workloads_of(graph: IRModule) -> Mapping[Workload, Sequence[str]]:
    """Return the operators of an integer graph, each with the names of the layers that are it."""
    found: dict[Workload, list[str]] = {}
    for block in graph["main"].body.blocks:
        for binding in block.bindings:
            call = binding.value
            if is_integer(call):
                found.setdefault(Workload.of(call), []).append(str(binding.var.name))
    return found
