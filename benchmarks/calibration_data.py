"""Inputs to calibrate and score quantized networks with: real ones where there are any, else seeded ones like them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SPLIT_SEED = 6
CALIBRATION = 100
"""Keyword samples that may be looked at; the others are scored once for each configuration."""

KEYWORDS_SCALE, KEYWORDS_ZERO_POINT = 0.5847029, 83
"""Of the published file, whose integers the samples are stored as."""

LOG_MEL_LOW, LOG_MEL_HIGH = -84.8, 14.9
"""Decibels: what the published file's input can express."""

FRAMES, MELS = 5, 128


@dataclass(frozen=True)
class Keywords:
    """Samples of keywords.

    Attributes
    ----------
    samples : float32 [n, 49, 10, 1].
    labels : int64 [n].
    """

    samples: NDArray[np.float32]
    labels: NDArray[np.int64]


def keywords(file: Path) -> tuple[Keywords, Keywords]:
    """Return those to calibrate with and those to score: a seeded permutation, cut once."""
    with np.load(file) as arrays:
        features, labels = arrays["features"].astype(np.float32), arrays["labels"]
    samples = (features - KEYWORDS_ZERO_POINT) * np.float32(KEYWORDS_SCALE)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    first, rest = order[:CALIBRATION], order[CALIBRATION:]
    return Keywords(samples[first], labels[first]), Keywords(samples[rest], labels[rest])


def log_mels(count: int, seed: int) -> NDArray[np.float32]:
    """Return float32 [count, 640]: five frames of 128 logarithmic mel energies of a machine that hums, in decibels.

    Energy falls towards high frequencies; neighbours in frequency and time are alike; each sample has a loudness, some
    harmonics and noise of its own.
    """
    rng = np.random.default_rng(seed)
    mels = np.arange(MELS)
    samples = np.empty((count, FRAMES, MELS), np.float32)
    for sample in samples:
        envelope = -12 - 34 * (mels / MELS) ** 0.7 + rng.normal(0, 5)
        envelope += _smooth(rng.normal(0, 1, MELS), 0.9) * 6
        base = rng.uniform(4, 12)
        for harmonic in range(1, 9):
            place = base * harmonic**0.8
            envelope += rng.uniform(2, 12) * np.exp(-0.5 * ((mels - place) / 1.5) ** 2)
        loudness = _smooth(rng.normal(0, 1, FRAMES), 0.7) * 3
        sample[:] = envelope + loudness[:, None] + rng.normal(0, 3, (FRAMES, MELS))
        if rng.random() < 0.1:
            sample[rng.integers(FRAMES)] += rng.uniform(5, 20)  # a knock
    return np.clip(samples, LOG_MEL_LOW, LOG_MEL_HIGH).reshape(count, FRAMES * MELS)


def images(count: int, size: int, seed: int) -> NDArray[np.float32]:
    """Return float32 [count, size, size, 3] from 0 to 1: areas with edges, over a spectrum that falls as 1 / f.

    Source of the spectrum: Field, Relations between the statistics of natural images, JOSA A 1987.
    """
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    amplitude = 1 / np.maximum(frequency, 1 / size)
    ys, xs = np.mgrid[:size, :size] / size
    made = np.empty((count, size, size, 3), np.float32)
    for image in made:
        grey = _texture(rng, amplitude)
        colors = np.stack([_texture(rng, amplitude) for _ in range(3)], axis=-1)
        picture = 0.8 * grey[..., None] + 0.35 * colors
        for _ in range(int(rng.integers(1, 6))):
            y, x, height, width = *rng.uniform(0, 1, 2), *rng.uniform(0.08, 0.4, 2)
            inside = ((ys - y) / height) ** 2 + ((xs - x) / width) ** 2 < 1
            if rng.random() < 0.4:
                inside = (np.abs(ys - y) < height) & (np.abs(xs - x) < width)
            picture[inside] = 0.3 * picture[inside] + rng.normal(0, 1.2, 3)
        low, high = rng.uniform(0, 0.2), rng.uniform(0.6, 1)
        scaled = (picture - picture.min()) / (picture.max() - picture.min())
        image[:] = low + (high - low) * scaled
    return made


def _smooth(noise: NDArray[np.float64], kept: float) -> NDArray[np.float64]:
    """Return first-order autoregressive noise of the same variance."""
    smooth = noise.copy()
    for i in range(1, len(noise)):
        smooth[i] = kept * smooth[i - 1] + np.sqrt(1 - kept**2) * noise[i]
    return smooth


def _texture(rng: np.random.Generator, amplitude: NDArray[np.float64]) -> NDArray[np.float64]:
    texture: NDArray[np.float64] = np.fft.ifft2(np.fft.fft2(rng.normal(size=amplitude.shape)) * amplitude).real
    return texture / texture.std()
