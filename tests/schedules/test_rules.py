"""Which kernels each rule takes, and that a schedule changes no byte."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest
import tvm_ffi
from tvm import IRModule, relax, tirx
from tvm.s_tir import Schedule

from tests.passes.graphs import conv2d, inputs_of, integer
from tests.passes.kernels import (
    CONTRACTIONS,
    DEPTHWISE,
    KERNELS,
    REDUCTIONS,
    UNSCHEDULED,
    build,
    computed,
    functions,
    lowered,
    run,
)
from tests.simulated import needs_simulator
from tvm_tinyml.choice import NONE, Knobs
from tvm_tinyml.passes import integer_ops
from tvm_tinyml.schedules import cortex_m
from tvm_tinyml.schedules.cortex_m import DOT_TILES, SCALAR_TILES, SMALL_TILES
from tvm_tinyml.schedules.cortex_m.contraction import DotProductTile, ScalarTile, Tile
from tvm_tinyml.schedules.cortex_m.depthwise import DepthwiseChannels
from tvm_tinyml.schedules.cortex_m.fallback import ReduceInPlace, Unscheduled
from tvm_tinyml.schedules.rule import ApplySchedules, Scheduled, ScheduleRule

RULE_LISTS = {name: getattr(cortex_m, name) for name in cortex_m.__all__}
TILE = [Tile(1, 1)]
TAKES: dict[str, tuple[ScheduleRule, set[str]]] = {
    "DotProductTile": (DotProductTile(TILE), set(CONTRACTIONS) - {"pointwise of three channels", "scales above one"}),
    "ScalarTile": (ScalarTile(TILE), set(CONTRACTIONS) - {"pointwise of three channels", "scales above one"}),
    "DepthwiseChannels": (
        DepthwiseChannels(9),
        {"depthwise", "depthwise with padding", "depthwise with strides"},
    ),
    "ReduceInPlace": (
        ReduceInPlace(),
        {name for name in {**CONTRACTIONS, **DEPTHWISE, **REDUCTIONS} if not name.startswith("softmax")},
    ),
    "Unscheduled": (Unscheduled(), set(KERNELS)),
}
"""Each rule and the kernels that it takes when they are lowered for dot products of four."""


def kernel(name: str, dot_length: int = 4) -> tirx.PrimFunc:
    """Return the kernel of an operator; of a padded convolution, the convolution."""
    found = lowered(name, dot_length)
    return next(f for key, f in found.items() if key != "pad2d" or len(found) == 1)


@pytest.mark.parametrize("rule", TAKES)
def test_a_rule_takes_what_it_is_for_and_declines_the_rest(rule: str) -> None:
    schedule, expected = TAKES[rule]
    assert {name for name in KERNELS if schedule.apply(kernel(name)) is not None} == expected


def test_a_dot_product_of_four_declines_a_run_that_four_does_not_divide() -> None:
    whole, odd = kernel("pointwise", 1), kernel("pointwise with a tail", 1)
    assert DotProductTile(TILE).apply(whole) is not None
    assert DotProductTile(TILE).apply(odd) is None
    assert ScalarTile(TILE).apply(odd) is not None


def test_depthwise_with_several_outputs_a_channel_is_declined() -> None:
    for name in ("depthwise, three outputs a channel", "depthwise, as many outputs as channels"):
        assert DepthwiseChannels(9).apply(kernel(name)) is None


@pytest.mark.parametrize("tiles", [DOT_TILES, SCALAR_TILES, SMALL_TILES])
def test_every_list_of_tiles_ends_with_one_that_divides_everything(tiles: Sequence[Tile]) -> None:
    assert tiles[-1] == Tile(1, 1)


@pytest.mark.parametrize(
    ("shape", "filters", "tile"),
    [((1, 2, 4, 4), (4, 1, 1, 4), (2, 2)), ((1, 1, 5, 4), (3, 1, 1, 4), (5, 1)), ((1, 1, 1, 4), (4, 1, 1, 4), (1, 4)),
     ((1, 1, 1, 4), (7, 1, 1, 4), (1, 1))],
)  # fmt: skip
def test_the_first_tile_that_divides_pixels_and_channels_is_taken(
    rng: np.random.Generator, shape: tuple[int, ...], filters: tuple[int, ...], tile: tuple[int, int]
) -> None:
    (function,) = functions(conv2d(rng, shape, filters)).values()
    scheduled = DotProductTile(DOT_TILES).apply(function)
    assert scheduled is not None
    unrolled = re.findall(r"T\.unroll\((\d+)\)", scheduled.schedule.mod["main"].script())
    assert tuple(int(n) for n in unrolled[:2]) == tile


# --- numbers --------------------------------------------------------------------------------------------------------


@needs_simulator
@pytest.mark.parametrize("rules", RULE_LISTS)
def test_scheduled_kernels_compute_the_bytes_of_the_unscheduled(rules: str) -> None:
    core = "cortex-m4" if rules.startswith("DSP") else "cortex-m0plus"
    for ours, theirs in zip(computed(core, RULE_LISTS[rules]), computed(core, UNSCHEDULED), strict=True):
        assert [name for name in KERNELS if not np.array_equal(ours[name], theirs[name])] == []


@needs_simulator
@pytest.mark.parametrize("rule", [DotProductTile([Tile(p, c), Tile(1, 1)]) for p, c in ((2, 2), (5, 1), (1, 4), (3, 1))]
                         + [ScalarTile([Tile(2, 2), Tile(1, 1)]), ReduceInPlace()])  # fmt: skip
def test_every_tile_computes_the_same_bytes(rng: np.random.Generator, rule: ScheduleRule) -> None:
    module = conv2d(rng, (1, 4, 32, 5), (4, 3, 3, 5), strides=[1, 1])
    inputs = inputs_of(module, rng)
    library = build(module, "cortex-m4", [rule])
    assert library.metadata["layers"][-1]["schedule"] == type(rule).__name__
    np.testing.assert_array_equal(run(library, inputs)[0], run(build(module, "cortex-m4", [Unscheduled()]), inputs)[0])


# --- lists and the pass that applies them ---------------------------------------------------------------------------


class Nothing(ScheduleRule):
    """Fits nowhere, and remembers that it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def apply(self, func: tirx.PrimFunc, knobs: Knobs = NONE) -> Scheduled | None:
        self.asked += 1
        return None


