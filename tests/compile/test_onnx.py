"""ONNX models in QDQ form: compiled bytes against our integer graph, and the integer graph against onnxruntime."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from tvm import IRModule, relax

import tvm_tinyml as tinyml
from benchmarks.onnx_networks import NETWORKS, OnnxNetwork
from tests.compile.exact import real
from tests.onnx_models import MODELS
from tests.onnx_runtime import LESSONS, Quantized, Runtime, picture, quantize, taught
from tvm_tinyml import demo
from tvm_tinyml.passes import FoldQuantization
from tvm_tinyml.reference.evaluate import evaluate

Array = NDArray[Any]
SHARE = 0.005
"""Largest share of an operator's elements that may differ from onnxruntime's."""
AGREEMENT = 0.99
"""Smallest share of inputs for which the top classes agree."""
MULTIPLIER = Fraction(1, 2**30)
"""Largest relative error of a multiplier: a value so near to a half is one."""


@dataclass(frozen=True)
class Case:
    """A network that tells the classes of `picture` apart, and our integer graph of it."""

    network: OnnxNetwork
    model: tinyml.Model
    graph: IRModule

    def inputs(self, seed: int) -> dict[str, Array]:
        """Return one picture that the network was not taught with."""
        return {name: picture(shape, LESSONS + seed) for name, shape in self.network.shapes.items()}

    def quantized(self, inputs: dict[str, Array]) -> list[Array]:
        """Return our inputs."""
        return [quantize(inputs[spec.name], spec) for spec in self.model.inputs]


@functools.cache
def case(name: str, activations: str) -> Case:
    network = taught(NETWORKS[name](0, activations))
    model = tinyml.load(network.model, name=name)
    return Case(network, model, FoldQuantization()(model.module))


# (a) Bytes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m0plus"])
@pytest.mark.parametrize("activations", ["int8", "uint8"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_compiled_network_gives_the_bytes_of_its_integer_graph(name: str, activations: str, core: str) -> None:
    it = case(name, activations)
    library = tinyml.build(it.model, core, emit="lib")
    samples = [it.quantized(it.inputs(seed)) for seed in range(4)]
    samples += [[np.random.default_rng(seed).integers(-128, 128, x.shape).astype(np.int8) for x in samples[0]]
                for seed in range(2)]  # fmt: skip
    check_bytes(library, it.model, it.graph, samples)


SEEDS = {"average_pool": 5, "binary": 3, "reduce_mean": 3, "softmax_to_any_scale": 5}
"""How many models of an operator are compiled, where ONNX models differ from TFLite's; else 1."""


@pytest.mark.parametrize("kind", MODELS)
def test_a_compiled_operator_gives_the_bytes_of_its_integer_graph(kind: str) -> None:
    for seed in range(SEEDS.get(kind, 1)):
        model = tinyml.load(MODELS[kind](seed).model, name="m")
        rng = np.random.default_rng(seed)
        limits = [np.iinfo(spec.dtype) for spec in model.inputs]
        samples = [
            [rng.integers(z.min, z.max + 1, s.shape).astype(s.dtype) for s, z in zip(model.inputs, limits, strict=True)]
            for _ in range(3)
        ]
        check_bytes(tinyml.build(model, emit="lib"), model, FoldQuantization()(model.module), samples)


def check_bytes(
    library: tinyml.Library, model: tinyml.Model, graph: IRModule, samples: Sequence[Sequence[Array]]
) -> None:
    stacked = [np.stack(arrays) for arrays in zip(*samples, strict=True)]
    outputs = library.run({spec.name: x for spec, x in zip(model.inputs, stacked, strict=True)})
    for i, sample in enumerate(samples):
        for output, expected in zip(outputs.values(), evaluate(graph, sample), strict=True):
            np.testing.assert_array_equal(output[i], expected)


# (b) Operators ------------------------------------------------------------------------------------------------


@dataclass
class Comparison:
    """One operator of ours, fed with onnxruntime's tensors, against onnxruntime's result."""

    operator: str
    elements: int = 0
    differing: int = 0
    largest: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    furthest: dict[str, float] = field(default_factory=dict)
    unexplained: list[str] = field(default_factory=list)

    def add(self, call: relax.Call, args: Sequence[Array], ours: Array, theirs: Quantized) -> None:
        """Compare one result; both are in our layout."""
        difference = np.abs(ours.astype(int) - theirs.integers.astype(int))
        self.elements += ours.size
        self.differing += np.count_nonzero(difference)
        self.largest = max(self.largest, int(difference.max(initial=0)))
        for where in np.argwhere(difference):
            index = tuple(int(i) for i in where)
            self._explain(call, args, index, int(ours[index]), int(theirs.integers[index]), float(theirs.reals[index]))

    def _explain(
        self, call: relax.Call, args: Sequence[Array], index: tuple[int, ...], our: int, their: int, float_real: float
    ) -> None:
        """Say why an element differs; its real value must lie near a half, as near as the reason demands."""
        exact = real(call, args, index)
        if exact is None:
            self.unexplained.append(f"{self.operator}{index}: {our} and {their}, but it rounds nothing")
            return
        value = exact.value
        half = floor(value) + Fraction(1, 2)
        distance = abs(value - half)
        once = floor(abs(value) + Fraction(1, 2)) * (1 if value >= 0 else -1)
        zero_point = int(call.attrs["output_zero_point"])
        if distance <= abs(value) * MULTIPLIER:
            reason, bound = "tie", abs(value) * MULTIPLIER
        elif once + zero_point != our:
            reason, bound = "rounded twice", exact.integer_error
        else:
            reason, bound = "float32 sum", exact.float_error
        line = (
            f"{self.operator}{index}: {our} and {their}, real values {float(value):.9f} and {float_real:.9f}: "
            f"{reason}, {float(distance):.3g} from a half, at most {float(bound):.3g}"
        )
        print(line)
        self.reasons[reason] += 1
        self.furthest[reason] = max(self.furthest.get(reason, 0.0), float(distance))
        if distance > bound or abs(Fraction(float_real) - value) > exact.float_error:
            self.unexplained.append(line)

    def __str__(self) -> str:
        share = 100 * self.differing / self.elements
        reasons = ", ".join(f"{n} {reason} (up to {self.furthest[reason]:.2g})" for reason, n in self.reasons.items())
        return (
            f"{self.operator:36} {self.differing:5} of {self.elements:7} = {share:.3f} %, by {self.largest} {reasons}"
        )


