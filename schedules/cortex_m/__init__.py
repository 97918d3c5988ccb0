"""Rules for Cortex-M: with the DSP extension (M4, M7, M33) and without (M0+, M3)."""

from tvm_tinyml.schedules.cortex_m.contraction import DotProductTile, ScalarTile
from tvm_tinyml.schedules.cortex_m.depthwise import DepthwiseChannels
from tvm_tinyml.schedules.cortex_m.fallback import ReduceInPlace, Unscheduled
from tvm_tinyml.schedules.rule import ScheduleRule

DSP_RULES: tuple[ScheduleRule, ...] = (DotProductTile(), DepthwiseChannels(), ScalarTile(), ReduceInPlace(), Unscheduled())
SCALAR_RULES: tuple[ScheduleRule, ...] = (ScalarTile(), ReduceInPlace(), Unscheduled())

__all__ = ["DSP_RULES", "SCALAR_RULES"]
