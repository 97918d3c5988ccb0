"""Observers: ranges of numbers whose best range is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tvm_tinyml.quantization.observers import CUT_SHARE, OBSERVERS
from tvm_tinyml.quantization.statistics import BINS, Statistics, merged


def statistics(samples: NDArray[np.float64]) -> Statistics:
    """Return the statistics of [samples, numbers]."""
    counts, _ = np.histogram(samples, BINS, (samples.min(), samples.max()))
    lows, highs = (samples.min(axis=1), samples.max(axis=1))
    return Statistics(lows.astype(np.float32), highs.astype(np.float32), counts.astype(np.float64))


def noise(samples: NDArray[np.float64], low: float, high: float) -> float:
    scale = (high - low) / 255
    kept = np.clip(np.round((samples - low) / scale), 0, 255) * scale + low
    return float(np.square(samples - kept).mean())


def drawn(kind: str, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    match kind:
        case "normal":
            return rng.normal(0, 1, (50, 400))
        case "relu":
            return np.maximum(rng.normal(0, 1, (50, 400)), 0)
        case "outliers":
            numbers = rng.normal(0, 1, (50, 400))
            numbers[7, 3], numbers[30, 2] = 60, -40
            return numbers
        case "positive":
            return rng.uniform(2, 3, (50, 400))
        case _:
            return -drawn("relu", seed)


KINDS = ("normal", "relu", "outliers", "positive", "negative")


@pytest.mark.parametrize("name", OBSERVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_zero_lies_in_every_range_and_nothing_beyond_what_was_seen(name: str, kind: str) -> None:
    samples = drawn(kind)
    low, high = OBSERVERS[name](statistics(samples), 256)
    assert min(samples.min(), 0) - 1e-6 <= low <= 0 <= high <= max(samples.max(), 0) + 1e-6
    assert low < high


@pytest.mark.parametrize("name", OBSERVERS)
def test_numbers_that_are_all_zero_have_an_empty_range(name: str) -> None:
    assert OBSERVERS[name](statistics(np.zeros((3, 10))), 256) == (0, 0)


def test_minimum_and_maximum() -> None:
    assert OBSERVERS["min-max"](statistics(np.array([[-1.0, 0.5], [0.25, 3.0]])), 256) == (-1.0, 3.0)


def test_the_moving_average_forgets() -> None:
    samples = np.array([[-8.0, 8.0], *[[-1.0, 2.0]] * 60])
    low, high = OBSERVERS["moving-average"](statistics(samples), 256)
    assert (low, high) == pytest.approx((-1 - 7 * 0.9**60, 2 + 6 * 0.9**60))


def test_the_percentile_leaves_the_outermost_numbers_out() -> None:
    samples = np.linspace(-1, 1, 40_000).reshape(40, 1000)
    low, high = OBSERVERS["percentile"](statistics(samples), 256)
    assert low == pytest.approx(-1 + 2 * CUT_SHARE, abs=2 / BINS)
    assert high == pytest.approx(1 - 2 * CUT_SHARE, abs=2 / BINS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("levels", [256, 16])
def test_the_squared_error_is_the_least_of_all(kind: str, levels: int) -> None:
    samples = drawn(kind)

    def error(low: float, high: float) -> float:
        scale = (high - low) / (levels - 1)
        kept = np.clip(np.round((samples - low) / scale), 0, levels - 1) * scale + low
        return float(np.square(samples - kept).mean())

    errors = {name: error(*observer(statistics(samples), levels)) for name, observer in OBSERVERS.items()}
    # Bins are taken for their middles.
    assert errors["mse"] <= 1.02 * min(errors.values())


@pytest.mark.parametrize("name", ["percentile", "entropy"])
def test_single_outliers_do_not_count(name: str) -> None:
    samples = drawn("outliers")
    low, high = OBSERVERS[name](statistics(samples), 256)
    assert -20 < low < -2
    assert 2 < high < 20
    assert noise(np.clip(samples, -3, 3), low, high) < 0.2 * noise(np.clip(samples, -3, 3), -40, 60)


def test_merged_statistics_are_those_of_all_numbers() -> None:
    first, second = drawn("normal"), 3 * drawn("relu", 1)
    both = merged([statistics(first), statistics(second)])
    together = statistics(np.concatenate([first, second], axis=1))
    np.testing.assert_array_equal(both.lows, together.lows)
    np.testing.assert_array_equal(both.highs, together.highs)
    assert both.counts.sum() == together.counts.sum()
    # A number moves by a bin at most.
    assert np.abs(np.cumsum(both.counts) - np.cumsum(together.counts)).max() <= together.counts.max() * 3
