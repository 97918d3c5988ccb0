"""Convolutions that are one with the sum or the average behind them: the same bytes, in less RAM where that counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tvm_tinyml as tinyml
from benchmarks.fused_blocks import APART, bottleneck, wide_end
from benchmarks.int8_graph import Network
from benchmarks.networks import image_classification, keyword_spotting
from tests.compile.cores import runnable
from tests.compile.test_c_form import check_on_host
from tests.compile.test_channels import build
from tests.compile.toolchains import cross_compile
from tests.fused_networks import fused_network
from tests.poisoned import check_poisoned
from tvm_tinyml import pipeline
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.pipeline import lower_model
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.tight import may_shrink

CORES = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33+nodsp", "cortex-m55")


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fuse whatever can be fused, whether or not that takes less RAM."""
    lower = pipeline._lower

    def fused(*arguments: Any, fuse: bool, lay_out: bool) -> Any:
        return lower(*arguments, fuse=True, lay_out=lay_out)

    monkeypatch.setattr(pipeline, "_lower", fused)


def fused_in(library: tinyml.Library) -> list[str]:
    """Return the fused operators of a library."""
    return [layer["op"] for layer in library.metadata["layers"] if layer["op"].startswith("conv2d_")]


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("core", runnable(CORES))
def test_random_networks_give_the_reference_bytes(core: str) -> None:
    found = set[str]()
    for seed in range(2, 6 if core == "cortex-m4" else 4):
        network, goal, io = (
            fused_network(seed),
            ("balanced", "ram", "time")[seed % 3],
            ("workspace", "caller")[seed % 2],
        )
        library = build(network, core, goal, io)
        check_poisoned(library.metadata, library.objects, network, f"{core}, {goal}, {io}, seed {seed}")
        found |= {*fused_in(library)}
    assert found >= {"conv2d_add", "conv2d_avg_pool2d", "conv2d_mean"}


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("core", runnable(["cortex-m0plus", "cortex-m4", "cortex-m55"]))
def test_loops_by_rules_give_the_reference_bytes(core: str) -> None:
    found = set[str]()
    for seed in range(2):
        network = fused_network(seed)
        library = build(network, core, "flash", "workspace")
        check_poisoned(library.metadata, library.objects, network, f"{core}, seed {seed}")
        found |= {*fused_in(library)}
    assert found == {"conv2d_add"}


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    ("core", "goal"), [("cortex-m4", "ram"), ("cortex-m0plus", "balanced"), ("cortex-m4", "flash")]
)
def test_on_the_core_gcc_makes_the_same_bytes_of_the_c_form(core: str, goal: str, tmp_path: Path) -> None:
    network = fused_network(3)
    library = build(network, core, goal, "workspace", "both")
    assert fused_in(library)
    check_poisoned(library.metadata, cross_compile(library, tmp_path, core), network, core)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4", "cortex-m55"])
def test_on_the_host_the_c_form_does_nothing_undefined(core: str, tmp_path: Path) -> None:
    network = fused_network(1)
    library = build(network, core, "balanced", "workspace", "both")
    assert fused_in(library)
    check_on_host(library, network, tmp_path)


@pytest.mark.parametrize(
    ("network", "core", "goal", "share"),
    [
        (bottleneck(), "cortex-m3", "balanced", 0.95),
        (bottleneck(), "cortex-m55", "balanced", 0.95),
        (bottleneck(), "cortex-m4", "flash", 0.75),
        (wide_end(), "cortex-m4", "balanced", 0.6),
        (wide_end(), "cortex-m0plus", "ram", 0.6),
    ],
    ids=lambda value: value.name if isinstance(value, Network) else str(value),
)
def test_it_is_done_where_the_workspace_shrinks(network: Network, core: str, goal: str, share: float) -> None:
    library = build(network, core, goal, "workspace")
    apart = tinyml.build(tinyml.load(network.data), core, goal=goal, io="workspace", emit="lib", disabled_passes=APART)
    assert fused_in(library)
    assert not fused_in(apart)
    sizes = [each.metadata["ram_bytes"]["workspace"] for each in (library, apart)]
    assert sizes[0] <= share * sizes[1], sizes
    check_poisoned(library.metadata, library.objects, network, core)


@pytest.mark.parametrize(
    ("network", "goal"),
    [(wide_end, "time"), (keyword_spotting, "balanced"), (image_classification, "flash"), (keyword_spotting, "ram")],
)
def test_it_is_left_where_that_gains_nothing(network: Any, goal: str) -> None:
    assert not fused_in(build(network(), "cortex-m4", goal, "workspace"))


def test_the_method_says_what_becomes_of_a_block() -> None:
    (layer,) = (x for x in build(wide_end(), "cortex-m4", "ram", "workspace").metadata["layers"] if "conv2d" in x["op"])
    assert layer["op"] == "conv2d_mean"
    assert layer["method"]["algorithm"].endswith(", each block added up")
    assert layer["macs"] == 7 * 7 * 256 * 32


def test_only_what_lies_in_a_full_workspace_is_lowered_both_ways() -> None:
    options = BuildOptions(goal="time", io="workspace")
    programs = (
        lower_model(tinyml.load(n().data), cortex_m("cortex-m4"), options) for n in (wide_end, keyword_spotting)
    )
    assert [may_shrink(program) for program in programs] == [True, False]


def test_a_limit_of_ram_is_met_whatever_the_goal() -> None:
    model = tinyml.load(wide_end().data, name="m")
    largest = tinyml.build(model, "cortex-m4", goal="time", io="workspace", emit="lib").metadata["ram_bytes"]["total"]
    limit = largest * 2 // 3
    library = tinyml.build(model, "cortex-m4", goal="time", io="workspace", emit="lib", ram_limit_bytes=limit)
    assert fused_in(library)
