"""Objects out of the LLVM inside TVM."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import tvm

ARM_DATA_LAYOUT = "e-m:e-p:32:32-Fi8-i64:64-v128:64:128-a:0:32-n32-S64"
"""Of all Cortex-M cores."""


def compile_text(text: str, description: Mapping[str, object], data_layout: str = ARM_DATA_LAYOUT) -> bytes:
    """Compile LLVM IR text (without triple and data layout) to one relocatable object.

    Parameters
    ----------
    description : TVM's of the target.
    """
    escaped = json.dumps(dict(description)).replace('"', "\\22")
    module = "\n".join(
        [
            f'target datalayout = "{data_layout}"',
            f'target triple = "{description["mtriple"]}"',
            text,
            "!llvm.module.flags = !{!0}",
            f'!0 = !{{i32 4, !"tvm_target", !"{escaped}"}}',
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "module.ll")
        path.write_text(module, encoding="ascii")
        return _written(tvm.runtime.load_module(str(path)), folder)


def object_bytes(module: tvm.runtime.Module) -> bytes:
    """Return a module of LLVM's as a relocatable object."""
    with tempfile.TemporaryDirectory() as folder:
        return _written(module, folder)


def _written(module: tvm.runtime.Module, folder: str) -> bytes:
    path = Path(folder, "module.o")
    module.write_to_file(str(path), "o")
    return path.read_bytes()
