"""What a schedule rule is, and the pass that applies the first one that fits."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import tvm
from tvm import IRModule, tirx
from tvm.ir.transform import PassContext
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from tvm_tinyml.choice import KERNEL, NONE, Choice, Knobs, Space, knobs_of

GROUPED_AXES = 5
"""Axes of a grouped convolution's output: image, row, pixel, group, channel of the group."""


@dataclass(frozen=True)
class Scheduled:
    """A kernel in its order.

    Attributes
    ----------
    knobs : what was decided where there was a choice.
    """

    schedule: Schedule
    knobs: Knobs = field(default_factory=dict)


class ScheduleRule(ABC):
    """Schedules the kernels it knows."""

    @property
    def name(self) -> str:
        """What a choice calls it."""
        return type(self).__name__

    @abstractmethod
    def apply(self, func: tirx.PrimFunc, knobs: Knobs = NONE) -> Scheduled | None:
        """Return a schedule of `func`, or None when the rule does not fit, or not with these knobs."""

    def space(self, func: tirx.PrimFunc) -> Space:
        """Return the knobs of a kernel; not every combination need be possible. One that it does not take has none."""
        return {}


@tvm.transform.module_pass(opt_level=0, name="tinyml.ApplySchedules")
class ApplySchedules:
    """Schedule every PrimFunc with the first rule that fits; note its name as ``tinyml.schedule``.

    A function that carries a choice is scheduled by the rule named there, if that fits.

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
        choice: Choice = json.loads(str(func.attrs.get("tinyml.choice") or "{}"))
        named = [rule for rule in self._rules if rule.name == choice.get(KERNEL)]
        for rule, knobs in (*((rule, knobs_of(choice)) for rule in named), *((rule, NONE) for rule in self._rules)):
            found = rule.apply(func, knobs)
            if found is not None:
                used = json.dumps({KERNEL: rule.name, **found.knobs})
                return found.schedule.mod["main"].with_attr({"tinyml.schedule": rule.name, "tinyml.choice": used})
        raise AssertionError("the last rule always fits")


def blocks(schedule: Schedule) -> dict[str, SBlockRV]:
    """Return the schedule's leaf blocks by name."""
    root = schedule.get_sblock("root")
    return {str(schedule.get(block).name_hint): block for block in schedule.get_child_blocks(root)}


def extent(schedule: Schedule, loop: LoopRV) -> int:
    """Return the constant number of turns of a loop."""
    return int(schedule.get(loop).extent)


def divisors(number: int, most: int) -> list[int]:
    """Return the divisors of a number up to ``most``."""
    return [divisor for divisor in range(1, most + 1) if number % divisor == 0]
