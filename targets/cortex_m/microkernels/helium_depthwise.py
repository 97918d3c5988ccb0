"""Depthwise convolution with Helium: eight channels of a pixel at once, where they lie.

Two taps are multiplied and added in 16 bits, where they fit, then widened and added to sums of 32 bits: those of even
channels in one vector, of odd ones in another, as VMOVLB and VMOVLT leave them. VQMOVNB and VQMOVNT undo it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.targets.cortex_m.microkernels import helium_output
from tvm_tinyml.targets.cortex_m.microkernels.helium_output import MVE
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Ints, Output

CHANNELS = 8
"""Of a group."""

LARGEST_PAIR = 255
"""Magnitudes of the weights of two taps, added, at most: times -128 they fit 16 bits."""

_SCALE_WORDS = 4 * CHANNELS
_SAVED_BYTES = 36 + 32  # r4 to r11, lr, d8 to d11
_GROUPS, _X_STEP, _Y_STEP, _COLUMN_STEP, _ROW_STEP = (_SAVED_BYTES + 4 * i for i in range(5))

PARAMETERS = (
    *("const int32_t *constants", "const int8_t *x", "int8_t *y", "int32_t pixels", "int32_t groups"),
    *("int32_t x_step", "int32_t y_step", "int32_t column_step", "int32_t row_step"),
)


def helium_depthwise(rows: int, columns: int, output: Output) -> Microkernel:
    """Return the kernel for windows of so many taps.

    Its arguments: constants (`pack`, aligned to 4 bytes), the first pixel's window and output (aligned to nothing:
    vectors of bytes need no more), the number of pixels, the number of groups of channels; then distances in bytes:
    from a window to the next, from an output to the next, from a tap to the next in a row, and from the last tap of a
    row to the first of the next row.
    """
    lines = ["push {r4-r11, lr}", "vpush {d8-d11}", "mov r5, r0", "mov r10, r1", "mov r11, r2", "mov r12, r3"]
    lines += [f"ldr lr, [sp, #{_GROUPS}]", f"ldr r8, [sp, #{_X_STEP}]", f"ldr r9, [sp, #{_Y_STEP}]"]
    lines += [f"ldr r6, [sp, #{_COLUMN_STEP}]", f"ldr r7, [sp, #{_ROW_STEP}]", "3:"]
    lines += ["ldr r0, [r5], #4", "add r4, r10, r0", "add r2, r11, r0", "mov r3, r12", ".p2align 2", "2:"]
    lines += ["mov r1, r4", f"add r0, r5, #{4 * _SCALE_WORDS}", "vldrw.u32 q4, [r5]", "vldrw.u32 q5, [r5, #16]"]
    taps = rows * columns
    for tap in range(taps):
        product = "q2" if tap % 2 == 0 else "q3"
        lines += ["vldrb.s16 q0, [r1]", "vldrb.s16 q1, [r0], #8", f"vmul.i16 {product}, q0, q1"]
        if tap < taps - 1:
            lines += ["add r1, r1, r6" if (tap + 1) % columns else "add r1, r1, r7"]
        if tap % 2:
            lines += ["vadd.i16 q2, q2, q3"]
        if tap % 2 or tap == taps - 1:
            lines += ["vmovlb.s16 q0, q2", "vmovlt.s16 q1, q2", "vadd.i32 q4, q4, q0", "vadd.i32 q5, q5, q1"]
    for half, q in enumerate(("q4", "q5")):
        lines += [f"vldrw.u32 q{i}, [r5, #{32 * (i + 1) + 16 * half}]" for i in range(3)]
        lines += helium_output.scale(output, [q], "q0", "q1", "q2", "q3")
    lines += ["vqmovnb.s32 q4, q4", "vqmovnt.s32 q4, q5", *helium_output.clamp_halves(output, "q4", "q0", "q1")]
    lines += ["vstrb.16 q4, [r2]", "add r2, r2, r9", "add r4, r4, r8", "subs r3, #1", "bne 2b"]
    lines += ["mov r5, r0", "subs lr, #1", "bne 3b", "vpop {d8-d11}", "pop {r4-r11, pc}"]
    return Microkernel(
        name=f"tinyml_helium_depthwise_{rows}_{columns}_{output.name}",
        parameters=PARAMETERS,
        assembly=lines,
        portable=_portable(rows, columns, output),
        condition=MVE,
    )


def _portable(rows: int, columns: int, output: Output) -> str:
    taps, half = rows * columns, CHANNELS // 2
    epilogue = "".join(f"        {line}\n" for line in output.portable().splitlines())
    return f"""  const int32_t row = {columns - 1} * column_step + row_step;
  for (; groups > 0; --groups, constants += {1 + _SCALE_WORDS + taps * CHANNELS // 4}) {{
    const int8_t *const weight = (const int8_t *)(constants + {1 + _SCALE_WORDS});
    for (int32_t p = 0; p < pixels; ++p)
      for (int32_t i = 0; i < {CHANNELS}; ++i) {{
        const int8_t *const window = x + constants[0] + p * x_step + i;
        const int32_t *const scale = constants + 1 + i / 2 + {half} * (i % 2);
        const int32_t m = scale[{CHANNELS}], c = scale[{2 * CHANNELS}], s = -scale[{3 * CHANNELS}];
        int32_t sum = scale[0];
        for (int32_t k = 0; k < {taps}; ++k)
          sum += window[k / {columns} * row + k % {columns} * column_step] * weight[{CHANNELS} * k + i];
{epilogue}        y[constants[0] + p * y_step + i] = result;
      }}
  }}
"""


def fitting(weight: Ints) -> NDArray[np.bool_]:
    """Return for which channels, [C], the products of two taps fit 16 bits; weights are [C, taps]."""
    magnitudes = np.abs(np.pad(weight, ((0, 0), (0, weight.shape[1] % 2))))
    return np.asarray((magnitudes[:, ::2] + magnitudes[:, 1::2] <= LARGEST_PAIR).all(axis=1))


def fits(weight: Ints) -> bool:
    """Return whether they do for all channels."""
    return bool(fitting(weight).all())


def pack(weight: Ints, bias: Ints, multiplier: Ints, shift: Ints, zero_point: Ints) -> NDArray[np.int32]:
    """Return the constants of all channels, [groups, words]; the last group may share channels with the one before.

    Parameters
    ----------
    weight : [C, taps], C of `CHANNELS` at least.
    """
    count = len(weight)
    first = np.minimum(np.arange(0, count, CHANNELS), count - CHANNELS)
    of_group = first[:, None] + np.arange(CHANNELS)
    halves = first[:, None] + np.arange(CHANNELS).reshape(-1, 2).T.ravel()  # even channels, then odd ones
    scales = helium_output.scale_words(*(values[halves] for values in (bias, multiplier, shift, zero_point)))
    taps = np.ascontiguousarray(weight[of_group].transpose(0, 2, 1).astype(np.int8)).reshape(len(first), -1)
    return np.concatenate(
        [first[:, None].astype(np.int32), scales.reshape(len(first), -1), taps.view(np.int32)], axis=1
    )
