"""Read the data files that describe cores and memories: every entry has a source."""

from __future__ import annotations

import difflib
import sys
from importlib import resources
from pathlib import Path
from typing import Any

from tvm_tinyml.errors import DeviceError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Entry:
    """One table of a data file. What is read of it is checked; what is left over is an error."""

    def __init__(self, where: str, values: object) -> None:
        if not isinstance(values, dict):
            raise DeviceError(f"{where}: {values!r} should be a table")
        self.where = where
        self._values: dict[str, Any] = dict(values)

    def text(self, key: str) -> str:
        """Take a text, which must not be empty."""
        value = self._take(key)
        if not isinstance(value, str) or not value:
            raise DeviceError(f"{self.where}: {key} = {value!r} should be a text")
        return value

    def texts(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """Take a list of texts, or the default if there is none."""
        if default is not None and key not in self._values:
            return default
        value = self._take(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise DeviceError(f"{self.where}: {key} = {value!r} should be a list of texts")
        return tuple(value)

    def number(self, key: str, default: int | None = None) -> int:
        """Take an integer, or the default if there is none."""
        value = self._take(key) if default is None else self._values.pop(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise DeviceError(f"{self.where}: {key} = {value!r} should be an integer")
        return value

    def flag(self, key: str) -> bool:
        """Take true or false; false if it is missing."""
        value = self._values.pop(key, False)
        if not isinstance(value, bool):
            raise DeviceError(f"{self.where}: {key} = {value!r} should be true or false")
        return value

    def entry(self, key: str) -> Entry | None:
        """Take a table, or None if there is none."""
        return Entry(f"{self.where}, {key}", self._values.pop(key)) if key in self._values else None

    def entries(self, key: str) -> list[tuple[str, Entry]]:
        """Take a list of tables or a table of tables, each with its name; none if it is missing."""
        value = self._values.pop(key, [])
        named = value.items() if isinstance(value, dict) else enumerate(value)
        return [(str(name), Entry(f"{self.where}, {key} {name}", item)) for name, item in named]

    def close(self) -> str:
        """Take the source, and make sure that nothing is left."""
        source = self.text("source")
        if self._values:
            raise DeviceError(f"{self.where}: unknown {', '.join(sorted(self._values))}")
        return source

    def _take(self, key: str) -> Any:
        if key not in self._values:
            raise DeviceError(f"{self.where}: {key} is missing")
        return self._values.pop(key)


def names(package: str) -> list[str]:
    """Return what data files a package holds, without their ending."""
    return sorted(f.name.removesuffix(".toml") for f in resources.files(package).iterdir() if f.name.endswith(".toml"))


def read(package: str, what: str, name: str | Path) -> Entry:
    """Read the file of that name in a package, or any file if ``name`` is a path.

    Raises
    ------
    DeviceError : there is no such file, or it is not TOML.
    """
    if isinstance(name, str) and name not in (known := names(package)):
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(known)}"
        raise DeviceError(f"there is no {what} named '{name}'; {hint}")
    try:
        file = name if isinstance(name, Path) else resources.files(package).joinpath(f"{name}.toml")
        return Entry(str(name), tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DeviceError(f"cannot read the {what} {name}: {error}") from error
