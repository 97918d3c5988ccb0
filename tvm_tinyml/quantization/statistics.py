"""What is known of the numbers that a tensor takes on the calibration samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule, relax

from tvm_tinyml.errors import QuantizationError
from tvm_tinyml.quantization.progress import Progress, counted, silent
from tvm_tinyml.reference.evaluate import takes_samples, trace

Trace = Mapping[relax.Expr, Any]
"""What a network computes, by its variables."""

BINS = 2048
"""Of a histogram."""

TOGETHER = 16
"""Samples that are computed together, where a network allows it."""


@dataclass(frozen=True)
class Statistics:
    """Of one tensor over all samples.

    Attributes
    ----------
    lows, highs : float32 [samples], the least and largest number of each sample.
    counts : float64 [`BINS`], a histogram from the least of all to the largest.
    """

    lows: NDArray[np.float32]
    highs: NDArray[np.float32]
    counts: NDArray[np.float64]

    @property
    def low(self) -> float:
        """The least number."""
        return float(self.lows.min())

    @property
    def high(self) -> float:
        """The largest number."""
        return float(self.highs.max())

    @property
    def centers(self) -> NDArray[np.float64]:
        """The number in the middle of each bin."""
        edges = np.linspace(self.low, self.high, BINS + 1)
        middles: NDArray[np.float64] = (edges[1:] + edges[:-1]) / 2
        return middles


def batches(module: IRModule, inputs: Sequence[NDArray[Any]]) -> Iterator[list[NDArray[Any]]]:
    """Yield a network's inputs for as many samples at a time as it can compute together.

    Parameters
    ----------
    inputs : [samples, *shape], one for each input.
    """
    together = TOGETHER if takes_samples(module) else 1
    for first in range(0, len(inputs[0]), together):
        part = [array[first : first + together] for array in inputs]
        yield [array.reshape(-1, *array.shape[2:]) if together > 1 else array[0] for array in part]


def traces(module: IRModule, inputs: Sequence[NDArray[Any]]) -> list[Trace]:
    """Return all that a float network computes, for some samples at a time."""
    return [trace(module, arrays) for arrays in batches(module, inputs)]


def tensors_of(
    module: IRModule, inputs: Sequence[NDArray[Any]], stage: str = "samples", progress: Progress = silent
) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Yield the tensors of a float network by their names, for some samples at a time."""
    for arrays in counted([*batches(module, inputs)], stage, progress):
        values = trace(module, arrays)
        yield {str(var.name): value for var, value in values.items() if var.name != "real" and _is_tensor(var)}


def observe(
    module: IRModule, inputs: Sequence[NDArray[Any]], progress: Progress = silent
) -> dict[str, Statistics]:
    """Return the statistics of every tensor of a float network.

    Parameters
    ----------
    inputs : float32 [samples, *shape], one for each input.

    Raises
    ------
    QuantizationError : a tensor has numbers that are not finite.
    """
    lows: dict[str, list[float]] = {}
    highs: dict[str, list[float]] = {}
    samples = takes_samples(module)
    for tensors in tensors_of(module, inputs, "least and largest numbers", progress):
        for name, array in tensors.items():
            rows = array.reshape(len(array) if samples else 1, -1)
            if not np.isfinite(rows).all():
                raise QuantizationError(
                    f"Tensor '{name}' has numbers on the calibration samples that are not finite. Look at the samples, "
                    "or at the network before it."
                )
            lows.setdefault(name, []).extend(rows.min(axis=1))
            highs.setdefault(name, []).extend(rows.max(axis=1))
    bounds = {name: (float(min(lows[name])), float(max(highs[name]))) for name in lows}
    counts = {name: np.zeros(BINS) for name in lows}
    for tensors in tensors_of(module, inputs, "histograms", progress):
        for name, array in tensors.items():
            counts[name] += _histogram(array, bounds[name])
    return {
        name: Statistics(np.array(lows[name], np.float32), np.array(highs[name], np.float32), counts[name])
        for name in lows
    }


def merged(parts: Sequence[Statistics]) -> Statistics:
    """Return the statistics of several tensors taken as one."""
    if len(parts) == 1:
        return parts[0]
    lows = np.min([part.lows for part in parts], axis=0)
    highs = np.max([part.highs for part in parts], axis=0)
    bounds = float(lows.min()), float(highs.max())
    counts = np.sum([_histogram(part.centers, bounds, part.counts) for part in parts], axis=0)
    return Statistics(lows, highs, counts)


def _histogram(
    array: NDArray[Any], bounds: tuple[float, float], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    low, high = bounds
    counts, _ = np.histogram(array, BINS, (low, high if high > low else low + 1), weights=weights)
    return counts.astype(np.float64)


def _is_tensor(var: relax.Var) -> bool:
    return isinstance(var.ty, relax.TensorType)
