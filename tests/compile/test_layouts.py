"""Libraries whose tensors lie in planes and tiles: the same bytes in both forms, and only where time is the goal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Network
from benchmarks.networks import keyword_spotting, visual_wake_words
from tests.compile.cores import runnable
from tests.compile.test_c_form import check_on_host
from tests.compile.test_channels import build
from tests.compile.toolchains import cross_compile
from tests.layout_networks import layout_network
from tests.poisoned import check_poisoned

CORES = ("cortex-m4", "cortex-m4+nofp", "cortex-m7", "cortex-m33")


def laid(library: tinyml.Library) -> set[str]:
    """Return the layouts that results of layers have."""
    return {layer["method"]["writes"] for layer in library.metadata["layers"] if layer["method"]} - {"NHWC"}


@pytest.mark.parametrize("core", runnable(CORES))
def test_random_networks_give_the_reference_bytes(core: str) -> None:
    found = set[str]()
    for seed in (*range(9), 24, 25) if core == "cortex-m4" else (3, 8, 24):
        network, io = layout_network(seed), ("workspace", "caller")[seed % 2]
        library = build(network, core, "time", io)
        check_poisoned(library.metadata, library.objects, network, f"{core}, {io}, seed {seed}")
        found |= laid(library)
    assert found >= ({"planes", "tiles"} if core.startswith("cortex-m4") else {"planes", "tiles of halves"})


@pytest.mark.parametrize(("core", "seed"), [("cortex-m4", 24), ("cortex-m7", 2), ("cortex-m33", 8)])
def test_on_the_core_gcc_makes_the_same_bytes_of_the_c_form(core: str, seed: int, tmp_path: Path) -> None:
    network = layout_network(seed)
    library = build(network, core, "time", "workspace", "both")
    assert laid(library)
    check_poisoned(library.metadata, cross_compile(library, tmp_path, core), network, core)


@pytest.mark.parametrize(("core", "seed"), [("cortex-m4", 8), ("cortex-m4", 24), ("cortex-m7", 8)])
def test_on_the_host_the_c_form_does_nothing_undefined(core: str, seed: int, tmp_path: Path) -> None:
    network = layout_network(seed)
    library = build(network, core, "time", "workspace", "both")
    assert laid(library)
    check_on_host(library, network, tmp_path)


@pytest.mark.parametrize("network", [keyword_spotting, lambda: visual_wake_words(dead_share=0.8)], ids=["kws", "vww"])
def test_layouts_take_fewer_cycles(network: Callable[[], Network]) -> None:
    made = network()
    model = tinyml.load(made.data, name="m")
    cycles = {}
    for disabled in ((), ("tinyml.AssignLayouts",)):
        library = tinyml.build(model, "cortex-m4", goal="time", emit="lib", disabled_passes=disabled)
        assert bool(laid(library)) == (not disabled)
        cycles[disabled] = sum(layer.cycles for layer in library.profile().layers)
    assert cycles[()] < 0.99 * cycles["tinyml.AssignLayouts",]


@pytest.mark.parametrize("goal", ["balanced", "ram", "flash"])
def test_layouts_are_for_time_alone(goal: str) -> None:
    model = tinyml.load(keyword_spotting().data, name="m")
    assert not laid(tinyml.build(model, "cortex-m4", goal=goal, emit="lib"))


def test_a_limit_of_ram_takes_them_back() -> None:
    model = tinyml.load(keyword_spotting().data, name="m")
    free = tinyml.build(model, "cortex-m4", goal="time", io="workspace", emit="lib")
    limit = free.ram_bytes - 4000
    tight = tinyml.build(model, "cortex-m4", goal="time", io="workspace", emit="lib", ram_limit_bytes=limit)
    assert laid(free)
    assert not laid(tight)
    assert tight.ram_bytes <= limit
