"""The figures of ``bench --json`` beside those of an earlier run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm_tinyml.artifacts.folder import reason
from tvm_tinyml.caveat import caveat
from tvm_tinyml.errors import InputError
from tvm_tinyml.tables import Cell, markdown_table, table
from tvm_tinyml.tuning.plain import number, shown, text

CYCLES, INSTRUCTIONS, RAM, FLASH = "cycles", "instructions", "RAM bytes", "flash bytes"

LIMITED = (CYCLES, RAM, FLASH)
"""What ``--fail-above`` watches. Instructions cost nothing but the cycles that are counted already."""

_SAME = {"target": "target", "memory": "memory", "on": "engine", "model_version": "timing model"}
"""Where these differ, cycles mean something else."""


@dataclass(frozen=True)
class Change:
    """One figure, before and now; None where there was or is none."""

    name: str
    before: int | None
    now: int | None

    @property
    def percent(self) -> float | None:
        """By how much it grew, infinite if from 0; None if one of the two is missing."""
        if self.before is None or self.now is None:
            return None
        if self.before == 0:
            return math.inf if self.now else 0.0
        return 100 * (self.now - self.before) / self.before


@dataclass(frozen=True)
class Figures:
    """What two runs are compared by.

    Attributes
    ----------
    model : name.
    target, memory, on, model_version : as in ``bench --json``.
    totals : cycles, instructions, RAM and flash of one inference.
    layers : cycles by the name of the layer.
    """

    model: str
    target: str
    memory: str
    on: str
    model_version: str
    totals: Mapping[str, int]
    layers: Mapping[str, int]

    @classmethod
    def of(cls, value: Any) -> Figures:
        """Return the figures of what ``bench`` returns.

        Raises
        ------
        ValueError : it is something else; the message says what it "has" or "is".
        """
        layers = _member(value, "layers")
        if not isinstance(layers, list):
            raise ValueError(f"has {shown(layers)} for 'layers', where a list belongs")
        names = {name: text(_member(value, name), name) for name in ("model", *_SAME)}
        cycles = {
            text(_member(layer, "name"), "name"): number(_member(layer, "cycles"), "cycles") for layer in layers
        }
        return cls(
            **names,
            totals={
                CYCLES: number(_member(value, "cycles"), "cycles"),
                INSTRUCTIONS: number(_member(value, "instructions"), "instructions"),
                RAM: number(_member(_member(value, "ram_bytes"), "total"), "ram_bytes"),
                FLASH: number(_member(_member(value, "flash_bytes"), "total"), "flash_bytes"),
            },
            layers=cycles,
        )

    @classmethod
    def read(cls, path: str | Path) -> Figures:
        """Return the figures that ``bench --json`` wrote.

        Raises
        ------
        InputError : there is no such file, or it holds something else.
        """
        try:
            return cls.of(json.loads(Path(path).read_bytes()))
        except OSError as error:
            raise InputError(f"Figures '{path}' cannot be read: {reason(error)}.") from error
        except json.JSONDecodeError as error:
            what = f"is not JSON in line {error.lineno}, column {error.colno}"
        except RecursionError:
            what = "is nested too deeply"
        except UnicodeDecodeError:
            what = "is not UTF-8"
        except ValueError as error:
            what = str(error)
        raise InputError(
            f"'{path}' {what}: it is not what bench writes. Write it with tvm-tinyml bench MODEL --json FILE."
        )


@dataclass(frozen=True)
class Comparison:
    """Two runs that were measured in the same way."""

    before: Figures
    now: Figures

    @classmethod
    def of(cls, before: Figures, now: Figures, file: str | Path) -> Comparison:
        """Compare, if that can be done.

        Parameters
        ----------
        file : where `before` was read, for the message.

        Raises
        ------
        InputError : target, memory, engine or timing model differ.
        """
        for name, meaning in _SAME.items():
            old, new = getattr(before, name), getattr(now, name)
            if old != new:
                raise InputError(
                    f"Figures '{file}' are of {meaning} {old!r}, and these of {new!r}: they cannot be compared. "
                    "Measure again what they are of, in the same way."
                )
        return cls(before, now)

    @property
    def totals(self) -> list[Change]:
        """Cycles, instructions, RAM and flash."""
        return [Change(name, self.before.totals[name], now) for name, now in self.now.totals.items()]

    @property
    def layers(self) -> list[Change]:
        """Cycles of the layers that take others than before; those that have gone come last."""
        before, now = self.before.layers, self.now.layers
        changes = (Change(name, before.get(name), now.get(name)) for name in {**now, **before})
        return [change for change in changes if change.before != change.now]

    def grown(self, percent: float) -> list[Change]:
        """Return which of cycles, RAM and flash grew by more than so many percent."""
        watched = (change for change in self.totals if change.name in LIMITED)
        return [change for change in watched if change.percent is not None and change.percent > percent]

    def report(self, *, markdown: bool = False) -> str:
        """Return what changed as tables: in all, and by layer."""
        now, tabulate = self.now, markdown_table if markdown else table
        title = f"{now.model} on {now.target}, memory {now.memory}, simulated"
        if self.before.model != now.model:
            title += f"; before: {self.before.model}"
        layers = [_row(change) for change in self.layers]
        parts = (
            *((f"### {title}", "") if markdown else (title,)),
            tabulate(("", "before", "now", "change, %"), [_row(change) for change in self.totals]),
            "",
            tabulate(("layer", "cycles before", "now", "change, %"), layers)
            if layers
            else "Every layer takes as many cycles as before.",
            "",
            caveat(now.target.split("+")[0]),
        )
        return "\n".join(parts)


def _row(change: Change) -> tuple[Cell, ...]:
    percent = change.percent
    return (change.name, change.before, change.now, None if percent is None or math.isinf(percent) else percent)


def _member(value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"has {shown(value)} where an object with {name!r} belongs")
    if name not in value:
        raise ValueError(f"has no {name!r}")
    return value[name]
