"""A user's arrays made fit for a library: shapes checked, floats quantized."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tvm_tinyml.arithmetic import quantize_array
from tvm_tinyml.artifacts.folder import reason
from tvm_tinyml.errors import InputError
from tvm_tinyml.options import nearest

Inputs = ArrayLike | Mapping[str, ArrayLike]
TensorInfo = Mapping[str, Any]
"""An entry of ``inputs`` or ``outputs`` in the metadata: name, shape, dtype, scale, zero_point."""


_NPY, _ZIP = b"\x93NUMPY", b"PK"  # how the files begin


class Samples(Enum):
    """How a user's arrays hold samples."""

    ONE = "one sample, of the tensor's own shape"
    LEADING = "a dimension of samples in front of the tensor's own shape"
    BATCH = "samples along the tensor's own first dimension, which is 1"


def read_npz(path: str | Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an ``.npz`` file by name.

    Raises
    ------
    InputError : the file is missing, damaged, or no ``.npz``, or it holds Python objects.
    """
    where = f"Input file '{path}'"
    try:
        with open(path, "rb") as file:
            begin = file.read(len(_NPY))
        if begin == _NPY:
            raise InputError(f"{where} holds one bare array. Save it with numpy.savez, as an .npz file.")
        if not begin.startswith(_ZIP):
            raise InputError(f"{where} is no .npz file. Save arrays with numpy.savez.")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{where} cannot be read: {reason(error)}.") from error
    except Exception as error:  # a damaged file makes numpy and zipfile raise many things
        if "allow_pickle" in str(error):
            raise InputError(f"{where} holds Python objects, which are not read. Save arrays of numbers.") from error
        raise InputError(f"{where} is damaged ({error}). Save it again with numpy.savez.") from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise InputError(f"{where}: '{name}' is no array. Save arrays with numpy.savez.")
    if not arrays:
        raise InputError(f"{where} holds no array.")
    return arrays


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the content of an ``.npz`` file; unlike with `numpy.savez` any name will do, and no time is in it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
    return content.getvalue()


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
    arrays : in the order of `tensors`, of one sample or more.
    samples : how the arrays held their samples.

    Raises
    ------
    InputError : a name is missing or unknown, a shape or dtype does not fit, the numbers of samples differ or are 0.
    """
    named = _by_name(inputs, tensors)
    fitted = [_fit_one(named[t["name"]], t) for t in tensors]
    counts = [len(array) for array, _ in fitted]
    if len(set(counts)) > 1:
        each = ", ".join(f"'{t['name']}' {count}" for t, count in zip(tensors, counts, strict=True))
        raise InputError(f"Inputs have different numbers of samples: {each}. Give each the same.")
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


def count_differing(outputs: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]]) -> tuple[int, int]:
    """Return how many bytes of the outputs differ from those expected, and how many there are."""
    pairs = [(_bytes(a), _bytes(b)) for a, b in zip(outputs, expected, strict=True)]
    return sum(int((a != b).sum()) for a, b in pairs), sum(a.size for a, _ in pairs)


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    return array.reshape(-1).view(np.uint8)


def _by_name(inputs: Inputs, tensors: Sequence[TensorInfo]) -> Mapping[str, ArrayLike]:
    names = [str(t["name"]) for t in tensors]
    if not isinstance(inputs, Mapping):
        if len(names) != 1:
            raise InputError(f"The model has {len(names)} inputs: {_quoted(names)}. Give arrays by these names.")
        return {names[0]: inputs}
    if len(names) == 1 and len(inputs) == 1:
        return {names[0]: next(iter(inputs.values()))}
    missing = [name for name in names if name not in inputs]
    unknown = [str(name) for name in inputs if name not in names]
    if missing or unknown:
        problems = [f"there is no array for {_quoted(missing)}"] if missing else []
        problems += [f"the model has no input {_quoted(unknown)}"] if unknown else []
        close = nearest(unknown[0], missing or names) if unknown else ""
        raise InputError(f"Inputs do not fit: {'; '.join(problems)}.{close} The model takes {_quoted(names)}.")
    return inputs


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _fit_one(given: ArrayLike, tensor: TensorInfo) -> tuple[NDArray[Any], Samples]:
    name, shape = tensor["name"], tuple(tensor["shape"])
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise InputError(f"Input '{name}' is no array of numbers: {error}") from error
    if array.shape == shape:
        return _convert(array[None], tensor), Samples.ONE
    samples = Samples.LEADING if array.shape[1:] == shape else Samples.BATCH
    batch = shape[:1] == (1,) and array.ndim == len(shape) and array.shape[1:] == shape[1:]
    if array.ndim == 0 or not (samples is Samples.LEADING or batch):
        raise InputError(
            f"Input '{name}' has shape {list(array.shape)}, the model takes {list(shape)}, "
            "with or without a leading dimension of samples."
        )
    if len(array) == 0:
        raise InputError(f"Input '{name}' has shape {list(array.shape)}: 0 samples. Give 1 or more.")
    return _convert(array if samples is Samples.LEADING else array[:, None], tensor), samples


def _convert(array: NDArray[Any], tensor: TensorInfo) -> NDArray[Any]:
    """Return an array in the tensor's dtype."""
    dtype, name = np.dtype(tensor["dtype"]), tensor["name"]
    if dtype.kind == "f" and array.dtype.kind == "f":
        return array.astype(dtype)
    if dtype.kind in "iu" and array.dtype.kind == "f" and tensor["scale"] is not None:
        return _quantize(array, tensor)
    if dtype.kind in "iu" and array.dtype.kind in "iu":
        low, high = _limits(dtype)
        if array.min() < low or array.max() > high:
            raise InputError(
                f"Input '{name}' holds integers from {array.min()} to {array.max()}; {dtype} takes {low} to {high}. "
                f"Give {dtype}, or floats to be quantized."
            )
        return array.astype(dtype)
    floats = ", or floats to be quantized" if tensor["scale"] is not None else ""
    raise InputError(f"Input '{name}' is {array.dtype}, the model takes {dtype}. Give {dtype}{floats}.")


def _quantize(array: NDArray[Any], tensor: TensorInfo) -> NDArray[Any]:
    """Return the nearest integers, halves away from zero, saturated."""
    if not np.isfinite(array).all():
        raise InputError(f"Input '{tensor['name']}' holds values that are not finite.")
    return quantize_array(array, tensor["scale"], tensor["zero_point"], tensor["dtype"])


def _limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    limits = np.iinfo(dtype.name)
    return int(limits.min), int(limits.max)
