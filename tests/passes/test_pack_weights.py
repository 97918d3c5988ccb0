"""Weights of four bits: what is stored, what is computed, and what is left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tvm_ffi
from numpy.typing import NDArray
from tvm import IRModule, relax

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph, Network
from tests.compile.toolchains import HostLibrary
from tests.passes.graphs import PLAIN, integer
from tests.passes.narrow_weights import KINDS, WAYS, weights, words
from tests.simulated import needs_simulator
from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.pack_weights import PART_BYTES, SplitNarrowLayers, packed, stored_bytes
from tvm_tinyml.passes.weight_codes import Coding, Form, Kind, coding_of, decoded
from tvm_tinyml.reference.evaluate import evaluate
from tvm_tinyml.verification import verify


def narrow(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.int8]:
    return np.random.default_rng(seed).integers(-7, 8, shape).astype(np.int8)


def convolution(channels: int, weight: NDArray[np.int8] | None = None) -> IRModule:
    weight = narrow((channels, 3, 3, 16)) if weight is None else weight
    ones = np.ones(channels, np.int32)
    rest = [relax.const(array) for array in (5 * ones, ones * (1 << 30), -7 * ones)]
    plain = {"strides": [1, 1], "padding": [1, 1, 1, 1], "dilation": [1, 1], "groups": 1, "input_zero_point": -3}
    return integer(lambda x: integer_ops.conv2d(x, relax.const(weight), *rest, **PLAIN, **plain), (1, 6, 5, 16))


def names(module: IRModule) -> list[str]:
    return [str(b.value.op.name) for block in module["main"].body.blocks for b in block.bindings]


@pytest.mark.parametrize(("form", "pairs"), WAYS)
@pytest.mark.parametrize("dtype", [np.int8, np.int32])
def test_a_constant_is_packed_where_it_is_narrow(
    form: Form, pairs: bool, dtype: type, rng: np.random.Generator
) -> None:
    numbers, coding = words(rng, form, pairs=pairs)
    values = numbers.view(dtype)
    small = packed(values, coding)
    assert small is not None
    assert (small.form, small.pairs) == (form, pairs)
    assert stored_bytes([relax.const(values)], coding) == small.words.nbytes < 0.75 * values.nbytes
    module = integer(lambda _: small.unpacked(values.shape, 8 * values.itemsize), (1,))
    np.testing.assert_array_equal(evaluate(module, [np.zeros(1, np.int8)])[0], values)


@pytest.mark.parametrize("kind", [Kind.PLAIN, Kind.TABLE])
def test_weights_with_flipped_sign_bits_are_packed_by_a_table(kind: Kind, rng: np.random.Generator) -> None:
    kept = weights(rng, kind, (40, 64))
    coding = coding_of(kept)
    assert coding is not None
    small = packed(kept ^ -128, coding)
    assert small is not None
    assert small.form is Form.TABLE
    np.testing.assert_array_equal(decoded(small.words, small.form, pairs=small.pairs).reshape(kept.shape), kept ^ -128)


@pytest.mark.parametrize(
    "values",
    [
        narrow((100,)),  # little
        np.arange(-128, 127, dtype=np.int8).repeat(4),  # wide
        narrow((1001,)),  # no words
        narrow((1000,)).astype(np.int16),
    ],
)
def test_what_saves_little_is_left_alone(values: NDArray[np.generic]) -> None:
    coding = Coding(Kind.PLAIN)
    assert packed(values, coding) is None
    assert stored_bytes([relax.const(values)], coding) == values.nbytes


def test_a_large_layer_is_computed_in_parts() -> None:
    module = convolution(200)
    split = SplitNarrowLayers()(module)
    parts = -(-200 * 144 // PART_BYTES)
    assert names(split) == ["tinyml.conv2d"] * parts + ["relax.concat"]
    x = np.random.default_rng(1).integers(-128, 128, (1, 6, 5, 16)).astype(np.int8)
    np.testing.assert_array_equal(evaluate(split, [x])[0], evaluate(module, [x])[0])
    assert tvm_ffi.structural_equal(SplitNarrowLayers()(split), split), "twice changes nothing more"


def test_small_and_wide_layers_stay_whole() -> None:
    wide = np.random.default_rng(2).integers(-127, 128, (200, 3, 3, 16)).astype(np.int8)
    for module in (convolution(20), convolution(200, wide)):
        assert tvm_ffi.structural_equal(SplitNarrowLayers()(module), module)


def network(kind: Kind | None = Kind.PLAIN) -> Network:
    """Convolution, depthwise, large pointwise and dense layers, with weights of four bits of a kind, or of eight."""
    graph = Int8Graph(5, samples=2)

    def some(*shape: int) -> NDArray[np.int8]:
        return graph.rng.integers(-127, 128, shape).astype(np.int8) if kind is None else weights(graph.rng, kind, shape)

    x = graph.input((1, 9, 8, 3), (0.05, -4))
    x = graph.conv(x, 64, (3, 3), strides=(2, 2), weights=some(64, 3, 3, 3), activation="RELU")
    x = graph.conv(graph.depthwise(x, (3, 3), activation="RELU"), 160, (1, 1), weights=some(160, 1, 1, 64))
    x = graph.mean(x, (1, 2))
    return graph.finish("narrow", graph.dense(graph.dense(x, 100, weights=some(100, 160)), 10))


def unpacks(library: tinyml.Library) -> bool:
    return any("Unpack" in layer["schedule"] for layer in library.metadata["layers"])


@needs_simulator
@pytest.mark.parametrize(
    ("target", "goal", "kind"),
    [
        *((core, "time", kind) for kind in KINDS for core in ("cortex-m4", "cortex-m3", "cortex-m55", "cortex-m0plus")),
        *((core, "time", Kind.TABLE) for core in ("cortex-m7", "cortex-m33+nodsp")),
        *(("cortex-m4", "flash", kind) for kind in (Kind.PLAIN, Kind.SCALED)),
        ("cortex-m0plus", "flash", Kind.TABLE),
    ],
)
def test_networks_compute_the_same_from_less_flash(kind: Kind, target: str, goal: str) -> None:
    model = tinyml.load(network(kind).data, name="narrow")
    library = tinyml.build(model, target, goal=goal, emit="lib")
    result = verify(model, library)
    assert (result.differing, result.samples) == (0, 3)
    plain = tinyml.build(tinyml.load(network(None).data, name="wide"), target, goal=goal, emit="lib")
    stored, before = (each.metadata["flash_bytes"]["weights"] for each in (library, plain))
    assert unpacks(library)
    assert stored < (0.75 if kind is Kind.PLAIN else 0.8) * before


@needs_simulator
@pytest.mark.parametrize("kind", KINDS)
def test_the_c_form_does_the_same(kind: Kind, tmp_path: Path) -> None:
    made = network(kind)
    library = tinyml.build(tinyml.load(made.data, name="narrow"), "cortex-m4")
    inputs = made.random_inputs(1)
    np.testing.assert_array_equal(HostLibrary(library, tmp_path).run(inputs)[0].ravel(), made.run(inputs)[0].ravel())


def test_weights_of_eight_bits_are_never_packed() -> None:
    library = tinyml.build(tinyml.load(network(None).data, name="wide"), "cortex-m4", emit="lib")
    assert not unpacks(library)
