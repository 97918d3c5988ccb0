"""What a compile takes from tuning logs.

The fastest kernel of each operator by itself is not what a network wants: many operators share code, and a kernel of
its own for each would save a few cycles and cost kilobytes. So all operators are decided together: cycles plus flash,
weighed by the goal, code that is there already for nothing. Constants count, too: some kernels keep weights in 16 bits.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path

import tvm
from tvm import relax
from tvm.ir import GenericConst

from tvm_tinyml.choice import KERNEL, Choice, is_as_chosen, text_of
from tvm_tinyml.device.timing import MODEL_VERSION
from tvm_tinyml.errors import NotTunedError, TuningLogError
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.passes.kernels.kernel import Kernel
from tvm_tinyml.targets.assembly import assembly_of
from tvm_tinyml.targets.target import Target
from tvm_tinyml.tuning.key import GUARDS, key_of, outline_of
from tvm_tinyml.tuning.log import TuningLog
from tvm_tinyml.tuning.records import Entry, Key, Record, describe, key_text
from tvm_tinyml.tuning.space import GOAL, Kernels

SHARE_OF_CYCLES = {"time": 1e-6, "balanced": 1e-5}
"""By goal: of the network's cycles, what a byte of flash must save. Builds for small RAM or flash take no choice: what
was measured are the kernels of the other goals, and theirs take the least, whatever they cost."""

INSTRUCTION_BYTES = 3
"""Of an instruction, roughly: some take 2, more take 4."""

LEAST_FUNCTION_BYTES = 100
"""Of a kernel beside its microkernels."""


@dataclass(frozen=True)
class Candidate:
    """A way to compute an operator.

    Attributes
    ----------
    cycles : of all layers that are the operator.
    flash_bytes : by name of a function, about; constants are with those of the operator alone.
    """

    choice: Choice
    cycles: int
    workspace_bytes: int
    flash_bytes: Mapping[str, int]


@dataclass
class Chooser:
    """Looks operators up in logs, and keeps account.

    Attributes
    ----------
    logs : the first that knows something of an operator that fits decides.
    chosen : choices that were given out, by their texts.
    missing : by the text of their keys, operators that no log knows, or for which nothing known fits the goal.
    """

    target: Target
    options: BuildOptions
    logs: Sequence[TuningLog]
    chosen: dict[str, Choice] = field(default_factory=dict)
    missing: dict[str, Key] = field(default_factory=dict)

    @classmethod
    def of(cls, target: Target, options: BuildOptions) -> Chooser:
        """Return the chooser of a build: its own log first, then the one that comes with the package.

        Raises
        ------
        TuningLogError : a log is damaged, or that of the build is not there.
        """
        if options.goal not in SHARE_OF_CYCLES:
            return cls(target, options, [])
        own = [load_log(options.tuning_log, target.name)] if options.tuning_log else []
        logs = [*own, _shipped(target.name)]
        return cls(target, options, logs if options.tuning_log or options.require_tuned or len(logs[-1]) else [])

    def choose(self, calls: Sequence[relax.Call]) -> list[Choice | None]:
        """Return the choices for all calls of a network; None where nothing is known that fits the goal."""
        if not self.logs:
            return [None] * len(calls)
        texts = [self._text(call) for call in calls]
        counts = Counter(texts)
        candidates = {
            text: self._candidates(call, text, counts[text])
            for text, call in dict(zip(texts, calls, strict=True)).items()
            if text
        }
        picked = pick([each for each in candidates.values() if each], SHARE_OF_CYCLES[self.options.goal])
        choices = dict(zip((text for text, each in candidates.items() if each), picked, strict=True))
        found = [choices[text].choice if text in choices else None for text in texts]
        self.chosen |= {text_of(candidate.choice): candidate.choice for candidate in picked}
        return found

    def check(self) -> None:
        """Refuse operators without a record, if the build requires records.

        Raises
        ------
        NotTunedError : with the list.
        """
        if self.options.require_tuned and self.missing:
            where = self.options.tuning_log or "the log of this package"
            operators = "\n".join(f"  {describe(key)}" for key in self.missing.values())
            raise NotTunedError(
                f"{len(self.missing)} operators have no record for {self.target.name} in {where} that fits goal "
                f"{self.options.goal}:\n{operators}\nTune them: tvm-tinyml tune MODEL --target {self.target.name} "
                f"--tuning-log {self.options.tuning_log or 'DIR'}."
            )

    def is_tuned(self, choice: Choice) -> bool:
        """Return whether a kernel is what a log says."""
        return any(is_as_chosen(choice, given) for given in self.chosen.values())

    def _text(self, call: relax.Call) -> str:
        """Return the text of a call's key, or nothing if it becomes no kernel or nobody knows or misses it."""
        if str(call.op.name) not in self._widest.operators:
            return ""
        if not self._lists_missing and key_text(outline_of(call)) not in _outlines(_shipped(self.target.name)):
            return ""
        return key_text(key_of(call, self._widest))

    def _candidates(self, call: relax.Call, text: str, count: int) -> list[Candidate]:
        """Return ways to compute an operator that fit the goal, of the first log that knows any."""
        key = json.loads(text)
        for log in self.logs:
            entry = log.find(key)
            found = self._of_entry(entry, call, text, count) if entry else []
            if found:
                return found
        # Whether there is anything to choose takes long to find out, and only some want to know.
        if self._lists_missing and self._widest.choices(call).size > 1:
            self.missing[text] = key
        return []

    def _of_entry(self, entry: Entry, call: relax.Call, text: str, count: int) -> list[Candidate]:
        """Return of what fits the goal the fastest, the compiler's own, and little code."""
        records, defaults = _current(entry.records), _current([entry.default] if entry.default else [])
        kernels = {str(record.choice[KERNEL]) for record in [*records, *defaults]}
        choices = self._own.choices(call, kernels) if records else None

        def candidate(record: Record) -> Candidate | None:
            kernel = self._own.lower(call, record.choice) if choices and choices.has(record.choice) else None
            return None if kernel is None else self._candidate(record, kernel, text, count)

        by_cycles = sorted(records, key=lambda record: (self._cycles(record), record.workspace_bytes))
        fastest = next(filter(None, map(candidate, by_cycles)), None)
        if fastest is None:
            return []
        others = [*defaults, min(by_cycles, key=lambda record: record.code_bytes)]
        found = {text_of(fastest.choice): fastest}
        for record in others:
            if text_of(record.choice) not in found and (other := candidate(record)):
                found[text_of(record.choice)] = other
        return [*found.values()]

    def _cycles(self, record: Record) -> int:
        return record.cycles.get(self.options.memory, record.slowest_cycles)

    def _candidate(self, record: Record, kernel: Kernel, text: str, count: int) -> Candidate:
        code = {name: INSTRUCTION_BYTES * body.count("\n") for name, body in assembly_of(kernel.func).items()}
        own_bytes = max(LEAST_FUNCTION_BYTES, record.code_bytes - sum(code.values()))
        constants = (argument.value.numpy() for argument in kernel.arguments if isinstance(argument, GenericConst))
        code[text + text_of(record.choice)] = own_bytes + count * sum(array.nbytes for array in constants)
        return Candidate(record.choice, count * self._cycles(record), record.workspace_bytes, code)

    @property
    def _lists_missing(self) -> bool:
        return self.options.require_tuned or self.options.tuning_log is not None

    @cached_property
    def _widest(self) -> Kernels:
        return Kernels(self.target, GOAL)

    @cached_property
    def _own(self) -> Kernels:
        return Kernels(self.target, self.options.goal)


