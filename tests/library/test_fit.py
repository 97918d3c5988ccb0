"""A library that is larger than its device is refused, with what would fit."""

from __future__ import annotations

import re

import pytest

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph
from tvm_tinyml.options import BuildOptions


@pytest.fixture(scope="module")
def model() -> tinyml.Model:
    graph = Int8Graph(0)
    x = graph.conv(graph.input((1, 24, 24, 3), (0.05, -3)), 16, (3, 3), activation="RELU")
    y = graph.add(graph.conv(graph.conv(x, 16, (3, 3), activation="RELU"), 16, (3, 3)), x)
    return tinyml.load(graph.finish("residual", graph.avg_pool(y, (24, 24))).data, name="residual")


def ram_bytes(model: tinyml.Model, **options: object) -> int:
    """Return all of the RAM of a build with inputs and outputs in the pool."""
    library = tinyml.build(model, io="workspace", emit="lib", **options)  # type: ignore[arg-type]
    return int(library.metadata["ram_bytes"]["total"])


def test_to_keep_to_the_ram_layers_are_computed_in_stripes(model: tinyml.Model) -> None:
    whole = ram_bytes(model)
    assert ram_bytes(model, ram_limit_bytes=whole) == whole
    assert ram_bytes(model, ram_limit_bytes=whole - 1) < whole


def test_a_library_that_does_not_fit_tells_the_goal_that_would(model: tinyml.Model) -> None:
    least = ram_bytes(model, goal="ram")
    with pytest.raises(tinyml.FitError, match=r"Would fit: --goal ram \(RAM [\d,]+, flash [\d,]+ bytes, \+") as caught:
        ram_bytes(model, ram_limit_bytes=least, goal="time")
    error = caught.value
    assert error.available_bytes == least < error.needed_bytes
    numbers = [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", str(error))]
    assert numbers[:3] == [error.needed_bytes, error.needed_bytes - least, least]
    assert re.search(r"Largest: the output of \w+, [\d,]+ bytes\.", str(error))


def test_where_no_goal_fits_the_least_is_told(model: tinyml.Model) -> None:
    with pytest.raises(tinyml.FitError, match=r"No goal would fit: the least is [\d,]+ bytes of RAM, and [\d,]+ of"):
        ram_bytes(model, ram_limit_bytes=1000)
    with pytest.raises(tinyml.FitError, match=r"of flash with goal balanced.* Largest: the constants of"):
        ram_bytes(model, flash_limit_bytes=1000)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_above_zero(limit: int) -> None:
    with pytest.raises(tinyml.TargetError, match=f"takes a number of bytes above 0, and {limit} is given"):
        BuildOptions(ram_limit_bytes=limit)
