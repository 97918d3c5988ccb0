"""Measuring choices: each is compiled, simulated and compared with the reference, in processes of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.choice import Choice, is_as_chosen
from tvm_tinyml.device.engine import BudgetError, FaultError
from tvm_tinyml.device.timing import load_memory
from tvm_tinyml.errors import DeviceError
from tvm_tinyml.model import Model
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.pipeline import lower_graph, package
from tvm_tinyml.reference.evaluate import evaluate
from tvm_tinyml.session import Session
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.tuning.processes import Processes
from tvm_tinyml.tuning.space import GOAL
from tvm_tinyml.tuning.workload import Workload

TIMEOUT_SECONDS = 60
"""For one choice: what takes longer to compile or to run is none."""

MOST_MACS = 32_000_000
"""Of an operator that runs as a whole. Of a larger one some rows run, and their cycles stand for all: the simulator
would take longer than the compiler."""

FLASH, NO_WAIT = "l4r5zi-120", "zero-wait"
"""Choices are measured in a memory that waits. What it waits for code and constants is known apart, so that one run
gives the cycles without waiting as well."""


@dataclass(frozen=True)
class Job:
    """What a worker needs to measure a choice.

    Attributes
    ----------
    target : name.
    choice : None for what the compiler does without one.
    budget_instructions : of a function; a choice that needs more is worse than others anyway.
    """

    workload: Workload
    target: str
    choice: Choice | None
    budget_instructions: int = 2_000_000_000


@dataclass(frozen=True)
class Measured:
    """What a choice costs, for one operator alone with its input and output with the caller.

    Attributes
    ----------
    choice : as decided in full, by which equal ones are known.
    cycles, instructions : of the whole operator, by memory; where `part_of` it was measured, in proportion to its
        multiply-accumulates.
    workspace_bytes : scratch, and copies with a border.
    code_bytes : of all functions.
    build_seconds, run_seconds : what it took to measure.
    """

    choice: Choice
    cycles: dict[str, int]
    instructions: int
    workspace_bytes: int
    code_bytes: int
    model_version: str
    build_seconds: float = 0.0
    run_seconds: float = 0.0


@dataclass(frozen=True)
class Refused:
    """A choice that gives no kernel, or a wrong one.

    Attributes
    ----------
    reason : ``impossible``, ``mismatch``, ``fault``, ``budget``, ``timeout``, ``device`` or ``crash``, and what else is
        known.
    """

    choice: Choice | None
    reason: str


Outcome = Measured | Refused

MOST_LETTERS = 200
"""Of a reason."""


def part_of(workload: Workload) -> Workload:
    """Return what is run of an operator: most are as they are."""
    return workload.rows(MOST_MACS)


def measure(job: Job) -> Outcome:
    """Measure one choice in this process.

    Raises
    ------
    DeviceError : the kernel faults, runs away, or writes outside its buffers; or there is no simulator.
    """
    started = time.perf_counter()
    target, options = cortex_m(job.target), BuildOptions(goal=GOAL, emit="lib", memory=FLASH)
    part = part_of(job.workload)
    model, inputs, expected = _prepared(part)
    program = lower_graph(model.module, model, target, options, lambda calls: [job.choice] * len(calls))
    choice = program.kernels[str(program.steps[-1].kernel)].choice
    if job.choice is not None and not is_as_chosen(choice, job.choice):
        return Refused(job.choice, "impossible")
    library = package(program, target, options)
    built = time.perf_counter()
    session = Session(library.metadata, library.objects)
    try:
        calls = [call for call in session.run_layers(inputs, load_memory(FLASH), job.budget_instructions) if call]
        written = session.outputs()
    finally:
        session.close()
    differing = sum(int(np.count_nonzero(a != b)) for a, b in zip(written, expected, strict=True))
    if differing:
        return Refused(job.choice, f"mismatch: {differing} of {sum(a.size for a in expected)} bytes")
    cycles = [call.cycles for call in calls if call.cycles is not None]
    with_flash = sum(each.total for each in cycles)

    def of_all(count: int) -> int:
        return count if part is job.workload else round(count * job.workload.macs / part.macs)

    return Measured(
        choice,
        {
            FLASH: of_all(with_flash),
            NO_WAIT: of_all(with_flash - sum(each.flash_stall_cycles for each in cycles)),
        },
        of_all(sum(call.instructions for call in calls)),
        library.metadata["ram_bytes"]["workspace"],
        library.metadata["flash_bytes"]["code"],
        cycles[0].model,
        built - started,
        time.perf_counter() - built,
    )


def measure_safely(job: Job) -> Outcome:
    """Measure one choice; whatever is wrong with it becomes its reason."""
    try:
        return measure(job)
    except BudgetError:
        return Refused(job.choice, f"budget: more than {job.budget_instructions} instructions")
    except FaultError as error:
        return _refused(job, "fault", error)
    except DeviceError as error:
        return _refused(job, "device", error)
    except Exception as error:  # a candidate may break anything between here and LLVM: it is none, and counted
        return _refused(job, f"crash: {type(error).__name__}", error)


def _refused(job: Job, kind: str, error: Exception) -> Refused:
    return Refused(job.choice, f"{kind}: {error}"[:MOST_LETTERS])


class Workers:
    """Processes that measure.

    Parameters
    ----------
    count : of processes; None: as many as there are cores, two at least.
    """

    def __init__(self, count: int | None = None) -> None:
        self._processes = Processes(measure_safely, count or max(2, os.cpu_count() or 2), TIMEOUT_SECONDS)

    def measure(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Outcome]]:
        """Measure all, and yield each as it is done."""
        for job, future in self._processes.call(jobs):
            try:
                yield job, future.result()
            except TimeoutError:
                yield job, Refused(job.choice, f"timeout: more than {TIMEOUT_SECONDS} s")
            except ChildProcessError:
                yield job, Refused(job.choice, "crash: the process ended")

    def close(self) -> None:
        """End the processes."""
        self._processes.close()

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@lru_cache(maxsize=64)
def _prepared(workload: Workload) -> tuple[Model, Sequence[NDArray[Any]], list[NDArray[Any]]]:
    """Return the network of a workload alone, its inputs, and what the reference makes of them."""
    model, inputs = workload.model(), workload.inputs()
    return model, inputs, evaluate(model.module, inputs)
