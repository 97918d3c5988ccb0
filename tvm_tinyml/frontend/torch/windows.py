"""Pools, means and sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm_tinyml.frontend.torch.program import Call, shape_of
from tvm_tinyml.frontend.torch.writer import Operator, Writer


def pair(value: int | Sequence[int]) -> list[int]:
    """Return height and width of what is given once for both or for each."""
    values = [value] if isinstance(value, int) else list(value)
    return values * 2 if len(values) == 1 else values


def max_pool(writer: Writer, call: Call) -> str:
    """Add a max pool."""
    return writer.add(
        "MaxPool",
        [_image(writer, call)],
        call.name,
        **_window(call),
        pads=pair(call["padding"]) * 2,
        dilations=pair(call["dilation"]),
    )


def max_pool_with_indices(writer: Writer, call: Call) -> list[str]:
    """Add a max pool of which the second result is not read."""
    return [max_pool(writer, call), ""]


def average_pool(writer: Writer, call: Call) -> str:
    """Add an average pool; padding that counts becomes a border of zeros before it."""
    if call["divisor_override"] is not None:
        raise call.refuse("divisor_override is not supported. Leave it out and multiply the result.")
    x, pads = _image(writer, call), pair(call["padding"]) * 2
    if call["count_include_pad"] and any(pads):
        widths = [0, 0, *pads[:2], 0, 0, *pads[2:]]
        x, pads = writer.add("Pad", [x, writer.integers(widths)], f"{call.name}_padded"), [0, 0, 0, 0]
    return writer.add("AveragePool", [x], call.name, **_window(call), pads=pads)


def adaptive(kind: str) -> Operator:
    """Return what adds a pool to a given size: all of the image, or equal windows."""

    def add(writer: Writer, call: Call) -> str:
        source, size = shape_of(call["self"])[2:], call.shape[2:]
        x = _image(writer, call)
        if size == (1, 1):
            return writer.add(f"Global{kind}", [x], call.name)
        if any(extent % wanted for extent, wanted in zip(source, size, strict=True)):
            raise call.refuse(
                f"from {source[0]} x {source[1]} to {size[0]} x {size[1]} its windows differ in size. Choose sizes "
                "that divide those of the input, or resize first."
            )
        kernel = [extent // wanted for extent, wanted in zip(source, size, strict=True)]
        return writer.add(kind, [x], call.name, kernel_shape=kernel, strides=kernel)

    return add


def reduce(kind: str) -> Operator:
    """Return what adds a mean or sum over axes."""

    def add(writer: Writer, call: Call) -> str:
        axes = call["dim"] if call.has("dim") else None
        if isinstance(axes, int):
            axes = [axes]
        axes = axes or list(range(len(shape_of(call["self"]))))
        keep = int(call["keepdim"]) if call.has("keepdim") else 0
        x = writer.tensor(call["self"])
        if kind == "ReduceSum":  # its axes are an input in ONNX's version, those of others are not yet
            return writer.add(kind, [x, writer.integers(axes)], call.name, keepdims=keep)
        return writer.add(kind, [x], call.name, axes=axes, keepdims=keep)

    return add


def _image(writer: Writer, call: Call) -> str:
    shape = shape_of(call["self"])
    if len(shape) != 4:
        raise call.refuse(f"its input has shape {list(shape)}; 4 dimensions (N, C, H, W) are supported.")
    return writer.tensor(call["self"])


def _window(call: Call) -> dict[str, Any]:
    kernel = pair(call["kernel_size"])
    return {
        "kernel_shape": kernel,
        "strides": pair(call["stride"]) if call["stride"] else kernel,
        "ceil_mode": int(call["ceil_mode"]),
    }
