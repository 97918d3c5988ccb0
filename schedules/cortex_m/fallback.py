"""Rules that fit whatever is left."""

from __future__ import annotations

import math

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from tvm_tinyml.choice import NONE, Knobs, Space, allowed
from tvm_tinyml.schedules.rule import GROUPED_AXES, Scheduled, ScheduleRule, blocks, extent

REDUCTIONS = ("dot", "tail", "depthwise", "sum", "largest")
"""Blocks that feed ``output`` one value for each of its own."""

MOST_TAPS = 16
"""Of a reduction, if it is written out."""


class ReduceInPlace(ScheduleRule):
    """Reduce right before each output element, so that the sums need a register and no scratch.

    Knobs: ``outermost``, whether ``pixels`` or ``channels``; ``taps``, 1 if the reduction is written out.
    """

    def apply(self, func: tirx.PrimFunc, knobs: Knobs = NONE) -> Scheduled | None:
        space = self.space(func)
        if not space or not allowed(knobs, space):
            return None
        chosen = {"outermost": "pixels", "taps": 0, **knobs}
        schedule = Schedule(func)
        leaf = blocks(schedule)
        loops = schedule.get_loops(leaf["output"])
        if chosen["outermost"] == "channels":
            first = len(loops) - _channel_axes(len(loops))
            loops = [*loops[first:], *loops[:first]]
            schedule.reorder(*loops)
        for producer in _producers(leaf):
            schedule.compute_at(producer, loops[-1], preserve_unit_loops=True)
            # Below the output's loops come the producer's own, one (of extent 1) for each axis, then the reduction.
            reduction = schedule.get_loops(producer)[2 * len(loops) :]
            schedule.decompose_reduction(producer, reduction[0])
            for loop in reduction if chosen["taps"] else ():
                schedule.unroll(loop)
        return Scheduled(schedule, chosen)

    def space(self, func: tirx.PrimFunc) -> Space:
        """See `ScheduleRule.space`."""
        schedule = Schedule(func)
        leaf = blocks(schedule)
        producers = _producers(leaf)
        if "output" not in leaf or not producers:
            return {}
        shape = [extent(schedule, loop) for loop in schedule.get_loops(leaf["output"])]
        first = len(shape) - _channel_axes(len(shape))
        several = math.prod(shape[:first]) > 1 and math.prod(shape[first:]) > 1
        loops = [schedule.get_loops(producer)[len(shape) :] for producer in producers]
        most = max(math.prod(extent(schedule, loop) for loop in reduction) for reduction in loops)
        return {
            "outermost": ["pixels", "channels"] if several else ["pixels"],
            "taps": [0, 1] if 1 < most <= MOST_TAPS else [0],
        }


class Unscheduled(ScheduleRule):
    """The order in which the kernel is written down."""

    def apply(self, func: tirx.PrimFunc, knobs: Knobs = NONE) -> Scheduled | None:
        return None if knobs else Scheduled(Schedule(func))


def _producers(leaf: dict[str, SBlockRV]) -> list[SBlockRV]:
    return [leaf[name] for name in REDUCTIONS if name in leaf]


def _channel_axes(axes: int) -> int:
    """Return how many of an output's axes are channels: the last one, or groups and those of a group."""
    return 2 if axes == GROUPED_AXES else min(axes, 1)
