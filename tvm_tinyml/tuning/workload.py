"""What is tuned: one operator of the integer dialect with its constants, as plain data for another process."""

from __future__ import annotations

import hashlib
import math
import pickle
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
from tvm_tinyml.passes.integer_ops import Attributes, attributes_of, shape_of

SEED = 6594


@dataclass(frozen=True)
class Tensor:
    """An argument whose value is known when the network runs."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Workload:
    """One operator.

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
        """The same for equal workloads only."""
        return hashlib.sha256(pickle.dumps((self.operator, self.arguments, self.attributes), 5)).hexdigest()

    @cached_property
    def call(self) -> relax.Call:
        """The operator, called with fresh variables."""
        arguments = [
            relax.Var(f"x{i}", relax.TensorType(argument.shape, argument.dtype))
            if isinstance(argument, Tensor)
            else relax.const(argument)
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

    def rows(self, most_macs: int) -> Workload:
        """Return the same operator on fewer rows, so that it has about so many multiply-accumulates at most."""
        image = self.arguments[0]
        if self.operator != "tinyml.conv2d" or self.macs <= most_macs or not isinstance(image, Tensor):
            return self
        batch, height, *rest = image.shape
        top, _, bottom, _ = self.attributes["padding"]
        _, out_h, *_ = shape_of(self.call)
        window = self.attributes["dilation"][0] * (self.arguments[1].shape[1] - 1) + 1
        kept = max(1, math.floor(out_h * most_macs / self.macs))
        needed = (kept - 1) * self.attributes["strides"][0] + window - top - bottom
        fewer = Tensor((batch, min(max(needed, 1), height), *rest), image.dtype)
        return Workload(self.operator, (fewer, *self.arguments[1:]), self.attributes)


def _values(rng: np.random.Generator, tensor: Tensor) -> NDArray[Any]:
    dtype = np.dtype(tensor.dtype)
    limits = np.iinfo(dtype)
    values = rng.integers(limits.min, limits.max, tensor.shape, dtype=dtype, endpoint=True)
    flat = values.reshape(-1)
    flat[: len(flat) // 16] = limits.min
    flat[len(flat) // 16 : len(flat) // 8] = limits.max
    return values


def tasks_of(graph: IRModule) -> Mapping[str, tuple[Workload, Sequence[str]]]:
    """Return the operators of an integer graph by digest, each with the names of the layers that are it."""
    found: dict[str, tuple[Workload, list[str]]] = {}
    for block in graph["main"].body.blocks:
        for binding in block.bindings:
            call = binding.value
            if isinstance(call, relax.Call) and isinstance(call.op, Op) and call.op.name.startswith("tinyml."):
                workload = Workload.of(call)
                found.setdefault(workload.digest, (workload, []))[1].append(str(binding.var.name))
    return found
