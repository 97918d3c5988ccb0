"""Gather pixels' windows from an NHWC image into the words that `scalar_gemm` reads: two values in a word.

Pixel after pixel, a row of outputs and then the next one, once for all output channels. Bytes are loaded one by one, so
that no address needs an alignment: two bytes take four and a half cycles on a Cortex-M3, nine on a Cortex-M0+.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.targets.cortex_m.microkernels import scalar_short as short
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import THUMB1, THUMB2, Microkernel, add, move
from tvm_tinyml.targets.cortex_m.microkernels.pack import Window

UNROLL = 4
"""Pairs of bytes in the body of the loop over a run."""


@dataclass(frozen=True)
class Walk:
    """From a pixel to the next one.

    Attributes
    ----------
    width : pixels of a row of outputs.
    column, row : bytes from a pixel's window to that of the next one, and of the one below.
    """

    width: int
    column: int
    row: int


def order(window: Window) -> NDArray[np.int64]:
    """Return for each product which weight it takes, of those in the order of the runs; -1 for a zero."""
    run = np.array([*range(window.run_bytes), *[-1] * (window.run_bytes % 2)])
    runs = np.arange(window.runs)[:, None] * window.run_bytes
    return np.where(run < 0, -1, run + runs).ravel()


def pack_words(window: Window, walk: Walk, pixels: int, *, narrow: bool) -> Microkernel:
    """Return the kernel that packs tiles of so many pixels.

    Its arguments: where to (aligned to 4 bytes), the first byte of the first pixel's window (aligned to nothing), how
    many pixels are left in its row, and the number of tiles.

    Parameters
    ----------
    narrow : with instructions of the Armv6-M only.
    """
    code = (_Narrow if narrow else _Wide)(window, walk, pixels)
    numbers = (pixels, *dataclasses.astuple(window), *dataclasses.astuple(walk))
    return Microkernel(
        name=f"tinyml_pack_words_{'narrow_' if narrow else ''}{'_'.join(map(str, numbers))}",
        parameters=("int32_t *to", "const int8_t *x", "int32_t left", "int32_t tiles"),
        assembly=code.lines(),
        portable=_portable(window, walk, pixels),
        condition=THUMB1 if narrow else THUMB2,
    )


class _Wide:
    """Code with post-indexed loads and stores.

    r0 to, r1 the pixel, r2 pixels left in its row, r3 tiles; r4 to r7 two pairs, r8 pixels left in the tile, r9 the
    run, r10 pairs, r11 columns and r12 rows left.
    """

    def __init__(self, window: Window, walk: Walk, pixels: int) -> None:
        self._window, self._walk, self._step = window, walk, 4 * pixels
        self._pixels = pixels

    def lines(self) -> list[str]:
        walk, pixels, tile_bytes = self._walk, self._pixels, self._step * (self._window.products // 2)
        lines = ["push {r4-r11, lr}", "4:", f"mov r8, #{pixels}", "5:", "mov r9, r1", *self._whole_window()]
        lines += [*add("r1", "r1", walk.column, "r4"), "subs r2, #1", "bne 6f"]
        lines += [*add("r1", "r1", walk.row - walk.width * walk.column, "r4"), *move("r2", walk.width), "6:"]
        lines += [*add("r0", "r0", 4 - tile_bytes, "r4"), "subs r8, #1", "bne 5b"]
        lines += [*add("r0", "r0", tile_bytes - self._step, "r4"), "subs r3, #1", "bne 4b"]
        return [*lines, "pop {r4-r11, pc}"]

    def _whole_window(self) -> list[str]:
        window = self._window
        lines = [*self._run(), *add("r9", "r9", window.column_stride - window.run_bytes, "r4")]
        if window.columns > 1:
            lines = [*move("r11", window.columns), "2:", *lines, "subs r11, #1", "bne 2b"]
        if window.rows > 1:
            lines += add("r9", "r9", window.row_stride - window.columns * window.column_stride, "r4")
            lines = [*move("r12", window.rows), "3:", *lines, "subs r12, #1", "bne 3b"]
        return lines

    def _run(self) -> list[str]:
        pairs, odd = divmod(self._window.run_bytes, 2)
        turns, rest = divmod(pairs, UNROLL)
        lines: list[str] = []
        if turns > 1:
            lines += [*move("r10", turns), ".p2align 2", "1:", *self._pairs(UNROLL), "subs r10, #1", "bne 1b"]
        else:
            rest = pairs
        return lines + self._pairs(rest) + ["ldrsb r4, [r9], #1", f"str r4, [r0], #{self._step}"] * odd

    def _pairs(self, count: int) -> list[str]:
        lines: list[str] = []
        for first in range(0, count, 2):
            low, high = (("r4", "r6"), ("r5", "r7")) if first + 1 < count else (("r4",), ("r5",))
            for x0, x1 in zip(low, high, strict=True):
                lines += [f"ldrsb {x1}, [r9, #1]", f"ldrsb {x0}, [r9], #2"]
            lines += [f"add {x0}, {x0}, {x1}, lsl #16" for x0, x1 in zip(low, high, strict=True)]
            lines += [f"str {x0}, [r0], #{self._step}" for x0 in low]
        return lines


class _Narrow:
    """Code with indexed loads, since the Armv6-M has no other ones that extend the sign.

    r0 to, r1 the run, r2 and r3 the indices 0 and 1, r4 and r5 a pair, r6 and r7 the indices 2 and 3; r8 the pixel, r9
    the end of the window, r10 of its row and r11 of the run, r12 pixels left in the tile; on the stack pixels left in
    the row, and tiles.
    """

    def __init__(self, window: Window, walk: Walk, pixels: int) -> None:
        self._window, self._walk, self._step = window, walk, 4 * pixels
        self._pixels = pixels

    def lines(self) -> list[str]:
        walk, pixels, tile_bytes = self._walk, self._pixels, self._step * (self._window.products // 2)
        lines = ["push {r2-r7, lr}", "mov r4, r8", "mov r5, r9", "mov r6, r10", "mov r7, r11", "push {r4-r7}"]
        lines += ["mov r8, r1", "movs r2, #0", "movs r3, #1", "movs r6, #2", "movs r7, #3"]
        lines += ["4:", f"movs r4, #{pixels}", "mov r12, r4", "5:", "mov r1, r8", *self._whole_window()]
        lines += [*short.put("r4", walk.column), "add r8, r4", "ldr r4, [sp, #16]", "subs r4, #1", "bne 6f"]
        lines += [*short.put("r4", walk.row - walk.width * walk.column), "add r8, r4", *short.put("r4", walk.width)]
        lines += ["6:", "str r4, [sp, #16]", *short.add("r0", 4 - tile_bytes, "r4")]
        lines += [
            "mov r4, r12",
            "subs r4, #1",
            "mov r12, r4",
            "bne 5b",
            *short.add("r0", tile_bytes - self._step, "r4"),
        ]
        lines += ["ldr r4, [sp, #20]", "subs r4, #1", "str r4, [sp, #20]", "bne 4b", "pop {r4-r7}"]
        lines += ["mov r8, r4", "mov r9, r5", "mov r10, r6", "mov r11, r7"]
        return [*lines, "pop {r2-r7, pc}", short.POOL]

    def _whole_window(self) -> list[str]:
        window = self._window
        lines = [*self._run(), *short.add("r1", window.column_stride - window.run_bytes, "r4")]
        if window.columns > 1:
            lines = [*self._end("r10", window.columns * window.column_stride), "2:", *lines, "cmp r1, r10", "bne 2b"]
        if window.rows > 1:
            lines += short.add("r1", window.row_stride - window.columns * window.column_stride, "r4")
            lines = [*self._end("r9", window.rows * window.row_stride), "3:", *lines, "cmp r1, r9", "bne 3b"]
        return lines

    def _run(self) -> list[str]:
        pairs, odd = divmod(self._window.run_bytes, 2)
        turns, rest = divmod(pairs, UNROLL)
        lines: list[str] = []
        if turns > 1:
            lines += [*self._end("r11", 2 * UNROLL * turns), "1:", *self._pairs(UNROLL), "cmp r1, r11", "bne 1b"]
        else:
            rest = pairs
        lines += self._pairs(rest)
        return lines + ["ldrsb r4, [r1, r2]", "str r4, [r0]", "adds r1, #1", f"adds r0, #{self._step}"] * odd

    def _end(self, register: str, distance: int) -> list[str]:
        return [*short.put("r4", distance), "add r4, r1", f"mov {register}, r4"]

    def _pairs(self, count: int) -> list[str]:
        lines: list[str] = []
        for i in range(count):
            at = ("r2", "r3") if i % 2 == 0 else ("r6", "r7")
            lines += [f"ldrsb r4, [r1, {at[0]}]", f"ldrsb r5, [r1, {at[1]}]", "lsls r5, r5, #16", "adds r4, r4, r5"]
            lines += [f"str r4, [r0, #{self._step * i}]"]
            lines += [f"adds r1, #{2 + i % 2 * 2}"] if i % 2 or i == count - 1 else []
        return [*lines, *([f"adds r0, #{self._step * count}"] if count else [])]


def _portable(window: Window, walk: Walk, pixels: int) -> str:
    return f"""  for (int32_t i = 0; i < {pixels} * tiles; ++i) {{
    int32_t *word = to + i / {pixels} * {pixels * (window.products // 2)} + i % {pixels};
    for (int32_t row = 0; row < {window.rows}; ++row)
      for (int32_t column = 0; column < {window.columns}; ++column)
        for (int32_t k = 0; k < {window.run_bytes}; k += 2, word += {pixels}) {{
          const int8_t *const from = x + {window.row_stride} * row + {window.column_stride} * column + k;
          *word = from[0] + 65536 * (k + 1 < {window.run_bytes} ? from[1] : 0);
        }}
    x += {walk.column};
    if (--left == 0) {{
      x += {walk.row - walk.width * walk.column};
      left = {walk.width};
    }}
  }}
"""
