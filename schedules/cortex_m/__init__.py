"""Rules for Cortex-M: with the DSP extension (M4, M7, M33), without (M3), and with eight registers in reach (M0+)."""

from tvm_tinyml.schedules.cortex_m.contraction import DotProductTile, ScalarTile, Tile
from tvm_tinyml.schedules.cortex_m.depthwise import DepthwiseChannels
from tvm_tinyml.schedules.cortex_m.fallback import ReduceInPlace, Unscheduled
from tvm_tinyml.schedules.rule import ScheduleRule

# By instructions per MAC of the inner step, (3 (p + c) + 2 p c) / (4 p c) with p pixels and c channels, as far as
# registers allow.
DOT_TILES = tuple(Tile(*t) for t in ((2, 2), (5, 1), (1, 4), (3, 1), (1, 2), (2, 1), (1, 3), (1, 1)))
SCALAR_TILES = tuple(Tile(*t) for t in ((2, 2), (1, 4), (3, 1), (1, 2), (2, 1), (1, 1)))

# ARMv6-M multiplies and adds in eight registers: four sums and their operands do not fit.
NARROW_TILES = tuple(Tile(*t) for t in ((2, 1), (1, 1)))

# What LLVM makes smallest: it unrolls loops whose body is small, so that the smallest tile is not the smallest code.
SMALL_TILES = tuple(Tile(*t) for t in ((2, 1), (1, 2), (1, 1)))

DSP_RULES: tuple[ScheduleRule, ...] = (
    DotProductTile(DOT_TILES),
    DepthwiseChannels(unroll_taps=9),
    ScalarTile(SCALAR_TILES),
    ReduceInPlace(),
    Unscheduled(),
)
DSP_SMALL_RULES: tuple[ScheduleRule, ...] = (
    DotProductTile(SMALL_TILES),
    ReduceInPlace(),
    Unscheduled(),
)
SCALAR_RULES: tuple[ScheduleRule, ...] = (ScalarTile(SCALAR_TILES), ReduceInPlace(), Unscheduled())
NARROW_RULES: tuple[ScheduleRule, ...] = (ScalarTile(NARROW_TILES), ReduceInPlace(), Unscheduled())
SCALAR_SMALL_RULES: tuple[ScheduleRule, ...] = (ReduceInPlace(), Unscheduled())

__all__ = ["DSP_RULES", "DSP_SMALL_RULES", "NARROW_RULES", "SCALAR_RULES", "SCALAR_SMALL_RULES"]
