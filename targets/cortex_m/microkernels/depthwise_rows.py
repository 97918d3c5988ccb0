"""Depthwise convolution of any kernel and stride, on planes of int16 (see `planes`): some outputs of a row at once.

A word of the plane holds two neighbours, a word of the weights two taps: one SMLAD for two products. Output i of a
block reads words from ``stride * i`` on; where two outputs want the same word, it is loaded once. With stride 1 every
other output reads words at 2 modulo 4, which costs a cycle more each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Output
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import ScaledOutput, Scales, portable_output

MOST_OUTPUTS = 4
"""Of a block."""

UNROLLED = 8
"""Words of weights of a kernel that is written out; larger ones loop over their rows."""

_SUMS = ("r4", "r5", "r6", "r7")
_WORDS = ("r9", "r10", "r11", "r12", "lr")


@dataclass(frozen=True)
class Geometry:
    """Numbers that a kernel reads from memory, so that layers share its code.

    Attributes
    ----------
    column_step, row_step : from an output to the next in its row, and from a row to the next, in bytes.
    columns, rows : of outputs; ``columns`` is as many as a block has, or more.
    plane_row, plane : bytes from a row of a plane to the next, and from a channel's plane to the next.
    """

    column_step: int
    row_step: int
    columns: int
    rows: int
    plane_row: int
    plane: int


@dataclass(frozen=True)
class Rows:
    """A kernel for blocks of ``outputs`` in a row.

    Attributes
    ----------
    outputs : 1 to `MOST_OUTPUTS`.
    kernel_h, kernel_w : of the window.
    stride_h, stride_w : from a window to the next one in the plane.
    output : how to round and clamp.
    """

    outputs: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    output: Output | ScaledOutput

    @property
    def row_words(self) -> int:
        """Words of weights of a row of the kernel."""
        return -(-self.kernel_w // 2)

    @property
    def _loops(self) -> bool:
        return self.kernel_h * self.row_words > UNROLLED

    @property
    def _head(self) -> int:
        """Constants of a channel in front of its weights."""
        return 3 if isinstance(self.output, ScaledOutput) else 4

    @property
    def words(self) -> int:
        """Constants of a channel."""
        return self._head + self.kernel_h * self.row_words + 1

    def geometry(self, layer: Geometry) -> list[int]:
        """Return the numbers as the kernel reads them; the last block of a row begins early enough to be whole."""
        blocks = -(-layer.columns // self.outputs)
        twice = blocks * self.outputs - layer.columns
        back = (2 * self.stride_w * twice, layer.column_step * twice)
        down = (layer.rows, layer.row_step, self.stride_h * layer.plane_row, layer.plane)
        return [layer.column_step, *back, blocks, self.kernel_h, layer.plane_row, *down]

    def microkernel(self) -> Microkernel:
        """Return the function.

        Its arguments: constants of the first channel (`pack`), the `geometry`, the first channel's plane and first
        output, and the number of channels, which are next to each other in the output. The output, of which
        bytes are stored, is aligned to nothing, the rest to 4 bytes; words of planes are loaded at any even address.
        """
        size = f"{'' if self._loops else f'{self.kernel_h}x'}{self.row_words}"
        return Microkernel(
            name=f"tinyml_depthwise_{size}_{self.stride_w}_{self.outputs}_{self.output.name}",
            parameters=(
                *("const int32_t *constants", "const int32_t *geometry", "const int16_t *planes", "int8_t *y"),
                "int32_t channels",
            ),
            assembly=self._assembly(),
            portable=self._portable(),
        )

    def pack(self, scales: Scales, multiplier: int) -> NDArray[np.int32]:
        """Return the constants of channels: bias, scale and weights, [O, words].

        Parameters
        ----------
        scales : weights [O, KH * KW].
        multiplier : channels with the same input, next to each other.
        """
        count = len(scales.weight)
        rows = scales.weight.reshape(count, self.kernel_h, self.kernel_w)
        even = np.pad(rows, ((0, 0), (0, 0), (0, self.kernel_w % 2)))
        weights = np.ascontiguousarray(even.reshape(count, -1), np.int16).view(np.int32)
        head = [scales.bias, scales.multiplier, scales.constant, scales.shift][: self._head]
        next_plane = np.arange(1, count + 1) % multiplier == 0
        return np.concatenate([np.stack(head, axis=1), weights, next_plane[:, None]], axis=1).astype(np.int32)

    def _assembly(self) -> list[str]:
        """Return the loops over channels, rows and blocks.

        s0 to s3 bias and scale of a channel, s4 to s7 the first numbers of the geometry, s8 and s9 where the block
        begins in the plane and the output, s10 blocks left, s11 the weights, s12 rows of the kernel, s13 and s14 where
        the row begins, s15 rows left. On the stack: geometry, plane and output of a channel; number of channels.
        """
        lines = ["push {r1-r11, lr}", "3:", f"vldmia r0!, {{s0-s{self._head - 1}}}", "vmov s11, r0", "ldr r0, [sp]"]
        lines += ["ldr r3, [sp, #4]", "ldr r4, [sp, #8]", "vldmia r0!, {s4-s7}", "ldr r5, [r0]", "ldr r2, [r0, #4]"]
        lines += ["ldr r6, [r0, #8]", "vmov s12, r5", "vmov s13, r3", "vmov s14, r4", "vmov s15, r6"]
        lines += ["2:", "vmov r0, s13", "vmov r3, s14", "vmov r4, s7", "vmov s8, r0", "vmov s9, r3", "vmov s10, r4"]
        lines += [".p2align 2", "1:", *(f"vmov {total}, s0" for total in _SUMS[: self.outputs]), "vmov r1, s11"]
        if self._loops:
            lines += ["vmov r3, s12", ".p2align 2", "4:", *self._row(), "add r0, r0, r2", "subs r3, #1", "bne 4b"]
        else:
            lines += [*self._row(), *["add r0, r0, r2", *self._row()] * (self.kernel_h - 1)]
        lines += self._store()
        lines += ["vmov r3, s10", "subs r3, #1", "beq 5f", "vmov s10, r3", "vmov r0, s8", "cmp r3, #1"]
        lines += [f"add r0, r0, #{2 * self.outputs * self.stride_w}", "bne 6f"]
        lines += ["vmov r9, s5", "vmov r10, s6", "subs r0, r0, r9", "sub r8, r8, r10"]
        lines += ["6:", "vmov s8, r0", "vmov s9, r8", "b 1b"]
        lines += ["5:", "vmov r3, s15", "ldr r8, [sp]", "subs r3, #1", "beq 7f", "vmov s15, r3", "ldr r9, [r8, #28]"]
        lines += ["ldr r10, [r8, #32]", "vmov r3, s13", "vmov r4, s14", "add r3, r3, r10", "add r4, r4, r9"]
        lines += ["vmov s13, r3", "vmov s14, r4", "b 2b"]
        lines += ["7:", "ldr r9, [r8, #36]", "ldr r4, [r1], #4", "ldr r2, [sp, #4]", "ldr r3, [sp, #8]"]
        lines += ["ldr r5, [sp, #48]", "mov r0, r1", "mla r2, r4, r9, r2", "adds r3, #1", "str r2, [sp, #4]"]
        return [*lines, "str r3, [sp, #8]", "subs r5, #1", "str r5, [sp, #48]", "bne 3b", "pop {r1-r11, pc}"]

    def _row(self) -> list[str]:
        """Return the products of a row of the kernel."""
        lines: list[str] = []
        held: dict[str, int] = {}
        for k in range(self.row_words):
            wanted = [self.stride_w * i + 2 * k for i in range(self.outputs)]
            lines += ["ldr r8, [r1], #4"]
            for at in wanted:
                if at not in held.values():
                    register = next(r for r in _WORDS if held.get(r, -1) not in wanted)
                    held[register] = at
                    lines += [f"ldr {register}, [r0, #{2 * at}]"]
            registers = {at: register for register, at in held.items()}
            for total, at in zip(_SUMS, wanted, strict=False):
                lines += [f"smlad {total}, {registers[at]}, r8, {total}"]
        return lines

    def _store(self) -> list[str]:
        """Round and store a block; r8 is where the next one goes."""
        sums = _SUMS[: self.outputs]
        lines = [
            "vmov r8, s1",
            "vmov r9, s2",
            *(line for total in sums for line in self.output.scale(total, "r8", "r9")),
        ]
        if isinstance(self.output, ScaledOutput):
            lines += [line for total in sums for line in self.output.bound(total)]
        else:
            lines += ["vmov r9, s3", *(line for total in sums for line in self.output.bound(total, "r9"))]
        lines += ["vmov r8, s9", "vmov r9, s4"]
        for i, total in enumerate(sums):
            second = i % 2 == 1
            lines += [f"strb {total}, [r8{', r9' if second else ''}]"]
            lines += ["add r8, r8, r9, lsl #1"] if second else []
        return [*lines, *(["add r8, r8, r9"] if self.outputs % 2 else [])]

    def _portable(self) -> str:
        epilogue = "".join(f"        {line}\n" for line in portable_output(self.output))
        shift, taps = "" if isinstance(self.output, ScaledOutput) else ", s = constants[3]", 2 * self.row_words
        return f"""  const int32_t column_step = geometry[0], twice = geometry[1] / {2 * self.stride_w};
  const int32_t columns = geometry[3] * {self.outputs} - twice;
  const int32_t kernel_rows = geometry[4], plane_row = geometry[5] / 2, rows = geometry[6];
  for (; channels > 0; --channels, ++y) {{
    const int32_t m = constants[1], c = constants[2]{shift};
    const int16_t *const w = (const int16_t *)(const void *)(constants + {self._head});
    for (int32_t row = 0; row < rows; ++row)
      for (int32_t column = 0; column < columns; ++column) {{
        const int16_t *const x = planes + row * (geometry[8] / 2) + {self.stride_w} * column;
        int32_t sum = constants[0];
        for (int32_t k = 0; k < kernel_rows; ++k)
          for (int32_t i = 0; i < {taps}; ++i) sum += w[{taps} * k + i] * x[k * plane_row + i];
{epilogue}        y[row * geometry[7] + column * column_step] = result;
      }}
    constants += {self._head} + kernel_rows * {self.row_words};
    planes += *constants++ * (geometry[9] / 2);
  }}
"""
