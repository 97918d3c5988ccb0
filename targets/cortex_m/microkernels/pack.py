"""Gather four pixels' windows from an NHWC image into the order that `gemm` reads: im2col and interleaving in one pass.

Of four bytes of two pixels, two UXTB16 and a shift make a word of the products k and k + 2 and one of k + 1 and k + 3:
the order of the products does not matter as long as the weights have it, too (`Window.order`). 24 instructions for 16
bytes, once for all output channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel, add

UNROLLED_GROUPS = 2
"""Groups of four bytes in the body of the loop over a run."""

_POINTERS = ("r1", "r2", "r3", "r4")
_LOADED = ("r5", "r6", "r7", "r8")


@dataclass(frozen=True)
class Window:
    """What an output pixel reads: rows x columns runs of ``run_bytes`` contiguous bytes.

    Attributes
    ----------
    row_stride, column_stride : from a run to the next, in bytes.
    """

    rows: int
    columns: int
    run_bytes: int
    row_stride: int
    column_stride: int

    @classmethod
    def of(cls, rows: int, columns: int, run_bytes: int, row_stride: int, column_stride: int) -> Window:
        """Return the window with runs as long as possible."""
        if columns > 1 and column_stride == run_bytes:
            columns, run_bytes = 1, columns * run_bytes
        if rows > 1 and columns == 1 and row_stride == run_bytes:
            rows, run_bytes = 1, rows * run_bytes
        column_stride = column_stride if columns > 1 else run_bytes
        return cls(rows, columns, run_bytes, row_stride if rows > 1 else columns * column_stride, column_stride)

    @property
    def runs(self) -> int:
        """Number of runs."""
        return self.rows * self.columns

    @property
    def products_of_run(self) -> int:
        """Products that a run takes in the packed order: bytes left over in pairs, the last with a zero weight."""
        return self.run_bytes + self.run_bytes % 2

    @property
    def products(self) -> int:
        """Products of one output: the length of the packed reduction."""
        return self.runs * self.products_of_run

    def order_of_all(self) -> NDArray[np.int64]:
        """Return for each product which weight it takes, of those in the order of the runs; -1 for a zero."""
        order = self.order()
        runs = np.arange(self.runs)[:, None] * self.run_bytes
        return np.where(order < 0, -1, order + runs).ravel()

    def order(self) -> NDArray[np.int64]:
        """Return for each product of a run which byte of the run it is; -1 for a weight of zero."""
        whole = self.run_bytes // 4 * 4
        order = [base + k for base in range(0, whole, 4) for k in (0, 2, 1, 3)]
        rest = list(range(whole, self.run_bytes))
        return np.array([*order, *rest, *([-1] if len(rest) % 2 else [])])


def pack_window(window: Window, *, halves: bool = False) -> Microkernel:
    """Return the kernel that packs one tile of four pixels.

    Its arguments: where to (aligned to 4 bytes), and the first byte of each pixel's window, aligned to nothing;
    words and halves of them are loaded.

    Parameters
    ----------
    halves : in the layout of `gemm_halves`, two bytes a value, instead of that of `gemm`.
    """
    lines = ["push {r4-r11, lr}", "ldr r4, [sp, #36]"]
    run = _run(window.run_bytes, _TO_HALVES if halves else _TO_BYTES)
    between_columns = window.column_stride - window.run_bytes
    between_rows = window.row_stride - window.columns * window.column_stride
    columns = [*run, *_advance(between_columns)]
    if window.columns > 1:
        columns = [f"mov r12, #{window.columns}", "2:", *columns, "subs r12, #1", "bne 2b"]
    rows = [*columns, *_advance(between_rows)] if window.rows > 1 else columns
    if window.rows > 1:
        rows = [f"mov r11, #{window.rows}", "3:", *rows, "subs r11, #1", "bne 3b"]
    numbers = (window.rows, window.columns, window.run_bytes, window.row_stride, window.column_stride)
    return Microkernel(
        name=f"tinyml_pack_{'halves_' if halves else ''}{'_'.join(map(str, numbers))}",
        parameters=("int32_t *words", *(f"const int8_t *x{i}" for i in range(4))),
        assembly=[*lines, *rows, "pop {r4-r11, pc}"],
        portable=_portable(window, _HALF if halves else _BYTE),
    )


def pack_pixels(*, halves: bool = False) -> Microkernel:
    """Return the kernel that packs tiles of pixels that lie one behind the other, whatever their number of values.

    Its arguments: where to (aligned to 4 bytes), the first pixel (aligned to nothing; words and halves of them are
    loaded), bytes of a pixel, and how many tiles. Order and parameter are those of `pack_window`.
    """
    four, two, one = _TO_HALVES if halves else _TO_BYTES
    lines = ["push {r4-r11, lr}", "mov r12, r2", "mov r11, r3"]
    lines += ["3:", "add r2, r1, r12", "add r3, r2, r12", "add r4, r3, r12"]
    # Two groups of four bytes a turn; an odd one comes first, by a jump into the loop. Packing leaves the flags alone.
    lines += ["lsrs lr, r12, #3", "bcs 4f", "beq 5f", ".p2align 2", "1:", "subs lr, #1", *four, "4:", *four, "bne 1b"]
    lines += ["5:", "lsls r5, r12, #31", "bcc 6f", *two, "6:", "bpl 7f", *one]
    lines += ["7:", "mov r1, r4", "subs r11, #1", "bne 3b", "pop {r4-r11, pc}"]
    if halves:
        place, store = "p = i / 2, j = i % 2", "*(int16_t *)(void *)to = value, to += 2;"
    else:
        place = "p = i / 4 * 2 + i % 2, j = i / 2 % 2"
        store = "*to++ = (int8_t)(at < pixel_bytes && p % 2 == 0 ? value ^ -128 : value);"
    return Microkernel(
        name=f"tinyml_pack_pixels{'_halves' if halves else ''}",
        parameters=("int32_t *words", "const int8_t *x", "int32_t pixel_bytes", "int32_t tiles"),
        assembly=lines,
        portable=f"""  int8_t *to = (int8_t *)words;
  for (; tiles > 0; --tiles, x += 4 * pixel_bytes)
    for (int32_t k = 0; k < pixel_bytes; k += 2)
      for (int32_t i = 0; i < 8; ++i) {{
        const int32_t {place};
        const int32_t at = (k | 3) < pixel_bytes ? k - k % 4 / 2 + 2 * j : k + j;
        const int8_t value = at < pixel_bytes ? x[p * pixel_bytes + at] : 0;
        {store}
      }}
