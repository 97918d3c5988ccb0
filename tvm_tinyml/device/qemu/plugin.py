"""Find QEMU, and compile the plugin for it with whatever C compiler there is."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

from tvm_tinyml.errors import DeviceError

# The first QEMU that has each version of the plugin interface, newest first. Each takes the version of its own time.
_API_SINCE = (
    ((11, 1), 7),
    ((11, 0), 6),
    ((10, 1), 5),
    ((9, 2), 4),
    ((9, 1), 3),
    ((9, 0), 2),
    ((0, 0), 1),
)

_FOLDER = Path(__file__).parent
_SOURCES = (_FOLDER / "plugin.c", _FOLDER.parent / "native" / "lines.c")
_HEADERS = (_FOLDER / "plugin_api.h", _FOLDER.parent / "native" / "lines.h")


def qemu_missing(executable: str = "qemu-system-arm") -> str:
    """What keeps QEMU from being used, as a reason to skip; empty if nothing does."""
    try:
        find_qemu(executable)
        _compiler()
    except DeviceError as error:
        return str(error)
    return ""


def find_qemu(executable: str) -> str:
    """Return the path of QEMU; DeviceError if it is not installed."""
    path = shutil.which(executable)
    if path is None:
        raise DeviceError(
            f"{executable} is not installed: apt install qemu-system-arm, or your system's package with that program"
        )
    return path


@lru_cache
def plugin_api(qemu: str) -> int:
    """Version of the plugin interface that this QEMU takes."""
    done = subprocess.run([qemu, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"version (\d+)\.(\d+)", done.stdout)
    if found is None:
        raise DeviceError(f"'{qemu} --version' does not say its version: {done.stdout or done.stderr}")
    version = (int(found[1]), int(found[2]))
    return next(api for since, api in _API_SINCE if version >= since)


def build_plugin(api: int) -> Path:
    """Return the plugin for a version of the interface; it is compiled once per version of its source.

    Raises
    ------
    DeviceError : there is no C compiler, it fails, or the cache folder cannot be written.
    """
    flags = ["-shared", "-fPIC", "-O2", "-pthread", "-D_GNU_SOURCE", f"-DQEMU_PLUGIN_API={api}"]
    if sys.platform == "darwin":
        flags += ["-undefined", "dynamic_lookup"]  # what QEMU defines is found when it loads the plugin
    contents = [path.read_bytes() for path in (*_SOURCES, *_HEADERS)]
    key = hashlib.sha256(repr((contents, flags, platform.machine())).encode()).hexdigest()[:16]
    folder = _cache_folder()
    plugin = folder / f"qemu-plugin-{key}.so"
    if plugin.exists():
        return plugin
    compiler = _compiler()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            new = Path(unfinished) / plugin.name
            includes = [f"-I{header.parent}" for header in _HEADERS]
            command = [*compiler, *flags, *includes, "-o", str(new), *(str(source) for source in _SOURCES)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise DeviceError(f"'{shlex.join(compiler)}' cannot compile QEMU's plugin:\n{done.stderr.strip()}")
            new.replace(plugin)  # another process may do the same at the same time: either file is right
    except OSError as error:
        raise DeviceError(
            f"cannot keep QEMU's plugin in {folder} ({error}); set XDG_CACHE_HOME to a folder that can be written"
        ) from error
    return plugin


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tvm_tinyml"


def _compiler() -> list[str]:
    """The command that ``CC`` names, else the first usual one that is there."""
    if chosen := os.environ.get("CC"):
        return shlex.split(chosen)
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    raise DeviceError("QEMU needs a plugin, and there is no C compiler to build it: install gcc or clang, or set CC")
