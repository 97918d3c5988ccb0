"""How far a quantization is, for whoever waits for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Part = TypeVar("Part")

Progress = Callable[[str, int, int], None]
"""Is told a stage, how many of its parts are done, and how many there are."""


def silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""


def counted(parts: Sequence[Part], stage: str, progress: Progress) -> Iterator[Part]:
    """Yield the parts of a stage, and tell before each how many are done, and in the end that all are.

    >>> [part for part in counted("ab", "letters", print)]
    letters 0 2
    letters 1 2
    letters 2 2
    ['a', 'b']
    """
    for done, part in enumerate(parts):
        progress(stage, done, len(parts))
        yield part
    progress(stage, len(parts), len(parts))
