"""A copy of an image with a border around it: bytes to fill and rows to copy in turn."""

from __future__ import annotations

from tvm_tinyml.targets.cortex_m.microkernels.microkernel import THUMB2, Microkernel


def pad() -> Microkernel:
    """Return the kernel for one image of any size.

    Its arguments: where to, the image, and numbers: rows, bytes to fill before the first row, bytes of a row, bytes to
    fill between rows, bytes to fill behind the last row, and what with, a word of four equal bytes. There is one row at
    least. The numbers are aligned to 4 bytes; image and result, of which words are accessed, to nothing. Nothing of a
    row may lie where it is copied to.
    """
    fill = ["0:", "subs r4, #4", "blo 2f", "1:", "str r8, [r0], #4", "subs r4, #4", "bhs 1b"]
    fill += ["2:", "adds r4, #4", "beq 4f", "3:", "strb r8, [r0], #1", "subs r4, #1", "bne 3b"]
    words = [f"ldr r{9 + i}, [r1, #{4 * i}]" for i in range(3)], [f"str r{9 + i}, [r0, #{4 * i}]" for i in range(3)]
    copy = ["4:", "subs r3, #1", "bmi 8f", "subs r4, r5, #12", "blo 6f"]
    copy += [".p2align 2", "5:", *words[0], "adds r1, #12", *words[1], "adds r0, #12", "subs r4, #12", "bhs 5b"]
    copy += ["6:", "adds r4, #8", "bmi 10f", "7:", "ldr r9, [r1], #4", "str r9, [r0], #4", "subs r4, #4", "bpl 7b"]
    copy += ["10:", "adds r4, #4", "beq 9f", "11:", "ldrb r9, [r1], #1", "strb r9, [r0], #1", "subs r4, #1", "bne 11b"]
    copy += ["9:", "cmp r3, #0", "ite eq", "moveq r4, r7", "movne r4, r6", "b 0b"]
    return Microkernel(
        name="tinyml_pad",
        parameters=("int8_t *to", "const int8_t *x", "const int32_t *numbers"),
        assembly=["push {r4-r11, lr}", "ldm r2, {r3-r8}", *fill, *copy, "8:", "pop {r4-r11, pc}"],
        portable="""  int32_t rows = numbers[0], border = numbers[1];
  const size_t row = (size_t)numbers[2];
  for (; rows >= 0; --rows) {
    memset(to, numbers[5], (size_t)border);
    to += border;
    if (rows == 0) return;
    memcpy(to, x, row);
    to += row, x += row;
    border = rows > 1 ? numbers[3] : numbers[4];
  }
""",
        condition=THUMB2,
    )
