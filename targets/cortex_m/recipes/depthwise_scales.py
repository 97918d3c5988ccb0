"""The epilogue of a depthwise convolution: one shift for all channels where that is exact, else a shift of each."""

from __future__ import annotations

from tvm_tinyml.targets.cortex_m.microkernels import scaled_output
from tvm_tinyml.targets.cortex_m.microkernels.output import Output
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import ScaledOutput, Scales
from tvm_tinyml.targets.cortex_m.recipes.channels import Channels

COMMON, OWN = "common", "own"
"""A shift that all channels share, or one of each: what a choice calls them."""


def choose_scales(channels: Channels, output: Output, *, own_shifts: bool) -> tuple[Output | ScaledOutput, Scales]:
    """Return the cheapest epilogue, or that with a shift for each channel, and the constants for it."""
    scale = (channels.weight, channels.bias, channels.multiplier, channels.shift, channels.zero_point)
    if not output.corrected and not own_shifts:
        for shift in scaled_output.SHIFTS:
            form = ScaledOutput(shift, output.low, output.high)
            scales = scaled_output.scaled(form, *scale)
            if scales is not None:
                return form, scales
    return output, scaled_output.doubled(*scale)


def shift_of(form: Output | ScaledOutput) -> str:
    """Return what a choice calls the shift of an epilogue."""
    return COMMON if isinstance(form, ScaledOutput) else OWN
