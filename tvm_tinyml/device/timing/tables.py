"""Read how long a core takes for its instructions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from tvm_tinyml.device.timing import dual_issue, helium, single_issue
from tvm_tinyml.device.timing.data_files import Entry, names, read
from tvm_tinyml.device.timing.decode import CLASSES, Instruction, decode
from tvm_tinyml.device.timing.dual_issue import SLOTS, DualIssue, Issue
from tvm_tinyml.device.timing.single_issue import Cost, SingleIssue
from tvm_tinyml.errors import DeviceError

_PACKAGE = "tvm_tinyml.targets.timing"
_T = TypeVar("_T")
_UNALIGNED = frozenset(("word_at_even", "word_at_odd", "halfword_at_odd"))


@dataclass(frozen=True)
class CoreTiming:
    """A core's model and what belongs to no instruction.

    pipeline : computes the time of a sequence.
    unaligned : more cycles for an access, by ``Event`` in lower case; empty if the core refuses such accesses.
    mispredicted : cycles lost by a conditional branch that goes the other way than predicted.
    helium : it has what Armv8.1-M adds.
    error_percent : how far whole programs may be off, by what was compared with boards; None if nothing was.
    """

    pipeline: SingleIssue | DualIssue
    unaligned: Mapping[str, int]
    mispredicted: int
    helium: bool
    error_percent: int | None

    def decode(self, code: bytes, address: int) -> tuple[Instruction, ...]:
        """Decode a stretch of code with the instructions that this core has; see ``decode``."""
        return decode(code, address, helium=self.helium)


def core_names() -> list[str]:
    """Return the cores that have a timing table."""
    return names(_PACKAGE)


@cache
def load_core(name: str | Path) -> CoreTiming:
    """Read a core's timing table.

    Parameters
    ----------
    name : one of ``core_names()``, or the path of a file of that form.

    Raises
    ------
    DeviceError : there is no such table, or it names a class or rule that does not exist, or one twice, or an entry
        has no source.
    """
    entry = read(_PACKAGE, "timing table", name)
    core, model, has_helium = entry.text("core"), entry.text("model"), entry.flag("helium")
    classes = CLASSES | helium.CLASSES if has_helium else CLASSES
    if model == "single-issue":
        costs, rules = _costs(entry, classes), _rules(entry, single_issue.RULES, optional=True)
        pipeline: SingleIssue | DualIssue = SingleIssue(core, costs, rules)
    elif model == "dual-issue":
        units = {unit: _closed(item, item.number("count")) for unit, item in entry.entries("units")}
        issues = _issues(entry, classes, units)
        known = dual_issue.RULES | dual_issue.HELIUM_RULES if has_helium else dual_issue.RULES
        rules = _rules(entry, known, optional=False)
        pairing = entry.entry("pairing")
        narrow, partners = (pairing.flag("narrow"), pairing.texts("partners")) if pairing else (False, ())
        if pairing:
            pairing.close()
        pipeline = DualIssue(core, issues, units, rules, narrow, partners)
    else:
        raise DeviceError(f"{entry.where}: model '{model}' is neither 'single-issue' nor 'dual-issue'")
    error_percent = entry.number("error_percent", 0) or None
    entry.close()
    unaligned = {name: cycles for name, cycles in rules.items() if name in _UNALIGNED}
    return CoreTiming(pipeline, unaligned, rules.get("mispredicted", 0), has_helium, error_percent)


def _costs(entry: Entry, classes: frozenset[str]) -> dict[str, Cost]:
    costs: dict[str, Cost] = {}
    for _, item in entry.entries("class"):
        cost = Cost(item.number("cycles"), item.number("per_register", 0), item.number("taken", 0))
        _assign(costs, classes, item, cost)
    return costs


def _issues(entry: Entry, classes: frozenset[str], units: Mapping[str, int]) -> dict[str, Issue]:
    issues: dict[str, Issue] = {}
    for _, item in entry.entries("class"):
        issue = Issue(
            units=item.texts("units"),
            beats=item.texts("beats", ()),
            latency=item.number("latency"),
            slot=item.text("slot"),
            cycles=item.number("cycles", 1),
            per_cycle=item.number("per_cycle", 0),
            early=item.flag("early"),
            taken=item.number("taken", 0),
            unforwarded=item.flag("unforwarded"),
        )
        if issue.slot not in SLOTS:
            raise DeviceError(f"{item.where}: slot '{issue.slot}' is none of {', '.join(SLOTS)}")
        occupied = issue.units + issue.beats
        for unit in occupied:
            if occupied.count(unit) > units.get(unit, 0):
                raise DeviceError(f"{item.where}: there is no such number of units '{unit}'")
        _assign(issues, classes, item, issue)
    return issues


def _assign(entries: dict[str, _T], classes: frozenset[str], item: Entry, value: _T) -> None:
    for name in item.texts("names"):
        if name not in classes:
            raise DeviceError(f"{item.where}: there is no class of instructions named '{name}'")
        if name in entries:
            raise DeviceError(f"{item.where}: '{name}' has an entry already")
        entries[name] = value
    item.close()


def _rules(entry: Entry, known: frozenset[str], *, optional: bool) -> dict[str, int]:
    rules = {}
    for name, item in entry.entries("rules"):
        if name not in known | _UNALIGNED:
            raise DeviceError(f"{item.where}: there is no such rule")
        rules[name] = _closed(item, item.number("cycles"))
    missing = known - set(rules)
    if missing and not optional:
        raise DeviceError(f"{entry.where}: rules are missing: {', '.join(sorted(missing))}")
    return rules


def _closed(item: Entry, value: int) -> int:
    item.close()
    return value
