"""A user's arrays made fit for a library: shapes checked, floats quantized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tvm_tinyml.errors import InputError

Inputs = ArrayLike | Mapping[str, ArrayLike]
TensorInfo = Mapping[str, Any]
"""An entry of ``inputs`` or ``outputs`` in the metadata: name, shape, dtype, scale, zero_point."""


class Samples(Enum):
    """How a user's arrays hold samples."""

    ONE = "one sample, of the tensor's own shape"
    LEADING = "a dimension of samples in front of the tensor's own shape"
    BATCH = "samples along the tensor's own first dimension, which is 1"


def read_npz(path: str | Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an ``.npz`` file by name.

    Raises
    ------
    InputError : the file is missing, damaged, or no ``.npz``.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if isinstance(archive, np.ndarray):
                raise InputError(f"Input file '{path}' holds one bare array. Save it with numpy.savez.")
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not an .npz file"
        raise InputError(f"Input file '{path}' cannot be read: {reason}.") from error


def fit(inputs: Inputs, tensors: Sequence[TensorInfo]) -> tuple[list[NDArray[Any]], Samples]:
    """Return one array a tensor, of shape [samples, *shape] and the tensor's dtype.

    Parameters
    ----------
    inputs : an array when there is one tensor, or arrays by the tensors' names. Floats for an integer tensor are
        quantized with its scale; integers are taken as they are. A leading dimension beyond the tensor's own is
        samples.
    tensors : the model's inputs.

    Returns
    -------
    arrays : in the order of `tensors`.
    samples : how the arrays held their samples.

    Raises
    ------
    InputError : a name is missing or unknown, a shape or dtype does not fit, the numbers of samples differ.
    """
    named = _by_name(inputs, tensors)
    fitted = [_fit_one(np.asarray(named[t["name"]]), t) for t in tensors]
    counts = {len(array) for array, _ in fitted}
    if len(counts) > 1:
        raise InputError(f"Inputs have different numbers of samples: {sorted(counts)}. Give each the same.")
    kinds = [kind for _, kind in fitted if kind is not Samples.ONE]
    return [array for array, _ in fitted], kinds[0] if kinds else Samples.ONE


def join(results: Sequence[Sequence[NDArray[Any]]], samples: Samples) -> list[NDArray[Any]]:
    """Return one array an output from the outputs of each sample, arranged as the inputs were."""
    columns = [np.stack(column) for column in zip(*results, strict=True)]
    if samples is Samples.ONE:
        return [column[0] for column in columns]
    if samples is Samples.BATCH:
        return [c.reshape(-1, *c.shape[2:]) if c.shape[1:2] == (1,) else c for c in columns]
    return columns


def _by_name(inputs: Inputs, tensors: Sequence[TensorInfo]) -> Mapping[str, ArrayLike]:
    names = [t["name"] for t in tensors]
    if not isinstance(inputs, Mapping):
        if len(names) != 1:
            raise InputError(f"The model has {len(names)} inputs: {', '.join(names)}. Give arrays by these names.")
        return {names[0]: inputs}
    if len(names) == 1 and len(inputs) == 1:
        return {names[0]: next(iter(inputs.values()))}
    if set(inputs) != set(names):
        raise InputError(f"Inputs are named {', '.join(sorted(inputs))}; the model takes {', '.join(names)}.")
    return inputs


def _fit_one(array: NDArray[Any], tensor: TensorInfo) -> tuple[NDArray[Any], Samples]:
    shape = tuple(tensor["shape"])
    if array.shape == shape:
        return _convert(array[None], tensor), Samples.ONE
    if array.shape[1:] == shape:
        return _convert(array, tensor), Samples.LEADING
    if shape[:1] == (1,) and array.shape[1:] == shape[1:]:
        return _convert(array[:, None], tensor), Samples.BATCH
    raise InputError(
        f"Input '{tensor['name']}' has shape {list(array.shape)}, the model takes {list(shape)}, "
        "with or without a leading dimension of samples."
    )


def _convert(array: NDArray[Any], tensor: TensorInfo) -> NDArray[Any]:
    dtype, name = np.dtype(tensor["dtype"]), tensor["name"]
    if array.dtype.kind == "f" and dtype.kind in "iu":
        if tensor["scale"] is None:
            raise InputError(f"Input '{name}' is {array.dtype}, the model takes {dtype} and has no scale for it.")
        if not np.isfinite(array).all():
            raise InputError(f"Input '{name}' holds values that are not finite.")
        scaled = array.astype(np.float64) / tensor["scale"]
        rounded = np.trunc(scaled + np.copysign(0.5, scaled)) + tensor["zero_point"]
        limits = np.iinfo(dtype)
        return np.clip(rounded, limits.min, limits.max).astype(dtype)
    if array.dtype.kind in "iu" and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if array.size and (array.min() < limits.min or array.max() > limits.max):
            raise InputError(
                f"Input '{name}' holds integers from {array.min()} to {array.max()}; {dtype} takes {limits.min} to "
                f"{limits.max}. Give {dtype}, or floats to be quantized."
            )
        return array.astype(dtype)
    if array.dtype.kind == "f" and dtype.kind == "f":
        return array.astype(dtype)
    raise InputError(f"Input '{name}' is {array.dtype}, the model takes {dtype}.")
