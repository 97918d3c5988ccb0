"""A tuner that is killed at any moment loses at most the trial that it is writing down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.tuning.endless_tuner import KEYS, TARGET, measured
from tvm_tinyml.tuning.journal import Journal, restore
from tvm_tinyml.tuning.log import TuningLog
from tvm_tinyml.tuning.records import Entry

KILLS = 100
KILLS_OF_A_FOLDER = 10
LONGEST_SECONDS = 0.1


def expected(folder: Path, trials: int) -> TuningLog:
    """Return the log after so many trials."""
    log, counts = TuningLog(folder, TARGET), [0] * len(KEYS)
    for number in range(trials):
        counts[number % len(KEYS)] += 1
    for i, key in enumerate(KEYS):
        if counts[i]:
            log.add(key, [measured(number)[1] for number in range(i, trials, len(KEYS))], counts[i])
    return log


def entries(log: TuningLog, operator: str) -> list[Entry]:
    return [entry for entry in log if entry.operator == operator]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no SIGKILL and no fork")
def test_a_killed_tuner_loses_at_most_the_trial_being_written(tmp_path: Path, rng: np.random.Generator) -> None:
    program = Path(__file__).with_name("endless_tuner.py")
    ended_in = {"resumed": 0, "measured": 0, "saved": 0}
    with subprocess.Popen(
        [sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as tuner:
        assert tuner.stdin is not None
        assert tuner.stdout is not None
        done = {"measured": 0, "saved": 0}
        for kill in range(KILLS):
            folder = tmp_path / str(kill // KILLS_OF_A_FOLDER)
            if not kill % KILLS_OF_A_FOLDER:
                done = {"measured": 0, "saved": 0}
            tuner.stdin.write(f"{folder}\n")
            reports = [tuner.stdout.readline().split()]
            while reports[-1][0] != "started":  # the child may be the first to report
                reports.append(tuner.stdout.readline().split())
            time.sleep(rng.uniform(0, LONGEST_SECONDS))
            os.kill(int(reports.pop()[1]), signal.SIGKILL)
            while not reports or reports[-1][0] != "ended":
                reports.append(tuner.stdout.readline().split())
            assert reports.pop() == ["ended", str(-signal.SIGKILL)]
            if reports:
                assert reports[0] == ["resumed", str(done["measured"])]
                ended_in[reports[-1][0]] += 1
            done.update((what, int(number)) for what, number in reports if what != "resumed")

            history = Journal(folder, TARGET).read()
            trials = sum(len(history.of(key)) for key in KEYS)
            assert done["measured"] <= trials <= done["measured"] + 1
            for i, key in enumerate(KEYS):
                outcomes = [trial.outcome for trial in history.of(key)]
                assert outcomes == [measured(number)[1] for number in range(i, trials, len(KEYS))]

            log = TuningLog.load(folder, TARGET)
            possible = [expected(folder, n) for n in range(done["saved"], trials + 1)]
            for operator in {key["operator"] for key in KEYS}:  # each has a file, which is replaced whole
                assert entries(log, operator) in [entries(one, operator) for one in possible]
            restore(log, history)
            assert list(log) == list(expected(folder, trials))
            done["measured"] = trials
        tuner.stdin.close()
        assert tuner.wait(timeout=10) == 0
    assert ended_in["measured"] > 0, ended_in
    assert ended_in["saved"] > 0, ended_in
