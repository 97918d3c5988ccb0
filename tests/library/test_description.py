"""Metadata, benchmark, report and header say the same of a library, and what tools measure of it."""

from __future__ import annotations

import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tvm_tinyml as tinyml
from tests.compile.toolchains import need
from tests.library.builds import library, model, network
from tvm_tinyml.benchmark import bench
from tvm_tinyml.device.timing import GROUPS, MODEL_VERSION
from tvm_tinyml.samples import xorshift_bytes
from tvm_tinyml.session import Session

KEYS = {
    "model": str,
    "target": str,
    "memory": str,
    "on": str,
    "model_version": str,
    "macs": int,
    "macs_executed": int,
    "cycles": int,
    "instructions": int,
    "ram_bytes": {"workspace": int, "stack": int, "static": int, "total": int},
    "flash_bytes": {"weights": int, "code": int, "total": int},
    "reference": {"name": str, "differing": int, "of": int},
    "kernels": {"total": int, "tuned": int},
    "layers": [{"name": str, "op": str, "macs": int, "cycles": int, "instructions": int}],
}
NEED_A_RUN = {"memory", "on", "model_version", "cycles", "instructions", "reference"}


def check_keys(value: Any, keys: Any, where: str = "") -> None:
    """Every key is there, with a value of its type."""
    match keys:
        case dict():
            for key, inner in keys.items():
                assert key in value, f"{where}.{key}"
                check_keys(value[key], inner, f"{where}.{key}")
        case [inner]:
            assert value, where
            for i, item in enumerate(value):
                check_keys(item, inner, f"{where}[{i}]")
        case _:
            assert isinstance(value, keys), f"{where} is {value!r}"


def test_a_benchmark_has_the_fixed_keys() -> None:
    figures = bench(library("kws"), model("kws"))
    check_keys(json.loads(json.dumps(figures)), KEYS)
    assert (figures["memory"], figures["on"], figures["model_version"]) == ("zero-wait", "sim", MODEL_VERSION)
    assert figures["reference"] == {"name": "tflite", "differing": 0, "of": 12}
    assert figures["macs"] == figures["macs_executed"] == network("kws").macs == 2_656_768
    assert figures["stack_bytes_measured"] <= figures["ram_bytes"]["stack"]


def test_the_metadata_has_those_keys_that_need_no_run_with_the_same_values() -> None:
    figures, metadata = bench(library("kws")), library("kws").metadata
    without_layers = {key for key in KEYS if key not in NEED_A_RUN} - {"layers"}
    assert {key: metadata[key] for key in without_layers} == {key: figures[key] for key in without_layers}
    for layer, benched in zip(metadata["layers"], figures["layers"], strict=True):
        assert [layer[key] for key in ("name", "op", "macs")] == [benched[key] for key in ("name", "op", "macs")]
    for role, specs in (("inputs", model("kws").inputs), ("outputs", model("kws").outputs)):
        for tensor, spec in zip(metadata[role], specs, strict=True):
            assert (tensor["name"], tuple(tensor["shape"]), tensor["dtype"]) == (spec.name, spec.shape, spec.dtype)
            assert (tensor["scale"], tensor["zero_point"]) == (spec.scale, spec.zero_point)


def test_totals_are_sums() -> None:
    for weights in ("flash", "ram"):
        built = library("kws", weights=weights)
        metadata = built.metadata
        ram, flash = metadata["ram_bytes"], metadata["flash_bytes"]
        assert ram["total"] == ram["workspace"] + ram["stack"] + ram["static"] == built.ram_bytes
        assert flash["total"] == flash["weights"] + flash["code"] == built.flash_bytes
        assert ram["static"] == (flash["weights"] if weights == "ram" else 0)
        assert metadata["macs_executed"] == sum(layer["macs"] for layer in metadata["layers"])
        assert metadata["kernels"]["total"] == len({layer["kernel"] for layer in metadata["layers"]})


