"""Front ends: networks of several formats, imported into one canonical form.

Canonical form
--------------
A Relax module with one function ``main``: one dataflow block (none when nothing is computed), static shapes, constants
in place, one parameter for each input and a tuple for several outputs. The module's attribute ``tinyml.reference`` says
whose rounding is meant, ``tflite`` or ``onnx``. Variables are called after the tensors of the source; those named
``real`` are float32.

Activations are int8 or int16, in memory order NHWC. Below, ``dq(x)`` is
``relax.dequantize(x, scale, zero_point, axis=-1)`` and ``q(y)`` is
``relax.quantize(y, scale, zero_point, axis=-1, out_dtype=...)`` with scalar constants, float32 and of the tensor's
type. An int16 tensor has zero point 0. Inputs and result of an operator are of one type; only a requantization changes
it.
A weight is ``dq(w) = relax.dequantize(w, scale, 0, axis=0)``: int8, output channels first, `scale` float32 of shape
() or [O], the zero point int8 zeros of the same shape. Every operator has its own dequantize, also of a shared tensor.
``act`` is nothing, ``relax.nn.relu`` or ``relax.clip``.

======================  ================================================================================================
convolution             ``q(act(nn.conv2d(dq(x), dq(w)) [+ bias]))``, data NHWC, kernel OHWI, four pads (top, left,
                        bottom, right); depthwise has ``groups = C`` and w [C * multiplier, KH, KW, 1]
transposed convolution  ``q(act(nn.conv2d_transpose(dq(x), dq(w)) [+ bias]))``, layouts and pads as above; w has the
                        output channels of one group and all input channels
dense                   ``q(act(matmul(dq(x), permute_dims(dq(w))) [+ bias]))`` with x [N, K] and w [O, K]
bias                    ``add(..., dequantize(b, input scale * weight scale, 0, axis=0))``, b int32 [O], its zero point
                        int32 zeros [O]; or, with int16 inputs, ``add(..., astype(b, float32) * scale)``, b int64 [O].
                        Sums of int16 inputs have as many bits as the bias, 64 without one
sum and product         ``q(act(add | subtract | multiply (dq(x), dq(y))))``, numpy broadcasting, x or y may be constant
pools                   ``q(act(nn.avg_pool2d | nn.max_pool2d (dq(x))))``, layout NHWC, padding is not counted
mean and sum over axes  ``q(mean | sum (dq(x), axis, keepdims))``
softmax                 ``q(nn.softmax(dq(x), axis=-1))``; a factor beta is in the scale of ``dq``
function                ``q(f(dq(x)))``, f one of ``sigmoid``, ``tanh``, ``nn.relu``, ``clip``, ``nn.leakyrelu``,
                        ``exp``, ``abs``, ``negative``, ``tinyml.hard_swish`` and ``tinyml.hard_sigmoid`` (our
                        own, see :mod:`.qdq`)
requantization          ``q(dq(x))``, never with equal parameters on both sides
moving elements         ``reshape``, ``permute_dims``, ``concat``, ``split`` (at indices), ``strided_slice``,
                        ``nn.pad`` (constant), ``image.resize2d`` (nearest_neighbor, NHWC): always on integers; where
                        the source changes scale or zero point there, a requantization stands before or after
uint8 input             ``q(relax.dequantize(x, scale, zero_point + 128))``: int8 from there on
uint8 output            ``relax.quantize(dq(y), scale, zero_point + 128, out_dtype="uint8")``
======================  ================================================================================================

A float input that is only quantized, and a float output that was dequantized, are integer tensors here, with scale and
zero point in their :class:`~tvm_tinyml.model.TensorSpec`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from onnx import ModelProto

from tvm_tinyml.errors import ModelError
from tvm_tinyml.frontend import onnx, tflite
from tvm_tinyml.frontend.onnx.graph import parse
from tvm_tinyml.frontend.qdq import identifier
from tvm_tinyml.frontend.tflite.file import MAGIC
from tvm_tinyml.model import Model

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["load"]

ARCHIVE = b"PK\x03\x04"
"""Begin of a file that ``torch.export.save`` wrote, and of every other zip archive."""


def load(source: str | Path | bytes | ModelProto | ExportedProgram, *, name: str | None = None) -> Model:
    """Import a network.

    Parameters
    ----------
    source : a TFLite, ONNX or ``torch.export`` file, its content, an ONNX model or an exported program in memory. The
        content says which it is.
    name : a C identifier; left out, one is made of the file's stem, or it is ``model``.

    Raises
    ------
    ModelError : the file cannot be read or is damaged, operators are not supported (all are named), a dimension is not
        fixed, the network is not quantized, torch is needed and not installed, or `name` is no C identifier.
    """
    if name is None:
        name = identifier(Path(source).stem if isinstance(source, (str, Path)) else "", "model")
    _check_name(name)
    if isinstance(source, ModelProto):
        return onnx.load(source, name)
    if isinstance(source, bytes):
        return _load(source, None, name)
    if not isinstance(source, (str, Path)):
        return _load_object(source, name)
    path = Path(source)
    try:
        return _load(_read(path), path, name)
    except ModelError as error:
        if str(path) in str(error):
            raise
        raise ModelError(f"'{path}': {error}") from error


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ModelError(
            f"Name {name!r} is no C identifier (letters, digits and _, no digit first), and functions are called "
            f"after it. Did you mean {identifier(name, 'model')!r}?"
        )


def _load(content: bytes, path: Path | None, name: str) -> Model:
    if content[4:8] == MAGIC:
        return tflite.load(content, name)
    if content.startswith(ARCHIVE):
        return _load_archive(content, name)
    return onnx.load(parse(content, path), name)


def _load_archive(content: bytes, name: str) -> Model:
    try:
        from tvm_tinyml.frontend import torch
    except ModuleNotFoundError as error:
        raise ModelError(
            "A program that torch.export wrote needs PyTorch, which is not installed. Install it: "
            "pip install 'tvm-tinyml[torch]'."
        ) from error
    return torch.load(torch.read(content), name)


def _load_object(source: ExportedProgram, name: str) -> Model:
    """Import an exported program, which cannot exist unless torch is there already."""
    export = sys.modules.get("torch.export")
    if export is None or not isinstance(source, export.ExportedProgram):
        raise ModelError(
            f"A {type(source).__name__} is no model. Pass the path or the content of a file, an ONNX model, or an "
            "exported program: torch.export.export(model.eval(), inputs)."
        )
    from tvm_tinyml.frontend import torch

    return torch.load(source, name)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"Model file '{path}' cannot be read: {error.strerror}.") from error
