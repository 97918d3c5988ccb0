"""Measuring: cycles are those of the timing model, and what is not right is refused, whatever is wrong with it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tuning.networks import TARGET, convolution, dense, several, workloads
from tvm_tinyml.choice import KERNEL, Choice
from tvm_tinyml.device.simulator import CallResult, Simulator
from tvm_tinyml.device.timing import MODEL_VERSION, load_memory
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.pipeline import lower_graph, package
from tvm_tinyml.reference.evaluate import evaluate
from tvm_tinyml.session import Session
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.tuning import measure
from tvm_tinyml.tuning.measure import FLASH, NO_WAIT, Job, Measured, Outcome, Refused, Workers, measure_safely
from tvm_tinyml.tuning.space import GOAL
from tvm_tinyml.tuning.workload import Workload


def measured(workload: Workload, choice: Choice | None = None, target: str = TARGET) -> Measured:
    outcome = measure_safely(Job(workload, target, choice))
    assert isinstance(outcome, Measured), outcome
    return outcome


def refused(workload: Workload, choice: Choice | None = None, budget_instructions: int = 10**9) -> str:
    outcome = measure_safely(Job(workload, TARGET, choice, budget_instructions))
    assert isinstance(outcome, Refused), outcome
    return outcome.reason


def cycles_of_a_run(workload: Workload, memory: str, target: str) -> int:
    """Return the cycles of an operator alone in a memory, called as a program calls it."""
    model, core, options = workload.model(), cortex_m(target), BuildOptions(goal=GOAL, emit="lib", memory=memory)
    library = package(lower_graph(model.module, model, core, options), core, options)
    session = Session(library.metadata, library.objects)
    calls = session.run_layers(workload.inputs(), load_memory(memory))
    session.close()
    return sum(call.cycles.total for call in calls if call and call.cycles)


@pytest.mark.parametrize(
    ("number", "target"), [*((number, TARGET) for number in range(7)), (0, "cortex-m7"), (0, "cortex-m0plus")]
)
def test_one_run_gives_the_cycles_of_both_memories(number: int, target: str) -> None:
    workload = workloads(several())[number]
    outcome = measured(workload, target=target)
    assert outcome.cycles == {memory: cycles_of_a_run(workload, memory, target) for memory in (FLASH, NO_WAIT)}
    assert outcome.cycles[NO_WAIT] >= outcome.instructions // 2
    assert outcome.model_version == MODEL_VERSION


def test_the_same_choice_costs_the_same_every_time() -> None:
    first, again = (measured(convolution()) for _ in range(2))
    assert (first.choice, first.cycles, first.instructions) == (again.choice, again.cycles, again.instructions)
    assert (first.workspace_bytes, first.code_bytes) == (again.workspace_bytes, again.code_bytes)


def test_choices_cost_different_cycles_scratch_and_code() -> None:
    workload = convolution()
    few, many = (measured(workload, {KERNEL: "ConvGemm", "tiles": tiles}) for tiles in (1, 16))
    assert few.cycles[FLASH] > many.cycles[FLASH]
    assert few.workspace_bytes < many.workspace_bytes
    assert few.choice["tiles"] == 1
    own = measured(workload, {KERNEL: "ConvGemm", "shared": 0})
    assert own.code_bytes != measured(workload, {KERNEL: "ConvGemm", "shared": 1}).code_bytes


@pytest.fixture
def wrong_reference(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the reference expect another value for one element."""

    def wrong(*arguments: object) -> list[object]:
        (result,) = evaluate(*arguments)  # type: ignore[arg-type]
        result = result.copy()
        result.flat[5] ^= 1
        return [result]

    measure._prepared.cache_clear()
    monkeypatch.setattr(measure, "evaluate", wrong)
    yield
    measure._prepared.cache_clear()


