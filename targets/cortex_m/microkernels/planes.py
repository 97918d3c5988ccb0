"""Transpose four channels of an NHWC image into planes cut into strips, with their border.

A strip is one word a row, whatever the width of the image, so that a kernel that slides down a strip knows its offsets.
Layout: strip, row, channel, four columns. There are two kinds, for kernels three wide:

- overlapping, for two adjacent outputs without a stride: the next strip begins two columns further;
- side by side, for a stride of 2: the next strip begins four columns further, and its first column is the fifth one
  that two outputs of a strip read. Bytes of a word are columns 0, 2, 1, 3, so that SXTB16 makes pairs of neighbours.

Two pixels of four channels become two words, channels 0 and 2 and channels 1 and 3, by one shift and one SEL each,
which takes its bytes by the flags that UADD8 leaves. With those of two more pixels, two PKHBT and two PKHTB make the
words of four strips. The border costs nothing: its word is in a register.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel

CHANNELS = 4
"""Of one call: planes next to each other."""

ROW_BYTES = 4 * CHANNELS
"""From a row of a strip to the next one."""

_PARAMETERS = (
    *("int8_t *to", "const int8_t *x", "const int8_t *border", "int32_t rows", "int32_t units"),
    *("int32_t pixel_step", "int32_t row_step", "int32_t strip_step"),
)

_PREPARE = ("mov r11, r0", "mov lr, r2", "mov r4, #0x00ff00ff", "uadd8 r4, r4, r4")
"""Let SEL take bytes 0 and 2 of its first operand, 1 and 3 of its second one; keep low registers for what is busy."""

_NEXT_ROW = (f"add r11, r11, #{ROW_BYTES}",)

_CARRIES = (("r4", "r5"), ("r8", "r9"))
"""Words of the two pixels before, for even and odd turns: channels 0 and 2, then 1 and 3."""


def pack_overlapping(channels: int, first: str, last: Sequence[str]) -> Microkernel:
    """Return the kernel that packs some rows into overlapping strips.

    Its arguments: where to, the first pixel of the first row, four bytes of border; the number of rows, the units of
    two pixels between ``first`` and ``last``; bytes from a pixel to the next, from a row to the next, and from a strip
    to the next. Where it writes is aligned to 4 bytes; pixels need no alignment, whole words of theirs are then slower.

    Parameters
    ----------
    channels : to read, 1 to 4; beyond them are zeros, or border.
    first, last : units of columns before and behind those in the middle: "p" for a pixel, "z" for border.
    """
    begin, turn = _CARRIES
    start = ["mov r2, r11", *load_pixels(channels, first, ("r6", "r7")), *_join("r6", "r7", *begin)]
    unit = load_pixels(channels, "pp", ("r6", "r7"))
    loop = ["vmov r12, s1", "lsrs r12, r12, #1", "bcs 4f", "beq 3f", ".p2align 2", "2:"]
    loop += [*unit, *_overlap(begin, turn), "5:", *unit, *_overlap(turn, begin), "subs r12, #1", "bne 2b", "3:"]
    for i, columns in enumerate(last):
        loop += [*load_pixels(channels, columns, ("r6", "r7")), *_overlap(_CARRIES[i % 2], _CARRIES[1 - i % 2])]
    # An odd number of units begins with the second half of a turn.
    odd = ["4:", *(f"mov {to}, {by}" for to, by in zip(turn, begin, strict=True)), "adds r12, #1", "b 5b"]
    return Microkernel(
        name=f"tinyml_strips_{channels}_{'_'.join((first, *last))}",
        parameters=_PARAMETERS,
        assembly=[*row_loop(2, (first, *last), _PREPARE, [*start, *loop], _NEXT_ROW), *odd],
        portable=_portable(channels, (first,), last, len(last), unit=2),
    )


def pack_side_by_side(channels: int, first: Sequence[str], last: Sequence[str]) -> Microkernel:
    """Return the kernel that packs some rows into strips side by side: see `pack_overlapping`, with units of four."""
    start = ["mov r2, r11", *(line for columns in first for line in _four(channels, columns))]
    loop = ["vmov r12, s1", "cmp r12, #0", "beq 3f", ".p2align 2", "2:", *_four(channels, "pppp")]
    loop += ["subs r12, #1", "bne 2b", "3:", *(line for columns in last for line in _four(channels, columns))]
    prepare = [*_PREPARE, "add r8, r3, r3, lsl #1"]
    return Microkernel(
        name=f"tinyml_quads_{channels}_{'_'.join((*first, 'x', *last))}",
        parameters=_PARAMETERS,
        assembly=row_loop(4, (*first, *last), prepare, [*start, *loop], _NEXT_ROW),
        portable=_portable(channels, first, last, len(first) + len(last), unit=4),
    )


def row_loop(
    unit: int, ends: Sequence[str], prepare: Sequence[str], row: Sequence[str], next_row: Sequence[str]
) -> list[str]:
    """Return a packing function around its ``row``, up to its return.

    The row finds in r1 its first pixel, which it leaves behind its last one, in r3 the step between pixels, in s0 the
    border and in s1 the number of units; and what ``prepare`` made of r0, where to, and r2, the last argument.
    ``next_row`` goes on there.
    """
    lines = ["push {r4-r11, lr}", "ldr r4, [r2]", "vmov s0, r4", "vmov s4, r3"]
    lines += ["ldr r5, [sp, #36]", "ldr r3, [sp, #40]", "ldr r6, [sp, #44]", "ldr r2, [sp, #48]"]
    # From the end of a row to the next one.
    lines += ["mov r7, #" + str("".join(ends).count("p")), f"add r7, r7, r5, lsl #{unit.bit_length() - 1}"]
    lines += ["mls r6, r7, r3, r6", "vmov s1, r5", "vmov s3, r6", *prepare, ".p2align 2", "1:", *row]
    lines += ["vmov r6, s3", "vmov r7, s4", "add r1, r1, r6", *next_row, "subs r7, #1", "vmov s4, r7", "bne 1b"]
    return [*lines, "pop {r4-r11, pc}"]


def load_pixels(channels: int, columns: str, to: Sequence[str]) -> list[str]:
    """Load pixels and advance r1; r3 is the step, s0 the border, r10 free."""
    places = list(zip(to, columns, strict=True))
    lines = [f"vmov {register}, s0" for register, kind in places if kind == "z"]
    pixels = [register for register, kind in places if kind == "p"]
    if channels == 3:
        for register in pixels:
            lines += [f"ldrh {register}, [r1]", "ldrb r10, [r1, #2]", "add r1, r1, r3"]
            lines += [f"orr {register}, {register}, r10, lsl #16"]
        return lines
    load = {4: "ldr", 2: "ldrh", 1: "ldrb"}[channels]
    for pair in (pixels[i : i + 2] for i in range(0, len(pixels), 2)):
        lines += [f"{load} {register}, [r1{', r3' if i else ''}]" for i, register in enumerate(pair)]
        lines += [f"add r1, r1, r3{', lsl #1' if len(pair) == 2 else ''}"]
    return lines


def _join(left: str, right: str, even: str, odd: str) -> list[str]:
    """Make the words of channels 0 and 2, and of 1 and 3, of two pixels; ``odd`` may be ``left``."""
    return [f"lsls r0, {right}, #8", f"sel {even}, {left}, r0", f"lsrs r0, {left}, #8", f"sel {odd}, r0, {right}"]


def _words(evens: tuple[str, str], odds: tuple[str, str]) -> list[str]:
    """Store a row of a strip in r2 and go to the next strip; r0, r6, r7 and r10 are free, and may hold the second."""
    lines = [f"pkhbt r0, {evens[0]}, {evens[1]}, lsl #16", f"pkhtb r10, {evens[1]}, {evens[0]}, asr #16"]
    lines += [f"pkhbt r6, {odds[0]}, {odds[1]}, lsl #16", f"pkhtb r7, {odds[1]}, {odds[0]}, asr #16"]
    return [*lines, "str r0, [r2]", "str r6, [r2, #4]", "str r10, [r2, #8]", "str r7, [r2, #12]", "add r2, lr"]


def _overlap(before: tuple[str, str], now: tuple[str, str]) -> list[str]:
    """Join the pixels in r6 and r7 with the two before to a row of a strip."""
    return [*_join("r6", "r7", *now), *_words((before[0], now[0]), (before[1], now[1]))]


def _four(channels: int, columns: str) -> list[str]:
    """Pack four pixels to a row of a strip; r8 is three times the step."""
    pixels = ("r4", "r5", "r6", "r7")
    if (channels, columns) == (4, "pppp"):
        places = ("[r1]", "[r1, r3]", "[r1, r3, lsl #1]", "[r1, r8]")
        lines = [f"ldr {pixel}, {place}" for pixel, place in zip(pixels, places, strict=True)]
        lines += ["add r1, r1, r3, lsl #2"]
    else:
        lines = load_pixels(channels, columns, pixels)
    return [
        *lines,
        *_join("r4", "r6", "r9", "r4"),
        *_join("r5", "r7", "r10", "r5"),
        *_words(("r9", "r10"), ("r4", "r5")),
    ]


def border_before(first: str, last: str) -> int:
    """Return the number of columns in front of the first pixel; there are no units in the middle if ``last`` has it."""
    return (first + last).find("p") if "p" in first + last else len(first)


def _portable(channels: int, first: Sequence[str], last: Sequence[str], strips: int, *, unit: int) -> str:
    pixels, left = "".join((*first, *last)).count("p"), border_before("".join(first), "".join(last))
    column = "i % 4" if unit == 2 else "i % 2 * 2 + i % 4 / 2"
    byte = f"c < {channels} ? x[row * row_step + pixel * pixel_step + c] : 0"
    return f"""  for (int32_t row = 0; row < rows; ++row)
    for (int32_t strip = 0; strip < units + {strips}; ++strip)
      for (int32_t i = 0; i < {ROW_BYTES}; ++i) {{
        const int32_t c = i / 4, pixel = {unit} * strip + {column} - {left};
        const int border_column = pixel < 0 || pixel >= {unit} * units + {pixels};
        to[strip * strip_step + {ROW_BYTES} * row + i] = (int8_t)(border_column ? border[c] : {byte});
      }}
"""
