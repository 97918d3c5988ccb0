"""Imports a program that torch.export wrote: as an ONNX graph, so that both formats share one importer.

What the importer does with ONNX (NHWC, folded batch normalizations, fused activations, QDQ) it does here as well, and
the same network gives the same bytes from either. torch itself is an extra, and this package is imported only with it.
"""

from __future__ import annotations

import io
from importlib import import_module

import torch
from torch.export import ExportedProgram

from tvm_tinyml.errors import ModelError
from tvm_tinyml.frontend import onnx
from tvm_tinyml.frontend.torch.operators import OPERATORS
from tvm_tinyml.frontend.torch.program import check_inference, functional
from tvm_tinyml.frontend.torch.writer import Writer
from tvm_tinyml.model import Model

__all__ = ["OPERATORS", "load", "read"]


def load(program: ExportedProgram, name: str) -> Model:
    """Import an exported program.

    Raises
    ------
    ModelError : see :func:`tvm_tinyml.frontend.load`.
    """
    check_inference(program)
    return onnx.load(Writer(functional(program), OPERATORS).model(), name)


def read(content: bytes) -> ExportedProgram:
    """Read what ``torch.export.save`` wrote.

    Raises
    ------
    ModelError : it is something else, or damaged.
    """
    # Programs with quantizers cannot be read before their operators are known to torch.
    import_module("torch.ao.quantization.fx._decomposed")
    try:
        return torch.export.load(io.BytesIO(content))
    except Exception as error:  # whatever its parts raise
        raise ModelError(
            f"The archive ({len(content)} bytes) is no exported program, or it is damaged ({error}). Write it with "
            "torch.export.save(torch.export.export(model.eval(), inputs), 'model.pt2')."
        ) from error
