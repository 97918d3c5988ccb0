"""Fill what lies between planes: the same number of bytes again and again, as far apart as planes are."""

from __future__ import annotations

from tvm_tinyml.targets.cortex_m.microkernels.microkernel import THUMB2, Microkernel


def fill_edges() -> Microkernel:
    """Return the kernel for any number of edges.

    Its arguments: where to, what with, a word of four equal bytes; bytes of an edge, 1 or more, from an edge to the
    next, and how many edges, 1 or more. The bytes, of which words are stored, are aligned to nothing.
    """
    return Microkernel(
        name="tinyml_fill_edges",
        parameters=("int8_t *to", "int32_t value", "int32_t bytes", "int32_t step", "int32_t edges"),
        assembly=[
            *("push {r4-r6, lr}", "ldr r4, [sp, #16]", "subs r3, r3, r2", ".p2align 2", "1:", "subs r5, r2, #4"),
            *("blo 3f", "2:", "str r1, [r0], #4", "subs r5, #4", "bhs 2b", "3:", "adds r5, #4", "beq 5f"),
            *("4:", "strb r1, [r0], #1", "subs r5, #1", "bne 4b", "5:", "add r0, r3", "subs r4, #1", "bne 1b"),
            "pop {r4-r6, pc}",
        ],
        portable="""  for (; edges > 0; --edges, to += step) memset(to, value & 0xFF, (size_t)bytes);
""",
        condition=THUMB2,
    )