@pytest.mark.usefixtures("wrong_reference")
def test_a_wrong_result_is_a_mismatch() -> None:
    assert refused(convolution()) == "mismatch: 1 of 512 bytes"
    assert refused(convolution(), {KERNEL: "ConvGemm", "tiles": 2}) == "mismatch: 1 of 512 bytes"


def test_one_that_runs_away_is_stopped() -> None:
    assert refused(convolution(), budget_instructions=1000) == "budget: more than 1000 instructions"


@pytest.mark.parametrize(
    "choice", [{KERNEL: "ConvGemm", "tiles": 9999}, {KERNEL: "ConvGemm", "product": "none"}, {KERNEL: "Nobody"}]
)
def test_what_no_kernel_has_is_impossible(choice: Choice) -> None:
    assert refused(convolution(), choice) == "impossible"


def test_a_write_beside_a_buffer_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though every byte of the result is right."""
    call = Simulator.call

    def call_and_spoil(simulator: Simulator, *arguments: Any, **options: Any) -> CallResult:
        result = call(simulator, *arguments, **options)
        buffer = simulator._allocations[-1]
        simulator.write(buffer.address + buffer.size_bytes + 3, b"!")
        return result

    monkeypatch.setattr(Simulator, "call", call_and_spoil)
    reason = refused(convolution())
    assert reason.startswith("device: ")
    assert "behind" in reason


def test_whatever_else_happens_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise ZeroDivisionError("by\nzero " + "x" * 1000)

    monkeypatch.setattr(measure, "package", fail)
    reason = refused(convolution())
    assert reason.startswith("crash: ZeroDivisionError: by\nzero x")
    assert len(reason) == 200


@pytest.mark.usefixtures("without_engine")
def test_without_a_simulator_that_is_the_reason() -> None:
    assert refused(convolution()).startswith("device: ")


PARTS: dict[str, tuple[Callable[[], Workload], Choice]] = {
    "products": (lambda: convolution((1, 64, 16, 4), 8), {KERNEL: "ConvGemm", "tiles": 8}),
    "strided": (lambda: convolution((1, 121, 40, 4), 8, strides=(2, 2)), {KERNEL: "ConvGemm", "tiles": 5}),
    "depthwise": (lambda: convolution((1, 61, 20, 4), depthwise=True), {KERNEL: "Depthwise", "rows": 4}),
    "winograd": (lambda: convolution((1, 64, 20, 16), 16), {KERNEL: "Winograd", "quads": 2}),
}


@pytest.mark.parametrize("name", PARTS)
def test_of_a_large_operator_some_rows_stand_for_all(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, choice = PARTS[name]
    workload = make()
    whole = measured(workload, choice)
    monkeypatch.setattr(measure, "MOST_MACS", workload.macs // 4)
    part = workload.rows(workload.macs // 4)
    assert part.macs < workload.macs / 2
    estimate, alone = measured(workload, choice), measured(part, choice)
    for memory, cycles in whole.cycles.items():
        assert estimate.cycles[memory] == round(alone.cycles[memory] * workload.macs / part.macs)
        assert 0.9 < estimate.cycles[memory] / cycles < 1.1
    assert estimate.instructions == round(alone.instructions * workload.macs / part.macs)


def test_in_other_processes_the_same_comes_out_and_nothing_is_left_on_the_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    asked: list[tuple[Choice | None, int]] = [(None, 10**6), ({KERNEL: "Nobody"}, 10**6), (None, 10)]
    jobs = [Job(workload, TARGET, *each) for workload in (convolution(), dense()) for each in asked]
    with Workers(1) as workers:
        found = {id(job): outcome for job, outcome in workers.measure(jobs)}
    assert [comparable(found[id(job)]) for job in jobs] == [comparable(measure_safely(job)) for job in jobs]
    assert os.listdir(tmp_path) == []


def comparable(outcome: Outcome) -> dict[str, object]:
    """Return all but how long it took."""
    return {name: value for name, value in vars(outcome).items() if not name.endswith("_seconds")}
