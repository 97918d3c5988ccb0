"""A kernel before it is scheduled, and what the lowering must know of the core."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from tvm import relax, te, tirx

from tvm_tinyml.choice import NONE, Choice, Knobs, Space, allowed
from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.integer_ops import Attributes, shape_of, span
from tvm_tinyml.passes.pack_weights import NARROW, as_attribute, coding_of_layer
from tvm_tinyml.passes.tensor_layouts import NHWC, Layout, encoded


@dataclass(frozen=True)
class KernelTraits:
    """What the compute definition of a kernel depends on.

    Attributes
    ----------
    dot_length : int8 products that one step of the core's dot product takes (1: it has none). Reductions are cut
        into a part that is a multiple of it and a tail.
    """

    dot_length: int


@dataclass(frozen=True)
class Method:
    """How a kernel computes, for people: ``inspect --layouts`` shows it.

    Attributes
    ----------
    algorithm : how the result is formed.
    scratch : in which layout values lie in scratch; empty where they are read where they lie.
    packing : names of the microkernels that bring them there.
    estimates : what the recipe compared: its estimates in cycles (with Helium, instructions), the one taken first.
    reads, writes : layout of the first argument and of the result.
    """

    algorithm: str
    scratch: str = ""
    packing: Sequence[str] = ()
    estimates: Mapping[str, int] = field(default_factory=dict)
    reads: str = NHWC
    writes: str = NHWC


@dataclass(frozen=True)
class Overlap:
    """Leave for a kernel to write where it reads, because it has read what it writes over.

    Attributes
    ----------
    read : index of an argument.
    distance_bytes : the argument may begin so many bytes behind the beginning of what is written, or more.
    scratch : the kernel's scratch is meant, not its result.
    """

    read: int
    distance_bytes: int
    scratch: bool = False


@dataclass(frozen=True)
class Rereads:
    """How a microkernel reads its constants if it does so more than once a call.

    Attributes
    ----------
    at_once_bytes : it reads so many again and again before it goes on to the next.
    times, calls : so often in so many calls together.
    """

    at_once_bytes: int
    times: int
    calls: int


@dataclass(frozen=True)
class Kernel:
    """One PrimFunc and the tensors it is called with.

    Attributes
    ----------
    kind : name of the computation, as the tables show it.
    func : parameters are `arguments` in order, then the result.
    arguments : activations as given, constants packed as the kernel reads them.
    macs : multiply-accumulates of one call, padding included.
    method : of a recipe; None where a schedule decides.
    overlaps : where the result, or scratch, may lie over an argument.
    in_place : indices of arguments of which the result may take the place exactly, even where `overlaps` says no more.
    knobs : what was decided where there was a choice.
    rereads : by name, of microkernels that read their constants more than once a call.
    input_step, output_step : elements from a pixel to the next where the first argument, or the result, is channels of
        a wider tensor; the kernel reads or writes nothing in between. 0 where it is a tensor of its own.
    input_layout, output_layout : in which its first argument, or its result, lies; None for NHWC.
    reads_narrow : it reads weights of four bits as they are stored: there is nothing to unpack before it.
    """

    kind: str
    func: tirx.PrimFunc
    arguments: Sequence[relax.Expr]
    macs: int = 0
    method: Method | None = None
    overlaps: Sequence[Overlap] = ()
    in_place: Sequence[int] = ()
    knobs: Knobs = field(default_factory=dict)
    rereads: Mapping[str, Rereads] = field(default_factory=dict)
    input_step: int = 0
    output_step: int = 0
    input_layout: Layout | None = None
    output_layout: Layout | None = None
    reads_narrow: bool = False


class Recipe(ABC):
    """Makes kernels of the operators that meet its conditions."""

    @property
    def dtype(self) -> str:
        """Type of the activations that it takes."""
        return "int8"

    @property
    def name(self) -> str:
        """What a choice calls it."""
        return type(self).__name__

    @abstractmethod
    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE) -> Kernel | None:
        """Return the kernel, or None when the recipe does not fit, or not with these knobs.

        The attributes may ask for steps and layouts of input and output: see `Kernel`, which tells what became of it.
        """

    def reads(
        self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE
    ) -> tuple[Layout, int] | None:
        """Return the layout in which it reads the first argument of a call best, beside NHWC, if there is one.

        With it come the cycles that it saves so, about.
        """
        return None

    def writes(
        self, arguments: Sequence[relax.Expr], attributes: Attributes, layout: Layout, knobs: Knobs = NONE
    ) -> int | None:
        """Return the cycles that it saves by writing its result in a layout, about; None if it cannot.

        The attributes may say in which layout it reads. Padding may be that of an operator in front.
        """
        return None

    def space(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> Space:
        """Return the knobs of an operator; not every combination need be possible. One it does not take has none."""
        return {}

    def allows(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs) -> bool:
        """Return whether the space of an operator has the knobs, each with its value."""
        return not knobs or allowed(knobs, self.space(arguments, attributes))

    def guard(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> str:
        """Return which of its forms the weights, biases and scales of an operator allow: what costs depend on them."""
        return ""

    def leaves_padding(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> bool:
        """Return whether it takes a convolution when its padding has become an operator, before any other recipe."""
        return False


def call_kernel(
    builder: relax.BlockBuilder, kernel: Kernel, call: relax.Call, choice: Choice | None = None
) -> relax.Expr:
    """Add a kernel to the module that `builder` makes, unless an equal one is there, and call it in place of `call`.

    Parameters
    ----------
    choice : what was decided about the kernel, or is to be decided by a schedule.
    """
    func = kernel.func.without_attr("global_symbol") if kernel.func.attrs else kernel.func
    func = func.with_attr({"tinyml.kind": kernel.kind, "tinyml.macs": kernel.macs})
    if choice:
        func = func.with_attr("tinyml.choice", json.dumps(dict(choice)))
    if kernel.method:
        reads, writes = (layout.name if layout else NHWC for layout in (kernel.input_layout, kernel.output_layout))
        method = replace(kernel.method, reads=reads, writes=writes)
        func = func.with_attr("tinyml.method", asdict(method))
    func = func.with_attr("tinyml.overlaps", [[o.read, o.distance_bytes, int(o.scratch)] for o in kernel.overlaps])
    func = func.with_attr("tinyml.in_place", list(kernel.in_place))
    if kernel.rereads:
        rereads = {name: [r.at_once_bytes, r.times, r.calls] for name, r in kernel.rereads.items()}
        func = func.with_attr("tinyml.rereads", rereads)
    coding = None if kernel.reads_narrow else coding_of_layer(call)
    if coding:
        func = func.with_attr(NARROW, as_attribute(coding))
    shape = shape_of(call)
    if kernel.output_step:
        func = func.with_attr("tinyml.output", [shape[-1], kernel.output_step])
    callee = builder.add_func(func, kernel.kind)
    result = func.params[-1]
    out_type = relax.TensorType([int(i) for i in result.shape], str(result.dtype))
    arguments = [builder.normalize(argument) for argument in kernel.arguments]
    output = builder.emit(relax.op.call_tir(callee, arguments, out_type), kernel.kind)
    if kernel.output_layout:
        return integer_ops.laid(output, layout=encoded(kernel.output_layout), shape=shape)
    if kernel.output_step:
        return integer_ops.channels(output, begin=0, step=kernel.output_step, shape=shape)
    return output if [int(i) for i in result.shape] == shape else relax.op.reshape(output, shape)


Lowering = Callable[[Sequence[relax.Expr], Attributes, KernelTraits], Kernel]
"""From an operator's arguments and attributes to its kernel."""


def constant(expr: relax.Expr) -> NDArray[np.generic]:
    """Return the value of a constant argument."""
    array: NDArray[np.generic] = expr.value.numpy()
    return array


def flat(x: relax.Expr, step: int = 0, layout: Layout | None = None) -> relax.Expr:
    """Return the elements of a tensor as they lie: in a layout, or ``step`` from pixel to pixel, if not 0."""
    shape = shape_of(x)
    if layout:
        return integer_ops.view(x, begin=0, shape=[layout.size_bytes])
    return integer_ops.view(x, begin=0, shape=[span(shape, step)]) if step else relax.op.reshape(x, (math.prod(shape),))


def placeholder(name: str, like: relax.Expr) -> te.Tensor:
    """Return a kernel parameter of the shape and dtype of `like`."""
    return te.placeholder([int(i) for i in like.ty.shape], str(like.ty.dtype), name)
