"""Tuning a network: search for the best choice of each operator, and write down what was found."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import tvm

from tvm_tinyml.choice import KERNEL, Choice, text_of
from tvm_tinyml.device.timing import MODEL_VERSION
from tvm_tinyml.errors import DeviceError, TargetError, TuningLogError
from tvm_tinyml.model import Model
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.pipeline import integer_graph
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.targets.target import Target
from tvm_tinyml.tuning.agreement import disagreement
from tvm_tinyml.tuning.cost_model import CostModel
from tvm_tinyml.tuning.journal import Failure, History, Journal, Trial, restore
from tvm_tinyml.tuning.key import KERNELS_VERSION, key_of
from tvm_tinyml.tuning.lock import exclusive
from tvm_tinyml.tuning.log import TuningLog
from tvm_tinyml.tuning.measure import FLASH, NO_WAIT, Job, Measured, Outcome, Refused, Workers, part_of
from tvm_tinyml.tuning.records import Record, digest_of, key_text
from tvm_tinyml.tuning.space import GOAL, Kernels
from tvm_tinyml.tuning.task import BATCH, Searcher, Task
from tvm_tinyml.tuning.workload import workloads_of

MEMORIES = (FLASH, NO_WAIT)

MOST_OF_OTHERS = 4000
"""Trials of other networks' operators that teach the cost model: with more it takes longer to learn than to measure."""

BUDGET = 4
"""A choice that needs so many times the instructions of the default is stopped."""

MACHINE = ("timeout", "crash: the process", "device")
"""How reasons begin that may be the machine's, short of time or memory: another run tries such choices again."""

MOST_SEED = 2**31 - 1
"""Of MetaSchedule's generator."""


@dataclass(frozen=True)
class TuneOptions:
    """How long and for what to tune.

    Attributes
    ----------
    trials : choices to measure at most, in all.
    minutes : to take at most; None: any.
    target_cycles : of the network, at which to stop; None: go on.
    memory : in which cycles count: one of `MEMORIES`.
    seed : of the search, 0 to 2**31 - 1.
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
        check_memory(self.memory)
        for name in ("trials", "minutes", "target_cycles", "workers"):
            value = getattr(self, name)
            if value is not None and not value > 0:  # nan is not
                raise TargetError(f"Option {name} takes a number above 0, and {value} is given.")
        if not 0 <= self.seed <= MOST_SEED:
            raise TargetError(f"Option seed takes a number from 0 to {MOST_SEED}, and {self.seed} is given.")


def check_memory(memory: str) -> None:
    """Refuse a memory in which choices are not measured.

    Raises
    ------
    TargetError : it is one.
    """
    if memory not in MEMORIES:
        raise TargetError(f"Tuning counts cycles in memory {' or '.join(MEMORIES)}, not {memory!r}.")


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
    stale : operators of which something that was recorded did not hold when it was measured again.
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

    Where no operator has more than one kernel there is nothing to do: no log is made. Everything measured is on the
    disk when it has been measured; a run that is stopped in any way loses nothing but the trials under way.

    Parameters
    ----------
    model : from `load`.
    target : a core, as for `build`.
    tuning_log : folder; made if it is not there.
    report : called after each trial.

    Raises
    ------
    TargetError, ModelError : as for `build`.
    DeviceError : what the compiler makes of an operator without a choice cannot be measured.
    TuningLogError : the log is damaged or of a newer version, cannot be written, or another run is writing it.
    """
    chosen = options or TuneOptions()
    core = cortex_m(target)
    tasks = tasks_for(model, core, chosen.memory)
    if not any(task.tunable for task in tasks):
        return Progress(())
    with exclusive(tuning_log, target), Workers(chosen.workers) as workers, Journal(tuning_log, target) as journal:
        log = TuningLog.load(tuning_log, target)
        history = journal.read()
        restore(log, _of_others(history, tasks))
        if chosen.prune:
            own = {key_text(task.key) for task in tasks}
            log.prune(lambda key: key_text(key) in own)
        tuner = Tuner(tasks, core, chosen, workers, log, journal, history)
        try:
            with closing(tuner.run()) as run:
                for progress in run:
                    if report:
                        report(progress)
        finally:
            tuner.save()
        return tuner.progress


def tasks_for(model: Model, target: Target, memory: str) -> list[Task]:
    """Return the operators of a network that a target has kernels for; those with one key once."""
    kernels = Kernels(target, GOAL)
    graph = integer_graph(model, BuildOptions(goal=GOAL))
    tasks: dict[str, Task] = {}
    for workload, layers in workloads_of(graph).items():
        choices, part = kernels.choices(workload.call), part_of(workload)
        if part is not workload:
            choices = choices.common(kernels.choices(part.call))
        if choices.spaces:
            task = Task(workload, key_of(workload.call, kernels), layers, choices, memory)
            # Other weights that allow the same cost the same. What cannot be tuned has no record to share.
            name = key_text(task.key) if task.tunable else workload.digest
            known = tasks.get(name)
            tasks[name] = replace(known, layers=[*known.layers, *layers]) if known else task
    return list(tasks.values())


