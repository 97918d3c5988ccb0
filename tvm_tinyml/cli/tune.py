"""``tvm-tinyml tune MODEL --target T --tuning-log DIR``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_tinyml.choice import KERNEL, knobs_of
from tvm_tinyml.cli.common import add_quantize, add_quiet, load_model, path
from tvm_tinyml.tables import table

if TYPE_CHECKING:
    from tvm_tinyml.tuning.tune import Progress, TuneOptions

NAME, HELP = "tune", "search for the fastest kernels of a model, and keep what is found in a log for later compiles"

PRINT = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("model", metavar="MODEL", type=path, help=".tflite or .onnx file")
    parser.add_argument("--target", metavar="T", required=True, help="cortex-m4, cortex-m33+nodsp, ... (see: targets)")
    parser.add_argument("--tuning-log", metavar="DIR", required=True, type=path, help="folder of the log; may be new")
    parser.add_argument("--trials", metavar="N", type=int, default=1000, help="to measure at most; default: 1000")
    parser.add_argument("--minutes", metavar="M", type=float, help="to take at most")
    parser.add_argument("--target-cycles", metavar="C", type=int, help="of the network, at which to stop")
    parser.add_argument(
        "--memory",
        metavar="M",
        default="l4r5zi-120",
        help="in which cycles count: l4r5zi-120 | zero-wait; both are measured; default: l4r5zi-120",
    )
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="of the search; default: 0")
    parser.add_argument("--workers", metavar="W", type=int, help="processes that measure; default: one for each core")
    parser.add_argument("--resume", action="store_true", help="count the trials of earlier runs that were stopped")
    parser.add_argument(
        "--check", action="store_true", help="only list operators without a record that can be trusted; exit 1 if any"
    )
    parser.add_argument(
        "--replay", action="store_true", help="with --check: measure what is recorded again, and compare cycles"
    )
    parser.add_argument("--merge", metavar="DIR", action="append", type=path, help="add another log to this one first")
    parser.add_argument("--prune", action="store_true", help="drop what this model has no operator for")
    parser.add_argument("--json", metavar="FILE", type=path, help="write what was found as JSON; - prints it")
    add_quantize(parser)
    add_quiet(parser)


def execute(options: argparse.Namespace) -> bool:
    """Tune or check, and say what came of it."""
    from tvm_tinyml.artifacts.folder import check_file, write_file
    from tvm_tinyml.errors import TargetError

    if options.replay and not options.check:
        raise TargetError("--replay is for --check; tuning measures what is recorded again anyway.")
    if options.check and (options.merge or options.prune):
        raise TargetError("--check changes nothing: --merge and --prune have no place beside it.")
    file = Path(options.json) if options.json not in (None, PRINT) else None
    if file:
        check_file(file)


    model = load_model(options)
    if options.check:
        from tvm_tinyml.tuning.check import check

        verdicts = check(model, options.target, options.tuning_log, memory=options.memory, replay=options.replay)
        wrong = [verdict for verdict in verdicts if verdict.problem]
        if not options.quiet:
            print(
                f"{len(verdicts) - len(wrong)} of {len(verdicts)} operators with more than one kernel have records for "
                f"{options.target}"
            )
        for verdict in wrong:
            print(f"{verdict.operator}: {verdict.problem}", file=sys.stderr)
        return not wrong

    from tvm_tinyml.tuning.folders import merge_folders
    from tvm_tinyml.tuning.tune import TuneOptions, tune

    settings = TuneOptions(
        trials=options.trials,
        minutes=options.minutes,
        target_cycles=options.target_cycles,
        memory=options.memory,
        seed=options.seed,
        workers=options.workers,
        resume=options.resume,
        prune=options.prune,
    )
    if options.merge:
        merge_folders(options.tuning_log, options.merge)
    lines = None if options.quiet or options.json == PRINT else _Lines(settings)

    def report(progress: Progress) -> None:
        options.interrupts.check()  # what TVM made of Ctrl-C may not have come through
        if lines:
            lines.show(progress)

    try:
        progress = tune(model, options.target, options.tuning_log, settings, report)
    finally:
        if lines:
            lines.end()
    options.interrupts.check()
    text = json.dumps(_summary(options.target, progress), indent=1)
    if file:
        write_file(file, f"{text}\n".encode())
    if options.json == PRINT:
        print(text)
    elif not options.quiet:
        _print(options.target, progress)
    return True


class _Lines:
    """Says how far it is: a line that is written over on a terminal, one now and then elsewhere."""

    def __init__(self, settings: TuneOptions) -> None:
        self._settings = settings
        self._said_seconds: float | None = None
        self._terminal = sys.stdout.isatty()

    def show(self, progress: Progress) -> None:
        """Say it, if it is time, and there is something to compare with."""
        if not all(task.default for task in progress.tasks):
            return
        since = None if self._said_seconds is None else progress.seconds - self._said_seconds
        if since is not None and since < (0.1 if self._terminal else 10):
            return
        self._said_seconds = progress.seconds
        saved = 1 - progress.cycles / progress.default_cycles if progress.default_cycles else 0
        line = (
            f"{progress.trials}/{self._settings.trials} trials  {progress.seconds:.0f} s  "
            f"about {progress.left_seconds(self._settings):.0f} s left  {progress.cycles:,} cycles "
            f"({100 * saved:.1f} % saved)"
        )
        print(f"\r{line}\033[K" if self._terminal else line, end="" if self._terminal else "\n", flush=True)

    def end(self) -> None:
        """End the line."""
        if self._terminal and self._said_seconds is not None:
            print()


def _print(target: str, progress: Progress) -> None:
    if not progress.tasks:
        print(f"no operator of this network has more than one kernel for {target}: there is nothing to tune")
        return
    rows = []
    for task in progress.tasks:
        assert task.default is not None
        default, best = task.default.cycles[task.memory], task.cycles
        choice = task.best_record.choice
        how = " ".join(f"{name}={value}" for name, value in knobs_of(choice).items())
        rows.append(
            (
                task.name,
                len(task.layers),
                task.choices.size,
                len(task.known),
                default,
                best,
                f"{100 * (1 - best / default):.1f}",
                f"{choice[KERNEL]} {how}",
            )
        )
    columns = ("operator", "layers", "choices", "tried", "cycles", "tuned", "saved, %", "with")
    print(table(columns, rows))
    print(f"cycles {progress.default_cycles:,} without tuning, {progress.cycles:,} with")
    rate = progress.trials / progress.seconds if progress.seconds else 0
    print(
        f"trials {progress.trials} measured in {progress.seconds:.0f} s ({rate:.1f} a second), "
        f"{progress.refused} of them gave no kernel, {progress.known} were known"
    )
    for name in progress.stale:
        print(f"stale  {name}: measured again")


def _summary(target: str, progress: Progress) -> dict[str, object]:
    return {
        "target": target,
        "memory": progress.tasks[0].memory if progress.tasks else None,
        "trials": progress.trials,
        "known": progress.known,
        "refused": progress.reasons,
        "stale": progress.stale,
        "seconds": {
            "total": round(progress.seconds, 1),
            "search": round(progress.search_seconds, 1),
            "build": round(progress.build_seconds, 1),
            "run": round(progress.run_seconds, 1),
        },
        "cycles": {"default": progress.default_cycles, "tuned": progress.cycles},
        "operators": [
            {
                "key": dict(task.key),
                "layers": list(task.layers),
                "choices": task.choices.size,
                "tried": len(task.known),
                "default": task.default.cycles if task.default else None,
                "best": task.best_record.to_json(),
            }
            for task in progress.tasks
        ],
    }
