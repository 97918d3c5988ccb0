"""A compiled network before it is written out: kernels, constants, and a flat list of calls over planned memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule

from tvm_tinyml.model import TensorSpec

ALIGNMENT_BYTES = 16
"""Alignment of memory pools and of every tensor inside them."""


class Place(Enum):
    """Where a buffer lives."""

    INPUT = "input"
    OUTPUT = "output"
    CONSTANT = "constant"
    WORKSPACE = "workspace"


@dataclass(frozen=True)
class Buffer:
    """Memory that calls read and write.

    Attributes
    ----------
    index : of the input, output, constant or workspace buffer.
    size_bytes : without padding.
    """

    place: Place
    index: int
    dtype: str
    size_bytes: int


@dataclass(frozen=True)
class Step:
    """One call.

    Attributes
    ----------
    name : of the layer, unique: ``conv2d_0``.
    kernel : global symbol of the function; None copies the first buffer to the second.
    operands : in the order of the function's parameters, the results last.
    results : how many of `operands` are results.
    scratch : memory of this call alone, handed over as one more pointer.
    """

    name: str
    kernel: str | None
    operands: tuple[Buffer, ...]
    results: int = 1
    scratch: Buffer | None = None

    @property
    def reads(self) -> tuple[Buffer, ...]:
        """Buffers that the call reads."""
        return self.operands[: -self.results]

    @property
    def writes(self) -> tuple[Buffer, ...]:
        """Buffers that the call writes, scratch included."""
        return (*self.operands[-self.results :], *((self.scratch,) if self.scratch else ()))


@dataclass(frozen=True)
class Kernel:
    """What the tables say of one kernel.

    Attributes
    ----------
    symbol : global symbol.
    kind : ``conv2d``, ``dense``, ...
    schedule : name of the rule that scheduled it.
    macs : of one call.
    """

    symbol: str
    kind: str
    schedule: str
    macs: int


@dataclass(frozen=True)
class Program:
    """Everything that an emitter writes out.

    Attributes
    ----------
    name : C identifier.
    inputs, outputs : as in the model.
    input_buffers, output_buffers : where they live: with the caller, or in the workspace.
    steps : calls in order.
    functions : the lowered PrimFuncs under their global symbols.
    kernels : by symbol.
    constants : by index.
    offsets : bytes from the start of the pool, by workspace buffer.
    workspace_bytes : of the pool; 0 when nothing is planned.
    """

    name: str
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    input_buffers: Sequence[Buffer]
    output_buffers: Sequence[Buffer]
    steps: Sequence[Step]
    functions: IRModule
    kernels: Mapping[str, Kernel]
    constants: Sequence[NDArray[np.generic]]
    offsets: Mapping[Buffer, int]
    workspace_bytes: int

    @property
    def prefix(self) -> str:
        """Prefix of every symbol of the library."""
        return f"tvmgen_{self.name}"

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference, padding included."""
        return sum(self.kernels[step.kernel].macs for step in self.steps if step.kernel)

    @property
    def weight_bytes(self) -> int:
        """Size of the constants."""
        return sum(constant.nbytes for constant in self.constants)
