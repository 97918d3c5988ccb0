"""The search for one operator: what is known of it, what to try next, and how much another trial may be worth."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tvm_tinyml.choice import Choice, text_of
from tvm_tinyml.targets.target import Target
from tvm_tinyml.tuning.cost_model import CostModel
from tvm_tinyml.tuning.metaschedule import EvolutionarySearch
from tvm_tinyml.tuning.records import Key, Record, describe
from tvm_tinyml.tuning.space import Choices
from tvm_tinyml.tuning.workload import Workload

BATCH = 16
"""Choices that are measured at a time."""

PATIENCE = 3
"""Batches in a row that find nothing better, after which a search ends."""

LEAST_GAIN = 0.0005
"""Of the best so far: less is nothing better."""

EXHAUSTIVE = 2 * BATCH
"""Spaces of so few choices are measured as a whole, in any order."""


@dataclass
class Task:
    """One operator of a network.

    Attributes
    ----------
    workload : the operator.
    key : by which the log knows it.
    layers : names of the layers that are this operator.
    choices : to choose from.
    memory : in which cycles count.
    default : what the compiler does without a choice, once that is measured.
    known : costs of what was tried, by the text of the choice as asked for; None for one that gives no kernel.
    best : cycles of the best choice after each batch.
    """

    workload: Workload
    key: Key
    layers: Sequence[str]
    choices: Choices
    memory: str
    default: Record | None = None
    known: dict[str, Record | None] = field(default_factory=dict)
    best: list[int] = field(default_factory=list)
    exhausted: bool = False

    @property
    def name(self) -> str:
        """What messages call the operator."""
        return describe(self.key)

    @property
    def best_record(self) -> Record:
        """The record with the fewest cycles."""
        return self.best_of(self.records)

    def best_of(self, records: Sequence[Record]) -> Record:
        """Return the record with the fewest cycles of some, and of those the one with the least workspace and code."""
        return min(records, key=lambda r: (r.cycles[self.memory], r.workspace_bytes, r.code_bytes, text_of(r.choice)))

    @property
    def tunable(self) -> bool:
        """Whether there is anything to choose."""
        return self.choices.size > 1

    @property
    def records(self) -> list[Record]:
        """What was measured, the default first."""
        measured = [record for record in self.known.values() if record]
        return [self.default, *measured] if self.default else measured

    @property
    def cycles(self) -> int:
        """Of the best choice, for one layer."""
        return self.best_record.cycles[self.memory]

    @property
    def done(self) -> bool:
        """Whether nothing is left to try, or nothing better was found for long."""
        if not self.tunable or self.exhausted or len(self.known) >= self.choices.size:
            return True
        recent = self.best[-PATIENCE - 1 :]
        return len(recent) > PATIENCE and recent[0] - recent[-1] < LEAST_GAIN * recent[0]

    @property
    def promise(self) -> float:
        """Return the cycles of the network that another batch may save.

        The mean of what the last batch saved and of an optimist's guess, that cycles fall to zero in as much time as
        was spent already. Source: Zheng et al., Ansor, OSDI 2020, section 6.2, without its term for similar operators.
        """
        if len(self.best) < 2:
            return float("inf")
        saved = max(self.best[-2] - self.best[-1], 0)
        return len(self.layers) * (0.5 * saved + 0.5 * self.best[-1] / (10 * len(self.best)))

    def note(self, choice: Choice, record: Record | None) -> None:
        """Take note of a trial."""
        self.known[text_of(choice)] = record
        if record is not None:
            self.known.setdefault(text_of(record.choice), record)

    def ratio(self, record: Record | None) -> float | None:
        """Return cycles over those without a choice; None for no kernel."""
        assert self.default is not None
        return None if record is None else record.cycles[self.memory] / self.default.cycles[self.memory]


class Searcher:
    """Proposes what to try next for a task.

    Parameters
    ----------
    model : predicts; None: choices are drawn at random.
    """

    def __init__(self, task: Task, target: Target, model: CostModel | None, seed: int) -> None:
        self._task = task
        self._rest: list[Choice] = []
        self._search: EvolutionarySearch | None = None
        if task.choices.size <= EXHAUSTIVE or model is None:
            self._rest = list(task.choices.every())
            random.Random(seed).shuffle(self._rest)
        else:
            self._search = EvolutionarySearch(
                task.choices, lambda choices: model.predict(task.key, choices), target.llvm, seed, BATCH
            )

    def propose(self, count: int) -> list[Choice]:
        """Return choices that were not tried yet; none when there are no more."""
        if self._search is None:
            proposed, self._rest = self._rest[:count], self._rest[count:]
            fresh = [choice for choice in proposed if text_of(choice) not in self._task.known]
            return fresh if fresh or not self._rest else self.propose(count)
        for _ in range(PATIENCE):
            proposed = self._search.propose()
            fresh = [choice for choice in proposed if text_of(choice) not in self._task.known]
            if fresh:
                self._proposed = proposed
                return fresh
            self._teach(proposed)
        return []

    def learn(self) -> None:
        """Take note that what was proposed has been tried: the task knows it now."""
        if self._search is not None:
            self._teach(self._proposed)

    def _teach(self, proposed: Iterable[Choice]) -> None:
        assert self._search is not None
        known: Mapping[str, Record | None] = self._task.known
        records = [known.get(text_of(choice)) for choice in proposed]
        self._search.learn([record.cycles[self._task.memory] if record else None for record in records])