def pick(operators: Sequence[Sequence[Candidate]], share: float) -> list[Candidate]:
    """Return a candidate for each operator: few cycles and little flash in all.

    One operator after the other is decided anew, with what the others call at no cost, until none changes.

    Parameters
    ----------
    share : of the cycles of all, what a byte of flash must save.
    """
    picked = [min(candidates, key=lambda each: each.cycles) for candidates in operators]
    rate = share * sum(candidate.cycles for candidate in picked)
    for _ in range(len(operators) + 1):
        before = list(picked)
        for i, candidates in enumerate(operators):
            there = {name for other in (*picked[:i], *picked[i + 1 :]) for name in other.flash_bytes}

            def cost(candidate: Candidate, there: set[str] = there) -> tuple[float, int]:
                added = sum(size for name, size in candidate.flash_bytes.items() if name not in there)
                return candidate.cycles + rate * added, candidate.workspace_bytes

            picked[i] = min(candidates, key=cost)
        if picked == before:
            break
    return picked


def _current(records: Iterable[Record]) -> list[Record]:
    """Return the records whose cycles mean what this version's mean."""
    return [r for r in records if r.model_version == MODEL_VERSION and r.tvm == tvm.__version__]


def load_log(folder: str | Path, target: str) -> TuningLog:
    """Read a log that somebody has named: that it is not there is a mistake.

    Raises
    ------
    TuningLogError : it is not there, or damaged.
    """
    if not Path(folder).exists():
        raise TuningLogError(
            f"Tuning log '{folder}' is not there. Make it: "
            f"tvm-tinyml tune MODEL --target {target} --tuning-log {folder}."
        )
    return TuningLog.load(folder, target)


@lru_cache
def _shipped(target: str) -> TuningLog:
    return TuningLog.load(shipped_log(), target)


@lru_cache(maxsize=8)
def _outlines(log: TuningLog) -> frozenset[str]:
    """Return the texts of a log's keys, guards left out."""
    keys = (entry.key for entry in log)
    return frozenset(key_text({name: value for name, value in key.items() if name != GUARDS}) for key in keys)


def shipped_log() -> Path:
    """Return the folder of the log that comes with the package."""
    return Path(str(files("tvm_tinyml.tuning") / "shipped"))
