"""The epilogue of the Armv6-M: every sum is scaled as the reference does, or the channel is refused."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.targets.microkernels.scalar_channels import OUTPUTS, Channels, Ints
from tvm_tinyml.arithmetic import quantize_multiplier
from tvm_tinyml.targets.cortex_m.microkernels import (
    scalar_output_short,
)


def staircase(channels: Channels, sums: Ints) -> NDArray[np.int8]:
    """What the epilogue computes of sums, [N], for the only channel: its arithmetic, in Python's integers."""
    output, scales = channels.short()
    lower, upper, highest, first, *rest, bias = (int(word) for word in scales[0])
    p, lower = lower >> 24, lower & 0xFFFFFF
    found = []
    for total in sums:
        t = min(max(int(total) + bias, 0), highest)
        assert t * lower < 1 << 32
        bits = t * upper + (t * lower >> p) + first & 0xFFFF_FFFF
        if output.signed:
            bits = bits + (rest[0] if bits >> 31 else 0) + rest[1] & 0xFFFF_FFFF
        found.append((bits >> output.bits & 255 ^ 128) - 128)
    return np.array(found, np.int8)


@pytest.mark.parametrize("scale", [1.0, 0.6, 0.3, 0.011, 0.0042, 0.0011])
@pytest.mark.parametrize("output", OUTPUTS)
def test_every_sum_is_scaled_as_the_reference_does(output: str, scale: float, rng: np.random.Generator) -> None:
    channels = Channels(rng, 1, 4, output)
    multiplier, shift = quantize_multiplier(scale)
    channels.multiplier[:], channels.shift[:], channels.bias[:] = multiplier, -shift, int(40 / scale)
    channels.weight[:] = -(-int(300 / scale) // 512)
    reach = 128 * int(np.abs(channels.weight).sum())
    sums = np.arange(-reach, reach, max(1, reach // 40000))
    np.testing.assert_array_equal(staircase(channels, sums), channels.outputs(sums[:, None])[:, 0])


def test_sums_far_from_all_outputs_are_scaled_exactly(rng: np.random.Generator) -> None:
    """A bias beyond all weights: the sums take few values, none of them near zero."""
    for bias in (10_000_000, -10_000_000, 99_000_000):
        channels = Channels(rng, 1, 9)
        channels.bias[:], channels.shift[:] = bias, 18
        sums = np.arange(-9 * 127 * 128, 9 * 127 * 128, 997)
        np.testing.assert_array_equal(staircase(channels, sums), channels.outputs(sums[:, None])[:, 0])


def test_what_two_multiplications_cannot_scale_is_refused(rng: np.random.Generator) -> None:
    channels = Channels(rng, 1, 4000, weight=127)
    channels.shift[:] = 16
    assert scalar_output_short.fit(channels.weight, *channels.scale, -128, 127) is None
    channels.shift[:], channels.bias[:] = 6, 1 << 30
    assert scalar_output_short.fit(channels.weight, *channels.scale, -128, 127) is None
