"""Calibration samples, however a user has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tvm_tinyml.arrays import Inputs, fit, read_npz
from tvm_tinyml.errors import InputError, QuantizationError
from tvm_tinyml.model import Model, TensorSpec

Calibration: TypeAlias = Inputs | Iterable[Any] | str | Path | None
"""Arrays as for `Library.run`, an iterable of them (of a ``DataLoader``, what follows the inputs is ignored), the path
of an ``.npz`` file, or `RANDOM`."""

RANDOM = "random"
RANDOM_SAMPLES, RANDOM_SEED = 32, 0

LABELS = "labels"
"""An array of an ``.npz`` file that is no input."""


def samples_of(calibration: Calibration, model: Model) -> list[NDArray[Any]]:
    """Return float32 [samples, *shape] for each input of a model.

    Raises
    ------
    QuantizationError : there are none.
    InputError : they do not fit the model.
    """
    specs = model.inputs
    if calibration is None:
        raise QuantizationError(
            f"Quantizing '{model.name}' needs samples of its inputs, some hundred as the device will see them: "
            f"{_wanted(specs)}. Give calibration=, or --calibration X.npz; 'random' makes do without, for a look at "
            "sizes and cycles."
        )
    if isinstance(calibration, str) and calibration == RANDOM:
        rng = np.random.default_rng(RANDOM_SEED)
        return [rng.normal(size=(RANDOM_SAMPLES, *spec.shape)).astype(np.float32) for spec in specs]
    if isinstance(calibration, (str, Path)):
        arrays = read_npz(calibration)
        return _fitted({name: array for name, array in arrays.items() if name != LABELS or len(arrays) == 1}, specs)
    if isinstance(calibration, Mapping | np.ndarray) or hasattr(calibration, "__array__"):
        return _fitted(calibration, specs)
    if not isinstance(calibration, Iterable):
        kind = type(calibration).__name__
        raise QuantizationError(f"Calibration samples are a {kind}. Give arrays, or the path of an .npz file.")
    parts = [_fitted(_inputs(item, specs), specs) for item in calibration]
    if not parts:
        raise QuantizationError("The iterable of calibration samples is empty. Give some hundred samples.")
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _inputs(item: Any, specs: tuple[TensorSpec, ...]) -> Any:
    """Return the inputs in what an iterable yields: a mapping, an array, or a sequence that begins with them."""
    if isinstance(item, Mapping) or hasattr(item, "__array__") or not isinstance(item, (tuple, list)):
        return item
    if len(item) < len(specs):
        raise InputError(f"A calibration sample has {len(item)} arrays, and the model {len(specs)} inputs.")
    return {spec.name: np.asarray(array) for spec, array in zip(specs, item, strict=False)}


def _fitted(inputs: Any, specs: tuple[TensorSpec, ...]) -> list[NDArray[Any]]:
    if not isinstance(inputs, Mapping):
        inputs = _floats(inputs)
    else:
        inputs = {name: _floats(array) for name, array in inputs.items()}
    arrays, _ = fit(inputs, [vars(spec) for spec in specs])
    return arrays


def _floats(array: ArrayLike) -> NDArray[Any]:
    numbers = np.asarray(array)
    return numbers.astype(np.float32) if numbers.dtype.kind in "iub" else numbers


def _wanted(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"'{spec.name}' {spec.dtype} [samples, {', '.join(map(str, spec.shape))}]" for spec in specs)