""",
    )


def _run(run_bytes: int, parts: tuple[Sequence[str], Sequence[str], Sequence[str]]) -> list[str]:
    """Pack a run with code for four bytes, for two and for one."""
    four, two, one = parts
    groups, rest = divmod(run_bytes, 4)
    lines: list[str] = []
    turns, straight = divmod(groups, UNROLLED_GROUPS)
    if turns > 1:
        lines += [f"mov lr, #{turns}", ".p2align 2", "1:", *[*four] * UNROLLED_GROUPS, "subs lr, #1", "bne 1b"]
    else:
        straight = groups
    return lines + [*four] * straight + ([*two] if rest >= 2 else []) + ([*one] if rest % 2 else [])


def _four_bytes() -> list[str]:
    """Load a word of each pixel, store four words: products 0 and 2 of each pair of pixels, then 1 and 3."""
    return [
        *(f"ldr {to}, [{pointer}], #4" for to, pointer in zip(_LOADED, _POINTERS, strict=True)),
        *("eor r5, r5, #0x80808080", "eor r7, r7, #0x80808080"),
        *("uxtb16 r9, r5, ror #8", "bic r10, r6, #0x00ff00ff", "orr r9, r9, r10"),
        *("uxtb16 r5, r5", "uxtb16 r6, r6", "orr r5, r5, r6, lsl #8"),
        *("uxtb16 r10, r7, ror #8", "bic r6, r8, #0x00ff00ff", "orr r10, r10, r6"),
        *("uxtb16 r7, r7", "uxtb16 r8, r8", "orr r6, r7, r8, lsl #8"),
        "stm r0!, {r5, r6, r9, r10}",
    ]


def _two_bytes() -> list[str]:
    lines = [f"ldrh {to}, [{pointer}], #2" for to, pointer in zip(_LOADED, _POINTERS, strict=True)]
    for register in _LOADED:
        lines += [f"orr {register}, {register}, {register}, lsl #8", f"and {register}, {register}, #0x00ff00ff"]
    return [*lines, *_pairs("#0x00800080")]


def _one_byte() -> list[str]:
    lines = [f"ldrb {to}, [{pointer}], #1" for to, pointer in zip(_LOADED, _POINTERS, strict=True)]
    return [*lines, *_pairs("#0x80")]


def _pairs(sign: str) -> list[str]:
    """Flip the sign of the first pixel of each pair and join the two."""
    joined = ["orr r5, r5, r6, lsl #8", "orr r6, r7, r8, lsl #8"]
    return [f"eor r5, r5, {sign}", f"eor r7, r7, {sign}", *joined, "stm r0!, {r5, r6}"]


def _four_halves() -> list[str]:
    """Load a word of each pixel, store eight: products 0 and 2 of each pixel, then 1 and 3."""
    lines = []
    for first, (a, b) in enumerate((_POINTERS[:2], _POINTERS[2:])):
        lines += [f"ldr r5, [{a}], #4", f"ldr r6, [{b}], #4", "sxtb16 r7, r5", "sxtb16 r8, r6"]
        lines += ["sxtb16 r5, r5, ror #8", "sxtb16 r6, r6, ror #8"]
        lines += [f"strd r7, r8, [r0, #{8 * first}]", f"strd r5, r6, [r0, #{8 * first + 16}]"]
    return [*lines, "add r0, r0, #32"]


def _two_halves() -> list[str]:
    lines = []
    for to, pointer in zip(_LOADED, _POINTERS, strict=True):
        lines += [f"ldrsb r9, [{pointer}, #1]", f"ldrsb {to}, [{pointer}], #2", f"pkhbt {to}, {to}, r9, lsl #16"]
    return [*lines, "stm r0!, {r5-r8}"]


def _one_half() -> list[str]:
    lines = [f"ldrsb {to}, [{pointer}], #1" for to, pointer in zip(_LOADED, _POINTERS, strict=True)]
    return [*lines, *(f"uxth {to}, {to}" for to in _LOADED), "stm r0!, {r5-r8}"]


_TO_BYTES = (_four_bytes(), _two_bytes(), _one_byte())
_TO_HALVES = (_four_halves(), _two_halves(), _one_half())


def _advance(distance: int) -> list[str]:
    return [line for pointer in _POINTERS for line in add(pointer, pointer, distance, "r5")] if distance else []


_BYTE = """        for (int32_t i = 0; i < 8; ++i, ++to) {
          const int32_t p = i / 4 * 2 + i % 2, at = order[k + i / 2 % 2];
          *to = (int8_t)(at < 0 ? 0 : p % 2 ? pixels[p][start + at] : pixels[p][start + at] ^ -128);
        }
"""
_HALF = """        for (int32_t i = 0; i < 8; ++i, to += 2) {
          const int32_t p = i / 2, at = order[k + i % 2];
          *(int16_t *)(void *)to = at < 0 ? 0 : pixels[p][start + at];
        }
"""


def _portable(window: Window, store: str) -> str:
    order = ", ".join(map(str, window.order()))
    return f"""  static const int32_t order[{window.products_of_run}] = {{{order}}};
  const int8_t *const pixels[4] = {{x0, x1, x2, x3}};
  int8_t *to = (int8_t *)words;
  for (int32_t row = 0; row < {window.rows}; ++row)
    for (int32_t column = 0; column < {window.columns}; ++column)
      for (int32_t k = 0; k < {window.products_of_run}; k += 2) {{
        const int32_t start = {window.row_stride} * row + {window.column_stride} * column;
{store}      }}
"""
