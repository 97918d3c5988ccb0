"""The tuning log: what was found for each operator, in files that people read and keep under version control.

``FOLDER/<target>/<operator>.json``, one entry per key. `docs/tuning.md` shows the form. Nothing in a log is executed,
and nothing in it is trusted: it is data that is checked when it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tvm_tinyml.artifacts.folder import reason
from tvm_tinyml.errors import TuningLogError
from tvm_tinyml.tuning.files import make_folder, read_whole, remove_file, replace_file, target_folder
from tvm_tinyml.tuning.plain import fields, line, number, parse, shown
from tvm_tinyml.tuning.records import Entry, Key, Record, checked_key, describe, key_text

FORMAT = 1
MOST_BYTES = 64 * 2**20
MOST_READ_RECORDS = 1000
"""Of one entry in a file. We write eight; a text tool that merges two branches may leave more: the best are kept."""

_FIELDS = ("format", "target", "operator", "entries")
_ENTRY_FIELDS = ("key", "trials", "default", "records")
_REPAIR = "Restore it from version control, or remove it and tune again."


class TuningLog:
    """The log of one target.

    Parameters
    ----------
    folder : of the log, for any number of targets.
    target : name.

    Raises
    ------
    TuningLogError : the target's name is none.
    """

    def __init__(self, folder: str | Path, target: str) -> None:
        self.folder = Path(folder)
        self.target = target
        self._place = target_folder(folder, target)
        self._entries: dict[str, Entry] = {}
        self._stored: set[str] = set()

    @classmethod
    def load(cls, folder: str | Path, target: str) -> TuningLog:
        """Read the log of a target; where there is no such folder it is empty.

        Raises
        ------
        TuningLogError : a file is damaged or not ours; the message says which, where in it, and what to do.
        """
        log = cls(folder, target)
        for path in _json_files(log._place):
            log._stored.add(path.stem)
            for entry in _read(path, target):
                log._entries[entry.text] = entry
        return log

    def find(self, key: Key) -> Entry | None:
        """Return what is known of an operator."""
        return self._entries.get(key_text(key))

    def add(self, key: Key, records: Sequence[Record], trials: int, default: Record | None = None) -> None:
        """Take in what a search found for an operator.

        Parameters
        ----------
        records : at least one; the best of these and of those that are there stay.
        trials : how many choices the search measured, failed ones included.
        default : what the compiler did without a choice, if that was measured.

        Raises
        ------
        ValueError : there are no records, or the key is not plain.
        """
        known = self.find(key)
        entry = known.with_(records, trials, default) if known else Entry(key, trials, records, default)
        self._entries[entry.text] = entry

    def merge(self, other: TuningLog) -> None:
        """Take in another log of the same target.

        Raises
        ------
        TuningLogError : it is of another target.
        """
        if other.target != self.target:
            raise TuningLogError(
                f"Tuning log '{other._place}' is of target {other.target!r} and cannot be merged into one of "
                f"{self.target!r}: cycles of one core say nothing of another."
            )
        for entry in other:
            self.add(entry.key, entry.records, entry.trials, entry.default)

    def prune(self, keep: Callable[[Key], bool]) -> int:
        """Drop the entries whose keys are not to be kept, and return how many these were."""
        before = len(self._entries)
        self._entries = {name: entry for name, entry in self._entries.items() if keep(entry.key)}
        return before - len(self._entries)

    def save(self) -> None:
        """Write the files that differ from what is there, each whole or not at all; those without entries are removed.

        Only the holder of the lock may call it: see `exclusive`.

        Raises
        ------
        TuningLogError : a file cannot be written; what was there is still there.
        """
        kinds: dict[str, list[Entry]] = {operator: [] for operator in sorted(self._stored)}
        for entry in self:
            kinds.setdefault(entry.operator, []).append(entry)
        if kinds:
            make_folder(self._place)
        for operator, entries in kinds.items():
            path = self._place / f"{operator}.json"
            if not entries:
                remove_file(path)
                self._stored.discard(operator)
                continue
            content = _written(self.target, operator, entries)
            if len(content) > MOST_BYTES:
                raise TuningLogError(
                    f"Tuning log '{path}' would have {len(content)} bytes, and {MOST_BYTES} are the limit. Prune it."
                )
            if not path.exists() or read_whole(path, MOST_BYTES) != content:
                replace_file(path, content)
            self._stored.add(operator)

    def __iter__(self) -> Iterator[Entry]:
        """Go through the entries by the text of their keys."""
        return iter([self._entries[name] for name in sorted(self._entries)])

    def __len__(self) -> int:
        return len(self._entries)


def _json_files(place: Path) -> list[Path]:
    """Return the files of a target by name; hidden ones are not ours."""
    try:
        return sorted(path for path in place.iterdir() if path.suffix == ".json" and not path.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise TuningLogError(f"Tuning log '{place}' cannot be read: {reason(error)}.") from error


def _read(path: Path, target: str) -> list[Entry]:
    """Return the entries of a file."""
    try:
        content = _content(read_whole(path, MOST_BYTES), target, path.stem)
    except ValueError as error:
        raise TuningLogError(f"Tuning log '{path}' {error}. {_REPAIR}") from error
    entries: dict[str, Entry] = {}
    for index, value in enumerate(content):
        try:
            entry = _entry(value, path.stem)
            if entry.text in entries:
                raise ValueError("has the key of an entry before it")
        except ValueError as error:
            raise TuningLogError(f"Tuning log '{path}', entry {index} ({_name(value)}) {error}. {_REPAIR}") from error
        entries[entry.text] = entry
    return list(entries.values())


def _content(data: bytes, target: str, operator: str) -> list[Any]:
    """Return the entries of a file as JSON; raise `ValueError` when it is none of this target and operator."""
    value = parse(data)
    if not isinstance(value, dict) or "format" not in value:
        raise ValueError("is no tuning log: it has no 'format'")
    if number(value["format"], "format") != FORMAT:
        raise ValueError(
            f"has format {value['format']}, and this version of tvm-tinyml reads {FORMAT}. Use the one that wrote it"
        )
    fields(value, _FIELDS)
    for name, own in (("target", target), ("operator", operator)):
        if value[name] != own:
            raise ValueError(f"is of {name} {shown(value[name])}, and lies where that of {own!r} belongs")
    if not isinstance(value["entries"], list):
        raise ValueError("has 'entries' that are no list")
    return value["entries"]


def _entry(value: Any, operator: str) -> Entry:
    fields(value, _ENTRY_FIELDS)
    found = value["records"]
    if not isinstance(found, list) or not 1 <= len(found) <= MOST_READ_RECORDS:
        raise ValueError(f"has no list of 1 to {MOST_READ_RECORDS} records")
    default = None if value["default"] is None else _record("default", value["default"])
    entry = Entry(value["key"], value["trials"], [_record(i, record) for i, record in enumerate(found)], default)
    if entry.operator != operator:
        raise ValueError(f"is of operator {entry.operator!r}")
    return entry


def _record(index: int | str, value: Any) -> Record:
    try:
        return Record.from_json(value)
    except ValueError as error:
        raise ValueError(f"has a record {index} that {error}") from error


def _optional(record: Record | None) -> str:
    return line(record.to_json()) if record else "null"


def _name(value: Any) -> str:
    """Return what an entry is of, as far as it can be told."""
    try:
        return describe(checked_key(value["key"]))
    except (LookupError, TypeError, ValueError):
        return "without a key"


def _written(target: str, operator: str, entries: Sequence[Entry]) -> bytes:
    """Return the content of a file: what belongs together on one line, so that differences can be read."""
    blocks = (
        f'  {{\n   "key": {line(entry.key)},\n   "trials": {entry.trials},\n'
        f'   "default": {_optional(entry.default)},\n   "records": [\n'
        + ",\n".join(f"    {line(record.to_json())}" for record in entry.records)
        + "\n   ]\n  }"
        for entry in entries
    )
    head = f'{{\n "format": {FORMAT},\n "target": "{target}",\n "operator": "{operator}",\n "entries": [\n'
    return (head + ",\n".join(blocks) + "\n ]\n}\n").encode("ascii")
