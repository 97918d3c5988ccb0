"""Borders that an operator of their own puts around an image become the padding of the layer that reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tvm
from tvm import IRModule, relax
from tvm.ir import Op
from tvm.ir.transform import PassContext

from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.integer_ops import Attributes, attributes_of
from tvm_tinyml.passes.rewrite_calls import Graph, rewrite_calls


@tvm.transform.module_pass(opt_level=0, name="tinyml.FoldPads")
class FoldPads(CallablePass):
    """Rewrite ``conv2d(pad(x), padding=p)`` to ``conv2d(x, padding=p + border)``, and max_pool2d alike.

    It is exact where the border holds what padding stands for: the input's zero point in a convolution, nothing above
    `clamp_min` in a pool. A mean counts the elements of a border but not those of padding, so pads before means stay.
    So do pads that something else reads too, which would have to be computed all the same.
    """

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module, or `mod` where nothing changes."""
        return rewrite_calls(mod, _fold)


@dataclass(frozen=True)
class Border:
    """A border around the images of a tensor: top, left, bottom and right, all of one value."""

    x: relax.Expr
    widths: tuple[int, int, int, int]
    value: int


def _fold(call: relax.Call, graph: Graph) -> relax.Expr:
    if call.op not in (integer_ops.conv2d.op, integer_ops.max_pool2d.op) or not graph.is_read_once(call.args[0]):
        return call
    border = border_of(graph.producer(call.args[0]))
    if border is None:
        return call
    attributes = attributes_of(call)
    padding = [own + more for own, more in zip(attributes["padding"], border.widths, strict=True)]
    if call.op == integer_ops.conv2d.op:
        if border.value != attributes["input_zero_point"]:
            return call
        return integer_ops.conv2d(border.x, *call.args[1:], **{**attributes, "padding": padding})
    if border.value > attributes["clamp_min"] or not _is_inside(padding, attributes):
        return call
    return integer_ops.max_pool2d(border.x, **{**attributes, "padding": padding})


def border_of(call: relax.Call | None) -> Border | None:
    """Return the border that a call puts around an image; None where it does anything else."""
    if call is None:
        return None
    if call.op == integer_ops.pad2d.op:
        attributes = attributes_of(call)
        top, left, bottom, right = attributes["padding"]
        return Border(call.args[0], (top, left, bottom, right), attributes["value"])
    if not isinstance(call.op, Op) or call.op.name != "relax.nn.pad" or str(call.attrs.pad_mode) != "constant":
        return None
    widths = [int(width) for width in call.attrs.pad_width]
    if len(widths) != 8 or any(widths[:2]) or any(widths[6:]):
        return None
    top, bottom, left, right = widths[2:6]
    return Border(call.args[0], (top, left, bottom, right), int(call.attrs.pad_value))


def _is_inside(padding: Sequence[int], attributes: Attributes) -> bool:
    """Return whether every window meets an element of the image, as pools want it."""
    height: int
    width: int
    height, width = attributes["pool_size"]
    return max(padding[0::2]) < height and max(padding[1::2]) < width
