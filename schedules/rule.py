"""What a schedule rule is, and the pass that applies the first one that fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import tvm
from tvm import IRModule, tirx
from tvm.ir.transform import PassContext
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV


class ScheduleRule(Protocol):
    """Schedules the kernels it knows."""

    def apply(self, func: tirx.PrimFunc) -> Schedule | None:
        """Return a schedule of `func`, or None when the rule does not fit."""


@tvm.transform.module_pass(opt_level=0, name="tinyml.ApplySchedules")
class ApplySchedules:
    """Schedule every PrimFunc with the first rule that fits; note its name as ``tinyml.schedule``.

    Parameters
    ----------
    rules : in order of preference; the last one must always fit.
    """

    def __init__(self, rules: Sequence[ScheduleRule]) -> None:
        self._rules = rules

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module; Relax functions pass through."""
        functions = mod.functions.items()
        return IRModule({v: self._schedule(f) if isinstance(f, tirx.PrimFunc) else f for v, f in functions})

    def _schedule(self, func: tirx.PrimFunc) -> tirx.PrimFunc:
        if func.attrs.get("tinyml.schedule"):
            return func  # a recipe has its own order
        for rule in self._rules:
            schedule = rule.apply(func)
            if schedule is not None:
                return schedule.mod["main"].with_attr("tinyml.schedule", type(rule).__name__)
        raise AssertionError("the last rule always fits")


def blocks(schedule: Schedule) -> dict[str, SBlockRV]:
    """Return the schedule's leaf blocks by name."""
    root = schedule.get_sblock("root")
    return {str(schedule.get(block).name_hint): block for block in schedule.get_child_blocks(root)}


def extent(schedule: Schedule, loop: LoopRV) -> int:
    """Return the constant number of turns of a loop."""
    return int(schedule.get(loop).extent)