@pytest.mark.parametrize(
    ("target", "weights"), [("cortex-m0plus", "flash"), ("cortex-m4", "flash"), ("cortex-m4", "ram")]
)
def test_ram_and_flash_are_what_arm_none_eabi_size_says(target: str, weights: str, tmp_path: Path) -> None:
    built = library("kws", target, weights=weights)
    archive = tmp_path / "lib.a"
    archive.write_bytes(built.archive)
    printed = subprocess.run([need("arm-none-eabi-size"), "-t", archive], check=True, capture_output=True, text=True)
    text, data, bss = (int(word) for word in printed.stdout.splitlines()[-1].split()[:3])
    flash, ram = built.metadata["flash_bytes"], built.metadata["ram_bytes"]
    assert (text + data, data + bss) == (flash["total"], ram["static"])
    assert data == (flash["weights"] if weights == "ram" else 0)


class Text(HTMLParser):
    """The words of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.feed(html)

    def handle_data(self, data: str) -> None:
        self.words += re.findall(r"\w[\w.,+-]*\w|\w", data)


def test_the_report_shows_the_figures_of_the_metadata() -> None:
    metadata = library("kws").metadata
    words = Text(library("kws").report()).words
    ram, flash = metadata["ram_bytes"], metadata["flash_bytes"]
    macs = metadata["macs"], metadata["macs_executed"], *(layer["macs"] for layer in metadata["layers"])
    numbers = [*macs, *ram.values(), *flash.values()]
    assert {f"{number:,}" for number in numbers} <= set(words)
    assert {layer["name"] for layer in metadata["layers"]} | {"kws", "cortex-m4"} <= set(words)


def test_a_written_library_is_read_back_equal(tmp_path: Path) -> None:
    for options in ({"emit": "both"}, {"emit": "lib"}, {"emit": "c"}, {"io": "workspace", "weights": "ram"}):
        built = library("small", **options)
        folder = tmp_path / "_".join(options.values())
        built.write(folder)
        assert tinyml.Library.read(folder) == built
        assert json.loads((folder / "metadata.json").read_text(encoding="utf-8")) == built.metadata


def test_layers_add_up_to_the_whole() -> None:
    for name, target in (("kws", "cortex-m4"), ("kws", "cortex-m0plus"), ("ad", "cortex-m4"), ("through", "cortex-m4")):
        profile = library(name, target).profile()
        limit = 0.5 if name == "through" else 0.98  # in a tiny network the calls and copies weigh
        for whole, parts in (
            (profile.instructions, [layer.instructions for layer in profile.layers]),
            (profile.cycles, [layer.cycles for layer in profile.layers]),
        ):
            assert limit * whole <= sum(parts) <= whole


def test_groups_of_instructions_add_up_to_a_layer() -> None:
    for layer in library("kws").profile().layers:
        assert tuple(layer.instructions_by_group) == GROUPS
        assert sum(layer.instructions_by_group.values()) == layer.instructions
    convolutions = [layer for layer in library("kws").profile().layers if layer.op == "conv2d"]
    for layer in convolutions:
        shares = layer.instructions_by_group
        assert min(shares["load"], shares["multiply"]) > layer.instructions // 10
        assert layer.macs <= 2 * shares["multiply"] + layer.instructions // 100  # SMLAD does two at once
    # Bytes are widened, but for a kernel that keeps its weights as halves.
    widened = [layer.instructions_by_group["widen"] > layer.instructions // 10 for layer in convolutions]
    assert sum(widened) >= len(convolutions) - 1


def test_flash_that_waits_costs_what_the_profile_says() -> None:
    quick, slow = (library("ad").profile(memory=memory) for memory in ("zero-wait", "l4r5zi-120"))
    assert (quick.memory, quick.clock_hz, quick.flash_stall_cycles) == ("zero-wait", None, 0)
    assert (slow.memory, slow.clock_hz) == ("l4r5zi-120", 120_000_000)
    assert slow.cycles == quick.cycles + slow.flash_stall_cycles
    # Every constant is read once, in lines of 8 bytes at 6 cycles each.
    constants = library("ad").metadata["flash_bytes"]["weights"]
    assert slow.flash_stall_cycles == pytest.approx(constants / 8 * 6, rel=0.02)
    for before, after in zip(quick.layers, slow.layers, strict=True):
        assert after.cycles == before.cycles + after.flash_stall_cycles
    in_ram = library("ad", weights="ram").profile(memory="l4r5zi-120")
    assert in_ram.flash_stall_cycles < slow.flash_stall_cycles / 20


def test_a_library_is_profiled_with_the_memory_that_it_was_built_for() -> None:
    built = library("small", memory="l4r5zi-120")
    assert built.profile() == library("small").profile(memory="l4r5zi-120")
    assert built.profile(memory="zero-wait") == library("small").profile()


@pytest.mark.parametrize(("name", "io"), [("kws", "caller"), ("kws", "workspace"), ("through", "caller")])
def test_called_layer_by_layer_a_network_does_one_inference(name: str, io: str) -> None:
    """Also where an inference before has overwritten the inputs, and where instructions depend on the data."""
    built = library(name, io=io)
    first, second = (network(name).random_inputs(seed) for seed in (5, 6))
    session = Session(built.metadata, built.objects)
    session.run(first)
    calls = session.run_layers(second)
    for output, expected in zip(session.outputs(), network(name).run(second), strict=True):
        np.testing.assert_array_equal(output, expected)
    whole = session.run(second).call.instructions
    session.close()
    counts = [call.instructions if call else 0 for call in calls]
    assert [call is None for call in calls] == [layer["kernel"] is None for layer in built.metadata["layers"]]
    if name == "kws":
        assert sum(counts) == pytest.approx(whole, rel=0.0005)
    assert [layer.instructions for layer in built.profile(second[0]).layers] == counts


def test_the_input_of_benchmarks_is_the_documented_stream() -> None:
    """xorshift32 from state 1: 270369, 67634689, 2647435461, 307599695 (Marsaglia, Xorshift RNGs, 2003)."""
    assert xorshift_bytes(4).view(np.uint8).tolist() == [n & 255 for n in (270369, 67634689, 2647435461, 307599695)]


def test_a_benchmark_of_several_inputs_gives_each_its_part_of_the_stream() -> None:
    figures = bench(library("pair"), model("pair"))
    assert figures["reference"] == {"name": "tflite", "differing": 0, "of": 6}


def test_the_report_shows_instructions_by_layer_and_the_sizes_of_the_files() -> None:
    kws = library("kws")
    words = Text(kws.report()).words
    profile = kws.profile()
    for layer in profile.layers:
        assert f"{layer.instructions:,}" in words, layer
    assert f"{profile.instructions:,}" in words
    assert f"{len(kws.archive):,}" in words


def test_without_a_simulator_the_report_has_no_instructions(request: pytest.FixtureRequest) -> None:
    instructions = f"{library('kws').profile().instructions:,}"
    request.getfixturevalue("without_engine")
    assert instructions not in Text(library("kws").report()).words


def test_calls_name_the_tensor_that_they_make() -> None:
    """All in front of a layer's own kernel, such as its border, belong to it; so do the stripes of `--goal ram`."""
    names = {str(b.var.name) for block in model("kws").module["main"].body.blocks for b in block.bindings}
    for built in (library("kws"), tinyml.build(model("kws"), "cortex-m4", goal="ram", emit="lib")):
        calls = built.metadata["layers"]
        made = [call["tensor"] for call in calls]
        assert all(tensor in names or re.sub(r"(?<=\D)\d$", "", tensor) in names for tensor in made)
        assert made == sorted(made, key=made.index), "calls that make a tensor stand together"
