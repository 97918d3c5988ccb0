"""Convolution and dense: a tile of pixels times channels stays in registers while the reduction runs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from tvm_tinyml.choice import NONE, Knobs
from tvm_tinyml.schedules.cortex_m.intrinsics import DOT4
from tvm_tinyml.schedules.rule import ScheduleRule, blocks, extent

DOT_LENGTH = 4

GROUPED_AXES = 5
"""Axes of a grouped convolution's output: image, row, pixel, group, channel of the group."""


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
    """

    def __init__(self, tiles: Sequence[Tile]) -> None:
        self._tiles = tiles

    def apply(self, func: tirx.PrimFunc, knobs: Knobs = NONE) -> Schedule | None:
        schedule = Schedule(func)
        leaf = blocks(schedule)
        if "dot" not in leaf or not self.fits(schedule, leaf["dot"]):
            return None
        *outer, pixel, channel = self._loops(schedule, leaf["output"])
        tile = self._choose(extent(schedule, pixel), extent(schedule, channel))
        pixel_tile, pixel_inner = schedule.split(pixel, [None, tile.pixels])
        channel_tile, channel_inner = schedule.split(channel, [None, tile.channels])
        schedule.reorder(channel_tile, *outer, pixel_tile, pixel_inner, channel_inner)
        schedule.unroll(pixel_inner)
        schedule.unroll(channel_inner)
        rank = len(outer) + 2
        for name in ("dot", "tail"):
            if name in leaf:
                schedule.compute_at(leaf[name], pixel_tile, preserve_unit_loops=True)
                loops = schedule.get_loops(leaf[name])[rank:]
                self.reduce(schedule, leaf[name], loops[:rank], loops[rank:], whole=name == "dot")
        return schedule

    def fits(self, schedule: Schedule, dot: SBlockRV) -> bool:
        """Return whether the rule takes a kernel with that block ``dot``."""
        return True

    @abstractmethod
    def reduce(
        self, schedule: Schedule, block: SBlockRV, tile: Sequence[LoopRV], reduction: Sequence[LoopRV], *, whole: bool
    ) -> None:
        """Order the loops of one reduction block; `whole` when it is the block ``dot``."""

    @staticmethod
    def _loops(schedule: Schedule, output: SBlockRV) -> list[LoopRV]:
        """Return the loops over the output, the pixels of a row and the channels last."""
        loops = list(schedule.get_loops(output))
        if len(loops) == GROUPED_AXES:
            image, row, pixel, group, channel = loops
            return [group, image, row, pixel, channel]
        return loops

    def _choose(self, pixels: int, channels: int) -> Tile:
        return next(t for t in self._tiles if pixels % t.pixels == 0 and channels % t.channels == 0)


def accumulate(schedule: Schedule, block: SBlockRV, tile: Sequence[LoopRV], reduction: Sequence[LoopRV]) -> None:
    """Run the unrolled `tile` inside `reduction`, with the zeroing of the sums before it."""
    schedule.reorder(*reduction, *tile)
    init = schedule.decompose_reduction(block, reduction[0])
    for loop in (*tile, *schedule.get_loops(init)[-len(tile) :]):
        schedule.unroll(loop)


class DotProductTile(_ContractionTile):
    """Four int8 products at a time with SMLAD (block ``dot``); what is left of the reduction (``tail``) one by one."""

    def fits(self, schedule: Schedule, dot: SBlockRV) -> bool:
        return extent(schedule, schedule.get_loops(dot)[-1]) % DOT_LENGTH == 0

    def reduce(
        self, schedule: Schedule, block: SBlockRV, tile: Sequence[LoopRV], reduction: Sequence[LoopRV], *, whole: bool
    ) -> None:
        if not whole:
            accumulate(schedule, block, tile, reduction)
            return
        *outer, run = reduction
        step, lane = schedule.split(run, [None, DOT_LENGTH])
        schedule.reorder(*outer, step, *tile, lane)
        init = schedule.decompose_reduction(block, (*outer, step)[0])
        schedule.tensorize(lane, DOT4)
        for loop in (*tile, *schedule.get_loops(init)[-len(tile) :]):
            schedule.unroll(loop)


class ScalarTile(_ContractionTile):
    """One product at a time; each loaded pixel serves two channels and each weight two pixels."""

    def reduce(
        self, schedule: Schedule, block: SBlockRV, tile: Sequence[LoopRV], reduction: Sequence[LoopRV], *, whole: bool
    ) -> None:
        accumulate(schedule, block, tile, reduction)
