"""How far a kernel's input must lie behind its output, from the order in which it reads and writes."""

from __future__ import annotations

from collections.abc import Iterable

from tvm_tinyml.passes.kernels.kernel import Overlap


def overlap(blocks: Iterable[tuple[int, int]], *, read_first: bool) -> Overlap:
    """Return the leave to write over the first argument of a kernel that works block after block.

    Parameters
    ----------
    blocks : of each block, in order, the first byte that it reads of the argument, and the end of what it writes.
    read_first : a block reads all it needs before it writes.
    """
    distance = written = 0
    for first_read, end in blocks:
        if not read_first:
            written = max(written, end)
        distance = max(distance, written - first_read)
        written = max(written, end)
    return Overlap(0, distance)
