"""An operator as plain data: it survives a trip, is known again, and computes what it did in its network."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.int8_graph import Int8Graph
from tests.tuning.networks import convolution, dense, model, several, workloads
from tvm_tinyml.model import Model
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.passes.choose_kernels import is_integer
from tvm_tinyml.passes.integer_ops import shape_of
from tvm_tinyml.pipeline import integer_graph
from tvm_tinyml.reference.evaluate import evaluate
from tvm_tinyml.tuning.workload import LEAST_PIXELS, TILE_ROWS, Tensor, Workload, workloads_of


@pytest.mark.parametrize("number", range(7))
def test_a_trip_to_another_process_changes_nothing(number: int) -> None:
    workload = workloads(several())[number]
    before = pickle.dumps(workload)
    assert workload.macs >= 0  # which makes objects of TVM
    assert pickle.dumps(workload) == before, "they must not travel"
    arrived: Workload = pickle.loads(before)
    assert arrived is not workload
    assert arrived == workload
    assert hash(arrived) == hash(workload)
    assert arrived.digest == workload.digest
    assert pickle.loads(pickle.dumps(arrived)).digest == workload.digest


def test_the_digest_is_of_the_values_and_not_of_how_they_lie_in_memory() -> None:
    workload = convolution()
    image, weight, *scales = workload.arguments
    assert isinstance(image, Tensor)
    assert isinstance(weight, np.ndarray)
    other = Workload(
        "".join(("tinyml.", "conv2d")),
        (Tensor(image.shape, "".join(("int", "8"))), np.asfortranarray(weight), *scales),
        dict(reversed(workload.attributes.items())),
    )
    assert (other.digest, other) == (workload.digest, workload)


def test_whatever_differs_gives_another_digest() -> None:
    workload = dense()
    x, weight, bias, *scales = workload.arguments
    assert isinstance(x, Tensor)
    assert isinstance(weight, np.ndarray)
    one_more = weight.copy()
    one_more[0, 0] += 1
    others = [
        replace(workload, operator="tinyml.conv2d"),
        replace(workload, attributes={**workload.attributes, "clamp_max": 5}),
        *(
            replace(workload, arguments=arguments)
            for arguments in (
                (Tensor((2, 16), "int8"), weight, bias, *scales),
                (Tensor(x.shape, "uint8"), weight, bias, *scales),
                (x, one_more, bias, *scales),
                (x, weight.astype(np.int16), bias, *scales),
                (x, weight.reshape(16, 10), bias, *scales),
                (x, Tensor(weight.shape, "int8"), bias, *scales),
                (x, weight, *scales, bias),
                (x, weight, bias, *scales[:-1]),
            )
        ),
    ]
    assert len({each.digest for each in [workload, *others]}) == 1 + len(others)
    assert all(each != workload for each in others)
    assert workload != "something else"


def test_one_after_the_other_operators_alone_compute_what_their_network_computes() -> None:
    network = several()
    inputs = network.random_inputs(seed=7)
    main = integer_graph(model(network), BuildOptions(goal="time"))["main"]
    known: dict[Any, Any] = dict(zip(main.params, inputs, strict=True))
    for binding in main.body.blocks[0].bindings:
        workload = Workload.of(binding.value)
        alone = workload.model()
        assert [spec.shape for spec in alone.inputs] == [tuple(shape_of(a)) for a in binding.value.args if a in known]
        (known[binding.var],) = evaluate(alone.module, [known[a] for a in binding.value.args if a in known])
    (expected,) = network.run(inputs)
    np.testing.assert_array_equal(known[main.body.body], expected)


def test_inputs_are_the_same_every_time_and_reach_both_ends() -> None:
    first, again = (convolution().inputs() for _ in range(2))
    np.testing.assert_array_equal(first[0], again[0])
    assert (first[0].min(), first[0].max()) == (-128, 127)
    assert first[0].dtype == np.int8


def test_equal_layers_of_a_network_are_one_operator() -> None:
    graph = Int8Graph(0, samples=2)
    x = graph.input((1, 4, 4, 2), (0.5, 3))
    weight = graph.rng.integers(-9, 9, (2, 1, 1, 2)).astype(np.int8)
    layer: dict[str, Any] = {"weights": weight, "bias": False, "output": (0.5, 3), "effective_scale": 0.25}
    y = graph.conv(graph.conv(x, 2, (1, 1), **layer), 2, (1, 1), **layer)
    found = workloads_of(integer_graph(model(graph.finish("twice", y)), BuildOptions()))
    assert [len(layers) for layers in found.values()] == [2]
    assert len(set(next(iter(found.values())))) == 2


def test_what_only_moves_data_is_no_obstacle() -> None:
    graph = Int8Graph(0, samples=2)
    x = graph.input((4, 6), (0.5, 3))
    parts = graph.split(graph.relu(x, (0.5, 3)), 2, 0)
    network = graph.finish("moves", graph.concat([parts[1], parts[0], x], 0), graph.transpose(x, (1, 0)))
    module = integer_graph(model(network), BuildOptions())
    names = {str(b.value.op.name) for b in module["main"].body.blocks[0].bindings if is_integer(b.value)}
    assert {each.operator for each in workloads_of(module)} == names


LARGE = {
    "same": {"shape": (1, 64, 16, 4), "channels": 4},
    "valid": {"shape": (1, 64, 16, 4), "channels": 4, "padding": "VALID"},
    "strided": {"shape": (1, 96, 32, 4), "channels": 4, "strides": (2, 2)},
    "dilated": {"shape": (2, 64, 16, 4), "channels": 4, "dilation": (2, 2)},
    "wide": {"shape": (1, 64, 16, 2), "channels": 4, "kernel": (5, 1)},
    "pointwise": {"shape": (1, 64, 16, 4), "channels": 4, "kernel": (1, 1)},
    "depthwise": {"shape": (1, 64, 16, 4), "depthwise": True},
}


@pytest.mark.parametrize("name", LARGE)
def test_some_rows_of_a_convolution_are_the_same_convolution_of_a_smaller_image(name: str) -> None:
    whole = convolution(**LARGE[name])
    part = whole.rows(whole.macs // 4)
    assert (part.operator, part.attributes) == (whole.operator, whole.attributes)
    for own, others in zip(part.arguments[1:], whole.arguments[1:], strict=True):
        assert own is others
    batch, out_h, out_w, _ = shape_of(part.call)
    assert out_h % TILE_ROWS == 0
    assert batch * out_h * out_w >= LEAST_PIXELS
    assert 0.2 * whole.macs < part.macs < 0.35 * whole.macs

    # Rows that see nothing of the lower border are those of the whole.
    (image,) = whole.inputs()
    (cut,) = part.arguments[:1]
    assert isinstance(cut, Tensor)
    (all_rows,) = evaluate(whole.model().module, [image])
    (some_rows,) = evaluate(part.model().module, [image[:, : cut.shape[1]]])
    free = out_h - part.attributes["padding"][2]
    np.testing.assert_array_equal(some_rows[:, :free], all_rows[:, :free])


def test_what_is_small_or_has_no_rows_stays_whole() -> None:
    small = convolution()
    assert small.rows(small.macs) is small
    assert small.rows(1) is small, "64 pixels are too few to cut"
    layer = dense()
    assert layer.rows(1) is layer
    flat = convolution((1, 4, 200, 2), 2)
    assert flat.rows(1) is flat, "four rows are a tile"
    assert small.rows(1, least_pixels=1).macs == small.macs // 2


def test_a_part_keeps_enough_pixels() -> None:
    whole = convolution((1, 64, 16, 4), 4)
    assert shape_of(whole.rows(1).call)[1] * 16 == LEAST_PIXELS
    assert isinstance(whole.rows(1).model(), Model)
