"""Tune what comes with the package: ``make tune-shipped-log``.

For each core the layers of some networks are tuned into ``tvm_tinyml/tuning/shipped``. It may be stopped at any time,
and goes on where it was. At its end it writes ``results/shipped_log.md``, which says at which commit the log was made.

``python -m benchmarks.shipped_log --measure-again`` looks for nothing: where kernels have changed, it notes what the
choices that are in the log cost now. What no longer gives a kernel is left out.
"""

from __future__ import annotations

import argparse
import math
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tvm_tinyml as tinyml
from benchmarks.baseline import OURS, REAL, content, shared_models
from benchmarks.layer_shapes import layer_shapes
from benchmarks.networks import mobilenet_v1, mobilenet_v2
from tvm_tinyml.choice import KERNEL, Choice
from tvm_tinyml.tables import table
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.tuning.choose import shipped_log
from tvm_tinyml.tuning.journal import Journal
from tvm_tinyml.tuning.lock import exclusive
from tvm_tinyml.tuning.log import TuningLog
from tvm_tinyml.tuning.measure import FLASH, Job, Measured, Outcome, Workers
from tvm_tinyml.tuning.records import Entry, Record, key_text
from tvm_tinyml.tuning.task import Task
from tvm_tinyml.tuning.tune import TuneOptions, tasks_for, tune

RESULTS = Path(__file__).with_name("results")

Models = Mapping[str, Callable[[], bytes]]

MLPERF: Models = {name: (lambda name=name: content(name)) for name in (REAL if shared_models().is_dir() else OURS)}
MOBILENETS: Models = {
    f"{build.__name__}-{width}": (lambda build=build, width=width: build(width).data)
    for build in (mobilenet_v1, mobilenet_v2)
    for width in (0.25, 0.5)
}
SHAPES: Models = {shape.name: (lambda shape=shape: shape.network().data) for shape in layer_shapes()}


@dataclass(frozen=True)
class Part:
    """Networks to tune for a core.

    memory : in which cycles count: that of the core's best-known board, or none where its flash is not known.
    """

    target: str
    memory: str
    models: Models


PARTS: Sequence[Part] = (
    *(Part(target, memory, MLPERF) for target, memory in (("cortex-m4", "l4r5zi-120"), ("cortex-m7", "zero-wait"))),
    Part("cortex-m33", "zero-wait", MLPERF),
    Part("cortex-m3", "zero-wait", MLPERF),
    Part("cortex-m0plus", "zero-wait", MLPERF),
    *(
        Part(target, memory, models)
        for models in (SHAPES, MOBILENETS)
        for target, memory in (("cortex-m4", "l4r5zi-120"), ("cortex-m7", "zero-wait"), ("cortex-m33", "zero-wait"))
    ),
)
"""The most wanted first. A Cortex-M55 has no kernels to choose from yet."""


def main() -> None:
    """Tune all, print how far it is, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=64, help="for each operator at most; default: 64")
    parser.add_argument("--target", help="only this one")
    parser.add_argument("--measure-again", action="store_true", help="measure what is in the log, and nothing else")
    options = parser.parse_args()
    folder = shipped_log()
    if options.measure_again:
        for target in dict.fromkeys(part.target for part in PARTS if options.target in (None, part.target)):
            print(target, *measure_again(folder, target), flush=True)
        return
    for part in PARTS:
        if options.target not in (None, part.target):
            continue
        for name, data in part.models.items():
            model = tinyml.load(data(), name="model")
            operators = sum(task.tunable for task in tasks_for(model, cortex_m(part.target), part.memory))
            if not operators:
                continue
            settings = TuneOptions(trials=options.trials * operators, memory=part.memory, resume=True)
            progress = tune(model, part.target, folder, settings)
            print(
                f"{part.target:14}{name:45} {operators:3} operators {progress.trials:5} trials and {progress.known:5} "
                f"known in {progress.seconds:5.0f} s: {progress.default_cycles:>11,} -> {progress.cycles:>11,} cycles",
                flush=True,
            )
    text = "\n".join(_report(folder))
    print(text)
    (RESULTS / "shipped_log.md").write_text(text + "\n", encoding="utf-8")


def measure_again(folder: Path, target: str) -> tuple[int, int]:
    """Measure every choice in a core's log, and return how many there are and how many cost something else now."""
    tasks: dict[str, Task] = {}
    models = {name: data for part in PARTS if part.target == target for name, data in part.models.items()}
    with exclusive(folder, target), Workers() as workers:
        log, changed = TuningLog.load(folder, target), 0
        for data in models.values():
            model = tinyml.load(data(), name="model")
            tasks |= {key_text(task.key): task for task in tasks_for(model, cortex_m(target), FLASH)}
        entries = [entry for entry in log if entry.text in tasks]
        jobs = {
            entry.text: [Job(tasks[entry.text].workload, target, choice) for choice in _choices(entry)]
            for entry in entries
        }
        measured = workers.measure(job for of_entry in jobs.values() for job in of_entry)
        outcomes = {id(job): outcome for job, outcome in measured}
        for entry in entries:
            found = [outcomes[id(job)] for job in jobs[entry.text]]
            pairs = zip(_choices(entry), found, strict=True)
            default, *records = (_now(tasks[entry.text], entry, *pair) for pair in pairs)
            changed += sum(new != old for new, old in zip(records, entry.records, strict=True))
            log.prune(lambda key, text=entry.text: key_text(key) != text)
            if left := [record for record in (default, *records) if record]:
                log.add(entry.key, left, entry.trials, default)
        log.save()
    return sum(len(entry.records) for entry in entries), changed


def _choices(entry: Entry) -> list[Choice | None]:
    """Return what was chosen in an entry, first nothing: what the compiler does by itself."""
    return [None, *(record.choice for record in entry.records)]


def _now(task: Task, entry: Entry, choice: Choice | None, outcome: Outcome) -> Record | None:
    """Return what a choice costs now, or None if it gives no kernel any more."""
    if not isinstance(outcome, Measured):
        return None
    made = outcome.choice if task.choices.has(outcome.choice) else {KERNEL: outcome.choice[KERNEL]}
    costs = {name: getattr(outcome, name) for name in ("cycles", "instructions", "workspace_bytes", "code_bytes")}
    return replace(entry.records[0], choice=choice or made, **costs)


def _report(folder: Path) -> Iterator[str]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    ).stdout.strip()
    yield f"# The log that comes with the package, made at commit {commit}"
    yield ""
    yield "Cycles of the best choice against those of the compiler's own, geometric mean over operators (simulator)."
    yield ""
    rows = []
    for target, memory in dict.fromkeys((part.target, part.memory) for part in PARTS):
        entries = [entry for entry in TuningLog.load(folder, target) if entry.default]
        ratios = [
            min(record.cycles[memory] for record in entry.records) / entry.default.cycles[memory]
            for entry in entries
            if entry.default
        ]
        if ratios:
            saved = 100 * (1 - math.exp(sum(map(math.log, ratios)) / len(ratios)))
            outcomes = [trial.outcome for trials in Journal(folder, target).read().trials.values() for trial in trials]
            valid = 100 * sum(isinstance(outcome, Record) for outcome in outcomes) / len(outcomes) if outcomes else None
            trials, better = sum(entry.trials for entry in entries), sum(ratio < 1 for ratio in ratios)
            rows.append((target, memory, len(ratios), trials, valid, better, saved, 100 * (1 - min(ratios))))
    yield table(("core", "memory", "operators", "trials", "valid, %", "improved", "saved, %", "most, %"), rows)


if __name__ == "__main__":
    main()
