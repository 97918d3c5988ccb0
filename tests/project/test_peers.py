"""The tables beside the peers: rows by operator, and what is missing is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.cmsis_nn import CmsisNN, Layer
from benchmarks.peers import COLUMNS, about, by_operator, integer_layers, layer_rows, markdown, measure, total_row
from tests.library.builds import library, model, network
from tvm_tinyml.errors import DeviceError


def layer(op: str) -> Layer:
    return Layer(op, [], {}, np.zeros(1, np.int8))


def test_padding_counts_with_the_operator_behind_it_and_what_is_left_with_the_last() -> None:
    names = ("pad2d", "conv2d", "depthwise_conv2d", "pad2d", "conv2d", "copy")
    measured = [{"op": op, "cycles": 10**i} for i, op in enumerate(names)]
    operators = [layer("conv2d"), layer("depthwise_conv2d"), layer("conv2d")]
    assert by_operator(operators, measured) == [11, 100, 111_000]


def test_a_library_that_computes_other_operators_is_an_error() -> None:
    with pytest.raises(AssertionError, match="in their order"):
        by_operator([layer("dense")], [{"op": "conv2d", "cycles": 1}])


@pytest.mark.parametrize("name", ["kws", "ic", "ad"])
def test_operators_hold_what_the_network_computes(name: str) -> None:
    layers = integer_layers(model(name), library(name))
    assert sum(each.macs for each in layers) == network(name).macs
    assert len(by_operator(layers, [{"op": x["op"], "cycles": 1} for x in library(name).metadata["layers"]])) == len(
        layers
    )


def test_layers_without_a_peer_are_in_no_sum() -> None:
    def row(cycles: int, theirs: int | None) -> dict[str, object]:
        return {"op": "x", "output": [1, 2], "macs": 4, "cycles": cycles, "cmsis_nn": theirs and {"cycles": theirs}}

    figures = {"network": "n", "target": "cortex-m4", "memory": "zero-wait", "cycles": 35}
    figures["layers"] = [row(10, 40), row(20, 30), row(5, None)]
    *_, alone, last = layer_rows(figures)
    assert alone == ("x", "1x2", 4, 5, 1.25, None, None, None)
    assert last == ("sum of these", "", 8, 30, 3.75, 70, 8.75, 70 / 30)
    whole = {"tflm_cmsisnn": {"cortex-m4": {"cycles_zero_wait": 105}}, "best_published_on_board": {"cortex-m4": 50}}
    assert total_row(figures, whole) == ("n", 35, 70, 2.0, 105, 3.0, None, None, 50)
    assert total_row(figures, {}) == ("n", 35, 70, 2.0, None, None, None, None, None)
    assert markdown(COLUMNS, [alone]).splitlines()[-1] == "| x | 1x2 | 4 | 5 | 1.25 | - | - | - |"


def test_a_network_with_constant_channels_is_shown_with_and_without_them() -> None:
    figures = measure("vww-dead-80", "cortex-m4", ["zero-wait"], None)
    assert [each["network"] for each in figures] == ["vww-dead-80", "vww-dead-80, all channels"]
    removed, whole = figures
    assert removed["macs_executed"] < whole["macs_executed"] == whole["macs"] == removed["macs"]
    for each in figures:
        assert sum(row["cycles"] for row in each["layers"]) == pytest.approx(each["cycles"], rel=0.01)
    assert all(a["cycles"] <= b["cycles"] for a, b in zip(removed["layers"], whole["layers"], strict=True))


def test_what_is_missing_is_said() -> None:
    lines = "\n".join(about(None, {}, "1"))
    assert "CMSIS-NN is missing: give a checkout with --cmsis-nn." in lines
    assert "Whole programs are missing: there is no baselines/peers.json" in lines
    assert "channels that are constant are not computed" in lines
    assert "goal time, io caller, weights flash; cycles of one inference by timing model 1." in lines


def test_a_folder_without_cmsis_nn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DeviceError, match=r"is no checkout of CMSIS-NN: there is no Include/arm_nnfunctions\.h\. Clone"
    ):
        CmsisNN(tmp_path)
