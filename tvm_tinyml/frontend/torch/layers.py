"""Layers with weights, and batch normalizations."""

from __future__ import annotations

import numpy as np

from tvm_tinyml.frontend.torch.program import Call, shape_of
from tvm_tinyml.frontend.torch.windows import pair
from tvm_tinyml.frontend.torch.writer import Writer


def convolution(writer: Writer, call: Call) -> str:
    """Add a convolution in two dimensions, transposed or not."""
    transposed = call["transposed"] if call.has("transposed") else call.kind == "aten.conv_transpose2d"
    if len(shape_of(call["input"])) != 4:
        raise call.refuse(
            f"its input has shape {list(shape_of(call['input']))}; 4 dimensions (N, C, H, W) are supported."
        )
    attributes = {
        "strides": pair(call["stride"]),
        "dilations": pair(call["dilation"]),
        "group": call["groups"],
        "pads": _pads(call),
    }
    if transposed:
        attributes["output_padding"] = pair(call["output_padding"])
    inputs = [writer.tensor(call[name]) for name in ("input", "weight", "bias")]
    return writer.add("ConvTranspose" if transposed else "Conv", inputs, call.name, **attributes)


def _pads(call: Call) -> list[int]:
    """Return top, left, bottom, right."""
    padding = call["padding"]
    if padding == "valid":
        return [0, 0, 0, 0]
    if padding != "same":
        return pair(padding) * 2
    kernel = shape_of(call["weight"])[2:]
    total = [(k - 1) * d for k, d in zip(kernel, pair(call["dilation"]), strict=True)]
    before = [extent // 2 for extent in total]
    return [*before, *(extent - half for extent, half in zip(total, before, strict=True))]


def linear(writer: Writer, call: Call) -> str:
    """Add a dense layer whose weights are [outputs, inputs]."""
    x, weight, bias = (writer.tensor(call[name]) for name in ("input", "weight", "bias"))
    if len(shape_of(call["input"])) == 2:
        return writer.add("Gemm", [x, weight, bias], call.name, transB=1)
    columns = writer.add("Transpose", [weight], f"{call.name}_weight", perm=[1, 0])
    if not bias:
        return writer.add("MatMul", [x, columns], call.name)
    return writer.add("Add", [writer.add("MatMul", [x, columns], f"{call.name}_product"), bias], call.name)


def addmm(writer: Writer, call: Call) -> str:
    """Add a matrix product and a bias."""
    inputs = [writer.tensor(call[name]) for name in ("mat1", "mat2", "self")]
    return writer.add("Gemm", inputs, call.name, alpha=float(call["alpha"]), beta=float(call["beta"]))


def matmul(writer: Writer, call: Call) -> str:
    """Add a matrix product."""
    other = "other" if call.has("other") else "mat2"
    return writer.add("MatMul", [writer.tensor(call["self"]), writer.tensor(call[other])], call.name)


def batch_norm(writer: Writer, call: Call) -> str:
    """Add a batch normalization with the mean and variance of training."""
    (channels,) = shape_of(call["running_mean"])
    inputs = [
        writer.tensor(call["input"]),
        writer.tensor(call["weight"]) or writer.constant(np.ones(channels, np.float32)),
        writer.tensor(call["bias"]) or writer.constant(np.zeros(channels, np.float32)),
        writer.tensor(call["running_mean"]),
        writer.tensor(call["running_var"]),
    ]
    return writer.add("BatchNormalization", inputs, call.name, epsilon=call["eps"])


def batch_norm_of_three(writer: Writer, call: Call) -> list[str]:
    """Add a batch normalization that returns also what only training needs."""
    return [batch_norm(writer, call), "", ""]
