"""The depthwise convolution of `scalar_depthwise` in instructions of the Armv6-M: one pair of outputs at a time.

Pixels are multiplied in place. Both sums are in high registers, where they begin with the first products; what they
should have begun with is added in the end. Weights are bytes in flash, spread to words on the stack.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.arithmetic import wrap
from tvm_tinyml.targets.cortex_m.microkernels import scalar_short as short
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import THUMB1, Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Ints
from tvm_tinyml.targets.cortex_m.microkernels.scalar_depthwise import AT_ONCE, Geometry, Window, pieces
from tvm_tinyml.targets.cortex_m.microkernels.scalar_output_short import ShortOutput
from tvm_tinyml.targets.cortex_m.microkernels.scalar_planes import OFFSET

MOST_TAPS = 96
"""Their words are on the stack, and the stack is moved by one instruction."""

STRAIGHT = 3
"""Rows of the window, in pieces of `AT_ONCE` columns, that are written out; more are a loop."""

SPREAD = 4
"""Weights are spread in groups of so many."""

_NUMBERS_AT, _WEIGHTS_AT = 24, 64
_LOWER, _UPPER, _P, _STEP, _BIAS, _SECOND = (f"[sp, #{4 * i}]" for i in range(6))
_COLUMNS, _ROWS, _COLUMN_STEP, _ROW_GAP, _PARTNER, _, _GAP, _BACK = (f"[sp, #{_NUMBERS_AT + 4 * i}]" for i in range(8))
_Y, _Y_END = (f"[sp, #{56 + 4 * i}]" for i in range(2))


def depthwise(window: Window, output: ShortOutput) -> Microkernel:
    """Return the kernel for one channel.

    Its arguments: constants of the channel (`pack`), numbers (`numbers`), the plane, and the first output of the first
    pair. All but the output are aligned to 4 bytes.
    """
    return Microkernel(
        name=f"tinyml_depthwise_short_{window.kernel_h}_{window.kernel_w}_{output.name}",
        parameters=("const int32_t *constants", "const int32_t *numbers", "const int32_t *plane", "int8_t *y"),
        assembly=_Code(window, output).lines(),
        portable=_portable(window, output),
        condition=THUMB1,
    )


def numbers(window: Window, at: Geometry) -> list[int]:
    """Return the numbers of a kernel."""
    row_gap = at.row_step - at.columns * at.column_step
    gap = window.stride_h * at.plane_row - 4 * window.stride_w * at.columns
    # From behind the last word of a window to the next window.
    back = 4 * window.stride_w - (window.kernel_h - 1) * at.plane_row - 4 * window.kernel_w
    advance = at.plane_row - 4 * window.kernel_w
    return [at.columns * at.column_step, at.rows, at.column_step, row_gap, at.partner, advance, gap, back]


def pack(weight: Ints, scales: Ints) -> NDArray[np.int32]:
    """Return the constants of each channel, [O, words]: scale, initial sums, weights.

    Parameters
    ----------
    weight : [O, K] in the order of the plane.
    scales : [O, words], see `scalar_output_short.fit`.
    """
    negative, bias = (weight < 0).sum(axis=1), scales[:, -1]
    # The upper sum is used once without what it should have begun with.
    lower = bias - (negative << 16) - OFFSET * weight.sum(axis=1)
    head = np.concatenate([scales[:, :-1], np.stack([bias + negative, lower], axis=1)], axis=1)
    padded = np.pad(weight, ((0, 0), (0, -weight.shape[1] % SPREAD))).astype(np.int8)
    return np.concatenate([wrap(head), np.ascontiguousarray(padded).view(np.int32)], axis=1)


@dataclass(frozen=True)
class _Code:
    """The registers: r0 is the plane, r8 and r9 the sums, r10 from a row of the window to the next.

    r11 is the highest sum, r12 the first constant, lr what is added to the upper sum.
    """

    window: Window
    output: ShortOutput

    def lines(self) -> list[str]:
        """Return the function."""
        weight_words = -(-self.window.taps // SPREAD) * SPREAD
        frame_bytes = _WEIGHTS_AT + 4 * weight_words
        lines = ["push {r4-r7, lr}", "mov r4, r8", "mov r5, r9", "mov r6, r10", "mov r7, r11", "push {r4-r7}"]
        lines += [f"sub sp, #{frame_bytes}", f"str r3, {_Y}", "mov r8, r2"]
        lines += ["ldm r0!, {r3, r4, r5, r6}", "lsrs r7, r3, #24", "lsls r3, r3, #8", "lsrs r3, r3, #8"]
        lines += [f"str r3, {_LOWER}", f"str r4, {_UPPER}", f"str r7, {_P}", "mov r11, r5", "mov r12, r6"]
        lines += ["ldm r0!, {r3, r4}", f"str r3, {_STEP}", f"str r4, {_SECOND}"] if self.output.signed else []
        lines += ["ldm r0!, {r3, r4}", "mov lr, r3", f"str r4, {_BIAS}", f"add r2, sp, #{_NUMBERS_AT}"]
        lines += ["ldm r1!, {r3, r4, r5, r6}", "stm r2!, {r3, r4, r5, r6}", "ldm r1!, {r3, r4, r5, r6}"]
        lines += ["stm r2!, {r3, r4, r5, r6}", "mov r10, r4", *self._spread(weight_words), "mov r0, r8"]
        lines += ["3:", f"ldr r1, {_Y}", f"ldr r2, {_COLUMNS}", "adds r1, r1, r2", f"str r1, {_Y_END}"]
        lines += ["1:", *self._pair(), f"ldr r4, {_Y_END}", "cmp r1, r4", "beq 4f", "b 1b", "4:"]
        lines += [f"ldr r2, {_ROW_GAP}", "adds r1, r1, r2", f"str r1, {_Y}", f"ldr r2, {_GAP}", "adds r0, r0, r2"]
        lines += [f"ldr r2, {_ROWS}", "subs r2, #1", f"str r2, {_ROWS}", "beq 5f", "b 3b", "5:"]
        lines += [f"add sp, #{frame_bytes}", "pop {r4-r7}", "mov r8, r4", "mov r9, r5", "mov r10, r6", "mov r11, r7"]
        return [*lines, "pop {r4-r7, pc}"]

    def _spread(self, weight_words: int) -> list[str]:
        """Spread weights from r0 on to words on the stack."""
        lines = [f"add r1, sp, #{_WEIGHTS_AT}", "movs r2, r1", *short.add("r2", 4 * weight_words, "r3")]
        lines += ["6:", "ldm r0!, {r3}", "asrs r7, r3, #24", "lsls r6, r3, #8", "asrs r6, r6, #24", "lsls r5, r3, #16"]
        lines += ["asrs r5, r5, #24", "sxtb r4, r3", "stm r1!, {r4, r5, r6, r7}", "cmp r1, r2", "bne 6b"]
        return lines

    def _pair(self) -> list[str]:
        """Leave in r1 the next output."""
        window, output = self.window, self.output
        lines = [f"add r1, sp, #{_WEIGHTS_AT}"]
        if window.kernel_h * -(-window.kernel_w // AT_ONCE) <= STRAIGHT:
            for row in range(window.kernel_h):
                lines += self._row(first=row == 0) + ["add r0, r10"] * (row < window.kernel_h - 1)
        else:
            lines += ["movs r2, #0", "mov r8, r2", "mov r9, r2"]
            if window.kernel_h > 1:
                lines += ["6:", *self._row(first=False), f"add r2, sp, #{_WEIGHTS_AT}"]
                lines += [*short.add("r2", 4 * window.kernel_w * (window.kernel_h - 1), "r3"), "add r0, r10"]
                lines += ["cmp r1, r2", "beq 7f", "b 6b", "7:"]
            lines += self._row(first=False)
        lines += [
            "mov r2, r8",
            "mov r3, r9",
            "lsls r4, r3, #16",
            "subs r2, r2, r4",
            f"ldr r4, {_BIAS}",
            "adds r2, r2, r4",
        ]
        lines += ["add r3, lr", "mov r4, sp", "ldm r4!, {r5, r6, r7}", *([f"ldr r1, {_STEP}"] if output.signed else [])]
        for t in ("r2", "r3"):
            lines += output.requantize(t, "r4", "r11", upper="r6", lower="r5", p="r7", constant="r12")
            lines += output.finish(t, "r4", step="r1", constant="r4", fetch=[f"ldr r4, {_SECOND}"])
        lines += [f"ldr r1, {_Y}", "strb r2, [r1]", f"ldr r4, {_PARTNER}", "strb r3, [r1, r4]"]
        lines += [f"ldr r4, {_COLUMN_STEP}", "adds r1, r1, r4", f"str r1, {_Y}", f"ldr r4, {_BACK}", "adds r0, r0, r4"]
        return lines

    def _row(self, *, first: bool) -> list[str]:
        """Multiply a row of the window; r0 and r1 advance."""
        lines: list[str] = []
        pixels, weights = ("r2", "r3", "r4"), ("r5", "r6", "r7")
        for _, count in pieces(self.window.kernel_w):
            held = list(zip(pixels[:count], weights[:count], strict=True))
            lines += [f"ldm r0!, {{{', '.join(pixels[:count])}}}", f"ldm r1!, {{{', '.join(weights[:count])}}}"]
            for x, w in held:
                add = "mov" if first else "add"
                lines += [f"muls {x}, {w}, {x}", f"{add} r8, {x}", f"asrs {x}, {x}, #16", f"{add} r9, {x}"]
                first = False
        return lines


def _portable(window: Window, output: ShortOutput) -> str:
    epilogue = "".join(f"        {line}\n" for line in output.portable().splitlines())
    return f"""  const int32_t *const scale = constants;
  const int8_t *const weights = (const int8_t *)(constants + {output.words + 1});
  int32_t bias = constants[{output.words - 1}];
  for (int32_t k = 0; k < {window.taps}; ++k) bias -= weights[k] < 0;
  for (int32_t row = 0; row < numbers[1]; ++row) {{
    for (int32_t column = 0; column < numbers[0] / numbers[2]; ++column, y += numbers[2]) {{
      for (int32_t half = 0; half < 2; ++half) {{
        int32_t sum = bias;
        for (int32_t k = 0; k < {window.taps}; ++k) {{
          const int32_t at = k / {window.kernel_w} * (numbers[5] / 4 + {window.kernel_w}) + k % {window.kernel_w};
          const int32_t lower = plane[at] & 0xFFFF;
          sum += (half ? (plane[at] - lower) / 65536 : lower - {OFFSET}) * weights[k];
        }}
{epilogue}        y[half ? numbers[4] : 0] = result;
      }}
      plane += numbers[7] / 4 + (numbers[5] / 4 + {window.kernel_w}) * {window.kernel_h} - numbers[5] / 4;
    }}
    y += numbers[3];
    plane += numbers[6] / 4;
  }}
"""
