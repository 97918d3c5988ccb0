"""How fast the simulator measures: ``python -m benchmarks.simulator``. Wall time: look at ratios, on an idle machine.

A tuner's measurement is: load the object of a candidate, place its operands, run it, compare the outputs, and count
cycles. The kernel is a pointwise convolution of 200,704 multiply-accumulates. The long run compares execution with and
without a look at every access.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph
from tvm_tinyml.device import KernelBench, KernelCall, Operand, Role, Simulator, assemble
from tvm_tinyml.device.strip import strip
from tvm_tinyml.device.timing import MODEL_VERSION
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.pipeline import lower_model
from tvm_tinyml.program import Place
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
    return strip(*compile_kernels(program.functions, target)), KernelCall(step.kernel, operands)


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


LONG = """
.section .text.long,"ax",%progbits
.global long
.type long,%function
long: push {r4-r7, lr}
1: movs r6, #64
mov r4, r0
2: ldr r5, [r4]
ldr r7, [r1]
smlad r3, r5, r7, r3
adds r4, #4
subs r6, #1
bne 2b
subs r2, #1
bne 1b
pop {r4-r7, pc}
"""
"""A loop of six instructions, two of them loads: r2 times 64 turns over the words at r0 in RAM, with one at r1."""


def seconds_of_a_long_run(memory: str | None) -> float:
    """Return the seconds of 58 million instructions; None counts instructions alone."""
    with Simulator(TARGET) as simulator:
        simulator.load([assemble(LONG, TARGET)])
        data, word = simulator.allocate(256), simulator.place_constant(bytes(4))
        return 1 / per_second(lambda: simulator.call("long", data, word, 150_000, memory=memory))


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
