"""tvm_tinyml: a compiler from trained networks to libraries for small devices.

A build, from a file to a folder of deployable files::

    import tvm_tinyml as tinyml

    model = tinyml.load("kws.tflite")
    library = tinyml.build(model, target="cortex-m4")
    library.write("out/")
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from tvm_tinyml.errors import (
    DeviceError,
    FitError,
    InputError,
    ModelError,
    OutputError,
    QuantizationError,
    TargetError,
    TinyMLError,
)

if TYPE_CHECKING:
    from tvm_tinyml.api import build, tune
    from tvm_tinyml.frontend import load
    from tvm_tinyml.library import Library
    from tvm_tinyml.model import Model, TensorSpec
    from tvm_tinyml.profile import Profile
    from tvm_tinyml.quantization import quantize

__version__ = version("tvm_tinyml")

__all__ = [
    "DeviceError",
    "FitError",
    "InputError",
    "Library",
    "Model",
    "ModelError",
    "OutputError",
    "Profile",
    "QuantizationError",
    "TargetError",
    "TensorSpec",
    "TinyMLError",
    "build",
    "load",
    "quantize",
    "tune",
]

_LAZY = {
    "build": "tvm_tinyml.api",
    "load": "tvm_tinyml.frontend",
    "quantize": "tvm_tinyml.quantization",
    "tune": "tvm_tinyml.api",
    "Library": "tvm_tinyml.library",
    "Profile": "tvm_tinyml.profile",
    "Model": "tvm_tinyml.model",
    "TensorSpec": "tvm_tinyml.model",
}


def __getattr__(name: str) -> Any:
    """Import what needs TVM only when it is asked for: TVM takes seconds to load."""
    if name not in _LAZY:
        raise AttributeError(f"module 'tvm_tinyml' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
