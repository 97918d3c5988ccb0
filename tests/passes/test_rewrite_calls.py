"""What a rewrite is told about the graph around a call."""

from __future__ import annotations

from tvm import relax

from tests.passes.dead_graphs import DeadGraph
from tests.passes.graphs import names, same
from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.rewrite_calls import Graph, rewrite_calls


def test_each_place_that_reads_a_tensor_counts_and_so_does_being_an_output() -> None:
    g = DeadGraph(0)
    kept: list[relax.Var] = []

    def build(x: relax.Var) -> list[relax.Expr]:
        once, twice, joined = g.lookup(x), g.lookup(x), g.lookup(x)
        kept.extend([once, twice, joined])
        result = g.sum(g.product(twice, twice), once)
        return [result, g.concat(joined, result)]

    module = g.finish(build, (1, 2, 2, 3))
    graph = Graph(module["main"])
    once, twice, joined = kept
    assert graph.is_read_once(once)
    assert graph.is_read_once(joined)
    assert not graph.is_read_once(twice)
    assert not graph.is_read_once(module["main"].params[0])
    assert graph.producer(once).op == integer_ops.lookup.op
    assert graph.producer(module["main"].params[0]) is None
    assert graph.producer(relax.const(1)) is None


def test_calls_are_rewritten_until_none_changes_and_what_nothing_reads_leaves() -> None:
    g = DeadGraph(0)
    module = g.finish(lambda x: g.lookup(g.lookup(g.lookup(g.lookup(x)))), (1, 2, 2, 3))

    def skip_one(call: relax.Call, graph: Graph) -> relax.Expr:
        before = graph.producer(call.args[0])
        return call if before is None else relax.Call(call.op, [before.args[0], call.args[1]], call.attrs)

    assert names(rewrite_calls(module, skip_one)) == ["tinyml.lookup"]
    assert names(module) == ["tinyml.lookup"] * 4


def test_without_a_rewrite_the_module_itself_comes_back() -> None:
    g = DeadGraph(0)
    module = g.finish(g.lookup, (1, 2, 2, 3))
    assert rewrite_calls(module, lambda call, _: call) is module
    assert same(rewrite_calls(module, lambda call, _: call), module)