class Always(ScheduleRule):
    """Fits everywhere."""

    def apply(self, func: tirx.PrimFunc, knobs: Knobs = NONE) -> Scheduled | None:
        return Scheduled(Schedule(func))


def module_of(*names: str) -> IRModule:
    return IRModule({f"f{i}": kernel(name) for i, name in enumerate(names)})


@pytest.mark.parametrize("rules", RULE_LISTS)
def test_every_list_ends_with_a_rule_that_always_fits(rules: str) -> None:
    last = RULE_LISTS[rules][-1]
    assert all(last.apply(kernel(name)) is not None for name in KERNELS)


def test_the_first_rule_that_fits_is_taken_and_noted() -> None:
    nothing = Nothing()
    module = ApplySchedules([nothing, ReduceInPlace(), Always()])(module_of("average of 2x2", "lookup"))
    noted = [str(f.attrs["tinyml.schedule"]) for f in module.functions.values()]
    assert noted == ["ReduceInPlace", "Always"]
    assert nothing.asked == 2


def test_kernels_keep_their_attributes_and_relax_functions_stay() -> None:
    module = integer(lambda x: relax.op.permute_dims(x), (3, 4))
    module["f"] = kernel("average of 2x2")
    scheduled = ApplySchedules([Always()])(module)
    assert str(scheduled["f"].attrs["tinyml.kind"]) == "avg_pool2d"
    assert tvm_ffi.structural_equal(scheduled["main"], module["main"])


def test_a_list_without_a_rule_that_fits_is_a_fault_of_the_compiler() -> None:
    with pytest.raises(AssertionError, match="the last rule always fits"):
        ApplySchedules([Nothing()])(module_of("lookup"))


def test_the_kernel_that_comes_in_stays_as_it_is() -> None:
    function = kernel("3x3")
    before = function.script()
    for rules in RULE_LISTS.values():
        ApplySchedules(rules)(IRModule({"f": function}))
    assert function.script() == before


def test_pools_need_no_scratch_once_they_are_scheduled(rng: np.random.Generator) -> None:
    module = integer(
        lambda x: integer_ops.max_pool2d(
            x, pool_size=[2, 2], strides=[1, 1], padding=[0, 0, 0, 0], clamp_min=-128, clamp_max=127
        ),
        (1, 20, 20, 4),
    )
    assert build(module, "cortex-m3").metadata["ram_bytes"]["workspace"] == 0
    assert build(module, "cortex-m3", [Unscheduled()]).metadata["ram_bytes"]["workspace"] >= 4 * 19 * 19 * 4
