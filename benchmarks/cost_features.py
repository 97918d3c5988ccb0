"""Would the cost model be better if it knew the code? ``python -m benchmarks.cost_features FOLDER [--target T]``.

A choice's code is known when it is built, which costs most of a trial; so its features would have to be worth it. Here
they are given for nothing, from the journal of a tuning run in a folder: the bytes of a choice's code and of its
workspace. For each of some operators the model learns all trials of the others and the first of this one, and ranks
the rest. With each set of features: how many pairs are ranked right, and how far is the best of the first eight from
the best there is? Writes ``results/cost_features-T.md``.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import xgboost

from tvm_tinyml.tables import table
from tvm_tinyml.tuning.cost_model import PARAMETERS, ROUNDS
from tvm_tinyml.tuning.features import Features, choice_features, key_features
from tvm_tinyml.tuning.journal import Journal
from tvm_tinyml.tuning.records import Key, Record

RESULTS = Path(__file__).with_name("results")

SEED, OPERATORS, LEAST_TRIALS, KNOWN, FIRST = 0, 40, 32, 8, 8

SETS: Mapping[str, Callable[[Record], Features]] = {
    "as it is": lambda _: {},
    "and bytes of code": lambda record: {"code": math.log2(1 + record.code_bytes)},
    "and bytes of workspace": lambda record: {"workspace": math.log2(1 + record.workspace_bytes)},
    "and both": lambda r: {"code": math.log2(1 + r.code_bytes), "workspace": math.log2(1 + r.workspace_bytes)},
}

Rows = Sequence[tuple[Features, float]]


def rows_of(key: Key, records: Sequence[Record], memory: str, more: Callable[[Record], Features]) -> Rows:
    """Return features and the logarithm of cycles over the first trial's, which is the compiler's own choice."""
    first = records[0].cycles[memory]
    return [
        (
            {**key_features(key), **choice_features(key, record.choice), **more(record)},
            math.log(record.cycles[memory] / first),
        )
        for record in records
    ]


def ranked(known: Rows, unknown: Rows) -> tuple[float, float]:
    """Return the share of pairs that are ranked right, and how far the best of the first few is from the best."""
    columns = sorted({name for features, _ in known for name in features})

    def matrix(rows: Rows) -> xgboost.DMatrix:
        values = [[features.get(name, np.nan) for name in columns] for features, _ in rows]
        return xgboost.DMatrix(np.array(values, np.float32), np.array([ratio for _, ratio in rows]))

    booster = xgboost.train({**PARAMETERS, "seed": SEED}, matrix(known), ROUNDS)
    guesses, truth = booster.predict(matrix(unknown)), [ratio for _, ratio in unknown]
    pairs = [(i, j) for i, j in combinations(range(len(truth)), 2) if truth[i] != truth[j]]
    right = sum((guesses[i] < guesses[j]) == (truth[i] < truth[j]) for i, j in pairs)
    best = min(truth[i] for i in np.argsort(guesses, kind="stable")[:FIRST])
    return right / max(len(pairs), 1), math.exp(best - min(truth)) - 1


def main() -> None:
    """Rank, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", default="cortex-m4")
    parser.add_argument("--memory", default="l4r5zi-120")
    options = parser.parse_args()
    history = Journal(options.folder, options.target).read()
    records = {
        digest: [trial.outcome for trial in trials if isinstance(trial.outcome, Record)]
        for digest, trials in history.trials.items()
    }
    every = {digest: found for digest, found in records.items() if len(found) >= LEAST_TRIALS}
    some = random.Random(SEED).sample(sorted(every), min(OPERATORS, len(every)))
    results: list[tuple[str, float, float]] = []
    for name, more in SETS.items():
        rows = {digest: rows_of(history.keys[digest], found, options.memory, more) for digest, found in every.items()}
        found = []
        for digest in some:
            others = [row for other, each in rows.items() if other != digest for row in each]
            found.append(ranked([*others, *rows[digest][:KNOWN]], rows[digest][KNOWN:]))
        right, far = np.mean(found, axis=0)
        results.append((name, 100 * right, 100 * far))
        print(*results[-1], flush=True)
    head = f"# {options.target}, {options.memory}, {len(some)} of {len(every)} operators"
    text = table(("features", "pairs right, %", "best of eight, % above"), results)
    file = RESULTS / f"cost_features-{options.target}.md"
    file.write_text(f"{head}\n\n```\n{text}\n```\n", encoding="utf-8")


if __name__ == "__main__":
    main()
