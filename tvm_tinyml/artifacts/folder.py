"""Writing the output folder: it appears whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tvm_tinyml.errors import OutputError

MARK = "metadata.json"


def write_folder(path: Path, files: Mapping[str, str | bytes]) -> None:
    """Write `files` (by relative path) as the folder `path`.

    A folder that is there already is replaced only when it is empty or was written by this package, which its
    ``metadata.json`` tells.

    Raises
    ------
    OutputError : `path` is something else, or cannot be written.
    """
    path = path.absolute()
    _check_replaceable(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise OutputError(f"Output folder '{path}' cannot be made: {error.strerror}.") from error
    try:
        for name, content in files.items():
            target = staging / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        staging.chmod(0o777 & ~_umask())
        old = None
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent), "old")
            os.replace(path, old)
        os.replace(staging, path)
        if old:
            shutil.rmtree(old.parent)
    except OSError as error:
        raise OutputError(f"Output folder '{path}' cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def is_ours(path: Path) -> bool:
    """Return whether a folder was written by this package."""
    try:
        content = json.loads((path / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"model", "target", "layers", "version"} <= set(content)


def _check_replaceable(path: Path) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise OutputError(f"Output folder '{path}' is a file. Choose another folder with -o.")
    if any(path.iterdir()) and not is_ours(path):
        raise OutputError(
            f"Output folder '{path}' exists and was not written by tvm-tinyml ({len(list(path.iterdir()))} entries, "
            f"no {MARK} of ours). Choose another folder with -o, or empty it."
        )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
