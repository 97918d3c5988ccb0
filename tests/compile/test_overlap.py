"""Layers that write where they read: with inputs and outputs in the pool, one operator lies over its own input."""

from __future__ import annotations

import numpy as np
import pytest

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph, Network
from benchmarks.layer_shapes import layer_shapes
from tests.compile.cores import runnable
from tests.compile.operators import generators, models_of

GOALS = ("time", "balanced", "ram")


def check(network: Network, model: tinyml.Model, core: str, goal: str, seed: int) -> int:
    """Compare bytes with the reference; return how many bytes input and output share."""
    library = tinyml.build(model, core, emit="lib", goal=goal, io="workspace")
    inputs = network.random_inputs(seed)
    outputs = library.run({spec.name: x for spec, x in zip(model.inputs, inputs, strict=True)})
    for output, expected in zip(outputs.values(), network.run(inputs), strict=True):
        np.testing.assert_array_equal(output, expected.reshape(output.shape), f"{core}, {goal}, seed {seed}")
    tensors = [*library.metadata["inputs"], *library.metadata["outputs"]]
    alone = sum(tensor["size_bytes"] for tensor in tensors)
    spans = [(t["workspace_offset"], t["workspace_offset"] + t["size_bytes"]) for t in tensors]
    return alone - len({byte for span in spans for byte in range(*span)})


@pytest.mark.parametrize("name", generators())
@pytest.mark.parametrize("core", runnable(["cortex-m4", "cortex-m55"]))
def test_an_operator_over_its_own_input_gives_the_reference_bytes(name: str, core: str) -> None:
    for seed, network, model in models_of(name, 2 if core == "cortex-m4" else 1):
        for goal in GOALS if core == "cortex-m4" else GOALS[:1]:
            check(network, model, core, goal, seed)


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m7", "cortex-m3"])
@pytest.mark.parametrize("goal", GOALS)
def test_layers_of_all_shapes_over_their_own_input(core: str, goal: str) -> None:
    shared = 0
    for seed, shape in enumerate(layer_shapes()[: 16 if core == "cortex-m4" else 6]):
        network = shape.network()
        shared += check(network, tinyml.load(network.data, name="m"), core, goal, seed)
    assert shared > 0


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7"])
@pytest.mark.parametrize("goal", ["time", "flash"])
def test_a_border_over_its_own_image_beside_kernels_whose_pointers_are_apart(core: str, goal: str) -> None:
    graph = Int8Graph(5)
    x = graph.slice(graph.input((1, 6, 5, 3), (0.05, 5)), (0, 0, 1, 0), (1, 6, 4, 3))
    y = graph.slice(graph.pad(x, [(0, 0), (1, 1), (0, 1), (0, 0)]), (0, 0, 0, 0), (1, 8, 4, 3))
    network = graph.finish("border", y)
    check(network, tinyml.load(network.data, name="m"), core, goal, 0)
