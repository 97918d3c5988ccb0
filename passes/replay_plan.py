"""A plan of memory is right if every byte that is read is the one written for it: reads and writes, replayed.

Knows nothing of how a plan is made: no lifetimes, no offsets, only which bytes each call reads and writes.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Span:
    """Bytes of a buffer in the pool.

    Attributes
    ----------
    begin_bytes, end_bytes : where in the pool; the end is not included.
    first_byte : which byte of the buffer lies at the beginning.
    run_bytes, step_bytes : only so many bytes of every so many are meant. 0 for all.
    """

    buffer: Hashable
    begin_bytes: int
    end_bytes: int
    first_byte: int = 0
    run_bytes: int = 0
    step_bytes: int = 0

    @property
    def positions(self) -> NDArray[np.int64]:
        """Where its bytes lie in the pool."""
        positions = np.arange(self.begin_bytes, self.end_bytes)
        if not self.step_bytes:
            return positions
        return positions[(positions - self.begin_bytes) % self.step_bytes < self.run_bytes]

    def meets(self, other: Span) -> bool:
        """Return whether the two share a byte."""
        if max(self.begin_bytes, other.begin_bytes) >= min(self.end_bytes, other.end_bytes):
            return False
        gaps = self.step_bytes or other.step_bytes
        return not gaps or bool(np.isin(self.positions, other.positions, assume_unique=True).any())


@dataclass(frozen=True)
class Call:
    """What one call reads, and what it writes: results and scratch.

    Nothing is known of the order in which a call reads and writes. So what it writes may share bytes with what it reads
    only where `distances` allows it, and with something else that it writes never.

    Attributes
    ----------
    distances : of pairs (index in reads, index in writes): how many bytes behind the beginning of the write the read
        begins at least. The call then reads each byte before it writes over it.
    """

    name: str
    reads: Sequence[Span]
    writes: Sequence[Span]
    distances: Mapping[tuple[int, int], int] = field(default_factory=dict)


def replay_plan(calls: Sequence[Call], pool_bytes: int) -> None:
    """Refuse a plan in which a call reads a byte that is not the last one written for that buffer.

    Parameters
    ----------
    calls : in order. Inputs in the pool are written by a call of their own before the first, outputs are read by one
        after the last.

    Raises
    ------
    AssertionError : says which call reads what, and what lies there instead.
    """
    indices: dict[Hashable, int] = {}
    holder = np.full(pool_bytes, -1)  # index of the buffer whose byte lies here, or -1
    content = np.zeros(pool_bytes, np.int64)  # which of its bytes
    for call in calls:
        for span in (*call.reads, *call.writes):
            inside = 0 <= span.begin_bytes <= span.end_bytes <= pool_bytes
            assert inside, f"{call.name}: {span} is not in the pool of {pool_bytes} bytes"
            indices.setdefault(span.buffer, len(indices))
        _check_within(call)
        for read in call.reads:
            here = read.positions
            expected = here - read.begin_bytes + read.first_byte
            wrong = np.flatnonzero((holder[here] != indices[read.buffer]) | (content[here] != expected))
            if len(wrong):
                at = int(here[wrong[0]])
                found = f"byte {content[at]} of {list(indices)[holder[at]]}" if holder[at] >= 0 else "nothing"
                raise AssertionError(
                    f"{call.name} reads byte {expected[wrong[0]]} of {read.buffer} at {at}, where {found} lies"
                )
        for write in call.writes:
            here = write.positions
            holder[here] = indices[write.buffer]
            content[here] = here - write.begin_bytes + write.first_byte


def _check_within(call: Call) -> None:
    """Refuse a call that may write over what it has yet to read, or twice to the same byte."""
    for one, other in combinations(call.writes, 2):
        assert not one.meets(other), f"{call.name} writes {one} and {other}, which share bytes"
    for i, read in enumerate(call.reads):
        for k, write in enumerate(call.writes):
            if read.meets(write):
                behind, least = read.begin_bytes - write.begin_bytes, call.distances.get((i, k))
                assert least is not None, f"{call.name} writes {write} over {read}, which it reads"
                assert behind >= least, (
                    f"{call.name} reads {read}, {behind} bytes behind the beginning of {write}; it takes {least}"
                )
