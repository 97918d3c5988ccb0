"""The dot-product instructions really come out, where the core has them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tests.passes.graphs import conv2d
from tests.passes.kernels import KERNELS, build, functions
from tests.simulated import needs_simulator
from tvm_tinyml.device import ElfObject
from tvm_tinyml.library import Library
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.schedules.cortex_m.contraction import DotProductTile, Tile
from tvm_tinyml.schedules.cortex_m.depthwise import DepthwiseChannels

PRODUCTS = ("smlad", "smlabb", "smlatt", "sxtb16")


def mnemonics(library: Library) -> Counter[str]:
    """Return how often each instruction stands in a library's code."""
    capstone = pytest.importorskip("capstone", reason="needs capstone: pip install tvm_tinyml[sim]")
    decoder = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
    decoder.skipdata = True
    found: Counter[str] = Counter()
    for data in library.objects:
        for section in ElfObject.parse(data, "kernels").sections:
            if section.name.startswith(".text"):
                found.update(i.mnemonic.split(".")[0] for i in decoder.disasm(section.data, 0))
    return found


def test_the_dot_product_stands_in_the_scheduled_kernel(rng: np.random.Generator) -> None:
    (function,) = functions(KERNELS["pointwise"](rng)).values()
    scheduled = DotProductTile([Tile(2, 2), Tile(1, 1)]).apply(function)
    assert scheduled is not None
    assert "tinyml_dot4_s8" in scheduled.schedule.mod["main"].script()
    assert "tinyml_dot4_s8" not in function.script()


def test_the_four_products_stand_in_the_scheduled_depthwise_kernel(rng: np.random.Generator) -> None:
    (function,) = functions(KERNELS["depthwise"](rng)).values()
    scheduled = DepthwiseChannels(9).apply(function)
    assert scheduled is not None
    assert "tinyml_mac4_s8" in scheduled.schedule.mod["main"].script()
    assert "tinyml_mac4_s8" not in function.script()


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m7", "cortex-m33"])
def test_a_convolution_runs_on_smlad(rng: np.random.Generator, target: str) -> None:
    found = mnemonics(build(KERNELS["pointwise"](rng), target))
    assert found["smlad"] >= 8  # a tile of 2x2 and two a dot product of four
    assert found["smlad"] >= found["sxtb16"]
    assert found["smmulr"] >= 1
    assert found["ssat"] >= 1


def test_a_grouped_convolution_runs_on_smlad(rng: np.random.Generator) -> None:
    assert mnemonics(build(KERNELS["grouped"](rng), "cortex-m4"))["smlad"] >= 2


def test_a_depthwise_convolution_without_microkernels_runs_on_products_of_halfwords(rng: np.random.Generator) -> None:
    options = BuildOptions(emit="lib", disabled_passes=("tinyml.ApplyRecipes",))
    found = mnemonics(build(KERNELS["depthwise"](rng), "cortex-m4", options=options))
    assert found["smlabb"] >= 2 * 9
    assert found["smlatt"] >= 2 * 9
    assert found["smlad"] == 0


@pytest.mark.parametrize("target", ["cortex-m0plus", "cortex-m3", "cortex-m33+nodsp", "cortex-m4+nodsp"])
@pytest.mark.parametrize("name", ["pointwise", "depthwise"])
def test_a_core_without_the_extension_meets_none_of_it(rng: np.random.Generator, target: str, name: str) -> None:
    found = mnemonics(build(KERNELS[name](rng), target))
    assert not any(found[product] for product in (*PRODUCTS, "smmulr", "smmul", "smmla"))


CONV, POINTWISE, DEPTHWISE = (
    ((8, 8, 3), (16, 3, 3, 3), 1),
    ((8, 8, 64), (64, 1, 1, 64), 1),
    ((8, 8, 16), (16, 3, 3, 1), 16),
)


@pytest.mark.parametrize(
    ("target", "layer"),
    [(target, layer) for target in ("cortex-m0plus", "cortex-m3", "cortex-m4") for layer in (CONV, POINTWISE)]
    + [("cortex-m4", DEPTHWISE)],
)
def test_the_goal_flash_makes_smaller_code(
    rng: np.random.Generator, target: str, layer: tuple[tuple[int, ...], tuple[int, ...], int]
) -> None:
    shape, filters, groups = layer
    module = conv2d(rng, (1, *shape), filters, groups=groups, padding=[filters[1] // 2] * 4)
    small, usual = (build(module, target, options=BuildOptions(goal=g, emit="lib")) for g in ("flash", "balanced"))
    assert small.metadata["flash_bytes"]["code"] < usual.metadata["flash_bytes"]["code"]


@needs_simulator
def test_four_products_at_a_time_cost_fewer_instructions(rng: np.random.Generator) -> None:
    module = conv2d(rng, (1, 8, 8, 32), (16, 1, 1, 32))
    with_dsp, without = (build(module, t).profile().instructions for t in ("cortex-m4", "cortex-m4+nodsp"))
    assert with_dsp < 0.6 * without
    assert np.isfinite(with_dsp)
