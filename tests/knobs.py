"""Values of knobs to try, and one network with a layer as often as there are choices for it.

One network, since what a build costs is hardly the kernels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from tests.passes.graphs import int8, tensor_spec
from tvm_tinyml.choice import Choice, Knobs, Space
from tvm_tinyml.model import Model
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.passes.integer_ops import shape_of
from tvm_tinyml.pipeline import lower_graph, package
from tvm_tinyml.reference.evaluate import evaluate
from tvm_tinyml.session import Session
from tvm_tinyml.targets.target import Target

NONSENSE = (-1, 0, 7777, "nonsense", "1")
"""That no knob has as a value, unless it is one of its own."""


def settings(default: Knobs, space: Space, rng: np.random.Generator, combinations: int = 4) -> list[Knobs]:
    """Return every value of every knob, one at a time from the default, and some combinations."""
    single = [{**default, name: value} for name, values in space.items() for value in values]
    drawn = ({name: values[rng.integers(len(values))] for name, values in space.items()} for _ in range(combinations))
    every = [*single, *drawn]
    return [knobs for i, knobs in enumerate(every) if knobs not in every[:i]]


def nonsense(default: Knobs, space: Space) -> Iterator[Knobs]:
    """Yield knobs that no kernel has."""
    yield {**default, "nonsense": 1}
    for name, value in itertools.product(space, NONSENSE):
        if value not in space[name]:
            yield {**default, name: value}


def run(call: relax.Call, target: Target, choices: Sequence[Choice]) -> list[tuple[Choice, int]]:
    """Build an operator of one input once for each choice, and run all.

    Returns
    -------
    what was chosen, and how many bytes differ from the reference, for each choice.
    """
    model = _side_by_side(call, len(choices))
    options = BuildOptions(goal="time", emit="lib")
    program = lower_graph(model.module, model, target, options, lambda calls: choices)
    chosen = [program.kernels[step.kernel].choice for step in program.steps if step.kernel]
    library = package(program, target, options)
    inputs = [int8(np.random.default_rng(0), *shape_of(call.args[0]))]
    (expected,) = evaluate(_side_by_side(call, 1).module, inputs)
    with closing(Session(library.metadata, library.objects)) as session:
        outputs: list[NDArray[Any]] = session.run(inputs).outputs
    # Some choices have a step in front, which makes the border.
    made = [choice for choice in chosen if choice.get("kernel") in {c["kernel"] for c in choices}]
    differing = [int(np.count_nonzero(output != expected)) for output in outputs]
    return list(zip(made, differing, strict=True))


def _side_by_side(call: relax.Call, count: int) -> Model:
    """Return a network that computes an operator so many times."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", call.args[0].ty)
    with builder.function("main", [x]):
        with builder.dataflow():
            calls = [relax.Call(call.op, [x, *call.args[1:]], attrs=call.attrs) for _ in range(count)]
            results = [builder.emit_output(each) for each in calls]
        builder.emit_func_output(relax.Tuple(results))
    module = builder.get().with_attr("tinyml.reference", "tflite")
    outputs = tuple(tensor_spec(f"y{i}", result) for i, result in enumerate(results))
    return Model("m", module, (tensor_spec("x", x),), outputs, "tflite")
