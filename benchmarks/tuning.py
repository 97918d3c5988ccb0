"""How good the search is: ``python -m benchmarks.tuning [--target T]``.

Twelve layers are drawn from the sixty of `layer_shapes`. All their choices are measured once (of spaces with more than
3,000 a random 3,000), so that the best one is known. Then the search is run on that table with five seeds, guided by
the cost model, guided by one that knows 96 random trials of each other layer already, and at random: after each trial,
how far is the best choice so far from the best there is? Writes ``results/tuning-T.json`` and a plot,
``results/tuning-T.svg``.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tvm

import tvm_tinyml as tinyml
from benchmarks.curves import Curve, plot
from benchmarks.layer_shapes import SEED, layer_shapes
from tvm_tinyml.caveat import caveat
from tvm_tinyml.choice import text_of
from tvm_tinyml.device.timing import MODEL_VERSION
from tvm_tinyml.tables import table
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.targets.target import Target
from tvm_tinyml.tuning.cost_model import CostModel
from tvm_tinyml.tuning.measure import Job, Measured, Workers
from tvm_tinyml.tuning.records import Record
from tvm_tinyml.tuning.task import BATCH, Searcher, Task
from tvm_tinyml.tuning.tune import BUDGET, tasks_for

RESULTS = Path(__file__).with_name("results")

LAYERS, LEAST_CHOICES, MOST_CHOICES = 12, 3 * BATCH, 3000
SEEDS, TRIALS = range(5), 96
NEAR = 0.03
"""How close to the best choice a search has to come for its trials to be counted."""


@dataclass
class Space:
    """A layer with the costs of its choices.

    Attributes
    ----------
    costs : by the text of a choice; None for one that gives no kernel.
    """

    name: str
    task: Task
    costs: dict[str, Record | None] = field(default_factory=dict)

    @property
    def cycles(self) -> list[int]:
        """Of the choices that give a kernel."""
        return [record.cycles[self.task.memory] for record in self.costs.values() if record]


def spaces(target: Target, memory: str) -> list[Space]:
    """Return the layers, in the order in which they are drawn, with nothing measured yet."""
    shapes = layer_shapes()
    found: list[Space] = []
    for index in np.random.default_rng(SEED).permutation(len(shapes)):
        model = tinyml.load(shapes[index].network().data, name="layer")
        task = max(tasks_for(model, target, memory), key=lambda task: task.choices.size)
        if task.choices.size >= LEAST_CHOICES:
            found.append(Space(shapes[index].name, task))
        if len(found) == LAYERS:
            break
    return found


def measure(space: Space, target: Target, workers: Workers) -> Counter[str]:
    """Measure the choices of a layer, and return how many give no kernel, by reason."""
    task, refused = space.task, Counter[str]()
    (_, default), *_ = workers.measure([Job(task.workload, target.name, None)])
    assert isinstance(default, Measured), default
    task.default = _record(default)
    every = list(task.choices.every())
    if len(every) > MOST_CHOICES:
        every = random.Random(SEED).sample(every, MOST_CHOICES)
    jobs = [Job(task.workload, target.name, choice, BUDGET * default.instructions) for choice in every]
    for job, outcome in workers.measure(jobs):
        assert job.choice is not None
        measured = isinstance(outcome, Measured)
        space.costs[text_of(job.choice)] = _record(outcome) if isinstance(outcome, Measured) else None
        if not measured:
            refused[outcome.reason.split(":")[0]] += 1
    return refused


def _record(outcome: Measured) -> Record:
    costs = (outcome.cycles, outcome.instructions, outcome.workspace_bytes, outcome.code_bytes)
    return Record(outcome.choice, *costs, MODEL_VERSION, tvm.__version__, tinyml.__version__)


def search(space: Space, target: Target, seed: int, model: CostModel | None) -> list[float]:
    """Return the best cycles over the fewest there are, after each trial of one search.

    A search of the tuner begins with what the compiler does without a choice. This one knows nothing: as long as it has
    found no kernel, the slowest one counts.

    Parameters
    ----------
    model : guides it; None: it is random.
    """
    task = Task(space.task.workload, space.task.key, space.task.layers, space.task.choices, space.task.memory)
    task.default = space.task.default
    searcher = Searcher(task, target, model, seed)
    fewest, best, curve = min(space.cycles), max(space.cycles), []
    while len(curve) < TRIALS:
        proposed = [choice for choice in searcher.propose(BATCH) if text_of(choice) in space.costs]
        if not proposed:
            break
        for choice in proposed:
            record = space.costs[text_of(choice)]
            task.note(choice, record)
            if model is not None:
                model.add(task.key, choice, task.ratio(record))
            best = min(best, record.cycles[task.memory]) if record else best
            curve.append(best / fewest)
        searcher.learn()
        if model is not None:
            model.fit()
    return (curve + [curve[-1]] * TRIALS)[:TRIALS]


def model_of(others: Sequence[Space], seed: int) -> CostModel:
    """Return a cost model that knows some random trials of other layers."""
    model = CostModel(seed)
    for other in others:
        choices = [choice for choice in other.task.choices.every() if text_of(choice) in other.costs]
        for choice in random.Random(seed).sample(choices, min(TRIALS, len(choices))):
            model.add(other.task.key, choice, other.task.ratio(other.costs[text_of(choice)]))
    model.fit()
    return model


def means(curves: Sequence[Sequence[float]]) -> list[float]:
    """Return the geometric mean of curves at each trial; while one has found no kernel there is none."""
    return [float(np.exp(np.mean(np.log(values)))) for values in zip(*curves, strict=True)]


def trials_to(curve: Sequence[float], share: float) -> int | None:
    """Return the trials after which a curve is within a share of 1."""
    return next((trial for trial, ratio in enumerate(curve, 1) if ratio <= 1 + share), None)


def run(target: Target, memory: str) -> dict[str, Any]:
    """Measure and search; return all figures."""
    found, layers = spaces(target, memory), []
    with Workers() as workers:
        for space in found:
            refused = measure(space, target, workers)
            assert space.task.default is not None
            layers.append(
                {
                    "layer": space.name,
                    "choices": space.task.choices.size,
                    "measured": len(space.costs),
                    "valid": len(space.cycles),
                    "refused": dict(refused),
                    "default": space.task.default.cycles[memory],
                    "best": min(space.cycles),
                    "median": int(np.median(space.cycles)),
                }
            )
            print(layers[-1], flush=True)
    curves: dict[str, list[float]] = {}
    ways: dict[str, Callable[[Space, int], CostModel | None]] = {
        "guided": lambda _space, seed: CostModel(seed),
        "taught by others": lambda space, seed: model_of([other for other in found if other is not space], seed),
        "random": lambda _space, _seed: None,
    }
    for way, model in ways.items():
        curves[way] = means([search(space, target, seed, model(space, seed)) for space in found for seed in SEEDS])
    return {
        "target": target.name,
        "memory": memory,
        "model_version": MODEL_VERSION,
        "seeds": len(SEEDS),
        "layers": layers,
        "curves": {way: [round(ratio, 5) for ratio in curve] for way, curve in curves.items()},
        "trials_to_3_percent": {way: trials_to(curve, NEAR) for way, curve in curves.items()},
        "after_96_trials": {way: round(curve[-1], 5) for way, curve in curves.items()},
    }


def rows(layers: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Return the table of the spaces."""
    return [
        (
            each["layer"],
            each["choices"],
            100 * each["valid"] / each["measured"],
            each["default"],
            each["best"],
            100 * (1 - each["best"] / each["default"]),
            each["median"] / each["best"],
        )
        for each in layers
    ]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="cortex-m4")
    parser.add_argument("--memory", default="l4r5zi-120")
    options = parser.parse_args()
    results = run(cortex_m(options.target), options.memory)
    columns = ("layer", "choices", "valid, %", "default", "best", "saved, %", "median/best")
    print(table(columns, rows(results["layers"])))
    for way in results["curves"]:
        print(f"{way}: {results['trials_to_3_percent'][way]} trials to 3 %, {results['after_96_trials'][way]} after 96")
    print(caveat(options.target.split("+")[0]))
    name = f"tuning-{options.target}"
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    lines = [Curve(way, curve) for way, curve in results["curves"].items()]
    title = f"Best choice so far over the best there is: {LAYERS} layers, {len(SEEDS)} seeds, {options.target}"
    (RESULTS / f"{name}.svg").write_text(plot(lines, title, "trials"), encoding="utf-8")


if __name__ == "__main__":
    main()
