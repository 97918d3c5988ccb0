"""Convolution and dense: a tile of pixels times channels stays in registers while the reduction runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from tvm_tinyml.choice import NONE, Knobs, Space, Value, allowed
from tvm_tinyml.schedules.cortex_m.intrinsics import DOT4
from tvm_tinyml.schedules.rule import GROUPED_AXES, Scheduled, ScheduleRule, blocks, divisors, extent

MOST_SUMS = 8
"""Of a tile: with more, registers spill."""

UNROLLS = (1, 2, 4, 8)
"""Steps of the reduction that may be written out, beside all of at most `MOST_STEPS`."""

MOST_STEPS, MOST_TAPS = 16, 9
"""Of the innermost reduction and of the loops around it, if all are written out."""

MOST_WRITTEN_OUT = 64
"""Steps of all sums of a tile: more is more code than a gain of a few percent is worth."""


@dataclass(frozen=True)
class Tile:
    """How many pixels and channels are accumulated at once."""

    pixels: int
    channels: int


class _ContractionTile(ScheduleRule):
    """Order: channel tiles, pixels, then the reduction around the tile.

    Weights of a channel tile are read again and again, so that they stay in a flash line buffer or cache.

    Parameters
    ----------
    tiles : in order of preference; the first whose numbers divide the layer's is taken. The last must be 1x1.

    Knobs: ``pixels`` and ``channels`` of a tile; ``outermost``, whether tiles of ``channels`` or of ``pixels``;
    ``unroll``, steps of the innermost reduction that are written out; ``taps``, 1 if the reduction around it is, too.
    """

    lanes: ClassVar[int]
    """Products of a step of the block ``dot``."""

    def __init__(self, tiles: Sequence[Tile]) -> None:
        self._tiles = tiles

    def apply(self, func: tirx.PrimFunc, knobs: Knobs = NONE) -> Scheduled | None:
        space = self.space(func)
        if not space or not allowed(knobs, space):
            return None
        chosen = self._decide(space, knobs)
        sums = int(chosen["pixels"]) * int(chosen["channels"])
        if sums > MOST_SUMS or sums * int(chosen["unroll"]) > MOST_WRITTEN_OUT:
            return None
        return Scheduled(self._schedule(func, chosen), chosen)

    def space(self, func: tirx.PrimFunc) -> Space:
        """See `ScheduleRule.space`."""
        schedule = Schedule(func)
        leaf = blocks(schedule)
        if "dot" not in leaf:
            return {}
        *outer, pixels, channels = (extent(schedule, loop) for loop in _output_loops(schedule, leaf["output"]))
        *window, run = (extent(schedule, loop) for loop in schedule.get_loops(leaf["dot"])[len(outer) + 2 :])
        if run % self.lanes:
            return {}
        steps = run // self.lanes
        several = channels > 1 and math.prod(outer) * pixels > 1
        return {
            "pixels": divisors(pixels, MOST_SUMS),
            "channels": divisors(channels, MOST_SUMS),
            "outermost": ["channels", "pixels"] if several else ["channels"],
            "unroll": sorted({n for n in (*UNROLLS, steps) if steps % n == 0 and n <= MOST_STEPS}),
            "taps": [0, 1] if 1 < math.prod(window) <= MOST_TAPS else [0],
        }

    def _decide(self, space: Space, knobs: Knobs) -> dict[str, Value]:
        """Return all knobs: those that are given, and our choice of the others."""
        tiles: list[Mapping[str, Value]] = [{"pixels": t.pixels, "channels": t.channels} for t in self._tiles]
        fitting = (t for t in tiles if allowed(t, space) and all(knobs.get(name, n) == n for name, n in t.items()))
        tile = next(fitting, {"pixels": 1, "channels": 1})
        return {**tile, "outermost": "channels", "unroll": 1, "taps": 0, **knobs}

    def _schedule(self, func: tirx.PrimFunc, knobs: Knobs) -> Schedule:
        schedule = Schedule(func)
        leaf = blocks(schedule)
        *outer, pixel, channel = _output_loops(schedule, leaf["output"])
        pixel_tile, pixel_inner = schedule.split(pixel, [None, knobs["pixels"]])
        channel_tile, channel_inner = schedule.split(channel, [None, knobs["channels"]])
        order = [channel_tile, *outer, pixel_tile]
        if knobs["outermost"] == "pixels":
            order = [*outer, pixel_tile, channel_tile]
        schedule.reorder(*order, pixel_inner, channel_inner)
        schedule.unroll(pixel_inner)
        schedule.unroll(channel_inner)
        rank = len(order)
        for name in ("dot", "tail"):
            if name in leaf:
                schedule.compute_at(leaf[name], order[-1], preserve_unit_loops=True)
                loops = schedule.get_loops(leaf[name])[rank:]
                steps = (self.lanes, int(knobs["unroll"])) if name == "dot" else (1, 1)
                tile, reduction = loops[:rank], loops[rank:]
                intrinsic = DOT4[str(func.params[0].dtype)]
                _reduce(schedule, leaf[name], tile, reduction, *steps, intrinsic, taps=bool(knobs["taps"]))
        return schedule


def _output_loops(schedule: Schedule, output: SBlockRV) -> list[LoopRV]:
    """Return the loops over the output, the pixels of a row and the channels last."""
    loops = list(schedule.get_loops(output))
    if len(loops) == GROUPED_AXES:
        image, row, pixel, group, channel = loops
        return [group, image, row, pixel, channel]
    return loops


def _reduce(
    schedule: Schedule,
    block: SBlockRV,
    tile: Sequence[LoopRV],
    reduction: Sequence[LoopRV],
    lanes: int,
    unroll: int,
    intrinsic: str,
    *,
    taps: bool,
) -> None:
    """Run the unrolled `tile` inside `reduction`, with the zeroing of the sums before it.

    Parameters
    ----------
    lanes : products of a step: 1, or those of `intrinsic`.
    unroll : steps of the innermost loop that are written out.
    taps : the loops around it are, too.
    """
    *window, run = reduction
    lane: list[LoopRV] = []
    written_out: list[LoopRV] = []
    if lanes > 1:
        run, *lane = schedule.split(run, [None, lanes])
    if unroll > 1:
        run, *written_out = schedule.split(run, [None, unroll])
    schedule.reorder(*window, run, *written_out, *tile, *lane)
    init = schedule.decompose_reduction(block, (*window, run)[0])
    for loop in lane:
        schedule.tensorize(loop, intrinsic)
    for loop in (*tile, *schedule.get_loops(init)[-len(tile) :], *written_out, *(window if taps else ())):
        schedule.unroll(loop)


class DotProductTile(_ContractionTile):
    """Four int8 products at a time with SMLAD (block ``dot``); what is left of the reduction (``tail``) one by one."""

    lanes = 4


class ScalarTile(_ContractionTile):
    """One product at a time; each loaded pixel serves two channels and each weight two pixels."""

    lanes = 1
