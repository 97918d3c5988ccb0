"""Sums of two int8 tensors, element by element: four elements at a time in 23 cycles, see `affine`."""

from __future__ import annotations

from tvm_tinyml.targets.cortex_m.microkernels.affine import Rounding
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel

UNROLL = 2
"""Words of four elements in the body of the loop."""

BYTE_SCALE = 256
"""An element is the upper byte of a half: one AND makes two of them."""


def add(rounding: Rounding) -> Microkernel:
    """Return the kernel for any number of elements above zero.

    Its arguments: constants (`Affine.words` for values of `BYTE_SCALE` times an element), both inputs, the output, how
    many elements. Inputs, of which words are loaded, and output are aligned to nothing; constants to 4 bytes.
    """
    load = ["ldrsb r8, [r1], #1", "ldrsb r9, [r2], #1", "lsl r8, r8, #8", "lsl r9, r9, #8"]
    one = [*load, "smlawb r8, r4, r8, r6", "smlawb r8, r5, r9, r8", *rounding.finish("r8", "lr"), "strb r8, [r3], #1"]
    words = [line for word in range(UNROLL) for line in _four(rounding, 4 * word)]
    size = 4 * UNROLL
    return Microkernel(
        name=f"tinyml_add_{rounding.name}",
        parameters=("const int32_t *constants", "const int8_t *a", "const int8_t *b", "int8_t *y", "int32_t count"),
        assembly=[
            *("push {r4-r11, lr}", "ldm r0, {r4-r6, lr}", "ldr r0, [sp, #36]", "mov r7, #0xff00ff00"),
            *(f"subs r0, #{size}", "blt 2f", ".p2align 2"),
            *("1:", *words, f"adds r3, #{size}", f"subs r0, #{size}", "bge 1b"),
            *("2:", f"adds r0, #{size}", "beq 4f"),
            *("3:", *one, "subs r0, #1", "bne 3b"),
            *("4:", "pop {r4-r11, pc}"),
        ],
        portable=f"""  const int64_t factor_a = {BYTE_SCALE} * (int64_t)constants[0];
  const int64_t factor_b = {BYTE_SCALE} * (int64_t)constants[1];
  for (int32_t i = 0; i < count; ++i) {{
    const int32_t sum = (int32_t)(constants[2] + (factor_a * a[i] >> 16) + (factor_b * b[i] >> 16));
    y[i] = {rounding.portable("constants[3]")};
  }}
""",
    )


def _four(rounding: Rounding, first: int) -> list[str]:
    """Elements 0 and 2 are the upper bytes of halves after a shift, 1 and 3 before."""
    lines = ["ldr r8, [r1], #4", "ldr r9, [r2], #4", "and r10, r7, r8, lsl #8", "and r11, r7, r9, lsl #8"]
    lines += ["smlawb r12, r4, r10, r6", "smlawt r10, r4, r10, r6", "smlawb r12, r5, r11, r12"]
    lines += ["smlawt r10, r5, r11, r10", "and r8, r8, r7", "and r9, r9, r7"]
    lines += ["smlawb r11, r4, r8, r6", "smlawt r8, r4, r8, r6", "smlawb r11, r5, r9, r11", "smlawt r8, r5, r9, r8"]
    sums = ("r12", "r11", "r10", "r8")
    lines += [line for register in sums for line in rounding.finish(register, "lr")]
    return [*lines, *(f"strb {register}, [r3, #{first + i}]" for i, register in enumerate(sums))]
