"""InsertQuantization: the canonical form comes out, and computes what its scales say."""

from __future__ import annotations

import numpy as np
import pytest
import tvm_ffi

from benchmarks.int8_graph import Int8Graph
from tests.quantization.networks import NETWORKS, FloatNetwork, of
from tvm_tinyml.passes import FoldQuantization
from tvm_tinyml.passes.float_groups import groups
from tvm_tinyml.passes.insert_quantization import InsertQuantization, Scheme
from tvm_tinyml.quantization.attempt import nearest_integers
from tvm_tinyml.quantization.layers import Simulation
from tvm_tinyml.quantization.observers import OBSERVERS
from tvm_tinyml.quantization.ranges import ranges_of
from tvm_tinyml.quantization.scheme import activations, shared_tensors
from tvm_tinyml.quantization.statistics import observe, traces
from tvm_tinyml.reference.evaluate import evaluate


def scheme(network: FloatNetwork) -> Scheme:
    module, inputs = network.model.module, [network.samples]
    tensors = shared_tensors(module)
    scales = activations(tensors, ranges_of(observe(module, inputs), tensors, OBSERVERS["min-max"], 256), "int8")
    return Scheme(scales, Simulation(module, traces(module, inputs), scales, nearest_integers).weights)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_and_weight_has_its_integers(name: str) -> None:
    network = NETWORKS[name]()
    plan = scheme(network)
    module = InsertQuantization(plan)(network.model.module)
    variables = {b.var.name: b for block in module["main"].body.blocks for b in block.bindings}
    for group in groups(network.model.module["main"]):
        if group.name in variables and not group.name.endswith("_split"):
            assert str(variables[group.name].var.ty.dtype) == "int8", group.name
    FoldQuantization()(module)  # which refuses what is left in floats


@pytest.mark.parametrize("name", NETWORKS)
def test_twice_from_the_same_gives_the_same(name: str) -> None:
    network = NETWORKS[name]()
    plan = scheme(network)
    first, second = (InsertQuantization(plan)(network.model.module) for _ in range(2))
    assert tvm_ffi.structural_equal(first, second)


def test_a_scale_decides_what_integers_mean() -> None:
    network = NETWORKS["cnn"]()
    plan = scheme(network)
    module = InsertQuantization(plan)(network.model.module)
    (parameter,) = module["main"].params
    of = plan.activations[str(parameter.name)]
    x = np.clip(np.round(network.samples[0] / of.scale) + of.zero_point, -128, 127).astype(np.int8)
    made = evaluate(module, [x])[0]
    folded = evaluate(FoldQuantization()(module), [x])[0]
    # Single roundings add up over the layers.
    assert np.abs(made.astype(int) - folded).max() <= 2


def test_a_concat_of_something_with_a_fixed_scale_requantizes_it() -> None:
    graph = Int8Graph(4, samples=2)
    x = graph.input((1, 4, 4, 2), (0.05, 0))
    y = graph.concat([graph.logistic(x), graph.conv(x, 2, (1, 1))], 3)
    network = of(graph.finish("mixed", y))
    module = InsertQuantization(scheme(network))(network.model.module)
    assert any(str(b.var.name).endswith("_requantized") for block in module["main"].body.blocks for b in block.bindings)
    FoldQuantization()(module)


def test_a_tensor_without_a_scale_is_an_error() -> None:
    network = NETWORKS["cnn"]()
    plan = scheme(network)
    with pytest.raises(Exception, match="conv_2d_1"):
        InsertQuantization(Scheme({k: v for k, v in plan.activations.items() if k != "conv_2d_1"}, plan.weights))(
            network.model.module
        )