def _of_others(history: History, tasks: Sequence[Task]) -> History:
    """Return what was measured last of each choice of other networks' operators."""
    own = {digest_of(task.key) for task in tasks}
    trials = {
        digest: list({text_of(trial.choice): trial for trial in found}.values())
        for digest, found in history.trials.items()
        if digest not in own
    }
    return History(history.keys, trials)


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

    def run(self) -> Generator[Progress, None, None]:
        """Measure, and yield how far it is after each trial."""
        yield from self._defaults()
        self._remember()
        yield from self._replay()
        while (task := self._next()) is not None:
            yield from self._batch(task)

    def save(self) -> None:
        """Write what was found to the log."""
        for task in self.progress.tasks:
            self._add(task)
        self._log.save()

    def _defaults(self) -> Iterator[Progress]:
        """Measure every operator without a choice, which is the first of all choices."""
        tasks = {task.workload: task for task in self.progress.tasks}
        for job, outcome in self._workers.measure([Job(workload, self._target.name, None) for workload in tasks]):
            task = tasks[job.workload]
            if isinstance(outcome, Refused):
                raise DeviceError(f"{task.name} cannot be measured for {self._target.name}: {outcome.reason}")
            task.default = self._record(task, outcome)
            if task.tunable:
                self._journal.append(task.key, task.default.choice, task.default)
                task.note(task.default.choice, task.default)
            self._count(outcome)
            yield self._now(task)
        self.save()

    def _remember(self) -> None:
        """Take over what earlier runs measured with the same versions: it need not be measured again, and teaches."""
        for task in self.progress.tasks:
            for trial in self._trusted(task) if task.tunable else ():
                if text_of(trial.choice) not in task.known:
                    record = trial.outcome if isinstance(trial.outcome, Record) else None
                    self._learn(task, trial.choice, record)
                    self.progress.known += 1
            task.best.append(task.cycles)
        self._learn_of_others()
        self._model.fit()

    def _learn_of_others(self) -> None:
        """Teach the cost model what the journal has of other networks' operators."""
        own = {digest_of(task.key) for task in self.progress.tasks}
        trials = [
            (key, trial)
            for digest, key in self._history.keys.items()
            if digest not in own and key.get("kernels") == KERNELS_VERSION
            for trial in self._history.of(key)
            if _stamp_of(trial.outcome) == self._stamp and not _may_pass(trial.outcome)
        ]
        memory = self._options.memory
        for key, trial in trials[-MOST_OF_OTHERS:]:
            entry, outcome = self._log.find(key), trial.outcome
            if entry and entry.default:
                ratio = None
                if isinstance(outcome, Record):
                    ratio = outcome.cycles[memory] / entry.default.cycles[memory]
                with suppress(LookupError, TypeError, ValueError):  # a key that no operator has teaches nothing
                    self._model.add(key, trial.choice, ratio)

    def _trusted(self, task: Task) -> Sequence[Trial]:
        """Return the trials that were made with these kernels: where the default costs what it costs now."""
        every = self._history.of(task.key)
        found = [t for t in every if _stamp_of(t.outcome) == self._stamp and not _may_pass(t.outcome)]
        default = task.default
        assert default is not None
        holds = {
            number: not disagreement(trial.outcome, default)
            for number, trial in enumerate(found)
            if isinstance(trial.outcome, Record) and trial.outcome.choice == default.choice
        }
        if all(holds.values()):
            return found
        last = max(number for number, held in holds.items() if not held)
        since = [number for number in holds if number > last]
        if not since:
            self._is_stale(task)
        return found[since[0] :] if since else []

    def _replay(self) -> Iterator[Progress]:
        """Measure what the log has of each operator and the journal has not, or otherwise; drop what does not hold."""
        asked: list[tuple[Task, Record]] = []
        for task in self.progress.tasks:
            entry = self._log.find(task.key) if task.tunable else None
            for record in entry.records if entry else ():
                assert task.default is not None
                if record.how > task.default.how:
                    raise TuningLogError(
                        f"Tuning log '{self._log.folder}' has records of timing model {record.model_version} and TVM "
                        f"{record.tvm}, and this is {MODEL_VERSION} with TVM {tvm.__version__}. Tune with that "
                        "version, or into another folder."
                    )
                known = task.known.get(text_of(record.choice))
                if not task.choices.has(record.choice):
                    self._is_stale(task)
                elif known is None or disagreement(record, known):
                    asked.append((task, record))
        yield from self._try([(task, record.choice) for task, record in asked])
        for task, record in asked:
            now = task.known[text_of(record.choice)]
            if now is None or disagreement(record, now):
                self._is_stale(task)
        for task in self.progress.tasks:
            if task.name in self.progress.stale:
                self._log.prune(lambda key, task=task: key_text(key) != key_text(task.key))  # type: ignore[misc]
            task.best[-1:] = [task.cycles]
        self.save()

    def _next(self) -> Task | None:
        """Return the task whose next batch promises most, or None if it is time to stop."""
        options, progress = self._options, self.progress
        if self._left <= 0 or (options.minutes and self._seconds >= 60 * options.minutes):
            return None
        if options.target_cycles and progress.cycles <= options.target_cycles:
            return None
        open_tasks = [task for task in progress.tasks if not task.done]
        # Where nothing is known yet, the operator comes first that takes the most cycles.
        return max(open_tasks, key=lambda task: (task.promise, len(task.layers) * task.cycles), default=None)

    @property
    def _left(self) -> int:
        """Trials that may still be made."""
        known = self.progress.known if self._options.resume else 0
        return self._options.trials - self.progress.trials - known

    def _batch(self, task: Task) -> Iterator[Progress]:
        """Measure some choices for one operator, and learn from them."""
        searcher = self._searcher(task)
        with self._searching():
            proposed = searcher.propose(BATCH)[: self._left]
        if not proposed:
            task.exhausted = True
            return
        yield from self._try([(task, choice) for choice in proposed])
        with self._searching():
            searcher.learn()
            self._model.fit()
        task.best.append(task.cycles)
        self._add(task)
        self._log.save()

    def _try(self, asked: Sequence[tuple[Task, Choice]]) -> Iterator[Progress]:
        """Measure choices. Each is written down as it is measured; the model learns them in their order afterwards.

        So the same seed gives the same search, whichever process is the first to be done.
        """
        jobs = [self._job(task, choice) for task, choice in asked]
        tasks = {id(job): task for job, (task, _) in zip(jobs, asked, strict=True)}
        records: dict[int, Record | None] = {}
        try:
            for job, outcome in self._workers.measure(jobs):
                task = tasks[id(job)]
                assert job.choice is not None
                records[id(job)] = self._written_down(task, job.choice, outcome)
                self._count(outcome)
                yield self._now(task)
        finally:
            for job, (task, choice) in zip(jobs, asked, strict=True):
                if id(job) in records:
                    self._learn(task, choice, records[id(job)])

    def _job(self, task: Task, choice: Choice) -> Job:
        assert task.default is not None
        return Job(task.workload, self._target.name, choice, BUDGET * task.default.instructions)

    def _written_down(self, task: Task, choice: Choice, outcome: Outcome) -> Record | None:
        """Add a trial to the journal, and return its record if it gives a kernel."""
        if isinstance(outcome, Measured):
            record = self._record(task, outcome)
            self._journal.append(task.key, choice, record)
            return record
        self._journal.append(task.key, choice, Failure(outcome.reason, *self._stamp))
        return None

    def _learn(self, task: Task, choice: Choice, record: Record | None) -> None:
        task.note(choice, record)
        self._model.add(task.key, choice, task.ratio(record))

    def _add(self, task: Task) -> None:
        """Add what is known of an operator to the log."""
        if task.tunable and task.default:
            self._log.add(task.key, task.records, len(task.known), task.default)

    def _is_stale(self, task: Task) -> None:
        if task.name not in self.progress.stale:
            self.progress.stale.append(task.name)

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

    def _record(self, task: Task, outcome: Measured) -> Record:
        """Return the record of a measurement.

        Of a part of an operator a kernel may decide what the whole operator does not have: that is left to it again.
        """
        choice = outcome.choice
        if task.tunable and not task.choices.has(choice):
            choice = {KERNEL: choice[KERNEL]}
        costs = (outcome.cycles, outcome.instructions, outcome.workspace_bytes, outcome.code_bytes)
        return Record(choice, *costs, *self._stamp)

    @contextmanager
    def _searching(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.progress.search_seconds += time.perf_counter() - started

    def _now(self, task: Task) -> Progress:
        self.progress.seconds, self.progress.task = self._seconds, task
        return self.progress

    @property
    def _seconds(self) -> float:
        return time.perf_counter() - self._started


def _may_pass(outcome: Record | Failure) -> bool:
    """Return whether it may have been the machine that failed, and not the choice."""
    return isinstance(outcome, Failure) and outcome.error.startswith(MACHINE)


def _stamp_of(outcome: Record | Failure) -> tuple[str, str, str]:
    return outcome.model_version, outcome.tvm, outcome.tool
