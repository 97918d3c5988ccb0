"""The epilogue of a depthwise convolution: one shift for all channels where that is exact, else a shift of each."""

from __future__ import annotations

from tvm_tinyml.targets.cortex_m.microkernels.output import Output
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import (
    ScaledOutput,
    Scales,
    common_output,
    doubled,
    scaled,
)
from tvm_tinyml.targets.cortex_m.recipes.channels import Channels

COMMON, OWN = "common", "own"
"""A shift that all channels share, or one of each: what a choice calls them."""


def choose_scales(channels: Channels, output: Output, *, own_shifts: bool) -> tuple[Output | ScaledOutput, Scales]:
    """Return the cheapest epilogue, or that with a shift for each channel, and the constants for it."""
    scale = (channels.weight, channels.bias, channels.multiplier, channels.shift, channels.zero_point)
    found = None if own_shifts else common_output(output, lambda form: scaled(form, *scale))
    return found or (output, doubled(*scale))


def shift_of(form: Output | ScaledOutput) -> str:
    """Return what a choice calls the shift of an epilogue."""
    return COMMON if isinstance(form, ScaledOutput) else OWN
