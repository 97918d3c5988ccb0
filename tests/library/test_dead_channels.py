"""Libraries without dead channels: fewer multiply-accumulates and constants, the same bytes."""

from __future__ import annotations

from functools import cache

import pytest

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph
from tests.library.builds import model
from tvm_tinyml.benchmark import bench
from tvm_tinyml.inspection import inspect
from tvm_tinyml.library import Library
from tvm_tinyml.model import Model

PASS = "tinyml.RemoveDeadChannels"
MACS = 6 * 6 * (3 * 8 + 9 * 8 + 8 * 4)
LEFT = 6 * 6 * (3 * 5 + 9 * 5 + 5 * 4)


@cache
def network() -> Model:
    """Return three convolutions: three of eight channels between them are constant."""
    graph = Int8Graph(0)
    x = graph.conv(graph.input((1, 6, 6, 3)), 8, (1, 1), dead=[0, 3, 7], activation="RELU")
    x = graph.depthwise(x, (3, 3), dead=[0, 3, 7])
    return tinyml.load(graph.finish("dead", graph.conv(x, 4, (1, 1))).data, name="dead")


@cache
def built(*disabled: str) -> Library:
    """Return the network's library without some passes."""
    return tinyml.build(network(), "cortex-m4", disabled_passes=disabled)


def test_macs_are_the_models_and_those_executed_are_fewer() -> None:
    figures = bench(built(), network())
    assert (figures["macs"], figures["macs_executed"]) == (MACS, LEFT)
    assert (built().metadata["macs"], built().metadata["macs_executed"]) == (MACS, LEFT)
    assert sum(layer["macs"] for layer in figures["layers"]) == LEFT
    assert figures["reference"] == {"name": "tflite", "differing": 0, "of": 6 * 6 * 4}


def test_a_build_without_the_pass_executes_all() -> None:
    figures = bench(built(PASS), network())
    assert (figures["macs"], figures["macs_executed"]) == (MACS, MACS)
    assert figures["reference"]["differing"] == 0
    assert built(PASS).metadata["flash_bytes"]["weights"] > built().metadata["flash_bytes"]["weights"]
    assert built(PASS).metadata["options"]["disabled_passes"] == [PASS]


def test_inspect_shows_what_is_left_of_each_layer() -> None:
    summary = inspect(network())
    assert (summary["macs"], summary["macs_executed"]) == (MACS, LEFT)
    assert (summary["weight_elements"], summary["weight_elements_executed"]) == (MACS // 36, LEFT // 36)
    assert [layer["dead_channels"] for layer in summary["layers"]] == [3, 3, 0]
    assert summary["dead_share"] == pytest.approx(6 / 20)
    for what in ("macs", "weight_bytes", "weight_elements"):
        for key in (what, f"{what}_executed"):
            assert summary[key] == sum(layer[key] for layer in summary["layers"])


def test_inspect_finds_nothing_dead_in_a_network_that_has_nothing_dead() -> None:
    summary = inspect(model("kws"))
    assert summary["macs"] == summary["macs_executed"] == 2_656_768
    assert summary["weight_bytes"] == summary["weight_bytes_executed"]
    assert summary["dead_share"] == 0


def test_inspect_and_a_build_agree_on_a_layer_that_becomes_several() -> None:
    graph = Int8Graph(0)
    x = graph.conv(graph.input((1, 5, 6, 3)), 8, (1, 1), dead=[0, 5], activation="RELU")
    x = graph.transpose_conv(x, 8, (3, 3), strides=(2, 2), dead=[1, 2, 6])
    decoder = tinyml.load(graph.finish("decoder", graph.conv(x, 4, (1, 1))).data, name="decoder")
    summary = inspect(decoder)
    metadata = tinyml.build(decoder, "cortex-m4", emit="lib").metadata
    assert (summary["macs"], summary["macs_executed"]) == (metadata["macs"], metadata["macs_executed"])
    assert summary["macs_executed"] < summary["macs"]
    assert [layer["dead_channels"] for layer in summary["layers"]] == [2, 3, 0]
