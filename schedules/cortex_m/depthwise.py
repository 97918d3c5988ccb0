"""Depthwise convolution with the DSP extension: four channels of a pixel are one word."""

from __future__ import annotations

from tvm import tirx
from tvm.s_tir import Schedule

from tvm_tinyml.choice import NONE, Knobs
from tvm_tinyml.schedules.cortex_m.intrinsics import MAC4
from tvm_tinyml.schedules.rule import ScheduleRule, blocks, extent

CHANNELS = 4


class DepthwiseChannels(ScheduleRule):
    """Accumulate four channels at once over the window.

    Parameters
    ----------
    unroll_taps : windows of up to this many taps are unrolled; 9 covers 3x3, nearly every depthwise layer there is.
    """

    def __init__(self, unroll_taps: int) -> None:
        self._unroll_taps = unroll_taps

    def apply(self, func: tirx.PrimFunc, knobs: Knobs = NONE) -> Schedule | None:
        schedule = Schedule(func)
        leaf = blocks(schedule)
        if "depthwise" not in leaf:
            return None
        *pixel, channel = schedule.get_loops(leaf["output"])
        several = len(pixel) == len(func.params[0].shape)  # outputs for each input channel, on an axis of their own
        if several or extent(schedule, channel) % CHANNELS:
            return None
        channel_tile, lane = schedule.split(channel, [None, CHANNELS])
        schedule.reorder(channel_tile, *pixel, lane)
        schedule.unroll(lane)
        schedule.compute_at(leaf["depthwise"], pixel[-1], preserve_unit_loops=True)
        *_, lane, row, column = schedule.get_loops(leaf["depthwise"])
        schedule.reorder(row, column, lane)
        init = schedule.decompose_reduction(leaf["depthwise"], row)
        schedule.unroll(schedule.get_loops(init)[-1])
        schedule.tensorize(lane, MAC4)
        if extent(schedule, row) * extent(schedule, column) <= self._unroll_taps:
            schedule.unroll(row)
            schedule.unroll(column)
        return schedule
