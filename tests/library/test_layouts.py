"""What is said of the way in which each layer is computed."""

from __future__ import annotations

import pytest

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph
from tests.library.builds import library
from tvm_tinyml.layouts import layouts
from tvm_tinyml.schedules import cortex_m

RULES = {
    type(rule).__name__
    for rules in (cortex_m.DSP_RULES, cortex_m.SCALAR_RULES, cortex_m.NARROW_RULES)
    for rule in rules
}


@pytest.mark.parametrize(
    "target", ["cortex-m4", "cortex-m4+nofp", "cortex-m7", "cortex-m3", "cortex-m0plus", "cortex-m55"]
)
def test_every_recipe_says_how_it_computes_and_no_schedule_does(target: str) -> None:
    for name in ("kws", "ad"):
        for layer in library(name, target).metadata["layers"]:
            assert (layer["method"] is None) == (layer["schedule"] in RULES), layer
    assert any(layer["method"] for layer in library("kws", target).metadata["layers"])


def test_a_result_is_read_as_it_was_written() -> None:
    found = layouts(library("kws", goal="time"))
    assert found["tensors"] == {"NHWC": 9, "planes": 4}
    writes = {layer["name"]: layer["writes"] for layer in found["layers"]}
    reads = {layer["name"]: layer["reads"] for layer in found["layers"]}
    for i in range(4):
        assert writes[f"conv2d_{i}"] == reads[f"depthwise_conv2d_{i}"] == "planes"
        assert writes[f"depthwise_conv2d_{i}"] == reads[f"conv2d_{i + 1}"] == "NHWC"  # rows of 5 pixels are no tiles
    assert layouts(library("kws", goal="balanced"))["tensors"] == {"NHWC": 13}


def test_planes_are_compared_with_strips_and_their_estimate_is_near() -> None:
    layers = [layer for layer in layouts(library("kws", goal="time"))["layers"] if layer["reads"] == "planes"]
    assert len(layers) == 4
    for layer in layers:
        (taken, cycles), *others = layer["estimates"].items()
        assert taken == "planes"
        assert cycles < min(cost for _, cost in others)
        assert cycles == pytest.approx(layer["cycles"], rel=0.05)
        assert layer["packing_cycles"] == layer["scratch_bytes"] == 0


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m3"])
def test_packing_is_a_part_of_the_cycles_that_functions_add_up_to(target: str) -> None:
    found = layouts(library("kws", target))
    profile = library("kws", target).profile()
    assert [layer["cycles"] for layer in found["layers"]] == [layer.cycles for layer in profile.layers]
    for layer in found["layers"]:
        assert sum(layer["cycles_by_function"].values()) == layer["cycles"]
    convolutions = [layer for layer in found["layers"] if layer["op"].endswith("conv2d")]
    assert len(convolutions) == 9
    for layer in convolutions:
        assert 0.005 * layer["cycles"] < layer["packing_cycles"] < 0.35 * layer["cycles"], layer


def test_winograds_forms_are_compared_with_the_matrix_product_and_the_taken_one_is_near_the_fastest() -> None:
    layers = {layer["name"]: layer for layer in layouts(library("ic", goal="time"))["layers"]}
    taken = [layer for layer in layers.values() if layer["rule"] == "Winograd"]
    assert len(taken) == 4
    for layer in taken:
        (name, cycles), *others = layer["estimates"].items()
        assert f"Winograd {name}, " in layer["algorithm"]
        assert cycles <= 1.02 * min(cost for _, cost in others) < layer["estimates"]["matrix product"]
        assert any(way.startswith("F(2x2)") for way, _ in others)
        # An estimate is one: within a tenth of what is counted.
        assert cycles == pytest.approx(layer["cycles"], rel=0.1)


def test_planes_of_a_dilated_convolution_name_their_phases() -> None:
    graph = Int8Graph(3, samples=2)
    x = graph.input((1, 12, 12, 8), (0.5, 3))
    network = graph.finish("dilated", graph.depthwise(x, (3, 3), dilation=(1, 3), activation="RELU"))
    built = tinyml.build(tinyml.load(network.data, name="dilated"), "cortex-m4", emit="lib")
    (layer,) = (layer for layer in layouts(built)["layers"] if layer["rule"] == "Depthwise")
    assert layer["algorithm"].endswith(", 3 phases of the dilation")
    assert list(layer["estimates"].values()) == sorted(layer["estimates"].values())
    assert layer["scratch"] == next(iter(layer["estimates"]))


def test_helium_says_where_windows_are_read() -> None:
    layers = layouts(library("ic", "cortex-m55"))["layers"]
    for layer in layers:
        if layer["rule"] == "HeliumConv" and layer["estimates"]:
            assert layer["algorithm"].endswith(next(iter(layer["estimates"])))
            assert bool(layer["scratch"]) == (next(iter(layer["estimates"])) == "windows copied")
    assert any(layer["estimates"] for layer in layers)


def test_without_recipes_the_rule_stands_for_the_algorithm() -> None:
    found = layouts(library("kws", goal="flash"))
    layers = [layer for layer in found["layers"] if layer["rule"] != "Pad"]  # the one recipe of that goal
    assert [layer["algorithm"] for layer in layers] == [f"loops by the rule {layer['rule']}" for layer in layers]
    assert not any(layer["packing_cycles"] for layer in found["layers"])


def test_a_copy_is_called_one() -> None:
    copies = [layer for layer in layouts(library("through"))["layers"] if layer["rule"] is None]
    assert [layer["algorithm"] for layer in copies] == ["copy"]


def test_without_a_simulator_there_are_no_cycles(request: pytest.FixtureRequest) -> None:
    library("kws")
    request.getfixturevalue("without_engine")
    found = layouts(library("kws"))
    assert (found["memory"], found["model_version"]) == (None, None)
    assert {layer["cycles"] for layer in found["layers"]} == {None}
    assert {layer["packing_cycles"] for layer in found["layers"]} == {None}
    assert found["layers"][1]["algorithm"].startswith("matrix product")
