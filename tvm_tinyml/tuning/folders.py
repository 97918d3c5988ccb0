"""Work on whole folders of logs: several machines tune, or several people, and what they found comes together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tvm_tinyml.artifacts.folder import reason
from tvm_tinyml.errors import TuningLogError
from tvm_tinyml.tuning.files import is_target
from tvm_tinyml.tuning.lock import exclusive
from tvm_tinyml.tuning.log import TuningLog
from tvm_tinyml.tuning.records import Key


def targets_in(folder: str | Path) -> list[str]:
    """Return the targets that a folder has logs of.

    Raises
    ------
    TuningLogError : the folder is not there, or cannot be read.
    """
    try:
        return sorted(path.name for path in Path(folder).iterdir() if path.is_dir() and is_target(path.name))
    except OSError as error:
        raise TuningLogError(f"Tuning log '{folder}' cannot be read: {reason(error)}.") from error


def merge_folders(into: str | Path, others: Iterable[str | Path]) -> Mapping[str, int]:
    """Merge logs into another, for all targets. Journals stay where they are.

    All are read before anything is written.

    Returns
    -------
    entries of each target that was merged.

    Raises
    ------
    TuningLogError : one is not there, is damaged, or is being written.
    """
    found: dict[str, list[TuningLog]] = {}
    for other in others:
        logs = [log for log in (TuningLog.load(other, target) for target in targets_in(other)) if len(log)]
        if not logs:
            raise TuningLogError(f"Folder '{other}' holds no tuning log: there is no <target>/<operator>.json in it.")
        for log in logs:
            found.setdefault(log.target, []).append(log)
    for target in found:
        TuningLog.load(into, target)
    counts = {}
    for target, logs in sorted(found.items()):
        with exclusive(into, target):
            merged = TuningLog.load(into, target)
            for log in logs:
                merged.merge(log)
            merged.save()
            counts[target] = len(merged)
    return counts


def prune_folder(folder: str | Path, target: str, keep: Callable[[Key], bool]) -> int:
    """Drop the entries of a target whose keys are not to be kept, and return how many these were.

    The next search brings back those that it finds in the journal.

    Raises
    ------
    TuningLogError : the log is damaged, or is being written.
    """
    with exclusive(folder, target):
        log = TuningLog.load(folder, target)
        dropped = log.prune(keep)
        log.save()
    return dropped
