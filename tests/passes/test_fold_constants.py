"""What reads constants only is a constant."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tvm import relax
from tvm.ir import GenericConst

from tests.passes.dead_graphs import DeadGraph
from tests.passes.graphs import calls, inputs_of, names
from tests.passes.simplified import run_library, simplified, unchanged
from tvm_tinyml.passes import FoldConstants
from tvm_tinyml.reference.evaluate import evaluate

Make = Callable[[DeadGraph, relax.Expr], relax.Expr]

OPERATORS: dict[str, Make] = {
    "convolution": lambda g, k: g.conv(k, 3, 3, padding=[1, 1, 1, 1]),
    "sum": lambda g, k: g.sum(k, g.constant(1, 1, 1, 3)),
    "look-up": lambda g, k: g.lookup(k),
    "pool": lambda g, k: g.pool(k, padding=[0, 0, 1, 1]),
    "reshape": lambda g, k: g.emit(relax.op.reshape(g.emit(relax.op.reshape(k, (3, 30))), (1, 5, 6, 3))),
    "transpose": lambda g, k: g.emit(relax.op.permute_dims(g.emit(relax.op.reshape(k, (1, 3, 5, 6))), [0, 2, 3, 1])),
    "slice": lambda g, k: g.emit(relax.op.strided_slice(g.concat(k, k, axis=1), [1], [2], [7], [1])),
    "pad": lambda g, k: g.conv(g.emit(relax.op.nn.pad(k, [0, 0, 1, 1, 1, 1, 0, 0], pad_value=3)), 3, 3),
    "resize": lambda g, k: g.resize(g.pool(k), 5, 6),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_of_constants_become_constants(name: str) -> None:
    after = simplified(FoldConstants(), lambda g, x: g.sum(x, OPERATORS[name](g, g.constant(1, 5, 6, 3))))
    assert names(after) == ["tinyml.add"]
    assert isinstance(calls(after)[0].args[1], GenericConst)


def test_chains_become_one_constant() -> None:
    def chain(g: DeadGraph, x: relax.Var) -> relax.Expr:
        return g.sum(x, g.lookup(g.sum(g.conv(g.constant(1, 5, 6, 2), 3), g.lookup(g.constant(1, 1, 1, 3)))))

    assert names(simplified(FoldConstants(), chain)) == ["tinyml.add"]


def test_what_reads_an_input_stays() -> None:
    assert unchanged(FoldConstants(), lambda g, x: g.conv(g.sum(x, g.constant(1, 1, 1, 3)), 4, 3))
    assert unchanged(FoldConstants(), lambda g, x: g.concat(x, g.constant(1, 5, 6, 2)))


def test_operators_with_several_results_stay() -> None:
    def split(g: DeadGraph, x: relax.Var) -> relax.Expr:
        parts = g.emit(relax.op.split(g.constant(1, 5, 6, 6), 2, 3))
        return g.sum(x, g.emit(relax.TupleGetItem(parts, 1)))

    assert unchanged(FoldConstants(), split)


def test_an_output_may_be_a_constant(rng: np.random.Generator) -> None:
    g = DeadGraph(0)
    module = g.finish(lambda _: g.lookup(g.constant(1, 2, 2, 3)), (1, 2, 2, 3))
    after = FoldConstants()(module)
    assert names(after) == []
    inputs = inputs_of(module, rng)
    np.testing.assert_array_equal(evaluate(after, inputs)[0], evaluate(module, inputs)[0])
    result, expected = run_library(module, rng)
    np.testing.assert_array_equal(result, expected)
