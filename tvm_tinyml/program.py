"""A compiled network before it is written out: kernels, constants, and a flat list of calls over planned memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule

from tvm_tinyml.choice import Choice
from tvm_tinyml.model import TensorSpec
from tvm_tinyml.passes.kernels.kernel import Overlap

if TYPE_CHECKING:
    from tvm_tinyml.quantization.report import QuantizationReport

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
    index : of the input, output, constant or region of the workspace.
    size_bytes : without padding, from the first byte to the last.
    begin_bytes : where it begins in there; several buffers may be parts of one.
    run_bytes, step_bytes : of a part with gaps: that many bytes of every so many. 0 where there are no gaps.
    """

    place: Place
    index: int
    dtype: str
    size_bytes: int
    begin_bytes: int = 0
    run_bytes: int = 0
    step_bytes: int = 0

    @property
    def used_bytes(self) -> int:
        """Its own bytes, without the gaps."""
        return -(-self.size_bytes // self.step_bytes) * self.run_bytes if self.step_bytes else self.size_bytes

    @property
    def alignment_bytes(self) -> int:
        """What its address is a multiple of, at least."""
        return np.dtype(self.dtype).itemsize

    @property
    def end_bytes(self) -> int:
        """Where it ends in its input, output, constant or region."""
        return self.begin_bytes + self.size_bytes


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
    tensor : of the model, which the call makes or helps to make.
    """

    name: str
    kernel: str | None
    operands: tuple[Buffer, ...]
    results: int = 1
    scratch: Buffer | None = None
    tensor: str = ""

    @property
    def reads(self) -> tuple[Buffer, ...]:
        """Buffers that the call reads."""
        return self.operands[: len(self.operands) - self.results]

    @property
    def writes(self) -> tuple[Buffer, ...]:
        """Buffers that the call writes, scratch included."""
        results = self.operands[len(self.operands) - self.results :]
        return (*results, *((self.scratch,) if self.scratch else ()))


@dataclass(frozen=True)
class Kernel:
    """What the tables say of one kernel.

    Attributes
    ----------
    symbol : global symbol.
    kind : ``conv2d``, ``dense``, ...
    schedule : name of the rule that scheduled it.
    macs : of one call.
    method : the recipe's `Method` as plain values; None where a rule scheduled it.
    overlaps, in_place : where the result may lie over an argument: see :class:`tvm_tinyml.passes.kernels.Kernel`.
    choice : which recipe or rule made it, and its knobs.
    """

    symbol: str
    kind: str
    schedule: str
    macs: int
    method: Mapping[str, Any] | None = None
    overlaps: Sequence[Overlap] = ()
    in_place: Sequence[int] = ()
    choice: Choice = field(default_factory=dict)


@dataclass(frozen=True)
class Region:
    """A range of a pool.

    Attributes
    ----------
    offset_bytes : in all pools laid one behind the other.
    first, last : calls, by index, between which it is in use.
    """

    offset_bytes: int
    size_bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Pool:
    """Memory that the caller hands over.

    Attributes
    ----------
    begin_bytes : where it would begin if all pools lay one behind the other.
    limit_bytes : what the device has of it; None if nobody said.
    """

    name: str
    begin_bytes: int
    size_bytes: int
    limit_bytes: int | None = None


@dataclass(frozen=True)
class Cut:
    """A way to compute layers in stripes of rows, for people who want to see what else there was.

    Attributes
    ----------
    stripes : of each segment.
    peak_bytes : of the pool, estimated.
    extra_macs : multiply-accumulates of rows that are computed twice.
    taken : this one was taken.
    """

    stripes: Sequence[int]
    peak_bytes: int
    extra_macs: int
    taken: bool


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
    macs : multiply-accumulates of the model as it was given, padding included.
    constants : by index.
    regions : of the pools, by the index of the workspace buffers in them.
    pools : at least one, the fastest first.
    in_ram : constants, by index, that start-up code copies from flash to RAM.
    cuts : what there was to choose from, where least RAM was the goal.
    quantization : what was done to a float network before.
    """

    name: str
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    input_buffers: Sequence[Buffer]
    output_buffers: Sequence[Buffer]
    steps: Sequence[Step]
    functions: IRModule
    kernels: Mapping[str, Kernel]
    macs: int
    constants: Sequence[NDArray[np.generic]]
    regions: Mapping[int, Region]
    pools: Sequence[Pool]
    in_ram: frozenset[int] = frozenset()
    cuts: Sequence[Cut] = ()
    quantization: QuantizationReport | None = None

    @property
    def prefix(self) -> str:
        """Prefix of every symbol of the library."""
        return f"tvmgen_{self.name}"

    @property
    def workspace_bytes(self) -> int:
        """Size of all pools; 0 when nothing is planned."""
        return sum(pool.size_bytes for pool in self.pools)

    def offset_bytes(self, buffer: Buffer) -> int:
        """Return where a workspace buffer begins in all pools laid one behind the other."""
        return self.regions[buffer.index].offset_bytes + buffer.begin_bytes

    def pool_of(self, buffer: Buffer) -> tuple[Pool, int]:
        """Return the pool that a workspace buffer is in, and where in there it begins."""
        offset = self.regions[buffer.index].offset_bytes
        pool = next(pool for pool in reversed(self.pools) if pool.begin_bytes <= offset)
        return pool, offset - pool.begin_bytes + buffer.begin_bytes

    @property
    def overlapping(self) -> set[str]:
        """Kernels of which some call writes where it reads."""
        return {step.kernel for step in self.steps if step.kernel and self._overlaps(step)}

    def _overlaps(self, step: Step) -> bool:
        read, written = ([b for b in buffers if b.place is Place.WORKSPACE] for buffers in (step.reads, step.writes))
        return any(
            self.offset_bytes(r) < self.offset_bytes(w) + w.size_bytes
            and self.offset_bytes(w) < self.offset_bytes(r) + r.size_bytes
            for r in read
            for w in written
        )

    @property
    def macs_executed(self) -> int:
        """Multiply-accumulates of all calls, padding included."""
        return sum(self.kernels[step.kernel].macs for step in self.steps if step.kernel)

    def section_of(self, constant: int) -> str:
        """Return the section of a constant, by index: the others share one with it that lie in the same memory."""
        return f"{'.data' if constant in self.in_ram else '.rodata'}.{self.prefix}_weights"

    @property
    def weight_bytes(self) -> int:
        """Size of the constants."""
        return sum(constant.nbytes for constant in self.constants)
