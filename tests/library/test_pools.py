"""Several pools: what is touched most lies in the fastest one, and each keeps to its size."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph, Network
from tests.compile.toolchains import HostLibrary
from tvm_tinyml.options import BuildOptions


@pytest.fixture(scope="module")
def network() -> Network:
    graph = Int8Graph(1)
    x = graph.depthwise(graph.input((1, 12, 12, 16), (0.05, -3)), (3, 3), activation="RELU")
    y = graph.conv(x, 24, (1, 1), activation="RELU")
    return graph.finish("pools", graph.avg_pool(graph.conv(y, 8, (3, 3)), (12, 12)))


@pytest.fixture(scope="module")
def model(network: Network) -> tinyml.Model:
    return tinyml.load(network.data, name="pools")


POOLS = {"dtcm": 4000, "sram": 60000}


@pytest.mark.parametrize("io", ["caller", "workspace"])
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m7", "cortex-m0plus"])
def test_both_forms_give_the_reference_bytes(
    network: Network, model: tinyml.Model, core: str, io: str, tmp_path: Path
) -> None:
    library = tinyml.build(model, core, io=io, pools=POOLS)
    inputs = network.random_inputs(4)
    (expected,) = network.run(inputs)
    outputs = library.run({library.metadata["inputs"][0]["name"]: inputs[0]})
    np.testing.assert_array_equal(next(iter(outputs.values())).ravel(), expected.ravel())
    np.testing.assert_array_equal(HostLibrary(library, tmp_path).run(inputs)[0].ravel(), expected.ravel())


def test_each_pool_keeps_to_its_size_and_no_byte_is_lost(model: tinyml.Model) -> None:
    library = tinyml.build(model, io="workspace", emit="lib", pools=POOLS)
    pools = library.metadata["pools"]
    assert list(pools) == list(POOLS)
    assert all(0 < pools[name]["size_bytes"] <= size for name, size in POOLS.items())
    assert library.metadata["ram_bytes"]["workspace"] == sum(pool["size_bytes"] for pool in pools.values())


def test_scratch_goes_to_the_fast_pool(model: tinyml.Model) -> None:
    library = tinyml.build(model, io="workspace", emit="lib", pools=POOLS)
    for layer in library.metadata["layers"]:
        if 0 < layer["scratch_bytes"] < 1000:
            assert layer["operands"][-1][1] < library.metadata["pools"]["sram"]["begin_bytes"], layer["name"]


def test_the_header_names_each_pool_with_its_size(model: tinyml.Model) -> None:
    library = tinyml.build(model, emit="lib", pools=POOLS)
    header = library.header
    assert re.search(r"struct tvmgen_pools_workspace_pools \{\n  void \*dtcm;\n  void \*sram;\n\};", header)
    for name, pool in library.metadata["pools"].items():
        assert f"_{name.upper()}_ALIGN 16u" in header
        size = "TVMGEN_POOLS_WORKSPACE_SIZE" if name == "sram" else f"{pool['size_bytes']}u"
        assert f"#define TVMGEN_POOLS_{name.upper()}_SIZE {size}\n" in header


def test_pools_that_are_too_small_are_told_with_what_would_fit(model: tinyml.Model) -> None:
    with pytest.raises(tinyml.FitError, match=r"needs [\d,]+ bytes of pool sram with goal balanced, [\d,]+ more than"):
        tinyml.build(model, io="workspace", emit="lib", pools={"dtcm": 200, "sram": 300})


@pytest.mark.parametrize("pools", [{"DTCM": 100}, {"1st": 100}, {"sram": 0}, {"sram": -5}, {"": 1}])
def test_a_pool_has_a_name_and_a_size(pools: dict[str, int]) -> None:
    with pytest.raises(tinyml.TargetError, match="A pool has a name of small letters, digits and _, and a size"):
        BuildOptions(pools=pools)
