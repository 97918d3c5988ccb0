"""Which constants lie in RAM where a limit leaves some: those for which one inference waits longest, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.fit import fits
from tvm_tinyml.flash_waits import flash_wait_cycles
from tvm_tinyml.library import Library
from tvm_tinyml.options import BuildOptions, memory_timing
from tvm_tinyml.program import Program

WORD_BYTES = 4
"""Alignment of constants."""

MOST_UNITS = 1 << 18
"""That room is counted in: words up to 1 MB, beyond that several words each."""

Write = Callable[[frozenset[int]], Library]


def fill_ram(program: Program, options: BuildOptions, write: Write) -> Library:
    """Write a program with those constants in RAM for which its limit leaves room, where time is the goal.

    RAM is not the compiler's to take: without a limit, and where nothing waits for the flash, all stay there.

    Parameters
    ----------
    write : writes the program with some constants, by index, in RAM.
    """
    library = write(program.in_ram)
    flash, limit = memory_timing(options.memory).data, options.ram_limit_bytes
    if options.goal != "time" or limit is None or flash is None or not fits(library, options):
        return library
    sizes, cycles = [array.nbytes for array in program.constants], flash_wait_cycles(program, flash)
    room = limit - library.ram_bytes
    while chosen := choose(sizes, cycles, room):
        filled = write(chosen)
        over = filled.ram_bytes - limit  # what `run` needs of the stack may change by a few bytes
        if over <= 0:
            return filled if fits(filled, options) else library
        room -= over
    return library


def choose(sizes_bytes: Sequence[int], saved_cycles: Sequence[int], room_bytes: int) -> frozenset[int]:
    """Return the constants, by index, that save most in some room: the best choice in up to 1 MB, nearly that in more.

    Of choices that save as much it is one that takes fewest bytes. What saves nothing stays out.

    >>> sorted(choose([8, 8, 12], [30, 30, 50], 16)), sorted(choose([8, 8, 12], [30, 30, 50], 12))
    ([0, 1], [2])
    """
    useful = [i for i, cycles in enumerate(saved_cycles) if cycles > 0]
    room = min(room_bytes, sum(_words(sizes_bytes[i]) for i in useful) * WORD_BYTES)
    if room <= 0:
        return frozenset()
    unit = -(-_words(room) // MOST_UNITS)
    units = {i: -(-_words(sizes_bytes[i]) // unit) for i in useful}
    best = np.zeros(room // WORD_BYTES // unit + 1, np.int64)  # cycles, by room in units
    taken: list[tuple[int, NDArray[np.bool_]]] = []
    for i in useful:
        cost = units[i]
        if cost < len(best):
            with_it = best[: len(best) - cost] + saved_cycles[i]
            better = with_it > best[cost:]
            best[cost:] = np.where(better, with_it, best[cost:])
            taken.append((i, better))
    chosen, left = set(), int(best.argmax())
    for i, better in reversed(taken):
        if left >= units[i] and better[left - units[i]]:
            chosen.add(i)
            left -= units[i]
    return frozenset(chosen)


def _words(size_bytes: int) -> int:
    return -(-size_bytes // WORD_BYTES)
