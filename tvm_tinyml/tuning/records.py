"""What tuning found for one operator: its key, and the few choices that are best for one wish or another."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tvm_tinyml.choice import KERNEL, Choice
from tvm_tinyml.tuning.plain import MOST_LETTERS, canonical, fields, number, plain, text

Key = Mapping[str, Any]
"""All that the costs of an operator's kernels depend on, as plain JSON. ``operator`` is its kind, ``shapes`` are those
of its arguments; the rest is the tuner's matter."""

BUDGETS_BYTES = (256, 1024, 4096, 16384)
"""Workspaces for each of which the fastest choice is kept."""

MOST_RECORDS = len(BUDGETS_BYTES) + 4

_OPERATOR = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MOST_MEMORIES = 16


def key_text(key: Key) -> str:
    """Return the canonical text of a key; equal keys have equal texts.

    Raises
    ------
    ValueError : it is none.
    """
    return canonical(checked_key(key))


def digest_of(key: Key) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of a key's text."""
    return hashlib.sha256(key_text(key).encode("ascii")).hexdigest()[:16]


def checked_key(key: Key) -> dict[str, Any]:
    """Return a copy of a key.

    Raises
    ------
    ValueError : it is not plain, names no operator, or is too long.
    """
    if not isinstance(key, Mapping):
        raise ValueError("has a key that is no object")
    copy: dict[str, Any] = plain(key, "key")
    operator = copy.get("operator")
    if not isinstance(operator, str) or not _OPERATOR.fullmatch(operator):
        raise ValueError("has a key that names no operator such as 'conv2d'")
    _check_length(copy, "key")
    return copy


def checked_choice(choice: Choice) -> dict[str, int | str]:
    """Return a copy of a choice.

    Raises
    ------
    ValueError : a value is neither a text nor a whole number, or no kernel is named.
    """
    if not isinstance(choice, Mapping):
        raise ValueError("has a choice that is no object")
    copy: dict[str, int | str] = plain(choice, "choice", depth=1)
    if any(isinstance(value, bool) for value in copy.values()):
        raise ValueError("has a choice with a boolean; only texts and whole numbers belong there")
    text(copy.get(KERNEL), f"choice.{KERNEL}")
    _check_length(copy, "choice")
    return copy


def describe(key: Key) -> str:
    """Return a key's operator and shapes for a message.

    >>> describe({"operator": "dense", "shapes": [[1, 64], [12, 64]], "dtypes": ["int8", "int8"]})
    'dense [1,64] [12,64]'
    """
    shapes = key.get("shapes")
    shown = " ".join(map(canonical, shapes)) if isinstance(shapes, (list, tuple)) else ""
    return f"{key['operator']} {shown}"[:100].strip()


