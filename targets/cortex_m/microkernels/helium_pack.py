"""Gather the window of a pixel into contiguous bytes, for `helium_gemm`: runs are copied by vectors."""

from __future__ import annotations

from tvm_tinyml.targets.cortex_m.microkernels.helium_output import MVE
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel, add, move
from tvm_tinyml.targets.cortex_m.microkernels.pack import Window

VECTOR_BYTES = 16
FARTHEST = 127
"""Largest offset of a load or store of a vector."""


def helium_pack(window: Window) -> Microkernel:
    """Return the kernel.

    Its arguments: where to, and the first byte of the window; vectors of bytes need no
    alignment.
    """
    rest = window.run_bytes % VECTOR_BYTES
    lines = ["push {r4, lr}", *([f"movs r3, #{rest}", "vctp.8 r3"] if rest else [])]
    copy = _straight if window.run_bytes <= FARTHEST else _looping
    run = [*copy(window.run_bytes // VECTOR_BYTES, rest), *add("r1", "r1", window.column_stride, "r3")]
    if window.columns > 1:
        run = [*move("r4", window.columns), ".p2align 2", "2:", *run, "subs r4, #1", "bne 2b"]
    rows = [*run, *add("r1", "r1", window.row_stride - window.columns * window.column_stride, "r3")]
    if window.rows > 1:
        rows = [*move("r12", window.rows), ".p2align 2", "3:", *rows, "subs r12, #1", "bne 3b"]
    numbers = (window.rows, window.columns, window.run_bytes, window.row_stride, window.column_stride)
    return Microkernel(
        name=f"tinyml_helium_pack_{'_'.join(map(str, numbers))}",
        parameters=("int8_t *to", "const int8_t *x"),
        assembly=[*lines, *rows, "pop {r4, pc}"],
        portable=f"""  for (int32_t row = 0; row < {window.rows}; ++row)
    for (int32_t column = 0; column < {window.columns}; ++column, to += {window.run_bytes})
      tinyml_copy(to, x + {window.row_stride} * row + {window.column_stride} * column, {window.run_bytes});
""",
        condition=MVE,
    )


def _straight(whole: int, rest: int) -> list[str]:
    """Copy the vectors of a run at offsets, the rest of it by the predicate; r0 moves on, r1 stays."""
    lines = []
    for offset in range(0, VECTOR_BYTES * whole, VECTOR_BYTES):
        lines += [f"vldrb.u8 q0, [r1, #{offset}]", f"vstrb.8 q0, [r0, #{offset}]"]
    offset = VECTOR_BYTES * whole
    lines += ["vpstt", f"vldrbt.u8 q0, [r1, #{offset}]", f"vstrbt.8 q0, [r0, #{offset}]"] if rest else []
    return [*lines, f"add r0, r0, #{offset + rest}"]


def _looping(whole: int, rest: int) -> list[str]:
    """Do the same in a loop."""
    lines = ["mov r2, r1", *move("r3", whole), "dls lr, r3", ".p2align 2", "1:"]
    lines += ["vldrb.u8 q0, [r2], #16", "vstrb.8 q0, [r0], #16", "le lr, 1b"]
    last = ["vpstt", "vldrbt.u8 q0, [r2]", "vstrbt.8 q0, [r0]", f"add r0, r0, #{rest}"]
    return lines + (last if rest else [])
