"""The journal: every measurement as it is made, one line each, so that a search that was ended goes on where it was.

``FOLDER/<target>/trials.jsonl``. The first line names format and target; each key has a line before its first trial.
What is in the journal is what a process had reported: a kill or a power cut costs no more than the line being written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from tvm_tinyml.choice import Choice
from tvm_tinyml.errors import TuningLogError
from tvm_tinyml.tuning.files import cannot_write, make_folder, read_whole, sync_folder, target_folder
from tvm_tinyml.tuning.log import TuningLog
from tvm_tinyml.tuning.plain import canonical, fields, number, parse, shown, text
from tvm_tinyml.tuning.records import Entry, Key, Record, checked_choice, checked_key, digest_of

FORMAT = 1
MOST_BYTES = 256 * 2**20
MOST_LINE_BYTES = 2**16

_FILE = "trials.jsonl"
_MOST_ERROR_LETTERS = 200
_FAILURE_FIELDS = ("error", "model_version", "tvm", "tool")


@dataclass(frozen=True)
class Failure:
    """Why a choice has no costs.

    Attributes
    ----------
    error : any text; what is kept of it is one line of ASCII, cut after 200 letters.
    model_version, tvm, tool : as in `Record`.
    """

    error: str
    model_version: str
    tvm: str
    tool: str

    def __post_init__(self) -> None:
        words = " ".join(self.error.split()).encode("ascii", "backslashreplace").decode("ascii")
        short = "".join(c if c.isprintable() else "?" for c in words)[:_MOST_ERROR_LETTERS].strip()
        object.__setattr__(self, "error", short or "unknown")
        for name in ("model_version", "tvm", "tool"):
            text(getattr(self, name), name)


@dataclass(frozen=True)
class Trial:
    """One measurement.

    Attributes
    ----------
    digest : of the key.
    choice : as it was asked for. The record has it as it was decided in full.
    """

    digest: str
    choice: Choice
    outcome: Record | Failure


@dataclass(frozen=True)
class History:
    """What a journal holds.

    Attributes
    ----------
    keys : by digest.
    trials : by digest, in the order of measuring.
    """

    keys: Mapping[str, Key] = field(default_factory=dict)
    trials: Mapping[str, Sequence[Trial]] = field(default_factory=dict)

    def of(self, key: Key) -> Sequence[Trial]:
        """Return the trials of an operator."""
        return self.trials.get(digest_of(key), ())


class Journal:
    """The journal of one target. Only the holder of the lock may append to it: see `exclusive`.

    Raises
    ------
    TuningLogError : the target's name is none.
    """

    def __init__(self, folder: str | Path, target: str) -> None:
        self.path = target_folder(folder, target) / _FILE
        self._target = target
        self._file: int | None = None
        self._is_new = True
        self._digests: set[str] = set()

    def read(self) -> History:
        """Return all trials; where there is no journal there are none. A last line without an end is left out.

        Raises
        ------
        TuningLogError : there is other damage; the message says in which line.
        """
        return self._parsed(self._whole_lines())

    def append(self, key: Key, choice: Choice, outcome: Record | Failure) -> Trial:
        """Write a trial down; when this returns it is on the disk.

        Raises
        ------
        TuningLogError : the journal is damaged, or cannot be written; what it had it still has.
        """
        trial = Trial(digest_of(key), checked_choice(choice), outcome)
        file = self._open() if self._file is None else self._file
        values: list[Any] = []
        if self._is_new:
            values.append({"format": FORMAT, "target": self._target})
        if trial.digest not in self._digests:
            values.append({"digest": trial.digest, "key": checked_key(key)})
        values.append(_to_json(trial))
        data = "".join(f"{canonical(value)}\n" for value in values).encode("ascii")
        try:
            if os.write(file, data) < len(data):
                raise OSError("there is no room for a whole line")
            os.fsync(file)
        except BaseException as error:
            self.close()  # whatever is there of the line is cut off when the file is opened again
            if isinstance(error, OSError):
                raise cannot_write(self.path, error) from error
            raise
        self._is_new = False
        self._digests.add(trial.digest)
        return trial

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> int:
        """Open the file to append to it, without what a killed process may have left of a line."""
        data = self._whole_lines()
        self._digests = set(self._parsed(data).keys)
        self._is_new = not data
        make_folder(self.path.parent)
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
            self._file = file
            os.ftruncate(file, len(data))
            sync_folder(self.path.parent)
        except OSError as error:
            self.close()
            raise cannot_write(self.path, error) from error
        return file

    def _whole_lines(self) -> bytes:
        if not os.path.lexists(self.path):
            return b""
        data = read_whole(self.path, MOST_BYTES)
        whole = data[: data.rfind(b"\n") + 1]
        if len(data) - len(whole) > MOST_LINE_BYTES:
            raise self._damaged(whole.count(b"\n") + 1, f"is longer than {MOST_LINE_BYTES} bytes")
        return whole

    def _parsed(self, data: bytes) -> History:
        keys: dict[str, Key] = {}
        trials: dict[str, list[Trial]] = {}
        for index, content in enumerate(data.split(b"\n")[:-1]):
            try:
                value = _value(content, index + 1)
                if not index:
                    self._check_head(value)
                elif "key" in value:
                    digest, key = _key_line(value)
                    keys[digest] = key
                else:
                    trial = _from_json(value)
                    if trial.digest not in keys:
                        raise ValueError(f"is of key {trial.digest}, which no line before it has")
                    trials.setdefault(trial.digest, []).append(trial)
            except ValueError as error:
                raise self._damaged(index + 1, str(error)) from error
        return History(keys, trials)

    def _check_head(self, value: dict[str, Any]) -> None:
        if number(value.get("format"), "format") != FORMAT:
            raise ValueError(f"has format {value['format']}, and this version of tvm-tinyml reads {FORMAT}")
        fields(value, ("format", "target"))
        if value["target"] != self._target:
            raise ValueError(f"is of target {shown(value['target'])}, and lies where that of {self._target!r} belongs")

    def _damaged(self, line_number: int, what: str) -> TuningLogError:
        return TuningLogError(
            f"Tuning journal '{self.path}', line {line_number} {what}. Remove the line, or the file: then only what is "
            "in the log is known, and other choices are measured again."
        )


def restore(log: TuningLog, history: History) -> None:
    """Add to a log what was measured and not saved. What it has already makes no difference."""
    for digest, trials in history.trials.items():
        key = history.keys[digest]
        records = [trial.outcome for trial in trials if isinstance(trial.outcome, Record)]
        if records:
            latest = _versions(Entry(key, 1, records).records[0])
            tried = {canonical(trial.choice) for trial in trials if _versions(trial.outcome) == latest}
            log.add(key, records, len(tried))


def _versions(outcome: Record | Failure) -> tuple[str, str]:
    """Return what makes trials comparable."""
    return outcome.model_version, outcome.tvm


def _to_json(trial: Trial) -> dict[str, Any]:
    outcome = trial.outcome
    result = {"record": outcome.to_json()} if isinstance(outcome, Record) else {"failure": asdict(outcome)}
    return {"digest": trial.digest, "choice": trial.choice, **result}


def _from_json(value: dict[str, Any]) -> Trial:
    failed = "failure" in value
    fields(value, ("digest", "choice", "failure" if failed else "record"))
    digest, choice = _digest(value["digest"]), checked_choice(value["choice"])
    if not failed:
        return Trial(digest, choice, Record.from_json(value["record"]))
    reasons = fields(value["failure"], _FAILURE_FIELDS)
    return Trial(digest, choice, Failure(**{name: text(reasons[name], name) for name in _FAILURE_FIELDS}))


def _key_line(value: dict[str, Any]) -> tuple[str, Key]:
    fields(value, ("digest", "key"))
    key = checked_key(value["key"])
    digest = digest_of(key)
    if value["digest"] != digest:
        raise ValueError(f"has digest {shown(value['digest'])} for a key of digest {digest}")
    return digest, key


def _digest(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{16}", value):
        raise ValueError(f"has {shown(value)} for a digest of 16 hexadecimal digits")
    return value


def _value(content: bytes, line_number: int) -> dict[str, Any]:
    if len(content) > MOST_LINE_BYTES:
        raise ValueError(f"is longer than {MOST_LINE_BYTES} bytes")
    value = parse(content, line_number)
    if not isinstance(value, dict):
        raise ValueError("is no object")
    return value
