"""Weights of four bits, two to a byte, made bytes again."""

from __future__ import annotations

from tvm_tinyml.targets.cortex_m.microkernels.microkernel import DSP, THUMB2, Microkernel


def unpack(*, dsp: bool) -> Microkernel:
    """Return the kernel for any number of runs.

    Its arguments: where to, and words, both aligned to 4 bytes. Each run begins with a word: in its lower half how many
    times 16 weights follow, in its upper half how many words after them are only copied; a word of 0 ends all. 16
    weights are two words: byte b of word w has weight 8 w + b in its lower half and weight 8 w + 4 + b in its upper
    half, each plus 8.

    Parameters
    ----------
    dsp : bytes are subtracted by one instruction; else by three that let no borrow out of a byte.
    """
    low, high = (("r5", "r6"), ("r7", "r8"))
    code: list[str] = []
    for word, (first, second) in (("r3", low), ("r4", high)):
        code += [f"and {first}, {word}, #0x0f0f0f0f", f"lsr {word}, {word}, #4", f"and {second}, {word}, #0x0f0f0f0f"]
        for register in (first, second):
            code += [f"ssub8 {register}, {register}, r12"] if dsp else _subtracted(register)
    return Microkernel(
        name="tinyml_unpack_dsp" if dsp else "tinyml_unpack",
        parameters=("int8_t *to", "const int32_t *packed"),
        assembly=[
            *("push {r4-r9, lr}", "mov r12, #0x08080808"),
            *("0:", "ldr r2, [r1], #4", "cmp r2, #0", "beq 9f"),
            *("uxth r9, r2", "lsrs r2, r2, #16", "cmp r9, #0", "beq 2f"),
            *(".p2align 2", "1:", "ldm r1!, {r3, r4}", *code, "stm r0!, {r5, r6, r7, r8}", "subs r9, #1", "bne 1b"),
            *("2:", "subs r2, #1", "bmi 0b", "ldr r3, [r1], #4", "str r3, [r0], #4", "b 2b"),
            *("9:", "pop {r4-r9, pc}"),
        ],
        portable="""  for (; *packed != 0;) {
    int32_t words = 2 * (*packed & 0xffff), copied = (*packed >> 16) & 0xffff, b;
    for (++packed; words > 0; --words, ++packed) {
      for (b = 0; b < 4; ++b) *to++ = (int8_t)(((*packed >> (8 * b)) & 0xf) - 8);
      for (b = 0; b < 4; ++b) *to++ = (int8_t)(((*packed >> (8 * b + 4)) & 0xf) - 8);
    }
    memcpy(to, packed, 4 * (size_t)copied);
    to += 4 * copied, packed += copied;
  }
""",
        condition=DSP if dsp else THUMB2,
    )


def _subtracted(register: str) -> list[str]:
    """Take 8 off four bytes of at most 15: with the top bit set nothing is borrowed, and then it is turned."""
    return [
        f"orr {register}, {register}, #0x80808080",
        f"sub {register}, {register}, r12",
        f"eor {register}, {register}, #0x80808080",
    ]
