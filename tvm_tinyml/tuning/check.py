"""Whether a log has records for every operator of a network, and whether they can be trusted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tvm

from tvm_tinyml.device.timing import MODEL_VERSION
from tvm_tinyml.model import Model
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.tuning.agreement import disagreement
from tvm_tinyml.tuning.choose import load_log
from tvm_tinyml.tuning.log import TuningLog
from tvm_tinyml.tuning.measure import Job, Measured, Workers
from tvm_tinyml.tuning.records import Record
from tvm_tinyml.tuning.task import Task
from tvm_tinyml.tuning.tune import check_memory, tasks_for


@dataclass(frozen=True)
class Verdict:
    """What there is to say of an operator.

    Attributes
    ----------
    operator : with its shapes.
    problem : why a record of it cannot be used, or that there is none; empty if all is well.
    """

    operator: str
    problem: str


def check(model: Model, target: str, tuning_log: str | Path, *, memory: str, replay: bool) -> list[Verdict]:
    """Look every operator of a network up that has more than one kernel.

    Parameters
    ----------
    memory : that the records must have cycles for.
    replay : measure what is recorded, and compare its costs with those noted.

    Raises
    ------
    TargetError, ModelError : as for `tune`.
    TuningLogError : the log is not there, or damaged.
    """
    check_memory(memory)
    log = load_log(tuning_log, cortex_m(target).name)
    tasks = [task for task in tasks_for(model, cortex_m(target), memory) if task.tunable]
    records = [_records(task, log) for task in tasks]
    problems = [_problem(task, noted) for task, noted in zip(tasks, records, strict=True)]
    if replay:
        for number, problem in _replayed(target, tasks, records):
            problems[number] = problems[number] or problem
    return [Verdict(task.name, problem) for task, problem in zip(tasks, problems, strict=True)]


def _records(task: Task, log: TuningLog) -> Sequence[Record]:
    entry = log.find(task.key)
    return entry.records if entry else ()


def _problem(task: Task, records: Sequence[Record]) -> str:
    """Return what can be said without measuring."""
    if not records:
        return "no record"
    for record in records:
        if record.model_version != MODEL_VERSION:
            return f"its cycles are of timing model {record.model_version}, this is {MODEL_VERSION}"
        if record.tvm != tvm.__version__:
            return f"it was measured with TVM {record.tvm}, this is {tvm.__version__}"
        if task.memory not in record.cycles:
            return f"it has no cycles for memory {task.memory}, only for {', '.join(sorted(record.cycles))}"
        if not task.choices.has(record.choice):
            return f"there is no choice {dict(record.choice)} any more"
    return ""


def _replayed(
    target: str, tasks: Sequence[Task], records: Sequence[Sequence[Record]]
) -> Iterator[tuple[int, str]]:
    """Yield the number of each operator that has a record which does not hold, and what it costs now."""
    jobs = {
        (number, place): Job(task.workload, target, record.choice)
        for number, (task, noted) in enumerate(zip(tasks, records, strict=True))
        for place, record in enumerate(noted)
        if task.choices.has(record.choice)
    }
    places = {id(job): place for place, job in jobs.items()}
    with Workers() as workers:
        for job, outcome in workers.measure(jobs.values()):
            number, place = places[id(job)]
            record = records[number][place]
            if not isinstance(outcome, Measured):
                yield number, f"choice {dict(record.choice)} gives no kernel: {outcome.reason}"
            elif problem := disagreement(record, outcome):
                yield number, f"of choice {dict(record.choice)} {problem}"
