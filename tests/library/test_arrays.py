"""How a user's arrays become a library's: quantized as the reference rounds, and put back as they came."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from tests.library.builds import library, network
from tvm_tinyml.arrays import Samples, count_differing, fit, join, npz_bytes
from tvm_tinyml.errors import InputError

TENSOR: dict[str, Any] = {"name": "x", "shape": [2], "dtype": "int8", "scale": 0.5, "zero_point": 3}


@pytest.mark.parametrize(
    ("real", "integer"),
    [(0.0, 3), (0.25, 4), (-0.25, 2), (0.24, 3), (-0.24, 3), (0.75, 5), (1e30, 127), (-1e30, -128), (62.0, 127)],
)
def test_floats_round_half_away_from_zero_and_saturate(real: float, integer: int) -> None:
    for dtype in (np.float16, np.float32, np.float64):
        if abs(real) < float(np.finfo(dtype).max):
            (array,), _ = fit(np.array([real, 0.0], dtype), [TENSOR])
            assert array.tolist() == [[integer, 3]]


def test_quantized_inputs_equal_the_quantize_operator_of_the_reference(rng: np.random.Generator) -> None:
    from benchmarks.int8_graph import Int8Graph

    graph = Int8Graph(5, samples=2)
    x = graph.input((1, 2000), (1.0, 0), "float32")
    scale = float(np.float32(0.0123))
    operator = graph.finish("quantize", graph.quantize(x, (scale, -7)))
    values = rng.uniform(-2.0, 2.0, (1, 2000)).astype(np.float32)
    (array,), _ = fit(values, [{**TENSOR, "shape": [1, 2000], "scale": scale, "zero_point": -7}])
    exact = [Fraction(float(v)) / Fraction(scale) for v in values[0]]
    near_half = np.array([abs(abs(f - int(f)) - Fraction(1, 2)) < Fraction(1, 10**4) for f in exact])
    reference = operator.run([values])[0]
    assert (array[0] == reference)[:, ~near_half].all()  # the operator divides in float32, which decides near a half
    assert near_half.sum() < 10


def test_unsigned_inputs_take_their_own_range() -> None:
    unsigned = {**TENSOR, "dtype": "uint8"}
    (array,), _ = fit(np.array([0, 255], np.int32), [unsigned])
    assert (array.dtype, array.tolist()) == (np.uint8, [[0, 255]])
    with pytest.raises(InputError, match="holds integers from -1 to 255; uint8 takes 0 to 255"):
        fit(np.array([-1, 255], np.int32), [unsigned])


def test_floats_for_an_input_without_scale_are_refused() -> None:
    with pytest.raises(InputError, match=r"Input 'x' is float64, the model takes int8\. Give int8\.$"):
        fit(np.zeros(2), [{**TENSOR, "scale": None, "zero_point": None}])


@pytest.mark.parametrize(
    ("given", "shape", "samples"),
    [
        ((4, 3), (4, 3), Samples.ONE),
        ((5, 4, 3), (4, 3), Samples.LEADING),
        ((1, 4, 3), (4, 3), Samples.LEADING),
        ((5, 1, 3), (1, 3), Samples.LEADING),
        ((5, 3), (1, 3), Samples.BATCH),
        ((5,), (1,), Samples.BATCH),
        ((5,), (), Samples.LEADING),
        ((), (), Samples.ONE),
    ],
)
def test_what_is_a_sample(given: tuple[int, ...], shape: tuple[int, ...], samples: Samples) -> None:
    (array,), kind = fit(np.zeros(given, np.int8), [{**TENSOR, "shape": list(shape)}])
    assert (array.shape[1:], kind) == (shape, samples)
    assert len(array) == (1 if samples is Samples.ONE else given[0])


@pytest.mark.parametrize(("given", "shape"), [((), (1,)), ((5, 4), (4, 3)), ((5, 4, 3), (4,)), ((3, 1), (1, 3))])
def test_what_is_none(given: tuple[int, ...], shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"Input 'x' has shape \[.*\], the model takes \["):
        fit(np.zeros(given, np.int8), [{**TENSOR, "shape": list(shape)}])


def test_outputs_without_a_batch_of_one_get_a_dimension_in_front() -> None:
    results = [[np.full((1, 2), i), np.full((4,), i)] for i in range(3)]
    along, stacked = join(results, Samples.BATCH)
    assert (along.shape, stacked.shape) == ((3, 2), (3, 4))
    assert [a.shape for a in join(results, Samples.LEADING)] == [(3, 1, 2), (3, 4)]
    assert [a.shape for a in join(results[:1], Samples.ONE)] == [(1, 2), (4,)]


def test_differing_bytes_are_counted_by_byte() -> None:
    a = [np.array([1, 2, 3], np.int8), np.array([[256]], np.int32)]
    b = [np.array([1, 0, 0], np.int8), np.array([[1]], np.int32)]
    assert count_differing(a, b) == (4, 7)
    assert count_differing(a, a) == (0, 7)


def test_any_name_can_be_written_and_read_back() -> None:
    arrays = {name: np.arange(3) for name in ("file", "allow_pickle", "model/dense;1", "größe", "a.npy")}
    with np.load(io.BytesIO(npz_bytes(arrays))) as file:
        assert {name: file[name].tolist() for name in file.files} == {name: [0, 1, 2] for name in arrays}
    assert npz_bytes(arrays) == npz_bytes(arrays)


def test_run_takes_and_gives_what_the_samples_say() -> None:
    x = np.random.default_rng(3).integers(-128, 128, (2, 1, 4, 5, 2), np.int8)
    expected = np.stack([network("small").run([sample])[0] for sample in x])
    ours = library("small")
    (stacked,) = ours.run(x).values()
    (along,) = ours.run({"anything": x[:, 0]}).values()
    (one,) = ours.run(x[1].tolist()).values()
    np.testing.assert_array_equal(stacked, expected)
    np.testing.assert_array_equal(along, expected[:, 0])
    np.testing.assert_array_equal(one, expected[1])
