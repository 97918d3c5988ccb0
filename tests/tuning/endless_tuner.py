"""A program that tunes until it is killed; `test_kill.py` starts it.

For each folder on standard input it forks a process that measures there, reports on standard output what is done, and
goes on where the last one ended. Forking saves the imports, of which a hundred take long.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from tvm_tinyml.tuning.journal import Journal, restore
from tvm_tinyml.tuning.lock import exclusive
from tvm_tinyml.tuning.log import TuningLog
from tvm_tinyml.tuning.records import Record

TARGET = "cortex-m4"
KEYS: tuple[dict[str, Any], ...] = tuple(
    {"operator": operator, "shapes": [[1, channels]], "dtypes": ["int8"]}
    for operator, channels in (("conv2d", 16), ("dense", 64), ("conv2d", 32))
)


def measured(number: int) -> tuple[dict[str, Any], Record]:
    """Return the key and the record of a trial, always the same for the same number."""
    costs = [number * factor % 1009 for factor in (37, 71, 101, 131)]
    waits = {"zero-wait": 1000 + costs[0], "l4r5zi-120": 2000 + costs[0] + costs[1]}
    choice = {"kernel": "ConvGemm", "tiles": number}
    return KEYS[number % len(KEYS)], Record(choice, waits, 1 + costs[0], 32 * costs[2], costs[3], "1", "0.27", "0.1")


def tune(folder: str) -> None:
    with exclusive(folder, TARGET), Journal(folder, TARGET) as journal:
        log, history = TuningLog.load(folder, TARGET), journal.read()
        restore(log, history)
        counts = [len(history.of(key)) for key in KEYS]
        number = sum(counts)
        report("resumed", number)
        while True:
            key, record = measured(number)
            journal.append(key, record.choice, record)
            counts[number % len(KEYS)] += 1
            log.add(key, [record], counts[number % len(KEYS)])
            number += 1
            report("measured", number)
            log.save()
            report("saved", number)


def report(what: str, number: int) -> None:
    os.write(sys.stdout.fileno(), f"{what} {number}\n".encode())


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if not child:
            tune(line.rstrip("\n"))
        report("started", child)
        _, status = os.waitpid(child, 0)
        report("ended", os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
