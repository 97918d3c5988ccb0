"""Measuring choices: each is compiled, simulated and compared with the reference, in processes of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm.support.popen_pool import PopenPoolExecutor

from tvm_tinyml.choice import Choice
from tvm_tinyml.device.timing import load_memory
from tvm_tinyml.errors import DeviceError
from tvm_tinyml.model import Model
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.pipeline import lower_graph, package
from tvm_tinyml.reference.evaluate import evaluate
from tvm_tinyml.session import Session
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.tuning.workload import Workload

TIMEOUT_SECONDS = 60
"""For one choice: what takes longer to compile or to run is none."""

GOAL, FLASH, NO_WAIT = "time", "l4r5zi-120", "zero-wait"
"""Choices are measured with the goal that allows most, in a memory that waits; what it waits for code and constants
is known apart, so that one run gives the cycles without waiting as well."""


@dataclass(frozen=True)
class Job:
    """What a worker needs to measure a choice.

    Attributes
    ----------
    target : name.
    choice : None for what the compiler does without one.
    budget_instructions : a choice that needs more is worse than others anyway.
    """

    workload: Workload
    target: str
    choice: Choice | None
    budget_instructions: int = 200_000_000


@dataclass(frozen=True)
class Measured:
    """What a choice costs, for one operator alone with its input and output with the caller.

    Attributes
    ----------
    choice : as decided in full, by which equal ones are known.
    cycles : by memory.
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
    reason : ``impossible``, ``mismatch``, ``fault``, ``budget``, ``timeout`` or ``crash``, and what is known.
    """

    choice: Choice | None
    reason: str


Outcome = Measured | Refused


def measure(job: Job) -> Outcome:
    """Measure one choice in this process."""
    started = time.perf_counter()
    target, options = cortex_m(job.target), BuildOptions(goal=GOAL, emit="lib", memory=FLASH)
    model, inputs, expected = _prepared(_Known(job.workload))
    program = lower_graph(model.module, model, target, options, lambda _call: job.choice)
    choice = program.kernels[str(program.steps[-1].kernel)].choice
    if job.choice is not None and any(choice.get(name) != value for name, value in job.choice.items()):
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
    return Measured(
        choice,
        {FLASH: with_flash, NO_WAIT: with_flash - sum(each.flash_stall_cycles for each in cycles)},
        sum(call.instructions for call in calls),
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
    except DeviceError as error:
        return Refused(job.choice, f"{type(error).__name__}: {error}"[:200])
    except Exception as error:  # a candidate may break anything between here and LLVM: it is none, and counted
        return Refused(job.choice, f"crash: {type(error).__name__}: {error}"[:200])


class Workers:
    """Processes that measure.

    Parameters
    ----------
    count : of processes; None: as many as there are cores, two at least.
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = count or max(2, os.cpu_count() or 2)
        self._pool = PopenPoolExecutor(self.count, TIMEOUT_SECONDS)

    def measure(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Outcome]]:
        """Measure all, and yield each as it is done."""
        pending: dict[Future[Outcome], Job] = {self._pool.submit(measure_safely, job): job for job in jobs}
        for future in as_completed(pending):
            job = pending[future]
            try:
                yield job, future.result()
            except TimeoutError:
                yield job, Refused(job.choice, f"timeout: more than {TIMEOUT_SECONDS} s")
            except ChildProcessError:
                yield job, Refused(job.choice, "crash: the process ended")

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(wait=False)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Known:
    """A workload that is the same as another with its digest."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload

    def __hash__(self) -> int:
        return hash(self.workload.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Known) and self.workload.digest == other.workload.digest


@lru_cache(maxsize=64)
def _prepared(known: _Known) -> tuple[Model, Sequence[NDArray[Any]], list[NDArray[Any]]]:
    """Return the network of a workload alone, its inputs, and what the reference makes of them."""
    model, inputs = known.workload.model(), known.workload.inputs()
    return model, inputs, evaluate(model.module, inputs)
