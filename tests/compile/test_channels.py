"""Channels that are put together and cut: the reference's bytes whatever the pool held, in both forms, few copies."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import tvm_tinyml as tinyml
from benchmarks.channel_blocks import BLOCKS, SHARED, dense_block
from benchmarks.int8_graph import Int8Graph, Network
from tests.channel_networks import channel_network
from tests.compile.cores import runnable
from tests.compile.test_c_form import check_on_host
from tests.compile.toolchains import HostLibrary, cross_compile
from tests.poisoned import check_poisoned

CORES = ("cortex-m4", "cortex-m7", "cortex-m33")
GOALS = ("time", "balanced", "ram")


def read_twice(seed: int = 0) -> Network:
    """Put tensors together of which some are read again: where they lie, with a border, by a sum, and put together."""
    graph = Int8Graph(seed)
    x = graph.input((1, 9, 7, 6), SHARED)
    a, b, c = (graph.conv(x, channels, (1, 1), output=SHARED) for channels in (5, 8, 8))
    first = graph.concat([a, b, x, c], 3)
    second = graph.concat([first, graph.conv(a, 3, (1, 1), output=SHARED), b], 3)
    y = graph.depthwise(b, (3, 3), output=SHARED)
    y = graph.add(y, graph.conv(c, 8, (3, 3), output=SHARED), output=SHARED)
    return graph.finish("twice", graph.conv(second, 7, (1, 1)), graph.concat([y, a], 3), c)


def every_kernel(seed: int = 0) -> Network:
    """Let each kernel that can read channels where they lie, and write them where they belong."""
    graph = Int8Graph(seed)
    x, y = (graph.input((1, 12, 12, 16), SHARED) for _ in range(2))
    left, right = graph.split(x, 2, 3)
    inside = {"padding": "VALID", "output": SHARED}
    parts = [graph.conv(right, 7, (2, 2), **inside), graph.depthwise(left, (2, 2), **inside)]
    smaller = graph.conv(graph.concat(parts, 3), 5, (1, 1))
    parts = [graph.depthwise(left, (3, 3), output=SHARED), graph.conv(right, 6, (1, 1), output=SHARED)]
    parts += [graph.conv(x, 16, (3, 3), activation="RELU", output=SHARED), graph.max_pool(x, (1, 1))]
    parts += [graph.add(x, y, output=SHARED), graph.avg_pool(x, (1, 1))]
    return graph.finish("every", smaller, graph.conv(graph.concat(parts, 3), 5, (1, 1)))


HARDEST = {"parts read twice": read_twice, "every kernel": every_kernel}
NETWORKS = {**BLOCKS, **HARDEST}
EVERYWHERE = [(name, core) for core in CORES for name in (NETWORKS if core == "cortex-m4" else HARDEST)]


def build(network: Network, core: str, goal: str, io: str, emit: str = "lib") -> tinyml.Library:
    """Compile a network."""
    return tinyml.build(tinyml.load(network.data, name="m"), core, goal=goal, io=io, emit=emit)


@pytest.mark.parametrize(("name", "core"), EVERYWHERE)
def test_known_blocks_give_the_reference_bytes(name: str, core: str) -> None:
    network, first = NETWORKS[name](), CORES.index(core)
    every = core == "cortex-m4" and name in HARDEST
    for goal in GOALS if every else [GOALS[(first + list(NETWORKS).index(name)) % len(GOALS)]]:
        library = build(network, core, goal, "workspace")
        check_poisoned(library.metadata, library.objects, network, f"{core}, {goal}")


@pytest.mark.parametrize(("name", "core"), EVERYWHERE)
def test_the_c_form_of_known_blocks_gives_the_reference_bytes(name: str, core: str, tmp_path: Path) -> None:
    network = NETWORKS[name]()
    library = build(network, core, "time", "caller", "both")
    check_poisoned(library.metadata, cross_compile(library, tmp_path, core), network, core)


@pytest.mark.parametrize("name", HARDEST)
def test_on_the_host_the_c_form_does_nothing_undefined(name: str, tmp_path: Path) -> None:
    network = NETWORKS[name]()
    library = build(network, "cortex-m4", "time", "workspace", "both")
    check_on_host(library, network, tmp_path)


@pytest.mark.parametrize(
    ("core", "count"),
    [("cortex-m4", 4), ("cortex-m7", 2), ("cortex-m33", 2), *((core, 1) for core in ("cortex-m4+nofp", "cortex-m3"))],
)
def test_random_networks_give_the_reference_bytes(core: str, count: int) -> None:
    for seed in range(count):
        network = channel_network(seed)
        goal, io = GOALS[seed % 3], ("workspace", "caller")[seed % 2]
        library = build(network, core, goal, io)
        check_poisoned(library.metadata, library.objects, network, f"{core}, {goal}, {io}, seed {seed}")


@pytest.mark.parametrize("seed", range(3))
def test_on_the_host_random_networks_give_the_reference_bytes(seed: int, tmp_path: Path) -> None:
    network = channel_network(seed)
    library = build(network, "cortex-m4", GOALS[seed % 3], "workspace", "c")
    inputs = network.random_inputs(3)
    for output, reference in zip(HostLibrary(library, tmp_path).run(inputs), network.run(inputs), strict=True):
        np.testing.assert_array_equal(output, reference.reshape(output.shape))


@pytest.mark.parametrize("core", runnable(["cortex-m55"]))
def test_random_networks_give_the_reference_bytes_with_helium(core: str) -> None:
    for seed in range(2):
        library = build(channel_network(seed), core, "balanced", "workspace")
        check_poisoned(library.metadata, library.objects, channel_network(seed), f"seed {seed}")


@pytest.mark.parametrize("disabled", ["tinyml.ApplyRecipes", "tinyml.OrderOperators"])
def test_a_build_can_do_without_optional_passes(disabled: str) -> None:
    network = read_twice()
    model = tinyml.load(network.data, name="m")
    library = tinyml.build(model, "cortex-m4", goal="time", io="workspace", emit="lib", disabled_passes=[disabled])
    check_poisoned(library.metadata, library.objects, network, disabled)


def test_a_few_channels_that_no_microkernel_takes_are_written_where_they_belong() -> None:
    graph = Int8Graph(0)
    x = graph.input((1, 8, 8, 16), SHARED)
    left, right = graph.split(x, 2, 3)
    scales = np.full(12, 0.01)
    scales[5] = 1.7
    y = graph.conv(right, 12, (1, 1), output=SHARED, effective_scale=scales)
    together = graph.concat([y, graph.conv(left, 4, (1, 1), output=SHARED)], 3)
    network = graph.finish("outliers", graph.conv(together, 6, (1, 1)))
    library = build(network, "cortex-m4", "time", "workspace")
    assert {layer["schedule"] for layer in library.metadata["layers"]} == {"ConvGemm", "ConvGemm + Outliers"}
    check_poisoned(library.metadata, library.objects, network, "outliers")


@pytest.mark.parametrize(
    ("name", "copies"),
    [
        ("dense block", 0),
        ("dense block of lists", 0),
        ("inception block", 0),
        ("fire blocks", 0),
        ("shuffle units", 1),
        ("skip connection", 1),
        ("parts read twice", 4),
        ("every kernel", 0),
    ],
)
def test_nothing_is_copied_but_what_cannot_be_written_where_it_belongs(name: str, copies: int) -> None:
    """Half of ShuffleNet's split passes unchanged; a skip connection is read by a pool, which knows no steps."""
    library = build(NETWORKS[name](), "cortex-m4", "time", "workspace")
    found = Counter(layer["op"] for layer in library.metadata["layers"])
    assert found["copy_channels"] == copies
    assert not found.keys() & {"concatenate", "split", "strided_slice"}
    if name == "every kernel":
        kernels = {layer["schedule"] for layer in library.metadata["layers"]}
        assert kernels == {"ConvGemm", "Winograd", "Depthwise", "DepthwiseWords", "Pool", "Sum"}


def test_a_deep_dense_block_needs_little_more_than_its_result() -> None:
    network = dense_block(layers=10)
    whole = 16 * 16 * (24 + 10 * 12)
    library = build(network, "cortex-m4", "balanced", "workspace")
    assert library.metadata["ram_bytes"]["workspace"] < 1.65 * whole
    check_poisoned(library.metadata, library.objects, network, "deep")
