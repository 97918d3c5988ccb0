"""RAM below the limit holds the constants that wait for the flash most, where time is the goal."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph
from tests.compile.toolchains import HostLibrary, cross_compile
from tests.library.builds import library, model, network
from tests.library.test_header import macros
from tests.simulated import needs_simulator
from tvm_tinyml.artifacts.report import report
from tvm_tinyml.device.elf import ElfObject
from tvm_tinyml.hot_constants import choose

FLASH, RAM = ".rodata.tvmgen_ad_weights", ".data.tvmgen_ad_weights"


def options_of(share: float) -> dict[str, Any]:
    """Return what gives anomaly detection RAM for so much of its weights beside what it needs."""
    plain = library("ad", goal="time", memory="l4r5zi-120").metadata
    limit = plain["ram_bytes"]["total"] + int(share * plain["flash_bytes"]["weights"])
    return {"goal": "time", "memory": "l4r5zi-120", "ram_limit_bytes": limit}


def limited(share: float, **options: Any) -> tinyml.Library:
    """Return its library."""
    return library("ad", **{**options_of(share), **options})


def sections_of_constants(objects: list[bytes]) -> dict[int, str]:
    """Return by index the section of each constant."""
    return {
        int(symbol.name.rsplit("_", 1)[1]): item.sections[symbol.section].name
        for item in map(ElfObject.parse, objects)
        for symbol in item.symbols
        if "_constant_" in symbol.name and symbol.section and not symbol.local
    }


def in_ram(built: tinyml.Library) -> set[int]:
    """Return the constants that the metadata says are in RAM."""
    return {i for i, constant in enumerate(built.metadata["constants"]) if constant["memory"] == "ram"}


# --- which -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_no_other_choice_saves_more(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 60, 9).tolist()
    cycles = rng.integers(0, 100, 9).tolist()
    room = int(rng.integers(1, 200))
    chosen = choose(sizes, cycles, room)

    def words(choice: Any) -> int:
        return sum(-(-sizes[i] // 4) for i in choice)

    choices = itertools.chain.from_iterable(itertools.combinations(range(9), n) for n in range(10))
    best = max(sum(cycles[i] for i in choice) for choice in choices if 4 * words(choice) <= room)
    assert 4 * words(chosen) <= room
    assert sum(cycles[i] for i in chosen) == best
    assert all(cycles[i] > 0 for i in chosen)


def test_more_room_than_can_be_counted_in_words_is_kept_to_and_used_well() -> None:
    rng = np.random.default_rng(1)
    sizes = (4 * rng.integers(1, 60_000, 40)).tolist()
    cycles = rng.integers(1, 100_000, 40).tolist()
    room = sum(sizes) // 2
    assert room > 1 << 20
    chosen = choose(sizes, cycles, room)
    by_density = sorted(range(40), key=lambda i: cycles[i] / sizes[i], reverse=True)
    fitting = [i for n, i in enumerate(by_density) if sum(sizes[j] for j in by_density[: n + 1]) <= room]
    assert sum(sizes[i] for i in chosen) <= room
    assert sum(cycles[i] for i in chosen) >= sum(cycles[i] for i in fitting)


@pytest.mark.parametrize(("sizes", "cycles", "room"), [([8], [5], 7), ([8], [0], 100), ([8], [5], -3), ([], [], 9)])
def test_what_does_not_fit_or_saves_nothing_stays(sizes: list[int], cycles: list[int], room: int) -> None:
    assert choose(sizes, cycles, room) == frozenset()


# --- where -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_some_constants_lie_in_ram_and_the_limit_is_kept(share: float) -> None:
    plain, built = library("ad", goal="time", memory="l4r5zi-120"), limited(share)
    ram, flash = built.metadata["ram_bytes"], built.metadata["flash_bytes"]
    hot, constants = in_ram(built), built.metadata["constants"]
    assert hot
    assert (hot == set(range(len(constants)))) == (share == 1.0)
    assert sections_of_constants(built.objects) == {i: RAM if i in hot else FLASH for i in range(len(constants))}
    assert ram["static"] == sum(constants[i]["size_bytes"] for i in hot)
    assert ram["total"] == ram["workspace"] + ram["stack"] + ram["static"]
    assert ram["total"] <= built.metadata["options"]["ram_limit_bytes"]
    assert flash["weights"] == plain.metadata["flash_bytes"]["weights"]  # initial values lie in flash all the same


def test_layers_header_and_report_say_what_lies_in_ram() -> None:
    built = limited(0.5)
    hot, metadata = in_ram(built), built.metadata
    for layer in metadata["layers"]:
        of_layer = [(index, size) for place, index, size, _ in layer["operands"] if place == "constant"]
        assert layer["weight_bytes"] == sum(size for _, size in of_layer)
        assert layer["weight_bytes_in_ram"] == sum(size for index, size in of_layer if index in hot)
    assert macros(built.header)["TVMGEN_AD_STATIC_SIZE"] == f"{metadata['ram_bytes']['static']}u"
    assert RAM in built.header
    assert report(metadata).count("in RAM</small>") == len(hot)
    plain = library("ad", goal="time", memory="l4r5zi-120")
    assert "STATIC_SIZE" not in plain.header
    assert "in RAM</small>" not in report(plain.metadata)


@pytest.mark.parametrize(
    "options",
    [{"ram_limit_bytes": None}, {"memory": "zero-wait"}, {"goal": "balanced"}, {"goal": "flash"}],
    ids=lambda options: "-".join(map(str, next(iter(options.items())))),
)
def test_nothing_moves_without_a_limit_a_wait_or_the_goal(options: dict[str, Any]) -> None:
    built = limited(1.0, **options)
    assert in_ram(built) == set()
    assert built.metadata["ram_bytes"]["static"] == 0
    without = {"goal": "time", "memory": "l4r5zi-120", **options, "ram_limit_bytes": None}
    same = built.archive == library("ad", **without).archive
    assert same  # what differs would take minutes to print


def test_nothing_moves_where_the_limit_leaves_nothing() -> None:
    assert in_ram(limited(0.0)) == set()
    with pytest.raises(tinyml.FitError, match=r"more than the 1,000 it may take"):
        limited(0.0, ram_limit_bytes=1000)


def test_what_stripes_leave_of_the_ram_is_filled() -> None:
    graph = Int8Graph(0)
    x = graph.conv(graph.input((1, 24, 24, 3), (0.05, -3)), 16, (3, 3), activation="RELU")
    y = graph.add(graph.conv(graph.conv(x, 16, (3, 3), activation="RELU"), 16, (3, 3)), x)
    residual = tinyml.load(graph.finish("residual", graph.avg_pool(y, (24, 24))).data, name="residual")
    options = {"io": "workspace", "emit": "lib", "goal": "time", "memory": "l4r5zi-120"}
    whole = tinyml.build(residual, **options)
    limit = whole.ram_bytes - 2000
    cut = tinyml.build(residual, **options, ram_limit_bytes=limit)
    assert cut.metadata["ram_bytes"]["workspace"] < whole.metadata["ram_bytes"]["workspace"]
    assert in_ram(cut)
    assert cut.ram_bytes <= limit


def test_weights_in_ram_are_all_of_them_whatever_the_goal() -> None:
    for goal in ("time", "balanced"):
        built = library("ad", goal=goal, weights="ram")
        assert in_ram(built) == set(range(len(built.metadata["constants"])))


def test_with_pools_the_limit_counts_all_of_them() -> None:
    built = tinyml.build(model("ad"), **options_of(0.5), pools={"dtcm": 1024, "sram": 4096})
    sizes = [pool["size_bytes"] for pool in built.metadata["pools"].values()]
    assert (len(sizes), sum(sizes)) == (2, built.metadata["ram_bytes"]["workspace"])
    assert in_ram(built)
    assert built.ram_bytes <= built.metadata["options"]["ram_limit_bytes"]


def test_the_same_build_gives_the_same_bytes() -> None:
    first = limited(0.5, emit="both")
    again = tinyml.build(tinyml.load(network("ad").data, name="ad"), **options_of(0.5))
    assert (again.archive, again.sources, again.header) == (first.archive, first.sources, first.header)


# --- what it does ----------------------------------------------------------------------------------------------------


@needs_simulator
def test_both_forms_give_the_reference_bytes(tmp_path: Path) -> None:
    built, net = limited(0.5, emit="both"), network("ad")
    inputs = net.random_inputs(2)
    (expected,) = net.run(inputs)
    (output,) = built.run(inputs[0]).values()
    np.testing.assert_array_equal(output.ravel(), expected.ravel())
    np.testing.assert_array_equal(HostLibrary(built, tmp_path).run(inputs)[0].ravel(), expected.ravel())


def test_the_c_form_has_the_same_sections(tmp_path: Path) -> None:
    built = limited(0.5, emit="both")
    assert sections_of_constants(cross_compile(built, tmp_path, "cortex-m4")) == sections_of_constants(built.objects)


@needs_simulator
def test_the_more_ram_the_fewer_cycles_down_to_all_weights_in_ram() -> None:
    options = {"goal": "time", "memory": "l4r5zi-120"}  # which kernels are chosen for
    built = [library("ad", **options), *(limited(share) for share in (0.25, 0.5, 1.0))]
    cycles = [each.profile(memory="l4r5zi-120").cycles for each in built]
    assert cycles == sorted(cycles, reverse=True)
    assert cycles[2] < 0.83 * cycles[0]
    assert cycles[3] == library("ad", **options, weights="ram").profile(memory="l4r5zi-120").cycles
