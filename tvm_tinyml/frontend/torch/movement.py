"""Moving data: shapes, orders, parts, borders and resizing."""

from __future__ import annotations

import numpy as np

from tvm_tinyml.frontend.torch.program import Call, shape_of
from tvm_tinyml.frontend.torch.writer import Writer


def alias(writer: Writer, call: Call) -> str:
    """Follow an operator that leaves the tensor as it is."""
    return writer.tensor(call.first())


def convert(writer: Writer, call: Call) -> str:
    """Follow a change of type that is none."""
    before, after = call.first().meta["val"].dtype, call.node.meta["val"].dtype
    if before != after:
        raise call.refuse(f"it turns {before} into {after}; changes of type are not supported. Export model.float().")
    return alias(writer, call)


def part(writer: Writer, call: Call) -> str:
    """Follow one of the tensors that an operator makes."""
    source, number = call.first(), int(str(call.node.args[1]))
    name = writer.part(source, number)
    if not name:
        raise call.refuse(f"result {number} of '{source.name}' is not supported, only the first one.")
    return name


def reshape(writer: Writer, call: Call) -> str:
    """Add whatever only changes a shape."""
    x = call.first()
    if shape_of(x) == call.shape:
        return writer.tensor(x)
    return writer.add("Reshape", [writer.tensor(x), writer.integers(call.shape)], call.name)


def permute(writer: Writer, call: Call) -> str:
    """Add a new order of the axes."""
    rank = len(call.shape)
    return writer.add("Transpose", [writer.tensor(call["self"])], call.name, perm=[i % rank for i in call["dims"]])


def transpose(writer: Writer, call: Call) -> str:
    """Add an exchange of two axes, by default of a matrix."""
    order = list(range(len(call.shape)))
    if len(order) < 2:
        return writer.tensor(call["self"])
    one, other = (call["dim0"], call["dim1"]) if call.has("dim0") else (0, 1)
    order[one], order[other] = order[other], order[one]
    return writer.add("Transpose", [writer.tensor(call["self"])], call.name, perm=order)


def concat(writer: Writer, call: Call) -> str:
    """Add a concatenation."""
    return writer.add("Concat", [writer.tensor(x) for x in call["tensors"]], call.name, axis=call["dim"])


def split(writer: Writer, call: Call) -> list[str]:
    """Add a cut into parts along an axis."""
    axis = call["dim"] % len(shape_of(call["self"]))
    sizes = [shape[axis] for shape in call.shapes]
    names = [f"{call.name}_{i}" for i in range(len(sizes))]
    return writer.add_many("Split", [writer.tensor(call["self"]), writer.integers(sizes)], names, axis=axis)


def slice_(writer: Writer, call: Call) -> str:
    """Add a part of a tensor along an axis."""
    source = shape_of(call["self"])
    if source == call.shape:
        return writer.tensor(call["self"])
    axis = call["dim"] % len(source)
    start, end, step = slice(call["start"], call["end"], call["step"]).indices(source[axis])
    return _cut(writer, writer.tensor(call["self"]), axis, start, end, step, call.name)


def select(writer: Writer, call: Call) -> str:
    """Add one element along an axis, without that axis."""
    source = shape_of(call["self"])
    axis = call["dim"] % len(source)
    index = call["index"] % source[axis]
    one = _cut(writer, writer.tensor(call["self"]), axis, index, index + 1, 1, f"{call.name}_slice")
    return writer.add("Reshape", [one, writer.integers(call.shape)], call.name)


def pad(writer: Writer, call: Call) -> str:
    """Add a border of one number; torch lists the last axis first."""
    if call.has("mode") and call["mode"] != "constant":
        raise call.refuse(f"mode {call['mode']} is not supported; constant is.")
    rank, widths = len(call.shape), call["pad"]
    before, after = [0] * rank, [0] * rank
    for i in range(len(widths) // 2):
        before[rank - 1 - i], after[rank - 1 - i] = widths[2 * i : 2 * i + 2]
    number = call["value"] or 0.0
    inputs = [writer.tensor(call["self"]), writer.integers([*before, *after]), writer.constant(np.float32(number))]
    return writer.add("Pad", inputs, call.name)


def upsample_nearest(writer: Writer, call: Call) -> str:
    """Add a change of size to the nearest element."""
    x = call.first()
    source, size = shape_of(x)[2:], call.shape[2:]
    if call.has("scale_factors"):
        factors = call["scale_factors"] or (None, None)
    else:
        factors = call["scales_h"], call["scales_w"]
    for before, after, factor in zip(source, size, factors, strict=True):
        if factor is not None and abs(before * factor - after) > 1e-6:
            raise call.refuse(
                f"a factor of {factor:.6g} makes {before * factor:.6g} of {before} elements, which is cut to {after}. "
                "Give the size instead of a factor."
            )
    inputs = [writer.tensor(x), "", "", writer.integers(call.shape)]
    options = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return writer.add("Resize", inputs, call.name, **options)


def _cut(writer: Writer, x: str, axis: int, start: int, end: int, step: int, name: str) -> str:
    return writer.add("Slice", [x, *(writer.integers([i]) for i in (start, end, axis, step))], name)
