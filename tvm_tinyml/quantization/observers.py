"""Observers: from what a tensor took on to the range of numbers that its integers stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.quantization.statistics import Statistics

Range = tuple[float, float]
"""Least and largest number; 0 lies in it."""

Observer = Callable[[Statistics, int], Range]
"""From statistics and the number of integers to a range."""

MOMENTUM = 0.9
"""Of the moving average: what is left of it at each sample. Source: Krishnamoorthi, arXiv 1806.08342, section 3.1.4."""

CUT_SHARE = 1e-4
"""Of the numbers that the percentile observer leaves out at each end: the 99.99th percentile. Source: Wu et al.,
arXiv 2004.09602, section 3.2."""

STEPS = 80
"""Of each end of a range that is searched for, each a few percent shorter than the one before."""

LEAST_SHARE = 0.02
"""Of the observed range that is kept at least."""


def minimum_maximum(statistics: Statistics, _levels: int) -> Range:
    """Return all that was observed."""
    return _with_zero(statistics.low, statistics.high)


def moving_average(statistics: Statistics, _levels: int) -> Range:
    """Return the exponential moving average of the ends over the samples."""
    low, high = float(statistics.lows[0]), float(statistics.highs[0])
    for least, largest in zip(statistics.lows[1:], statistics.highs[1:], strict=True):
        low = MOMENTUM * low + (1 - MOMENTUM) * float(least)
        high = MOMENTUM * high + (1 - MOMENTUM) * float(largest)
    return _with_zero(low, high)


def percentile(statistics: Statistics, _levels: int) -> Range:
    """Return what is left of the range without the outermost numbers."""
    shares = np.cumsum(statistics.counts) / statistics.counts.sum()
    low = statistics.centers[np.searchsorted(shares, CUT_SHARE)]
    high = statistics.centers[np.searchsorted(shares, 1 - CUT_SHARE)]
    return _with_zero(float(low), float(high))


def mean_squared_error(statistics: Statistics, levels: int) -> Range:
    """Return the range with the least mean squared error between numbers and what their integers stand for."""
    centers, counts = statistics.centers, statistics.counts

    def error(low: float, high: float) -> float:
        scale = (high - low) / (levels - 1)
        kept = np.clip(np.round((centers - low) / scale), 0, levels - 1) * scale + low
        return float(np.sum(counts * (centers - kept) ** 2))

    return _search(statistics, error)


def entropy(statistics: Statistics, levels: int) -> Range:
    """Return the range whose integers lose the least information: Kullback-Leibler divergence between histograms.

    Numbers outside of the range count at its ends, and those of one integer are spread over its bins that are not
    empty. Source: Migacz, 8-bit inference with TensorRT, GTC 2017; here both ends of the range are searched for.
    """
    centers, counts = statistics.centers, statistics.counts.astype(np.float64)
    taken = counts > 0

    def divergence(low: float, high: float) -> float:
        scale = (high - low) / (levels - 1)
        index = np.clip(np.round((centers - low) / scale), 0, levels - 1).astype(np.int64)
        inside = (centers >= low - scale / 2) & (centers <= high + scale / 2)
        kept = np.where(inside, counts, 0.0)
        for end, outside in (
            (int(np.argmax(inside)), centers < low - scale / 2),
            (len(inside) - 1 - int(np.argmax(inside[::-1])), centers > high + scale / 2),
        ):
            kept[end] += counts[outside].sum()
        if not (inside & taken).any():
            return np.inf
        of_integer = np.bincount(index, np.where(inside, counts, 0.0), levels)
        bins = np.bincount(index, inside & taken, levels)
        spread = np.where(inside & taken, of_integer[index] / np.maximum(bins[index], 1), 0.0)
        p, q = kept / kept.sum(), spread / spread.sum()
        both = p > 0
        return float(np.sum(p[both] * np.log(p[both] / np.maximum(q[both], 1e-12))))

    return _search(statistics, divergence)


OBSERVERS: Mapping[str, Observer] = {
    "min-max": minimum_maximum,
    "moving-average": moving_average,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mean_squared_error,
}
"""By the name that users give."""


def _with_zero(low: float, high: float) -> Range:
    """Return a range that zero lies in, since padding and absent products must have an integer."""
    return min(low, 0.0), max(high, 0.0)


def _search(statistics: Statistics, loss: Callable[[float, float], float]) -> Range:
    """Return the best range: first one end, then the other, twice."""
    low, high = _with_zero(statistics.low, statistics.high)
    if low == high:
        return low, high
    shares: NDArray[np.float64] = np.geomspace(LEAST_SHARE, 1.0, STEPS)
    best_low, best_high = low, high
    for _ in range(2):
        if high > 0:
            best_high = min((high * share for share in shares[::-1]), key=lambda end: loss(best_low, end))
        if low < 0:
            best_low = min((low * share for share in shares[::-1]), key=lambda end: loss(end, best_high))
    return float(best_low), float(best_high)
