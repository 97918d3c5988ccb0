"""Tuning a network: search for the best choice of each operator, and write down what was found."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import tvm

from tvm_tinyml.choice import Choice
from tvm_tinyml.device.timing import MODEL_VERSION
from tvm_tinyml.errors import TargetError
from tvm_tinyml.model import Model
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.pipeline import integer_graph
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.targets.target import Target
from tvm_tinyml.tuning.cost_model import CostModel
from tvm_tinyml.tuning.journal import Failure, History, Journal, restore
from tvm_tinyml.tuning.key import key_of
from tvm_tinyml.tuning.lock import exclusive
from tvm_tinyml.tuning.log import TuningLog
from tvm_tinyml.tuning.measure import FLASH, GOAL, NO_WAIT, Job, Measured, Outcome, Refused, Workers
from tvm_tinyml.tuning.records import Record
from tvm_tinyml.tuning.space import Kernels
from tvm_tinyml.tuning.task import BATCH, Searcher, Task, text_of
from tvm_tinyml.tuning.workload import tasks_of

MEMORIES = (FLASH, NO_WAIT)

BUDGET = 4
"""A choice that needs so many times the instructions of the default is stopped."""


@dataclass(frozen=True)
class TuneOptions:
    """How long and for what to tune.

    Attributes
    ----------
    trials : choices to measure at most, in all.
    minutes : to take at most; None: any.
    target_cycles : of the network, at which to stop; None: go on.
    memory : in which cycles count: one of `MEMORIES`.
    seed : of the search.
    workers : processes that measure; None: as many as there are cores, two at least.
    resume : trials that an earlier run left in the journal count.
    prune : drop entries of the log that this network has no operator for.

    Raises
    ------
    TargetError : a value that is not offered.
    """

    trials: int = 1000
    minutes: float | None = None
    target_cycles: int | None = None
    memory: str = FLASH
    seed: int = 0
    workers: int | None = None
    resume: bool = False
    prune: bool = False

    def __post_init__(self) -> None:
        if self.memory not in MEMORIES:
            raise TargetError(f"Tuning counts cycles in memory {' or '.join(MEMORIES)}, not {self.memory!r}.")
        for name in ("trials", "minutes", "target_cycles", "workers"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise TargetError(f"Option {name} takes a number above 0, and {value} is given.")


@dataclass
class Progress:
    """How far tuning is.

    Attributes
    ----------
    trials : measured in this run. ``refused`` of them gave no kernel, by ``reasons``.
    known : trials that the journal had.
    seconds : since the beginning; of them ``search_seconds`` went into proposing and learning. ``build_seconds`` and
        ``run_seconds`` are those of all workers together.
    default_cycles, cycles : of all operators with kernels, without choices and with the best ones so far.
    task : that was looked at last.
    stale : operators whose records did not hold when they were measured again.
    """

    tasks: Sequence[Task]
    trials: int = 0
    known: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    search_seconds: float = 0.0
    build_seconds: float = 0.0
    run_seconds: float = 0.0
    task: Task | None = None
    stale: list[str] = field(default_factory=list)

    @property
    def refused(self) -> int:
        """Trials that gave no kernel."""
        return sum(self.reasons.values())

    def left_seconds(self, options: TuneOptions) -> float:
        """Return about how long it takes at most from here on."""
        spent = self.trials + (self.known if options.resume else 0)
        trials = max(0, options.trials - spent) * self.seconds / max(self.trials, 1)
        return min(trials, max(0.0, 60 * options.minutes - self.seconds)) if options.minutes else trials

    @property
    def default_cycles(self) -> int:
        """Without choices."""
        measured = [(task, task.default) for task in self.tasks if task.default]
        return sum(len(task.layers) * default.cycles[task.memory] for task, default in measured)

    @property
    def cycles(self) -> int:
        """With the best choices."""
        return sum(len(task.layers) * task.cycles for task in self.tasks if task.default)


Report = Callable[[Progress], None]


def tune(
    model: Model, target: str, tuning_log: str | Path, options: TuneOptions | None = None, report: Report | None = None
) -> Progress:
    """Search for the best kernels of a network and add them to a log.

    Everything measured is on the disk when it has been measured; a run that is stopped in any way loses nothing but
    the trials under way.

    Parameters
    ----------
    model : from `load`.
    target : a core, as for `build`.
    tuning_log : folder; made if it is not there.
    report : called after each batch.

    Raises
    ------
    TargetError, ModelError : as for `build`.
    TuningLogError : the log is damaged, cannot be written, or another run is writing it.
    """
    chosen = options or TuneOptions()
    core = cortex_m(target)
    tasks = tasks_for(model, core, chosen.memory)
    with exclusive(tuning_log, target), Workers(chosen.workers) as workers, Journal(tuning_log, target) as journal:
        log = TuningLog.load(tuning_log, target)
        history = journal.read()
        restore(log, history)
        if chosen.prune:
            own = {text_of(task.key) for task in tasks}
            log.prune(lambda key: text_of(key) in own)
        tuner = Tuner(tasks, core, chosen, workers, log, journal, history)
        try:
            for progress in tuner.run():
                if report:
                    report(progress)
        finally:
            log.save()
        return tuner.progress


def tasks_for(model: Model, target: Target, memory: str) -> list[Task]:
    """Return the operators of a network that a target has kernels for."""
    kernels = Kernels(target, GOAL)
    graph = integer_graph(model, BuildOptions(goal=GOAL))
    tasks: dict[str, Task] = {}
    for workload, layers in tasks_of(graph).values():
        choices = kernels.choices(workload.call)
        if choices.spaces:
            key = key_of(workload.call, kernels)
            text = text_of(key)
            if text in tasks:  # other weights that allow the same: measured once
                tasks[text] = replace(tasks[text], layers=[*tasks[text].layers, *layers])
            else:
                tasks[text] = Task(workload, key, list(layers), choices, memory)
    return list(tasks.values())


class Tuner:
    """One tuning run.

    Parameters
    ----------
    log : is added to, and saved now and then.
    journal : gets every trial.
    history : trials of earlier runs.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        target: Target,
        options: TuneOptions,
        workers: Workers,
        log: TuningLog,
        journal: Journal,
        history: History,
    ) -> None:
        self._target, self._options, self._workers = target, options, workers
        self._log, self._journal, self._history = log, journal, history
        self._model = CostModel(options.seed)
        self._searchers: dict[int, Searcher] = {}
        self._stamp = (MODEL_VERSION, tvm.__version__, version("tvm_tinyml"))
        self._started = time.perf_counter()
        self.progress = Progress(tasks)

    def run(self) -> Iterator[Progress]:
        """Measure, and yield how far it is after each batch."""
        yield from self._defaults()
        self._remember()
        yield from self._replay()
        while (task := self._next()) is not None:
            self._batch(task)
            yield self._now(task)

    def _defaults(self) -> Iterator[Progress]:
        """Measure every operator without a choice, which is the first of all choices."""
        tasks = {task.workload.digest: task for task in self.progress.tasks}
        jobs = [Job(task.workload, self._target.name, None) for task in tasks.values()]
        for job, outcome in self._workers.measure(jobs):
            task = tasks[job.workload.digest]
            if isinstance(outcome, Refused):
                raise AssertionError(f"{task.key['operator']} without a choice: {outcome.reason}")
            task.default = self._record(outcome)
            if task.tunable:
                task.note(outcome.choice, task.default)
                self._journal.append(task.key, outcome.choice, task.default)
                self._log.add(task.key, [task.default], 1, task.default)
            self._count(outcome)
            yield self._now(task)
        self._log.save()

    def _remember(self) -> None:
        """Take over what earlier runs measured with the same versions: it need not be measured again, and teaches."""
        for task in self.progress.tasks:
            for trial in self._history.of(task.key):
                outcome = trial.outcome
                if (outcome.model_version, outcome.tvm, outcome.tool) == self._stamp:
                    record = outcome if isinstance(outcome, Record) else None
                    if text_of(trial.choice) not in task.known:
                        task.note(trial.choice, record)
                        self._model.add(task.workload, trial.choice, task.ratio(record))
                        self.progress.known += 1
            task.best.append(task.cycles)
        self._model.fit()

    def _replay(self) -> Iterator[Progress]:
        """Measure what the log has of each operator and the journal does not: what does not hold is dropped."""
        jobs: dict[tuple[str, str], Record] = {}
        tasks = {task.workload.digest: task for task in self.progress.tasks if task.tunable}
        for digest, task in tasks.items():
            entry = self._log.find(task.key)
            for record in entry.records if entry else ():
                if text_of(record.choice) not in task.known and task.choices.has(record.choice):
                    jobs[digest, text_of(record.choice)] = record
        name = self._target.name
        waiting = [Job(tasks[digest].workload, name, record.choice) for (digest, _), record in jobs.items()]
        for job, outcome in self._workers.measure(waiting):
            assert job.choice is not None
            task, noted = tasks[job.workload.digest], jobs[job.workload.digest, text_of(job.choice)]
            self._note(task, job.choice, outcome)
            if not isinstance(outcome, Measured) or outcome.cycles != noted.cycles:
                self.progress.stale.append(task.name)
                self._log.prune(lambda key, task=task: text_of(key) != text_of(task.key))  # type: ignore[misc]
                self._log.add(task.key, task.records, len(task.known), task.default)
            yield self._now(task)
        self._model.fit()
        for task in tasks.values():
            task.best[-1:] = [task.cycles]

    def _next(self) -> Task | None:
        """Return the task whose next batch promises most, or None if it is time to stop."""
        options, progress = self._options, self.progress
        spent = progress.trials + (progress.known if options.resume else 0)
        if spent >= options.trials or (options.minutes and self._seconds >= 60 * options.minutes):
            return None
        if options.target_cycles and progress.cycles <= options.target_cycles:
            return None
        open_tasks = [task for task in progress.tasks if not task.done]
        # Where nothing is known yet, the operator comes first that takes the most cycles.
        return max(open_tasks, key=lambda task: (task.promise, len(task.layers) * task.cycles), default=None)

    def _batch(self, task: Task) -> None:
        """Measure some choices for one operator, and learn from them."""
        started = time.perf_counter()
        searcher = self._searcher(task)
        left = self._options.trials - self.progress.trials
        proposed = searcher.propose(BATCH)[: max(left, 1)]
        self.progress.search_seconds += time.perf_counter() - started
        if not proposed:
            task.exhausted = True
            return
        assert task.default is not None
        budget = BUDGET * task.default.instructions
        jobs = [Job(task.workload, self._target.name, choice, budget) for choice in proposed]
        for job, outcome in self._workers.measure(jobs):
            assert job.choice is not None
            self._note(task, job.choice, outcome)
        started = time.perf_counter()
        searcher.learn()
        self._model.fit()
        task.best.append(task.cycles)
        self._log.add(task.key, task.records, len(task.known), task.default)
        self._log.save()
        self.progress.search_seconds += time.perf_counter() - started

    def _note(self, task: Task, choice: Choice, outcome: Outcome) -> None:
        record = self._record(outcome) if isinstance(outcome, Measured) else None
        reason = "" if isinstance(outcome, Measured) else outcome.reason
        self._journal.append(task.key, choice, record or Failure(reason, *self._stamp))
        task.note(choice, record)
        self._model.add(task.workload, choice, task.ratio(record))
        self._count(outcome)

    def _count(self, outcome: Outcome) -> None:
        progress = self.progress
        progress.trials += 1
        if isinstance(outcome, Measured):
            progress.build_seconds += outcome.build_seconds
            progress.run_seconds += outcome.run_seconds
        else:
            kind = outcome.reason.split(":")[0]
            progress.reasons[kind] = progress.reasons.get(kind, 0) + 1

    def _searcher(self, task: Task) -> Searcher:
        if id(task) not in self._searchers:
            seed = self._options.seed + len(self._searchers)
            self._searchers[id(task)] = Searcher(task, self._target, self._model, seed)
        return self._searchers[id(task)]

    def _record(self, outcome: Measured) -> Record:
        costs = (outcome.cycles, outcome.instructions, outcome.workspace_bytes, outcome.code_bytes)
        return Record(outcome.choice, *costs, *self._stamp)

    def _now(self, task: Task) -> Progress:
        self.progress.seconds, self.progress.task = self._seconds, task
        return self.progress

    @property
    def _seconds(self) -> float:
        return time.perf_counter() - self._started
