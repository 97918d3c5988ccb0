"""What a compile takes from tuning logs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path

import tvm
from tvm import relax

from tvm_tinyml.choice import Choice
from tvm_tinyml.device.timing import MODEL_VERSION
from tvm_tinyml.errors import NotTunedError
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.targets.target import Target
from tvm_tinyml.tuning.key import key_of
from tvm_tinyml.tuning.log import TuningLog
from tvm_tinyml.tuning.records import Entry, Key, Record, describe, key_text
from tvm_tinyml.tuning.space import Kernels

SPACE_GOAL = "time"
"""The goal that allows kernels most: what is tuned, and part of every key."""

UNTUNED_GOALS = ("flash",)
"""Such builds take what makes the least code, whatever it costs: no log says that."""


@dataclass
class Chooser:
    """Looks operators up in logs, and keeps account.

    Attributes
    ----------
    logs : the first that knows an operator decides.
    chosen : choices that were given out, as texts.
    missing : by the text of their keys, operators that no log knows, or for which nothing known fits the goal.
    """

    target: Target
    options: BuildOptions
    logs: Sequence[TuningLog]
    chosen: set[str] = field(default_factory=set)
    missing: dict[str, Key] = field(default_factory=dict)

    @classmethod
    def of(cls, target: Target, options: BuildOptions) -> Chooser:
        """Return the chooser of a build: its own log first, then the one that comes with the package.

        Raises
        ------
        TuningLogError : a log is damaged.
        """
        if options.goal in UNTUNED_GOALS:
            return cls(target, options, [])
        own = [TuningLog.load(options.tuning_log, target.name)] if options.tuning_log else []
        logs = [*own, _shipped(target.name)]
        return cls(target, options, logs if options.tuning_log or options.require_tuned or len(logs[-1]) else [])

    def choose(self, call: relax.Call) -> Choice | None:
        """Return the choice for a call, or None to leave it to the compiler."""
        if not self.logs or str(call.op.name) not in self._widest.operators:
            return None
        key = key_of(call, self._widest)
        text = key_text(key)
        if text not in self._known:
            self._known[text] = self._look_up(call, key)
        choice = self._known[text]
        if choice is not None:
            self.chosen.add(json.dumps(dict(choice), sort_keys=True))
        return choice

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
        """Return whether a kernel was made by a choice from a log."""
        return json.dumps(dict(choice), sort_keys=True) in self.chosen

    def _look_up(self, call: relax.Call, key: Key) -> Choice | None:
        entries = (log.find(key) for log in self.logs)
        entry = next((entry for entry in entries if entry is not None), None)
        for record in self._by_cycles(entry) if entry else ():
            if self._own.possible(call, record.choice):
                return record.choice
        # Whether there is anything to choose takes long to find out, and only some want to know.
        if (self.options.require_tuned or self.options.tuning_log) and self._widest.choices(call).size > 1:
            self.missing[key_text(key)] = key
        return None

    def _by_cycles(self, entry: Entry) -> list[Record]:
        def cost(record: Record) -> tuple[int, int]:
            return record.cycles.get(self.options.memory, record.slowest_cycles), record.workspace_bytes

        return sorted((record for record in entry.records if _is_current(record)), key=cost)

    @cached_property
    def _widest(self) -> Kernels:
        return Kernels(self.target, SPACE_GOAL)

    @cached_property
    def _own(self) -> Kernels:
        return Kernels(self.target, self.options.goal)

    @cached_property
    def _known(self) -> dict[str, Choice | None]:
        return {}


def _is_current(record: Record) -> bool:
    """Return whether a record's cycles mean what this version's mean."""
    return record.model_version == MODEL_VERSION and record.tvm == tvm.__version__


@lru_cache
def _shipped(target: str) -> TuningLog:
    return TuningLog.load(shipped_log(), target)


def shipped_log() -> Path:
    """Return the folder of the log that comes with the package."""
    return Path(str(files("tvm_tinyml.tuning") / "shipped"))
