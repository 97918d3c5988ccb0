"""What integers weights of four bits may stand for: a grid for each layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.passes.weight_codes import MULTIPLIERS

Array = NDArray[Any]

BITS = 4

LARGEST = 7
"""Of four bits: symmetric, so that no weight needs an offset."""

SHARES = np.linspace(0.4, 1.0, 25)
"""Of the largest weight of a channel, that its largest integer stands for."""

GROUP = 32
"""Weights of a channel in a row that share a scale."""

GROUP_SHARES = np.linspace(0.7, 1.0, 13)
"""The same for groups, which differ by multiples of a sixteenth of it anyway."""

ENTRIES = 16
"""Of a codebook."""

STEPS = 100
"""Of the search for a codebook, at most."""


class Grid(Protocol):
    """What the weights of a layer may be, in units of their channels' scales."""

    def nearest(self, values: Array, column: int | slice) -> Array:
        """Return the nearest integers for some inputs, float64 [output channels] or [output channels, inputs]."""
        ...


FindGrid = Callable[[Array, Array, Array], tuple[Array, Grid]]
"""From weights, float64 [output channels, inputs], the mean products of their inputs, and the least scales: to the
scales of channels, float32, and the grid."""


@dataclass(frozen=True)
class Uniform:
    """All integers of four bits."""

    def nearest(self, values: Array, column: int | slice) -> Array:
        """See `Grid`."""
        result: Array = np.round(values).clip(-LARGEST, LARGEST)
        return result


@dataclass(frozen=True)
class Multiples:
    """Integers of four bits times a multiplier, float64 [output channels, inputs]."""

    multipliers: Array

    def nearest(self, values: Array, column: int | slice) -> Array:
        """See `Grid`."""
        step = self.multipliers[:, column]
        result: Array = step * np.round(values / step).clip(-LARGEST, LARGEST)
        return result


@dataclass(frozen=True)
class Codebook:
    """Some integers, float64, the least first."""

    entries: Array

    def nearest(self, values: Array, column: int | slice) -> Array:
        """See `Grid`."""
        result: Array = self.entries[np.searchsorted((self.entries[1:] + self.entries[:-1]) / 2, values)]
        return result


def by_channel(rows: Array, curvature: Array, least: Array) -> tuple[Array, Grid]:
    """Return for each channel the scale whose nearest integers have the least error at the output."""
    grid = Uniform()
    return _scales(rows, curvature, least, LARGEST, lambda _: grid), grid


def by_group(rows: Array, curvature: Array, least: Array) -> tuple[Array, Grid]:
    """Return scales of channels, and for some inputs in a row multiples of them with the least error at the output."""
    steps = np.arange(1.0, MULTIPLIERS + 1)[:, None, None]

    def grid_of(scale: Array) -> Multiples:
        multipliers, values = np.ones(rows.shape), rows / scale[:, None]
        for first in range(0, rows.shape[1], GROUP):
            part = slice(first, first + GROUP)
            # [multipliers, output channels, inputs]
            rest = values[:, part] - steps * np.round(values[:, part] / steps).clip(-LARGEST, LARGEST)
            errors = ((rest @ curvature[part, part]) * rest).sum(axis=2)
            multipliers[:, part] = 1.0 + errors.argmin(axis=0)[:, None]
        return Multiples(multipliers)

    scale = _scales(rows, curvature, least, LARGEST * MULTIPLIERS, grid_of, GROUP_SHARES)
    return scale, grid_of(scale.astype(np.float64))


def by_codebook(rows: Array, curvature: Array, least: Array) -> tuple[Array, Grid]:
    """Return scales that make all channels alike, and the numbers that are the means of the weights next to them.

    0 is one of them, and errors count as they show at the output.
    Source: Han et al., Deep Compression, ICLR 2016, section 3.2, which begins with even steps as well.
    """
    scale = np.maximum(np.abs(rows).max(axis=1) / 127, least)
    scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
    wide = scale.astype(np.float64)[:, None]
    values = (rows / wide).ravel()
    power = np.broadcast_to(np.square(wide) * np.maximum(np.diag(curvature), 1e-12), rows.shape).ravel()
    entries = np.linspace(values.min(), values.max(), ENTRIES)
    for _ in range(STEPS):
        entries[np.abs(entries).argmin()] = 0
        index = np.searchsorted((entries[1:] + entries[:-1]) / 2, values)
        total = np.bincount(index, power, ENTRIES)
        means = np.where(total > 0, np.bincount(index, power * values, ENTRIES) / np.maximum(total, 1e-300), entries)
        means[np.abs(entries).argmin()] = 0
        if np.allclose(means, entries, atol=0.01):
            break
        entries = np.sort(means)
    return scale, Codebook(np.unique(np.round(entries).clip(-127, 127)))


NARROW: Mapping[str, FindGrid] = {"channel": by_channel, "group": by_group, "codebook": by_codebook}
"""Ways to make weights of four bits, by name."""


def weight_bytes(shape: Sequence[int], bits: int, narrow: str) -> int:
    """Return the bytes of a layer's weights, with what says how four bits are meant.

    Parameters
    ----------
    shape : of the weights [output channels, ...].
    narrow : a key of `NARROW`.
    """
    plain = -(-math.prod(shape) * bits // 8)
    if bits != BITS:
        return plain
    groups = shape[0] * -(-math.prod(shape[1:]) // GROUP)
    return plain + {"channel": 0, "group": -(-groups // 2), "codebook": ENTRIES}[narrow]


def _scales(
    rows: Array,
    curvature: Array,
    least: Array,
    integer: int,
    grid_of: Callable[[Array], Grid],
    shares: Array = SHARES,
) -> Array:
    """Return the scale of each channel with the least error at the output, of those that cut off its largest weights.

    Parameters
    ----------
    integer : that the largest weight becomes, if nothing is cut off.
    """
    largest = np.abs(rows).max(axis=1)
    best, error = np.zeros(len(rows)), np.full(len(rows), np.inf)
    for share in shares:
        scale = np.maximum(share * largest / integer, least)
        scale = np.where(scale > 0, scale, 1.0).astype(np.float32).astype(np.float64)
        rest = rows - grid_of(scale).nearest(rows / scale[:, None], slice(None)) * scale[:, None]
        errors = ((rest @ curvature) * rest).sum(axis=1)
        better = errors < error
        best, error = np.where(better, scale, best), np.where(better, errors, error)
    return best.astype(np.float32)

