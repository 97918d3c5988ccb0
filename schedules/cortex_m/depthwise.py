"""Depthwise convolution with the DSP extension: four channels of a pixel are one word."""

from __future__ import annotations

from tvm import tirx
from tvm.s_tir import Schedule

from tvm_tinyml.choice import NONE, Knobs, Space, allowed
from tvm_tinyml.schedules.cortex_m.intrinsics import MAC4
from tvm_tinyml.schedules.rule import Scheduled, ScheduleRule, blocks, extent

CHANNELS = 4

PIXELS = {"int8": 1, "int16": 2}
"""Of a row at once, by the type of activations: those of int16 take as many loads as products, weights fewer."""

MOST_TAPS = 49
"""Of a window, if it is written out."""


class DepthwiseChannels(ScheduleRule):
    """Accumulate four channels at once over the window.

    Parameters
    ----------
    unroll_taps : windows of up to this many taps are unrolled; 9 covers 3x3, nearly every depthwise layer there is.

    Knob: ``taps``, 1 if the window is unrolled.
    """

    def __init__(self, unroll_taps: int) -> None:
        self._unroll_taps = unroll_taps

    def apply(self, func: tirx.PrimFunc, knobs: Knobs = NONE) -> Scheduled | None:
        space = self.space(func)
        if not space or not allowed(knobs, space):
            return None
        schedule = Schedule(func)
        leaf = blocks(schedule)
        *outer, pixel, channel = schedule.get_loops(leaf["output"])
        dtype = str(func.params[0].dtype)
        together = extent(schedule, pixel) % PIXELS[dtype] == 0
        pixel, *inner = schedule.split(pixel, [None, PIXELS[dtype]]) if together and PIXELS[dtype] > 1 else [pixel]
        channel_tile, lane = schedule.split(channel, [None, CHANNELS])
        schedule.reorder(channel_tile, *outer, pixel, *inner, lane)
        for loop in (*inner, lane):
            schedule.unroll(loop)
        schedule.compute_at(leaf["depthwise"], pixel, preserve_unit_loops=True)
        # Of the block's own loops the last are those over pixels and channels at once and the window.
        *_, inner_pixel, lane, row, column = schedule.get_loops(leaf["depthwise"])
        at_once = [inner_pixel] if inner else []
        schedule.reorder(row, column, *at_once, lane)
        init = schedule.decompose_reduction(leaf["depthwise"], row)
        for loop in schedule.get_loops(init)[-1 - len(at_once) :]:
            schedule.unroll(loop)
        schedule.tensorize(lane, MAC4[dtype])
        for loop in at_once:
            schedule.unroll(loop)
        few = extent(schedule, row) * extent(schedule, column) <= self._unroll_taps
        taps = int(knobs.get("taps", few))
        if taps:
            schedule.unroll(row)
            schedule.unroll(column)
        return Scheduled(schedule, {"taps": taps})

    def space(self, func: tirx.PrimFunc) -> Space:
        """See `ScheduleRule.space`."""
        schedule = Schedule(func)
        leaf = blocks(schedule)
        if "depthwise" not in leaf:
            return {}
        *pixel, channels = (extent(schedule, loop) for loop in schedule.get_loops(leaf["output"]))
        several = len(pixel) == len(func.params[0].shape)  # outputs for each input channel, on an axis of their own
        if several or channels % CHANNELS:
            return {}
        *_, rows, columns = (extent(schedule, loop) for loop in schedule.get_loops(leaf["depthwise"]))
        written_out = int(rows * columns <= self._unroll_taps)
        return {"taps": [0, 1] if 1 < rows * columns <= MOST_TAPS else [written_out]}
