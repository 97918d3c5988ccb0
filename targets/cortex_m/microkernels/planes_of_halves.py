"""Transpose four channels of an NHWC image into planes of int16: layout row, channel, column."""

from __future__ import annotations

from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.planes import CHANNELS, border_before, load_pixels, row_loop

_PIXELS = ("r8", "r9")


def pack_halves(channels: int, first: str, last: str) -> Microkernel:
    """Return the kernel that widens some rows.

    Its arguments: where to, the first pixel of the first row, four bytes of border; the number of rows, the pairs of
    pixels between ``first`` and ``last``; bytes from a pixel to the next, from a row to the next, and from a channel to
    the next. Where it writes is aligned to 4 bytes; pixels need no alignment, whole words of theirs are then slower.

    Parameters
    ----------
    channels : to read, 1 to 4; beyond them are zeros, or border.
    first, last : two columns before and behind the pairs in the middle, or none: "zp" and "pz", "z" for border.
    """
    pair = [*load_pixels(channels, "pp", _PIXELS), *_widen()]
    row = ["mov r4, r0", "add r5, r0, r2", "add r6, r5, r2", "add r7, r6, r2"]
    row += [*load_pixels(channels, first, _PIXELS), *_widen()] if first else []
    row += ["vmov r12, s1", "lsrs r12, r12, #1", "bcs 4f", "beq 3f", ".p2align 2", "2:"]
    row += [*pair, "5:", *pair, "subs r12, #1", "bne 2b", "3:"]
    row += [*load_pixels(channels, last, _PIXELS), *_widen()] if last else []
    # An odd number of pairs begins with the second half of a turn.
    odd = ["4:", "adds r12, #1", "b 5b"]
    return Microkernel(
        name="_".join(("tinyml_halves", str(channels), *filter(None, (first, last)))),
        parameters=(
            *("int16_t *to", "const int8_t *x", "const int8_t *border", "int32_t rows", "int32_t pairs"),
            *("int32_t pixel_step", "int32_t row_step", "int32_t channel_step"),
        ),
        assembly=[*row_loop(2, (first, last), (), row, ["add r0, r0, r2, lsl #2"]), *odd],
        portable=_portable(channels, first, last),
    )


def fill_halves() -> Microkernel:
    """Return the kernel that writes border.

    Its arguments: where to (aligned to 4 bytes), a byte of border, number of lines, words of a line, and bytes from a
    line to the next (a multiple of 4).
    """
    lines = ["push {r4-r6, lr}", "ldr r4, [sp, #16]", "ldrsb r5, [r1]", "pkhbt r5, r5, r5, lsl #16", "1:", "mov r1, r0"]
    lines += ["mov r6, r3", "2:", "str r5, [r1], #4", "subs r6, #1", "bne 2b", "add r0, r0, r4", "subs r2, #1"]
    return Microkernel(
        name="tinyml_fill_halves",
        parameters=("int16_t *to", "const int8_t *border", "int32_t lines", "int32_t words", "int32_t line_step"),
        assembly=[*lines, "bne 1b", "pop {r4-r6, pc}"],
        portable="""  for (int32_t line = 0; line < lines; ++line)
    for (int32_t i = 0; i < 2 * words; ++i) to[line * line_step / 2 + i] = *border;
""",
    )


def _widen() -> list[str]:
    """Write two pixels of four channels, in r8 and r9, to r4 to r7 and advance these."""
    lines = ["sxtb16 r10, r8, ror #8", "sxtb16 r8, r8", "sxtb16 r11, r9, ror #8", "sxtb16 r9, r9"]
    for even, odd, low, high in (("r8", "r9", "r4", "r6"), ("r10", "r11", "r5", "r7")):
        lines += [f"pkhbt lr, {even}, {odd}, lsl #16", f"pkhtb {odd}, {odd}, {even}, asr #16"]
        lines += [f"str lr, [{low}], #4", f"str {odd}, [{high}], #4"]
    return lines


def _portable(channels: int, first: str, last: str) -> str:
    ends, left = first + last, border_before(first, last)
    byte = f"c < {channels} ? x[row * row_step + pixel * pixel_step + c] : 0"
    return f"""  for (int32_t row = 0; row < rows; ++row)
    for (int32_t c = 0; c < {CHANNELS}; ++c)
      for (int32_t i = 0; i < 2 * pairs + {len(ends)}; ++i) {{
        const int32_t pixel = i - {left};
        const int border_column = pixel < 0 || pixel >= 2 * pairs + {ends.count("p")};
        to[(row * {CHANNELS} + c) * (channel_step / 2) + i] = (int16_t)(border_column ? border[c] : {byte});
      }}
"""
