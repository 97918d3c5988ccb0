"""The files of a tuning log: where they lie, reading them with a limit, replacing them whole."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from tvm_tinyml.artifacts.folder import reason
from tvm_tinyml.errors import TuningLogError

_TARGET = re.compile(r"[a-z0-9]+(?:[-+._][a-z0-9]+)*")
_MOST_LETTERS = 100


def is_target(name: str) -> bool:
    """Return whether a name can be a target's, and with it a folder's."""
    return len(name) <= _MOST_LETTERS and _TARGET.fullmatch(name) is not None


def target_folder(folder: str | Path, target: str) -> Path:
    """Return the folder of a target in the folder of a log.

    Raises
    ------
    TuningLogError : the target's name is none.
    """
    if not is_target(target):
        raise TuningLogError(
            f"A tuning log has no target named {target!a}: names are small letters and digits with -, +, . or _ "
            "between them, such as 'cortex-m4+nofp'."
        )
    return Path(folder) / target


def make_folder(path: Path) -> None:
    """Make a folder and its parents where they are missing.

    Raises
    ------
    TuningLogError : it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def read_whole(path: Path, most_bytes: int) -> bytes:
    """Return the content of a file.

    Raises
    ------
    TuningLogError : it is no ordinary file, is larger, or cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise TuningLogError(f"Tuning log '{path}' is not a file. Remove it.")
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise TuningLogError(f"Tuning log '{path}' cannot be read: {reason(error)}.") from error
    if len(data) > most_bytes:
        raise TuningLogError(
            f"Tuning log '{path}' is larger than {most_bytes} bytes, which none of ours is. Restore or remove it."
        )
    return data


def replace_file(path: Path, content: bytes) -> None:
    """Write a file: after a crash at any moment it has the old content or the new one.

    Only one process may do so at a time.

    Raises
    ------
    TuningLogError : it cannot be written; what was there is still there.
    """
    real = Path(os.path.realpath(path))
    new = real.with_name(f".{real.name}.new")
    try:
        new.unlink(missing_ok=True)  # of a process that was killed
        try:
            with new.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, real)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        sync_folder(real.parent)
    except OSError as error:
        raise cannot_write(path, error) from error


def remove_file(path: Path) -> None:
    """Remove a file if it is there.

    Raises
    ------
    TuningLogError : it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error


def sync_folder(path: Path) -> None:
    """Let the names in a folder survive a power cut, on systems that can."""
    if os.name == "posix":
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def cannot_write(path: Path, error: OSError) -> TuningLogError:
    """Return the error that says so."""
    return TuningLogError(f"Tuning log '{path}' cannot be written: {reason(error)}.")
