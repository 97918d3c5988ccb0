"""Writing files and output folders: each appears whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tvm_tinyml.errors import OutputError

MARK = "metadata.json"

_NAMED_ENTRIES = 3


def write_folder(path: Path, files: Mapping[str, str | bytes]) -> None:
    """Write `files` (by relative path) as the folder `path`; missing parents are made.

    A folder that is there already keeps its place and rights, and its whole content is replaced, but only when it is
    empty or was written by this package, which its ``metadata.json`` tells.

    Raises
    ------
    OutputError : `path` is something else, or cannot be written; what was there is still there.
    """
    check_folder(path)
    try:
        _write_folder(Path(os.path.realpath(path)), files)
    except OSError as error:
        raise OutputError(f"Output folder '{path}' cannot be written: {reason(error)}.") from error


def write_file(path: Path, content: bytes) -> None:
    """Write a file, in place of the one that may be there.

    Raises
    ------
    OutputError : the file cannot be written; what was there is still there.
    """
    check_file(path)
    try:
        if path.exists() and not path.is_file():  # a device or pipe, such as /dev/stdout, must stay one
            path.write_bytes(content)
            return
        target = Path(os.path.realpath(path))
        with _staging(target.parent) as staging:
            new = staging / "new"
            new.write_bytes(content)
            os.replace(new, target)
    except OSError as error:
        raise OutputError(f"Output file '{path}' cannot be written: {reason(error)}.") from error


def check_folder(path: Path) -> None:
    """Find out before the work whether `write_folder` would refuse `path`.

    Raises
    ------
    OutputError : it would.
    """
    try:
        if path.is_dir():
            _check_content(path)
        elif path.exists():
            raise OutputError(f"Output folder '{path}' is a file. Choose another folder with -o.")
        _check_rights(_nearest_folder(path), f"Output folder '{path}'")
    except OSError as error:
        raise OutputError(f"Output folder '{path}' cannot be written: {reason(error)}.") from error


def check_file(path: Path) -> None:
    """Find out before the work whether `write_file` would refuse `path`.

    Raises
    ------
    OutputError : it would.
    """
    try:
        if path.is_dir():
            raise OutputError(f"Output file '{path}' is a folder. Name a file.")
        if not path.parent.is_dir():
            raise OutputError(f"Output file '{path}' cannot be written: make the folder '{path.parent}' first.")
        if path.is_file() or not path.exists():
            _check_rights(Path(os.path.realpath(path)).parent, f"Output file '{path}'")
    except OSError as error:
        raise OutputError(f"Output file '{path}' cannot be written: {reason(error)}.") from error


def is_ours(path: Path) -> bool:
    """Return whether a folder was written by this package."""
    try:
        content = json.loads((path / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"model", "target", "layers", "version"} <= set(content)


def reason(error: OSError) -> str:
    """Return what the operating system says of an error, without the number and the path."""
    return error.strerror or str(error)


def _check_content(path: Path) -> None:
    entries = sorted(entry.name for entry in path.iterdir())
    if not entries or is_ours(path):
        return
    more = ", ..." if len(entries) > _NAMED_ENTRIES else ""
    named = ", ".join(entries[:_NAMED_ENTRIES]) + more
    raise OutputError(
        f"Output folder '{path}' exists and was not written by tvm-tinyml (entries: {len(entries)}, {named}; "
        f"no {MARK} of ours). Choose another folder with -o, or empty it."
    )


def _check_rights(folder: Path, what: str) -> None:
    if not folder.is_dir():
        raise OutputError(f"{what} cannot be written: '{folder}' is a file.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{what} cannot be written: there is no permission to write in '{folder}'.")


def _nearest_folder(path: Path) -> Path:
    """Return what exists of a path: itself or the nearest parent."""
    whole = Path(os.path.realpath(path))
    return next(p for p in (whole, *whole.parents) if p.exists())


@contextmanager
def _staging(parent: Path) -> Iterator[Path]:
    """Make a hidden folder inside `parent`, on the same file system, for the time of writing."""
    folder = Path(tempfile.mkdtemp(prefix=".tvm-tinyml-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_folder(path: Path, files: Mapping[str, str | bytes]) -> None:
    with _staging(_nearest_folder(path)) as staging:
        new = staging / "new"
        new.mkdir()
        for name, content in files.items():
            target = new / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        if path.is_dir():
            _replace_content(path, new, staging)
        else:
            _move_to(new, path)


def _replace_content(path: Path, new: Path, staging: Path) -> None:
    """Exchange what a folder holds. The folder itself stays, for it may be a mount point or someone's current one."""
    old = staging / "old"
    old.mkdir()
    moves = [(entry, old / entry.name) for entry in sorted(path.iterdir()) if entry != staging]
    moves += [(entry, path / entry.name) for entry in sorted(new.iterdir())]
    done: list[tuple[Path, Path]] = []
    try:
        for source, target in moves:
            os.replace(source, target)
            done.append((source, target))
    except BaseException:
        for source, target in reversed(done):
            os.replace(target, source)
        raise


def _move_to(new: Path, path: Path) -> None:
    """Move a folder to a place where nothing is, making the parents that are missing."""
    made: list[Path] = []
    try:
        for parent in reversed(path.parents):
            if not parent.exists():
                parent.mkdir()
                made.append(parent)
        os.replace(new, path)
    except BaseException:
        for parent in reversed(made):
            parent.rmdir()
        raise