@dataclass(frozen=True)
class Record:
    """A choice and what it costs.

    Attributes
    ----------
    cycles : by the memory that code and constants lie in: ``zero-wait``, ``l4r5zi-120``.
    instructions : of one call.
    workspace_bytes : scratch.
    code_bytes : of all functions.
    model_version : of the timing model.
    tvm, tool : versions of TVM and of this package.

    Raises
    ------
    ValueError : a field has a value that no measurement gives.
    """

    choice: Choice
    cycles: Mapping[str, int]
    instructions: int
    workspace_bytes: int
    code_bytes: int
    model_version: str
    tvm: str
    tool: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "choice", checked_choice(self.choice))
        object.__setattr__(self, "cycles", _checked_cycles(self.cycles))
        number(self.instructions, "instructions", 1)
        number(self.workspace_bytes, "workspace_bytes")
        number(self.code_bytes, "code_bytes")
        for name in ("model_version", "tvm", "tool"):
            text(getattr(self, name), name)

    @classmethod
    def from_json(cls, value: Any) -> Record:
        """Return the record that `to_json` made this of.

        Raises
        ------
        ValueError : it is none.
        """
        return cls(**fields(value, _FIELDS))

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain values."""
        return {name: getattr(self, name) for name in _FIELDS}

    @property
    def slowest_cycles(self) -> int:
        """Cycles in the slowest memory."""
        return max(self.cycles.values())

    @property
    def fastest_cycles(self) -> int:
        """Cycles in the fastest memory."""
        return min(self.cycles.values())

    @property
    def how(self) -> tuple[Any, ...]:
        """How it was measured, the later the larger; only records that were measured alike can be compared."""
        return _natural(self.model_version), _natural(self.tvm), len(self.cycles), sorted(self.cycles)


_FIELDS = tuple(field.name for field in dataclasses.fields(Record))


@dataclass(frozen=True)
class Entry:
    """What is known of one operator.

    An entry is made of any records and keeps those that one of eight wishes puts first: the fewest cycles in the
    slowest memory with at most 256, 1024, 4096 and 16384 bytes of workspace and with any, the fewest cycles in the
    fastest memory, the smallest workspace, the smallest code. Ties go by all costs, then by the text of the choice, so
    each is Pareto-best: no other is at least as cheap in every cost and cheaper in one. The first of a fixed order is
    the first of any records that include it, so entries can be merged in any order; that would not hold for the first
    eight of a Pareto front. Records of an older timing model or TVM, or of fewer memories, give way to the others.

    Attributes
    ----------
    trials : how many choices the longest search measured, failed ones included.
    records : sorted by cycles in the slowest memory.
    default : what the compiler did without a choice, if that was measured: what the records are worth.

    Raises
    ------
    ValueError : the key is none, there is no record, or there are no trials.
    """

    key: Key
    trials: int
    records: Sequence[Record]
    default: Record | None = None

    def __post_init__(self) -> None:
        if not self.records:
            raise ValueError("has no records")
        object.__setattr__(self, "key", checked_key(self.key))
        object.__setattr__(self, "records", _best(self.records))
        number(self.trials, "trials", 1)
        if self.default and self.default.how != self.records[0].how:
            object.__setattr__(self, "default", None)

    @cached_property
    def text(self) -> str:
        """The text of the key."""
        return canonical(self.key)

    @property
    def operator(self) -> str:
        """The kind of operator."""
        return str(self.key["operator"])

    def with_(self, records: Sequence[Record], trials: int, default: Record | None = None) -> Entry:
        """Return the entry with what another search found."""
        other = Entry(self.key, trials, records, default)
        how, others = self.records[0].how, other.records[0].how
        if how != others:
            return self if how > others else other
        defaults = [entry.default for entry in (self, other) if entry.default]
        default = min(defaults, key=lambda record: _costs(record, canonical(record.to_json())), default=None)
        return Entry(self.key, max(self.trials, trials), [*self.records, *other.records], default)


def _best(records: Iterable[Record]) -> tuple[Record, ...]:
    """Return what the wishes of `Entry` put first among the records that were measured the latest way."""
    known = list(records)
    latest = max(record.how for record in known)
    texts = {canonical(record.to_json()): record for record in known if record.how == latest}
    ordered = [texts[whole] for *_, whole in sorted(_costs(record, whole) for whole, record in texts.items())]
    within = [[r for r in ordered if r.workspace_bytes <= budget] for budget in BUDGETS_BYTES]
    chosen = [
        *(fitting[0] for fitting in within if fitting),
        ordered[0],
        min(ordered, key=lambda record: record.fastest_cycles),
        min(ordered, key=lambda record: record.workspace_bytes),
        min(ordered, key=lambda record: record.code_bytes),
    ]
    return tuple(record for record in ordered if record in chosen)


def _costs(record: Record, whole: str) -> tuple[Any, ...]:
    """Return all costs, and the text of the whole record, which begins with the choice."""
    cycles = [record.cycles[name] for name in sorted(record.cycles)]
    return record.slowest_cycles, record.workspace_bytes, record.code_bytes, cycles, whole


def _checked_cycles(cycles: Mapping[str, int]) -> dict[str, int]:
    if not isinstance(cycles, Mapping):
        raise ValueError("has 'cycles' that are no object")
    if not 1 <= len(cycles) <= _MOST_MEMORIES:
        raise ValueError(f"has cycles for {len(cycles)} memories, and 1 to {_MOST_MEMORIES} belong there")
    return {text(name, "cycles"): number(count, f"cycles.{name}", 1) for name, count in cycles.items()}


def _check_length(value: Mapping[str, Any], name: str) -> None:
    length = len(canonical(value))
    if length > MOST_LETTERS:
        raise ValueError(f"has a {name} of {length} letters, and {MOST_LETTERS} are the limit")


def _natural(version: str) -> tuple[Any, ...]:
    """Return a version so that 10 comes after 9."""
    parts = re.findall(r"[0-9]+|[^0-9]+", version)
    return [(int(part), "") if part[0] in "0123456789" else (-1, part) for part in parts], version