def single_operators(
    graph: IRModule, inputs: Sequence[Array], tensors: dict[str, Quantized], comparisons: dict[str, Comparison]
) -> None:
    """Compute every operator from onnxruntime's own tensors and compare it."""

    def compare(variable: relax.Var, call: relax.Call, args: Sequence[Array], ours: Array) -> Array:
        kind = call.op.name
        if not kind.startswith("tinyml."):
            return ours
        theirs = in_layout_of(ours, tensors[variable.name])
        comparisons.setdefault(variable.name, Comparison(f"{kind} {variable.name}")).add(call, args, ours, theirs)
        return theirs.integers

    evaluate(graph, inputs, compare)


def in_layout_of(ours: Array, theirs: Quantized) -> Quantized:
    """Return `theirs` in the order of dimensions that `ours` has: the same, or NHWC. The nearer one if both fit."""
    orders = [tuple(range(ours.ndim)), (0, 2, 3, 1)][: 2 if ours.ndim == 4 else 1]
    fitting = [Quantized(theirs.integers.transpose(o), theirs.reals.transpose(o)) for o in orders]
    fitting = [q for q in fitting if q.integers.shape == ours.shape]
    return min(fitting, key=lambda q: np.count_nonzero(q.integers != ours))


INPUTS = {"int8": 100, "uint8": 40}


@pytest.mark.parametrize("activations", INPUTS)
@pytest.mark.parametrize("name", NETWORKS)
def test_an_operator_differs_from_onnxruntime_rarely_by_one_and_near_a_half(name: str, activations: str) -> None:
    network = NETWORKS[name](0, activations)
    model = tinyml.load(network.model)
    graph, runtime = FoldQuantization()(model.module), Runtime(network.model)
    variables = {binding.var.name for block in graph["main"].body.blocks for binding in block.bindings}
    comparisons: dict[str, Comparison] = {}
    for seed in range(INPUTS[activations]):
        inputs = network.random_inputs(seed)
        tensors = {next(n for n in names if n in variables): q for names, q in runtime.quantized(runtime.run(inputs))}
        single_operators(graph, [quantize(inputs[spec.name], spec) for spec in model.inputs], tensors, comparisons)
    for operator in comparisons.values():
        print(operator)
    for operator in comparisons.values():
        assert not operator.unexplained, "\n".join(operator.unexplained)
        assert operator.largest <= 1, operator
        assert operator.differing <= SHARE * operator.elements, operator


# (c) Top classes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_agrees_with_onnxruntime_in_the_top_class(name: str) -> None:
    it, count = case(name, "int8"), 500
    runtime = Runtime(it.network.model)
    (spec,) = it.model.outputs
    agreeing, equal, largest = 0, 0, 0
    classes = Counter[int]()
    for seed in range(count):
        inputs = it.inputs(seed)
        theirs = quantize(runtime.run(inputs)[spec.name], spec)
        (ours,) = evaluate(it.graph, it.quantized(inputs))
        agreeing += int(ours.argmax() == theirs.argmax())
        equal += int(np.array_equal(ours, theirs))
        classes[int(theirs.argmax())] += 1
        largest = max(largest, int(np.abs(ours.astype(int) - theirs.astype(int)).max()))
    print(f"{name}: {agreeing} of {count} agree, {equal} are equal, largest difference {largest} of 256 units")
    assert len(classes) == 10
    assert agreeing >= AGREEMENT * count


def test_the_digits_agree_with_onnxruntime_in_the_top_class() -> None:
    pytest.importorskip("sklearn", reason="where the digits come from")
    data, images, _ = demo.digits()
    model, count = tinyml.load(data, name="digits"), 100
    graph, runtime = FoldQuantization()(model.module), Runtime(onnx.load_from_string(data))
    agreeing = 0
    for image in images[:count]:
        (theirs,) = (runtime.run({"image": image[None]})[spec.name] for spec in model.outputs)
        (ours,) = evaluate(graph, [quantize(image[None], spec) for spec in model.inputs])
        agreeing += int(ours.argmax() == theirs.argmax())
    print(f"digits: {agreeing} of {count} agree")
    assert agreeing >= AGREEMENT * count
