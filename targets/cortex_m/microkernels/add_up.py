"""Sums of channels over pixels that come a block at a time: those so far are in memory, and grow.

With the DSP extension SXTAB16 adds two of a word's four bytes to two halves, which hold the sums of one block. Other
cores add a byte in seven cycles, in few bytes of code.
"""

from __future__ import annotations

from tvm_tinyml.targets.cortex_m.microkernels.microkernel import DSP, THUMB1, Microkernel

MOST_PIXELS = 256
"""Of a block: the sum of so many bytes fits a half."""


def add_up(*, dsp: bool) -> Microkernel:
    """Return the kernel for any number of channels, and of pixels up to `MOST_PIXELS`.

    Its arguments: the sums (int32, aligned to 4 bytes), the pixels, aligned to nothing, of which words are loaded with
    the DSP extension, how many pixels, how many channels.
    """
    return Microkernel(
        name=f"tinyml_add_up_{'dsp' if dsp else 'narrow'}",
        parameters=("int32_t *sums", "const int8_t *x", "int32_t pixels", "int32_t channels"),
        assembly=_dsp() if dsp else _narrow(),
        portable="""  for (int32_t c = 0; c < channels; ++c) {
    for (int32_t i = 0; i < pixels; ++i) {
      sums[c] += x[i * channels + c];
    }
  }
""",
        condition=DSP if dsp else THUMB1,
    )


def _dsp() -> list[str]:
    """Eight channels at a time, in twelve cycles a pixel; what is left of them one by one."""
    eight = ["ldr r4, [r12]", "ldr r5, [r12, #4]", "add r12, r12, r3"]
    for word, even, odd in (("r4", "r6", "r7"), ("r5", "r8", "r9")):
        eight += [f"sxtab16 {even}, {even}, {word}", f"sxtab16 {odd}, {odd}, {word}, ror #8"]
    grown = []
    for even, odd in (("r6", "r7"), ("r8", "r9")):
        halves = (even, odd, f"{even}, ror #16", f"{odd}, ror #16")
        sums = ("r4", "r5", "r10", "r12")
        added = (f"sxtah {total}, {total}, {half}" for total, half in zip(sums, halves, strict=True))
        grown += ["ldm r0, {r4, r5, r10, r12}", *added, "stm r0!, {r4, r5, r10, r12}"]
    return [
        *("push {r4-r11, lr}", "subs r11, r3, #8", "blt 3f"),
        *("1:", "mov r12, r1", *(f"mov r{i}, #0" for i in range(6, 10)), "mov lr, r2", ".p2align 2"),
        *("2:", *eight, "subs lr, #1", "bne 2b", *grown, "adds r1, #8", "subs r11, #8", "bge 1b"),
        *("3:", "adds r11, #8", "beq 6f"),
        *("4:", "mov r12, r1", "ldr r8, [r0]", "mov lr, r2"),
        *("5:", "ldrsb r4, [r12]", "add r12, r12, r3", "add r8, r8, r4", "subs lr, #1", "bne 5b"),
        *("str r8, [r0], #4", "adds r1, #1", "subs r11, #1", "bne 4b"),
        *("6:", "pop {r4-r11, pc}"),
    ]


def _narrow() -> list[str]:
    return [
        *("push {r4-r7, lr}", "muls r2, r3, r2", "adds r7, r1, r3"),
        *("1:", "ldr r4, [r0]", "movs r5, #0"),
        *("2:", "ldrsb r6, [r1, r5]", "adds r4, r4, r6", "adds r5, r5, r3", "cmp r5, r2", "bne 2b"),
        *("stm r0!, {r4}", "adds r1, #1", "cmp r1, r7", "bne 1b", "pop {r4-r7, pc}"),
    ]
