"""Whether a log has a record for every operator of a network, and whether it can be trusted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tvm

from tvm_tinyml.device.timing import MODEL_VERSION
from tvm_tinyml.model import Model
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.tuning.log import TuningLog
from tvm_tinyml.tuning.measure import Job, Measured, Workers
from tvm_tinyml.tuning.records import Record
from tvm_tinyml.tuning.task import Task
from tvm_tinyml.tuning.tune import tasks_for


@dataclass(frozen=True)
class Verdict:
    """What there is to say of an operator.

    Attributes
    ----------
    operator : with its shapes.
    problem : why its record cannot be used; empty if it can.
    """

    operator: str
    problem: str


def check(model: Model, target: str, tuning_log: str | Path, *, memory: str, replay: bool) -> list[Verdict]:
    """Look every operator of a network up that has more than one kernel.

    Parameters
    ----------
    replay : measure what is recorded, and compare its cycles with those noted.

    Raises
    ------
    TargetError, ModelError : as for `build`.
    TuningLogError : the log is damaged.
    """
    log = TuningLog.load(tuning_log, cortex_m(target).name)
    tasks = [task for task in tasks_for(model, cortex_m(target), memory) if task.tunable]
    verdicts = {task.name: _static(task, log) for task in tasks}
    if replay:
        verdicts |= dict(_replayed([task for task in tasks if not verdicts[task.name]], log, target))
    return [Verdict(name, problem) for name, problem in verdicts.items()]


def _static(task: Task, log: TuningLog) -> str:
    entry = log.find(task.key)
    if entry is None:
        return "no record"
    record = task.best_of(entry.records)
    if record.model_version != MODEL_VERSION:
        return f"its cycles are of timing model {record.model_version}, this is {MODEL_VERSION}"
    if record.tvm != tvm.__version__:
        return f"it was measured with TVM {record.tvm}, this is {tvm.__version__}"
    if not task.choices.has(record.choice):
        return f"there is no choice {record.choice} any more"
    return ""


def _replayed(tasks: list[Task], log: TuningLog, target: str) -> Iterator[tuple[str, str]]:
    by_digest = {task.workload.digest: task for task in tasks}
    recorded: dict[str, Record] = {}
    for task in tasks:
        entry = log.find(task.key)
        assert entry is not None
        recorded[task.name] = task.best_of(entry.records)
    jobs = [Job(task.workload, target, recorded[task.name].choice) for task in tasks]
    with Workers() as workers:
        for job, outcome in workers.measure(jobs):
            task = by_digest[job.workload.digest]
            noted = recorded[task.name].cycles
            memory = task.memory
            if not isinstance(outcome, Measured):
                yield task.name, f"its choice gives no kernel: {outcome.reason}"
            elif outcome.cycles != noted:
                yield task.name, f"{noted[memory]:,} cycles are noted, and it takes {outcome.cycles[memory]:,}"
