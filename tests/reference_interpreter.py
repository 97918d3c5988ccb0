"""The referee: TensorFlow Lite Micro's own interpreter, which runs its reference kernels on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tflite
from numpy.typing import NDArray

try:
    from tflite_micro.python.tflite_micro import runtime  # type: ignore[import-untyped]
except ImportError as error:
    runtime = None
    _MISSING = f"tflite-micro is not installed ({error}); it exists for Linux on x86_64 only"
else:
    _MISSING = ""

needs_interpreter = pytest.mark.skipif(runtime is None, reason=_MISSING)
"""Marks tests that compare with the interpreter."""


class ReferenceInterpreter:
    """A TFLite model in tflite-micro's interpreter.

    Parameters
    ----------
    model : the flatbuffer.
    keep_tensors : keep every intermediate tensor for `tensor`; needs a larger arena.
    arena_bytes : memory for all tensors.
    """

    def __init__(self, model: bytes, *, keep_tensors: bool = False, arena_bytes: int = 4_000_000) -> None:
        if runtime is None:
            pytest.skip(_MISSING)
        self._outputs = tflite.Model.GetRootAs(model).Subgraphs(0).OutputsLength()
        config = runtime.InterpreterConfig
        self._interpreter = runtime.Interpreter.from_bytes(
            model,
            arena_size=arena_bytes,
            intrepreter_config=config.kPreserveAllTensors if keep_tensors else config.kAllocationRecording,
        )

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Run once: one array per model input, in order; returns one array per output."""
        for i, x in enumerate(inputs):
            self._interpreter.set_input(np.ascontiguousarray(x), i)
        self._interpreter.invoke()
        return [np.array(self._interpreter.get_output(i)) for i in range(self._outputs)]

    def tensor(self, index: int) -> NDArray[Any]:
        """Value of a tensor of the graph after `run`, by its number in the file."""
        return np.array(self._interpreter.GetTensor(index, 0)["tensor_data"])


def run(model: bytes, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Run a model once; see `ReferenceInterpreter`."""
    return ReferenceInterpreter(model).run(inputs)
