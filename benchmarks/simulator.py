"""How fast the simulator measures: ``python -m benchmarks.simulator``. Wall time: look at ratios, on an idle machine.

A tuner's measurement is: load the object of a candidate, place its operands, run it, compare the outputs, and count
cycles. The kernel is a pointwise convolution of 200,704 multiply-accumulates. The long run is the inference of a
network of 12.5 million, to compare counting and watching with bare execution.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path

import numpy as np

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph
from benchmarks.networks import image_classification
from tvm_tinyml.device import KernelBench, KernelCall, Operand, Role, Simulator
from tvm_tinyml.device.strip import strip
from tvm_tinyml.device.timing import MODEL_VERSION
from tvm_tinyml.options import BuildOptions, memory_timing
from tvm_tinyml.pipeline import lower_model
from tvm_tinyml.program import Place
from tvm_tinyml.samples import sample_inputs
from tvm_tinyml.session import Session
from tvm_tinyml.tables import table
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.targets.llvm_object import compile_kernels

RESULTS = Path(__file__).with_name("results") / "simulator.json"
TARGET = "cortex-m4"
SECONDS = 3.0
"""For how long each figure is measured."""


@cache
def candidate() -> tuple[bytes, KernelCall]:
    """Return the object of the kernel and what to call it with."""
    graph = Int8Graph(0)
    network = graph.finish("pointwise", graph.conv(graph.input((1, 7, 7, 64), (0.5, 3)), 64, (1, 1)))
    target = cortex_m(TARGET)
    program = lower_model(tinyml.load(network.data, name="pointwise"), target, BuildOptions())
    (step,) = program.steps
    inputs = network.random_inputs(0)
    (output,) = network.run(inputs)
    arrays = {Place.INPUT: (Role.INPUT, inputs), Place.OUTPUT: (Role.OUTPUT, [output])}
    arrays[Place.CONSTANT] = (Role.CONSTANT, list(program.constants))
    operands = [Operand(arrays[b.place][0], arrays[b.place][1][b.index]) for b in step.operands]
    if step.scratch:
        operands.append(Operand(Role.SCRATCH, np.empty(step.scratch.size_bytes, np.int8)))
    assert step.kernel is not None
    return strip(compile_kernels(program.functions, target)), KernelCall(step.kernel, operands)


def per_second(action: Callable[[], object], seconds: float = SECONDS) -> float:
    """Return how often an action is done in a second, after a first time that does not count."""
    action()
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        action()
        count += 1
    return count / (time.perf_counter() - start)


def measurements_per_second(memory: str) -> float:
    """Return how many candidates one worker measures in a second."""
    code, call = candidate()
    with KernelBench(Simulator(TARGET), memory) as bench:
        return per_second(lambda: bench.measure([code], call))


def seconds_of_a_long_run(memory: str | None) -> float:
    """Return the seconds of one inference of image classification; None counts instructions alone."""
    library = tinyml.build(tinyml.load(image_classification().data, name="ic"), TARGET, emit="lib")
    inputs = list(sample_inputs(library.metadata["inputs"]).values())
    timing = memory_timing(memory) if memory else None
    with closing(Session(library.metadata, library.objects)) as session:
        return 1 / per_second(lambda: session.run(inputs, timing))


def main() -> None:
    """Measure, print, write."""
    figures: dict[str, float] = {}
    bare = seconds_of_a_long_run(None)
    for memory in ("zero-wait", "l4r5zi-120"):
        figures[f"measurements a second, {memory}"] = one = measurements_per_second(memory)
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            figures[f"two workers to one, {memory}"] = sum(pool.map(measurements_per_second, [memory] * 2)) / one
        figures[f"long run, cycles of {memory} to instructions alone"] = seconds_of_a_long_run(memory) / bare
    print(table(("figure", "value"), list(figures.items())))
    print(f"Timing model {MODEL_VERSION}, {TARGET}. Wall times of one machine: elsewhere only ratios mean something.")
    results = {"model_version": MODEL_VERSION, "target": TARGET, **figures}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
