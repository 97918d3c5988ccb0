"""How long one inference waits for each constant in flash, with a buffer of recent lines before it.

A call of a microkernel reads from the place that it is handed up to the next one that any call is handed; a load reads
an element. Loops around them read on, or the same again, which costs nothing where all of it is still held. What else
passes through the buffer meanwhile is not seen. `docs/memory.md` says how far that is off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.constant_reads import ConstantRead, constant_reads
from tvm_tinyml.device.timing.memory import SlowLines
from tvm_tinyml.program import Place, Program, Step


def flash_wait_cycles(program: Program, flash: SlowLines) -> list[int]:
    """Return for each constant the cycles that one inference waits for it."""
    # What begins anywhere touches a line more than it fills.
    held_bytes = flash.buffer.line_bytes * (flash.buffer.lines - 1)
    read_bytes = [0] * len(program.constants)
    for step in program.steps:
        for index, size in _read_by(program, step, held_bytes):
            read_bytes[index] += size
    return [-(-size // flash.buffer.line_bytes) * flash.miss_cycles for size in read_bytes]


def _read_by(program: Program, step: Step, held_bytes: int) -> list[tuple[int, int]]:
    """Return which constants a call reads, and how many bytes of each come from flash."""
    operands = {i: operand for i, operand in enumerate(step.reads) if operand.place is Place.CONSTANT}
    if step.kernel is None:  # a copy
        return [(operand.index, operand.size_bytes) for operand in operands.values()]
    constants = {i: program.constants[operand.index] for i, operand in operands.items()}
    reads = constant_reads(program.functions[step.kernel], constants)
    return [
        (operand.index, bytes_from_flash([r for r in reads if r.operand == i], operand.size_bytes, held_bytes))
        for i, operand in operands.items()
    ]


def bytes_from_flash(reads: Sequence[ConstantRead], size_bytes: int, held_bytes: int) -> int:
    """Return how many bytes all reads of one constant take from flash.

    Parameters
    ----------
    held_bytes : that a buffer holds, wherever they begin.
    """
    reads = [read for read in reads if read.begin_bytes < size_bytes]
    calls = [read for read in reads if read.element_bytes is None]
    ends = np.unique(np.concatenate([np.array([size_bytes]), *(read.places for read in calls)]))
    total = 0.0
    for loops in dict.fromkeys(read.loops for read in reads):
        together = [read for read in reads if read.loops == loops]
        once = [read.element_bytes or _to_next_end(read.places, ends) for read in together]
        total += _in_loops(together, once, size_bytes, held_bytes)
    return math.ceil(total if size_bytes > held_bytes else min(total, size_bytes))


def _to_next_end(places: NDArray[np.int64], ends: NDArray[np.int64]) -> float:
    """Return how far it is on average from a place to the next end."""
    places = places[places < ends[-1]]
    return float((ends[np.searchsorted(ends, places, "right")] - places).mean())


def _in_loops(reads: Sequence[ConstantRead], once_bytes: Sequence[float], size_bytes: int, held_bytes: int) -> float:
    """Return how many bytes come from flash for reads in the same loops.

    Parameters
    ----------
    once_bytes : of each, in one turn of the innermost loop.
    """
    total = span = 0.0
    begun: set[int] = set()
    for read, once in zip(reads, once_bytes, strict=True):
        again = read.begin_bytes in begun
        begun.add(read.begin_bytes)
        span += 0 if again else once
        # Two calls that are handed the same follow each other: the second one finds what a buffer can hold.
        total += 0 if again and once <= held_bytes else once * _times(read, held_bytes)
    for loop in reversed(reads[0].loops):
        new = min(loop.extent, max(size_bytes / span, 1.0)) if loop.stride_bytes else 1.0
        span, total = new * span, new * total
        if span > held_bytes:
            total *= loop.extent / new
    return total


def _times(read: ConstantRead, held_bytes: int) -> float:
    """Return how often a call takes from flash what it reads."""
    rereads = read.rereads
    return rereads.times / rereads.calls if rereads and rereads.at_once_bytes > held_bytes else 1.0
