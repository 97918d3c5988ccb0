"""How the channels of an operator's result depend on the channels of its operands.

A channel is an index of the last axis, for every operator. A mask is one boolean for each channel of a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from tvm_tinyml.passes.integer_ops import FUNCTIONS, attributes_of, shape_of

Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Aligned:
    """Channels of operand and result that are partners: one leaves only together with all of its partners.

    Attributes
    ----------
    inputs, outputs : the partners, pair by pair; a channel may have several.
    blind : results that do not depend on what their partners hold: those of filters of zeros.
    """

    channels_in: int
    channels_out: int
    inputs: Indices
    outputs: Indices
    blind: Mask

    def known(self, known_in: Mask) -> Mask:
        """Return which results are known when these channels of the operand are."""
        known = np.ones(self.channels_out, bool)
        known[self.outputs[~known_in[self.inputs]]] = False
        return known | self.blind

    def needed(self, kept_out: Mask) -> Mask:
        """Return which channels of the operand must stay for these results to stay."""
        needed = np.zeros(self.channels_in, bool)
        needed[self.inputs[kept_out[self.outputs]]] = True
        return needed

    def imposed(self, kept_in: Mask) -> Mask:
        """Return which results must stay since these channels of the operand do."""
        imposed = np.zeros(self.channels_out, bool)
        imposed[self.outputs[kept_in[self.inputs]]] = True
        return imposed


@dataclass(frozen=True)
class Weighted:
    """Every result is a weighted sum of all channels of the operand; it reads those whose weights are not all zero.

    Attributes
    ----------
    reads : results by channels of the operand.
    foldable : channels of the operand that may leave although they are read: their share is in the bias then.
    """

    reads: Mask
    foldable: Mask

    def known(self, known_in: Mask) -> Mask:
        """Return which results are known when these channels of the operand are."""
        return np.asarray(~self.reads[:, ~known_in].any(axis=1))

    def needed(self, kept_out: Mask) -> Mask:
        """Return which channels of the operand must stay: the first, where none would, since no tensor is empty."""
        needed = np.asarray(self.reads[kept_out].any(axis=0) & ~self.foldable)
        needed[0] |= kept_out.any() and not needed.any()
        return needed

    def imposed(self, kept_in: Mask) -> Mask:
        """Return nothing: a weight that is not needed leaves alone."""
        return np.zeros(len(self.reads), bool)


@dataclass(frozen=True)
class Whole:
    """Every result depends on every channel of the operand."""

    channels_in: int
    channels_out: int

    def known(self, known_in: Mask) -> Mask:
        """Return which results are known when these channels of the operand are."""
        return np.full(self.channels_out, known_in.all())

    def needed(self, kept_out: Mask) -> Mask:
        """Return which channels of the operand must stay for these results to stay."""
        return np.full(self.channels_in, kept_out.any())

    def imposed(self, kept_in: Mask) -> Mask:
        """Return nothing: the operand's channels are none of the result's."""
        return np.zeros(self.channels_out, bool)


Link = Aligned | Weighted | Whole


@dataclass(frozen=True)
class Operator:
    """One binding of ``main``.

    Attributes
    ----------
    links : operands (activations, not weights and tables) and how the result depends on each.
    rigid : the result keeps all of its channels or none.
    """

    var: relax.Var
    value: relax.Expr
    links: Sequence[tuple[relax.Expr, Link]]
    rigid: bool


def operators_of(main: relax.Function) -> list[Operator]:
    """Return the bindings of ``main`` in order, each with its links."""
    return [_operator(b.var, b.value) for block in main.body.blocks for b in block.bindings]


def channels_of(expr: relax.Expr) -> int:
    """Return the channels of a tensor; 1 for a scalar, and for what is no tensor."""
    shape = shape_of(expr) if isinstance(expr.ty, relax.TensorType) else []
    return shape[-1] if shape else 1


def is_depthwise(call: relax.Call) -> bool:
    """Return whether a convolution has one input channel for each result, in more than one group."""
    return int(call.attrs["groups"]) > 1 and shape_of(call.args[1])[3] == 1


def taps_of(call: relax.Call) -> NDArray[np.int8]:
    """Return the weights of a convolution or dense layer: results, taps of the window, channels of a group."""
    weight: NDArray[np.int8] = call.args[1].value.numpy()
    return weight.reshape(len(weight), -1, weight.shape[-1])


def _operator(var: relax.Var, value: relax.Expr) -> Operator:
    if isinstance(var.ty, relax.TensorType) and isinstance(value, relax.Var):
        return Operator(var, value, [(value, _same(channels_of(var)))], rigid=False)
    if isinstance(var.ty, relax.TensorType) and isinstance(value, relax.Call):
        link = _LINKS.get(str(value.op.name))
        links = link(value, channels_of(var)) if link else None
        if links is not None:
            return Operator(var, value, links, rigid=False)
    channels = channels_of(var)
    return Operator(var, value, [(e, Whole(channels_of(e), channels)) for e in _tensors(value)], rigid=True)


def _tensors(expr: relax.Expr) -> list[relax.Expr]:
    """Return the variables in an expression."""
    match expr:
        case relax.Call():
            return [e for argument in expr.args for e in _tensors(argument)]
        case relax.Tuple():
            return [e for element in expr.fields for e in _tensors(element)]
        case relax.TupleGetItem():
            return _tensors(expr.tuple_value)
        case relax.Var():
            return [expr]
        case _:
            return []


Links = list[tuple[relax.Expr, Link]]


def _conv2d(call: relax.Call, channels: int) -> Links | None:
    if int(call.attrs["groups"]) == 1:
        return _dense(call, channels)
    if not is_depthwise(call):
        return None
    x, results = call.args[0], np.arange(channels)
    channels_in = channels_of(x)
    blind = np.asarray(~taps_of(call).any(axis=(1, 2)))
    return [(x, Aligned(channels_in, channels, results // (channels // channels_in), results, blind))]


def _dense(call: relax.Call, _channels: int) -> Links:
    reads = np.asarray(taps_of(call).any(axis=1))
    return [(call.args[0], Weighted(reads, np.zeros(reads.shape[1], bool)))]


def _elementwise(call: relax.Call, channels: int) -> Links:
    return [(x, _same(channels) if channels_of(x) == channels else Whole(1, channels)) for x in call.args]


def _image(call: relax.Call, channels: int) -> Links:
    return [(call.args[0], _same(channels))]


def _mean(call: relax.Call, channels: int) -> Links | None:
    last = len(shape_of(call.args[0])) - 1
    return None if last in attributes_of(call)["axes"] else _image(call, channels)


def _pad(call: relax.Call, channels: int) -> Links | None:
    return None if any(int(width) for width in call.attrs.pad_width[-2:]) else _image(call, channels)


def _permute(call: relax.Call, channels: int) -> Links | None:
    axes = call.attrs.axes
    return _image(call, channels) if axes is not None and int(axes[-1]) == len(axes) - 1 else None


def _slice(call: relax.Call, channels: int) -> Links | None:
    axes = [int(axis.value) for axis in call.args[1].fields]
    return None if len(shape_of(call.args[0])) - 1 in axes else _image(call, channels)


def _reshape(call: relax.Call, channels: int) -> Links | None:
    """Whole pixels become one, or one becomes several: channels repeat with the shorter of the two axes."""
    channels_in = channels_of(call.args[0])
    longer = max(channels_in, channels)
    if longer % min(channels_in, channels):
        return None
    index = np.arange(longer)
    nothing = np.zeros(channels, bool)
    return [(call.args[0], Aligned(channels_in, channels, index % channels_in, index % channels, nothing))]


def _concat(call: relax.Call, channels: int) -> Links | None:
    if not isinstance(call.args[0], relax.Tuple):
        return None
    parts = list(call.args[0].fields)
    rank = len(shape_of(parts[0]))
    if int(call.attrs.axis) % rank != rank - 1:
        return [(part, _same(channels)) for part in parts]
    links: Links = []
    start = 0
    for part in parts:
        own = np.arange(channels_of(part))
        links.append((part, Aligned(len(own), channels, own, start + own, np.zeros(channels, bool))))
        start += len(own)
    return links


def _same(channels: int) -> Aligned:
    index = np.arange(channels)
    return Aligned(channels, channels, index, index, np.zeros(channels, bool))


_LINKS: Mapping[str, Callable[[relax.Call, int], Links | None]] = {
    "tinyml.conv2d": _conv2d,
    "tinyml.dense": _dense,
    "tinyml.add": _elementwise,
    "tinyml.subtract": _elementwise,
    "tinyml.multiply": _elementwise,
    **{function.op.name: _image for function in FUNCTIONS},
    "tinyml.avg_pool2d": _image,
    "tinyml.mean_pool2d": _image,
    "tinyml.max_pool2d": _image,
    "tinyml.mean": _mean,
    "relax.reshape": _reshape,
    "relax.concat": _concat,
    "relax.nn.pad": _pad,
    "relax.permute_dims": _permute,
    "relax.strided_slice": _slice,
    "relax.image.resize2d": _image,
}
"""By operator; what is not here, or gives None, keeps all channels of its operands and of its result."""
