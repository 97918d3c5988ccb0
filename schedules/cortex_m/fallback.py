"""Rules that fit whatever is left."""

from __future__ import annotations

from tvm import tirx
from tvm.s_tir import Schedule

from tvm_tinyml.choice import NONE, Knobs
from tvm_tinyml.schedules.rule import ScheduleRule, blocks

REDUCTIONS = ("dot", "tail", "depthwise", "sum", "largest")
"""Blocks that feed ``output`` one value for each of its own."""


class ReduceInPlace(ScheduleRule):
    """Reduce right before each output element, so that the sums need a register and no scratch."""

    def apply(self, func: tirx.PrimFunc, knobs: Knobs = NONE) -> Schedule | None:
        schedule = Schedule(func)
        leaf = blocks(schedule)
        producers = [leaf[name] for name in REDUCTIONS if name in leaf]
        if "output" not in leaf or not producers:
            return None
        loops = schedule.get_loops(leaf["output"])
        for producer in producers:
            schedule.compute_at(producer, loops[-1], preserve_unit_loops=True)
            # Below the output's loops come the producer's own, one (of extent 1) for each axis, then the reduction.
            schedule.decompose_reduction(producer, schedule.get_loops(producer)[2 * len(loops)])
        return schedule


class Unscheduled(ScheduleRule):
    """The order in which the kernel is written down."""

    def apply(self, func: tirx.PrimFunc, knobs: Knobs = NONE) -> Schedule | None:
        return Schedule(func)
