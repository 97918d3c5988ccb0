"""A plane of one channel for two halves of an image at once: in each word a pixel of either.

A word is x0 + 129 + 65536 x1. The lower pixel never becomes zero or negative, so that the sign of its products is known
(see `scalar_depthwise`).
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

from tvm_tinyml.targets.cortex_m.microkernels.microkernel import THUMB1, THUMB2, Microkernel

OFFSET = 129
"""Added to the lower pixel."""


@dataclass(frozen=True)
class Pixels:
    """Numbers of `pack_plane`, which it reads from memory.

    Attributes
    ----------
    rows, columns : of pixels.
    step0, gap0, step1, gap1 : bytes from a pixel to the next and from the end of a row to the next one, in both halves.
    gap : from the end of a row of the plane to where the next one begins.
    """

    rows: int
    columns: int
    step0: int
    gap0: int
    step1: int
    gap1: int
    gap: int

    def numbers(self) -> list[int]:
        """Return them in order."""
        return list(astuple(self))


def border_word(value: int) -> int:
    """Return the word of two pixels with this value."""
    return value + OFFSET + 65536 * value


def pack_plane(*, narrow: bool) -> Microkernel:
    """Return the kernel that packs some rows.

    Its arguments: where to (aligned to 4 bytes), the first pixel of both halves (aligned to nothing), numbers.

    Parameters
    ----------
    narrow : with instructions of the Armv6-M only.
    """
    return Microkernel(
        name=f"tinyml_pack_plane{'_narrow' if narrow else ''}",
        parameters=("int32_t *to", "const int8_t *x0", "const int8_t *x1", "const int32_t *numbers"),
        assembly=_narrow() if narrow else _wide(),
        portable=_PORTABLE,
        condition=THUMB1 if narrow else THUMB2,
    )


def _wide() -> list[str]:
    """Two pixels of both halves in 13 cycles, and the loop."""
    lines = ["push {r4-r11, lr}", "ldm r3, {r4-r10}", "push {r4, r5}", "3:", "ldr r12, [sp, #4]"]
    lines += ["lsrs r12, r12, #1", "beq 2f", ".p2align 2", "1:", "ldrsb r3, [r1]", "ldrsb r4, [r1, r6]"]
    lines += ["ldrsb r5, [r2]", "ldrsb r11, [r2, r8]", "add r1, r1, r6, lsl #1", "add r2, r2, r8, lsl #1"]
    lines += ["add r3, r3, r5, lsl #16", "add r4, r4, r11, lsl #16", f"adds r3, #{OFFSET}", f"adds r4, #{OFFSET}"]
    lines += ["str r4, [r0, #4]", "str r3, [r0], #8", "subs r12, #1", "bne 1b", "2:"]
    lines += ["ldr r12, [sp, #4]", "lsrs r12, r12, #1", "bcc 4f", "ldrsb r3, [r1]", "ldrsb r5, [r2]", "add r1, r1, r6"]
    lines += ["add r2, r2, r8", "add r3, r3, r5, lsl #16", f"adds r3, #{OFFSET}", "str r3, [r0], #4", "4:"]
    lines += ["ldr r4, [sp]", "add r0, r0, r10", "add r1, r1, r7", "add r2, r2, r9", "subs r4, #1", "str r4, [sp]"]
    return [*lines, "bne 3b", "add sp, #8", "pop {r4-r11, pc}"]


def _narrow() -> list[str]:
    """Two pixels of both halves in 21 cycles, and the loop."""

    def word(to: str, spare: str) -> list[str]:
        lines = [f"ldrsb {to}, [r1, r6]", "add r1, r8", f"ldrsb {spare}, [r2, r6]", "add r2, r9"]
        return [*lines, f"lsls {spare}, {spare}, #16", f"adds {to}, {to}, {spare}", f"adds {to}, #{OFFSET}"]

    lines = ["push {r4-r7, lr}", "mov r4, r8", "mov r5, r9", "mov r6, r10", "mov r7, r11", "push {r4-r7}"]
    lines += ["ldm r3!, {r4, r5, r6, r7}", "mov r8, r6", "mov r10, r7", "ldm r3, {r3, r6, r7}", "mov r9, r3"]
    lines += ["mov r11, r6", "mov r12, r7", "mov lr, r5", "push {r4}", "movs r6, #0"]
    lines += ["3:", "mov r7, lr", "lsrs r7, r7, #1", "beq 2f", "1:", *word("r3", "r5"), *word("r4", "r5")]
    lines += ["stm r0!, {r3, r4}", "subs r7, #1", "bne 1b", "2:", "mov r7, lr", "lsrs r7, r7, #1", "bcc 4f"]
    lines += [*word("r3", "r5"), "stm r0!, {r3}", "4:", "ldr r4, [sp]", "add r0, r12", "add r1, r10", "add r2, r11"]
    lines += ["subs r4, #1", "str r4, [sp]", "bne 3b", "pop {r3}", "pop {r4-r7}"]
    return [*lines, "mov r8, r4", "mov r9, r5", "mov r10, r6", "mov r11, r7", "pop {r4-r7, pc}"]


_PORTABLE = f"""  for (int32_t row = 0; row < numbers[0]; ++row) {{
    for (int32_t column = 0; column < numbers[1]; ++column) {{
      *to++ = *x0 + {OFFSET} + 65536 * *x1;
      x0 += numbers[2];
      x1 += numbers[4];
    }}
    x0 += numbers[3];
    x1 += numbers[5];
    to += numbers[6] / 4;
  }}
"""
