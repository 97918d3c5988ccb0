"""The matrix product of cores without the DSP extension: exact at every length and at its bounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.simulated import needs_simulator
from tests.targets.microkernels.alone import Argument, on_core, on_host
from tests.targets.microkernels.scalar_channels import LONG, OUTPUTS, SHORT, Channels, Ints, words
from tvm_tinyml.targets.cortex_m.microkernels import (
    scalar_gemm,
    scalar_gemm_short,
)
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import choose_output

pytestmark = needs_simulator


def product(core: str, channels: Channels, x: Ints, width: int = 1) -> tuple[Microkernel, list[Argument]]:
    """Return the kernel and its arguments; the third is the output."""
    count, steps = len(channels.bias), channels.weight.shape[1] // 2
    if core == LONG:
        kernel = scalar_gemm.gemm(steps, channels.output, width)
        constants = scalar_gemm.pack(channels.weight, *channels.scale, width)
        stream, spread = words(x, scalar_gemm.PIXELS), scalar_gemm.spread_words(steps, width)
    else:
        output, scales = channels.short()
        kernel, constants = scalar_gemm_short.gemm(steps, output), scalar_gemm_short.pack(channels.weight, scales)
        stream, spread = words(x, scalar_gemm_short.PIXELS), scalar_gemm_short.spread_words(steps)
    y, copy = np.zeros((len(x), count), np.int8), np.zeros(spread, np.int32)
    return kernel, [constants.ravel(), stream, y, (stream, stream.nbytes), len(constants), copy, steps, count]


def check_product(core: str, channels: Channels, x: Ints, width: int = 1, folder: Path | None = None) -> None:
    kernel, arguments = product(core, channels, x, width)
    found = (
        on_core(core, kernel, arguments, misaligned=[2])[2] if folder is None else on_host(kernel, arguments, folder)[2]
    )
    np.testing.assert_array_equal(found, channels.outputs(x @ channels.weight.T))


FORMS = [(LONG, 1), (LONG, 2), (SHORT, 1)]


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(("core", "width"), FORMS)
def test_any_length_is_exact(core: str, width: int, output: str, rng: np.random.Generator) -> None:
    for k in (2, 4, 6, 8, 14, 20, 22, 24, 30, 34, 46, 64, 94, 128):
        x = rng.integers(-128, 128, (12 * int(rng.integers(1, 3)), k))
        check_product(core, Channels(rng, 2 * int(rng.integers(1, 4)), k, output), x, width)


@pytest.mark.parametrize("weight", [-127, 127])
@pytest.mark.parametrize("pixel", [-128, 127])
@pytest.mark.parametrize(("core", "width"), FORMS)
def test_extremes_are_exact(core: str, width: int, pixel: int, weight: int, rng: np.random.Generator) -> None:
    for output in OUTPUTS:
        check_product(core, Channels(rng, 2, 36, output, weight), np.full((12, 36), pixel), width)


@pytest.mark.parametrize("weights", [(-128, -127), (-127, -128), (-128, 127), (127, -128)])
@pytest.mark.parametrize(("core", "width"), FORMS)
def test_the_largest_pairs_of_weights_are_exact(
    core: str, width: int, weights: tuple[int, int], rng: np.random.Generator
) -> None:
    channels = Channels(rng, 2, 8)
    channels.weight[:] = np.tile(weights, 4)
    assert scalar_gemm.fits(channels.weight)
    for pixels in ((-128, -128), (-128, 127), (127, -128), (127, 127)):
        check_product(core, channels, np.tile(pixels, (12, 4)), width)


def test_a_pair_that_does_not_fit_is_told() -> None:
    weights = np.array([[0, -128, -128, 5]])
    assert scalar_gemm.fits(weights)  # they are no pair
    assert not scalar_gemm.fits(weights[:, 1:3])


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(("core", "width"), FORMS)
def test_the_body_in_c_does_the_same(
    core: str, width: int, output: str, rng: np.random.Generator, tmp_path: Path
) -> None:
    for k in (6, 24, 66):
        folder = tmp_path / str(k)
        folder.mkdir()
        check_product(core, Channels(rng, 4, k, output), rng.integers(-128, 128, (12, k)), width, folder)


def test_equal_names_are_equal_code(rng: np.random.Generator) -> None:
    """Lengths whose loops have the same body share a function, in both forms."""
    output, (short, _) = choose_output(-128, -128, 127), Channels(rng, 1, 8).short()
    assert scalar_gemm.gemm(32, output, 2) == scalar_gemm.gemm(288, output, 2)
    assert scalar_gemm_short.gemm(30, short) == scalar_gemm_short.gemm(300, short)
