"""What weights of four bits may be: the nearest is the nearest, and finer grids have less error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tvm_tinyml.passes.weight_codes import MULTIPLIERS, Kind, coding_of
from tvm_tinyml.quantization.grids import ENTRIES, GROUP, NARROW, Codebook, Multiples, Uniform, weight_bytes

Array = NDArray[Any]


def layer(rng: np.random.Generator, outputs: int = 12, inputs: int = 100) -> tuple[Array, Array]:
    """Return weights with heavy tails, whose size depends on the input, and the mean products of correlated inputs."""
    seen = rng.normal(size=(400, inputs)) @ rng.normal(size=(inputs, inputs)) / 10
    sizes = np.exp(rng.normal(0, 0.7, inputs // 20)).repeat(20)
    return rng.standard_t(4, (outputs, inputs)) * sizes, seen.T @ seen / len(seen)


@pytest.mark.parametrize(
    ("grid", "allowed"),
    [
        (Uniform(), np.arange(-7.0, 8)),
        (Multiples(np.full((3, 5), 4.0)), 4 * np.arange(-7.0, 8)),
        (Codebook(np.array([-100.0, -3, 0, 5, 90])), np.array([-100.0, -3, 0, 5, 90])),
    ],
)
def test_the_nearest_is_the_nearest(grid: Uniform | Multiples | Codebook, allowed: Array) -> None:
    values = np.random.default_rng(0).normal(0, 40, (3, 5))
    expected = allowed[np.abs(values[..., None] - allowed).argmin(axis=-1)]
    np.testing.assert_array_equal(grid.nearest(values, slice(None)), expected)
    np.testing.assert_array_equal(grid.nearest(values[:, 2], 2), expected[:, 2])


@pytest.mark.parametrize("name", NARROW)
def test_what_a_grid_allows_has_a_code(name: str, rng: np.random.Generator) -> None:
    rows, curvature = layer(rng)
    scale, grid = NARROW[name](rows, curvature, np.zeros(len(rows)))
    integers = grid.nearest(rows / scale[:, None], slice(None))
    assert np.abs(integers).max() <= 127
    coding = coding_of(integers.astype(np.int8))
    assert coding is not None
    assert coding.kind == {"channel": Kind.PLAIN, "group": Kind.SCALED, "codebook": Kind.TABLE}[name]
    match grid:
        case Codebook(entries):
            assert len(entries) <= ENTRIES
            assert 0 in entries
        case Multiples(multipliers):
            assert set(np.unique(multipliers)) <= set(range(1, MULTIPLIERS + 1))
            for first in range(0, rows.shape[1], GROUP):
                assert (multipliers[:, first : first + GROUP] == multipliers[:, [first]]).all()


def test_finer_grids_have_less_error(rng: np.random.Generator) -> None:
    rows, curvature = layer(rng, 32, 200)
    errors = {}
    for name, find in NARROW.items():
        scale, grid = find(rows, curvature, np.zeros(len(rows)))
        rest = rows - grid.nearest(rows / scale[:, None], slice(None)) * scale[:, None]
        errors[name] = float(((rest @ curvature) * rest).sum())
    assert errors["codebook"] < 0.8 * errors["channel"]
    assert errors["group"] < 0.8 * errors["channel"]


@pytest.mark.parametrize("name", NARROW)
def test_scales_are_as_large_as_biases_need(name: str, rng: np.random.Generator) -> None:
    rows, curvature = layer(rng)
    least = np.full(len(rows), 3.0)
    scale, _ = NARROW[name](rows, curvature, least)
    assert (scale >= np.float32(3)).all()
    scale, grid = NARROW[name](0 * rows, curvature, 0 * least)
    assert (scale > 0).all()
    assert not grid.nearest(0 * rows, slice(None)).any()


def test_bytes_count_what_says_how_bits_are_meant() -> None:
    assert [weight_bytes((10, 3, 3, 8), 8, name) for name in NARROW] == [720] * 3
    assert [weight_bytes((10, 3, 3, 8), 4, name) for name in NARROW] == [360, 360 + 15, 360 + 16]
