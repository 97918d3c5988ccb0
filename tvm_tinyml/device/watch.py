"""What memory adds to the time of a run: accesses that are not aligned, and lines that a buffer does not hold."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from tvm_tinyml.device.memory import Region


class Event(IntEnum):
    """What a watched run counts for each block."""

    HALFWORD_AT_ODD = 0
    WORD_AT_EVEN = 1
    """A word at an even address that is no multiple of 4."""
    WORD_AT_ODD = 2
    DATA_MISS = 3
    """A line of data that the buffer does not hold."""
    CODE_MISS = 4
    """A line of code that the buffer does not hold, nor was the line in front of it the one used last."""
    NEXT_CODE_MISS = 5
    """A line of code that the buffer does not hold, behind the one used last."""


@dataclass(frozen=True)
class LineBuffer:
    """The lines that a buffer holds; a new one takes the place of the one used longest ago.

    line_bytes : power of 2.
    lines : 1 or more; 1 is a plain read buffer, many are a cache.
    """

    line_bytes: int
    lines: int

    @property
    def line_shift(self) -> int:
        """Base-2 logarithm of the size of a line."""
        return self.line_bytes.bit_length() - 1


@dataclass(frozen=True)
class Watch:
    """What to count in a run besides instructions.

    region : the memory that lies behind the buffers.
    data, code : None is not counted.
    alignment : count accesses that are not aligned.
    """

    region: Region
    data: LineBuffer | None = None
    code: LineBuffer | None = None
    alignment: bool = True


class RecentLines:
    """The state of a buffer, as in ``native/lines.c``."""

    def __init__(self, buffer: LineBuffer) -> None:
        self._shift = buffer.line_shift
        self._capacity = buffer.lines
        self._recent: list[int] = []

    def lines(self, address: int, size_bytes: int) -> range:
        """Numbers of the lines that an access touches."""
        return range(address >> self._shift, ((address + size_bytes - 1) >> self._shift) + 1)

    def touch(self, line: int) -> tuple[bool, bool]:
        """Use a line; whether it was there, and whether it follows the one used last."""
        follows = bool(self._recent) and line == self._recent[0] + 1
        found = line in self._recent
        if found:
            self._recent.remove(line)
        self._recent.insert(0, line)
        del self._recent[self._capacity :]
        return found, follows
