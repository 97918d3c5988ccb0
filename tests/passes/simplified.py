"""What every pass that simplifies a graph is checked for, whatever it is applied to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import IRModule, relax

import tvm_tinyml as tinyml
from tests.passes.dead_graphs import DeadGraph
from tests.passes.graphs import Array, inputs_of, model_of, same
from tvm_tinyml.reference.evaluate import evaluate

Pass = Callable[[IRModule], IRModule]
Build = Callable[[DeadGraph, relax.Var], Any]


def simplified(simplify: Pass, build: Build, shape: Sequence[int] = (1, 5, 6, 3)) -> IRModule:
    """Return a small graph after a pass, checked against the graph before it."""
    g = DeadGraph(0)
    before = g.finish(lambda x: build(g, x), shape)
    after = simplify(before)
    check(simplify, before, after, g.rng)
    return after


def unchanged(simplify: Pass, build: Build, shape: Sequence[int] = (1, 5, 6, 3)) -> bool:
    """Return whether a pass leaves a small graph as it is."""
    g = DeadGraph(0)
    module = g.finish(lambda x: build(g, x), shape)
    return same(simplify(module), module)


def check(simplify: Pass, before: IRModule, after: IRModule, rng: np.random.Generator) -> None:
    """Every byte and every shape of the outputs is the same, and a second run finds nothing."""
    for _ in range(2):
        inputs = inputs_of(before, rng)
        for result, expected in zip(evaluate(after, inputs), evaluate(before, inputs), strict=True):
            np.testing.assert_array_equal(result, expected, strict=True)
    assert same(simplify(after), after)
    assert after.attrs["tinyml.reference"] == "tflite"


def run_library(
    module: IRModule, rng: np.random.Generator, target: str = "cortex-m4", **options: Any
) -> tuple[Array, Array]:
    """Return what a library computes of a module of one output, and what the reference does."""
    library = tinyml.build(model_of(module), target, emit="lib", **options)
    (x,) = inputs_of(module, rng)
    (result,) = library.run({"x0": x}).values()
    return result, evaluate(module, [x])[0]
