"""One writer at a time for the log of a target."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tvm_tinyml.errors import TuningLogError
from tvm_tinyml.tuning.files import cannot_write, make_folder, target_folder

_NAME = ".lock"
_FLOCK = find_spec("fcntl") is not None
_PROCESS_DIGITS = 20


@contextmanager
def exclusive(folder: str | Path, target: str) -> Iterator[None]:
    """Be the only one that writes the log of a target; to be entered before it is loaded for that.

    The lock goes with the process, however it ends. On systems without ``flock`` it is a file that stays behind when
    the process is killed; then the next one says which file to remove.

    Raises
    ------
    TuningLogError : another process, or this one, has it already; or there is no permission.
    """
    place = target_folder(folder, target)
    make_folder(place)
    path = place / _NAME
    try:
        file = _lock(path)
    except (BlockingIOError, FileExistsError):
        more = "" if _FLOCK else f" If none is running, one was killed: remove '{path}'."
        raise TuningLogError(
            f"Tuning log '{place}' is being written by another process{_holder(path)}. "
            f"Wait for it, or tune into another folder and merge the two.{more}"
        ) from None
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield
    finally:
        os.close(file)
        if not _FLOCK:
            path.unlink(missing_ok=True)


def _lock(path: Path) -> int:
    """Return an open file that nobody else has locked."""
    if not _FLOCK:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        os.write(file, f"{os.getpid()}\n".encode())
        return file
    import fcntl

    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(file, 0)
        os.write(file, f"{os.getpid()}\n".encode())
    except BaseException:
        os.close(file)
        raise
    return file


def _holder(path: Path) -> str:
    """Return which process has a lock, if its file says so."""
    try:
        with path.open("rb") as file:
            number = file.read(_PROCESS_DIGITS).decode("ascii").strip()
    except (OSError, ValueError):
        return ""
    return f" ({number})" if number.isdigit() else ""
