"""`--goal ram`: what is computed stripe by stripe gives the same bytes in less RAM."""

from __future__ import annotations

import numpy as np
import pytest

import tvm_tinyml as tinyml
from benchmarks.networks import image_classification, visual_wake_words
from tests.image_networks import image_network
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.passes.cut_into_stripes import is_segment
from tvm_tinyml.pipeline import integer_graph
from tvm_tinyml.stripes import choices


@pytest.mark.parametrize("io", ["caller", "workspace"])
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m0plus"])
@pytest.mark.parametrize("seed", range(4))
def test_random_networks_give_the_reference_bytes(seed: int, core: str, io: str) -> None:
    network = image_network(seed)
    library = tinyml.build(tinyml.load(network.data, name="m"), core, goal="ram", io=io, emit="lib")
    inputs = network.random_inputs(seed)
    named = {tensor["name"]: x for tensor, x in zip(library.metadata["inputs"], inputs, strict=True)}
    for output, expected in zip(library.run(named).values(), network.run(inputs), strict=True):
        np.testing.assert_array_equal(output, expected.reshape(output.shape))


@pytest.mark.parametrize("network", [image_classification, visual_wake_words])
def test_choices_are_segments_that_trade_bytes_for_work(network: object) -> None:
    model = tinyml.load(network().data, name="m")  # type: ignore[operator]
    graph = integer_graph(model, BuildOptions(goal="ram"))
    found = choices(graph, io_in_workspace=True)
    assert len(found) > 1
    assert all(is_segment(graph, segment) for choice in found for segment in choice.segments)
    peaks, extra = ([getattr(choice, name) for choice in found] for name in ("peak_bytes", "extra_macs"))
    assert peaks == sorted(peaks)
    assert extra == sorted(extra, reverse=True)
    assert extra[-1] == 0


def test_a_residual_network_needs_less_than_two_of_its_largest_tensors() -> None:
    network = image_classification()
    library = tinyml.build(tinyml.load(network.data), "cortex-m4", goal="ram", io="workspace", emit="lib")
    assert library.metadata["ram_bytes"]["workspace"] < 2 * 32 * 32 * 16
    inputs = network.random_inputs(0)
    outputs = library.run({library.metadata["inputs"][0]["name"]: inputs[0]})
    np.testing.assert_array_equal(next(iter(outputs.values())).ravel(), network.run(inputs)[0].ravel())
