"""Factors that equalize the channels of tensors, from what they take on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule

from tvm_tinyml.passes.equalize_channels import EqualizeChannels, column_peaks, equalizable
from tvm_tinyml.quantization.statistics import tensors_of


def equalized(module: IRModule, inputs: Sequence[NDArray[Any]]) -> IRModule:
    """Return the same float network with channels of like size.

    A channel's factor is the geometric mean of its range over that of the weights that read it, so that both become
    alike. Its range is that of the activations: the weights that make it have a scale of their own.
    """
    pairs = equalizable(module["main"])
    peaks: dict[str, NDArray[Any]] = {}
    for tensors in tensors_of(module, inputs):
        for name in pairs:
            rows = np.abs(tensors[name]).reshape(-1, tensors[name].shape[-1]).max(axis=0)
            peaks[name] = np.maximum(peaks.get(name, rows), rows)
    factors = {}
    for name, (_, second) in pairs.items():
        columns = column_peaks(second)
        used = (peaks[name] > 0) & (columns > 0)
        ratio = np.sqrt(np.where(used, peaks[name], 1) / np.where(used, columns, 1))
        # As large as before in the mean, and what is not used as it is.
        mean = np.exp(np.log(ratio[used]).mean()) if used.any() else 1.0
        factors[name] = np.where(used, ratio / mean, 1.0).astype(np.float32)
    return EqualizeChannels(factors)(module)
