"""Plain values: what a tuning log is made of, and nothing else that JSON, or Python's form of it, lets through."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

MOST_NUMBER = 2**53
"""Whole numbers up to here are the same in every reader of JSON."""

MOST_DIGITS = 17
MOST_DEPTH = 6
MOST_TEXT = 1000
MOST_LETTERS = 10_000
"""Of one key or choice as text."""


def parse(data: bytes, first_line: int = 1) -> Any:
    """Parse JSON made of objects, lists, texts, booleans and whole numbers of moderate size.

    Parameters
    ----------
    data : UTF-8.
    first_line : by which messages count.

    Raises
    ------
    ValueError : it is something else, or an object has a name twice.
    """
    try:
        return json.loads(
            data.decode("utf-8"),
            parse_int=_whole_number,
            parse_float=_no_number,
            parse_constant=_no_number,
            object_pairs_hook=_object,
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno + first_line - 1}, column {error.colno}"
        raise ValueError(f"is not JSON: {error.msg} in {place}") from error
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def canonical(value: Any) -> str:
    """Return the one JSON text of a plain value: sorted names, no spaces, ASCII only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def line(value: Any) -> str:
    """Return the same with spaces, for a reader."""
    return json.dumps(value, sort_keys=True)


def fields(value: Any, names: Collection[str]) -> dict[str, Any]:
    """Return an object that must have exactly these names.

    Raises
    ------
    ValueError : it is no object, or others are there.
    """
    if not isinstance(value, dict):
        raise ValueError(f"is {shown(value)} where {{{', '.join(sorted(names))}}} belongs")
    for name in names:
        if name not in value:
            raise ValueError(f"has no {name!r}")
    for name in value:
        if name not in names:
            raise ValueError(f"has {shown(name)}, which is not known")
    return value


def text(value: Any, name: str, least: int = 1) -> str:
    """Return a text that must be printable, and of at least `least` letters and at most 1000.

    Raises
    ------
    ValueError : it is none.
    """
    if not isinstance(value, str):
        raise ValueError(f"has {shown(value)} for {name!r}, where a text belongs")
    if not least <= len(value) <= MOST_TEXT or not value.isprintable():
        belongs = f"a printable text of {least} to {MOST_TEXT} letters"
        raise ValueError(f"has {shown(value)} for {name!r}, where {belongs} belongs")
    return value


def number(value: Any, name: str, least: int = 0) -> int:
    """Return a number that must be whole, at least `least` and at most 2**53.

    Raises
    ------
    ValueError : it is none.
    """
    if type(value) is not int or not least <= value <= MOST_NUMBER:
        raise ValueError(f"has {shown(value)} for {name!r}, where a whole number from {least} to 2**53 belongs")
    return value


def plain(value: Any, name: str, depth: int = MOST_DEPTH) -> Any:
    """Return a copy of a value made of texts, whole numbers, booleans, lists and mappings; tuples become lists.

    Raises
    ------
    ValueError : there is something else in it, or more than `depth` of them are nested.
    """
    if isinstance(value, (Mapping, list, tuple)):
        if not depth:
            raise ValueError(f"has {name!r}, which is nested too deeply")
        if isinstance(value, Mapping):
            return {text(key, name): plain(value[key], f"{name}.{key}", depth - 1) for key in value}
        return [plain(item, name, depth - 1) for item in value]
    if isinstance(value, bool):
        return value
    return text(value, name, 0) if isinstance(value, str) else number(value, name, -MOST_NUMBER)


def shown(value: Any) -> str:
    """Return a value as short ASCII text for a message, whatever is in it."""
    whole = ascii(value)
    return whole if len(whole) <= 60 else whole[:57] + "..."


def _whole_number(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"has a number of {len(digits)} digits")
    return int(digits)


def _no_number(digits: str) -> NoReturn:
    raise ValueError(f"has the number {shown(digits)}; only whole ones belong here")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"has {shown(next(name for name in names if names.count(name) > 1))} twice in one object")
    return found
