"""Depthwise convolution of few taps: words of NHWC are widened where they are used, without planes.

Four channels of two pixels at once, in eight sums. A word holds four neighbouring channels; SXTB16 makes halves of
channels 0 and 2, or 1 and 3, and weights are stored the same way. Both pixels use a weight that was fetched once.
Where outputs share an input channel, a halfword or a byte of each pixel takes the word's place.

    word of a pixel   | x3 | x2 | x1 | x0 |     sxtb16        |  x2  |  x0  |     ror #8    |  x3  |  x1  |
    weights of a tap                                          |  w2  |  w0  |               |  w3  |  w1  |

What does not change from pixel to pixel is named, and lies where the order of instructions wants it: see
`words_in_order` and `words_mixed`. The pair of pixels at the end of an odd row begins one pixel early.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Output
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import ScaledOutput, Scales, portable_output
from tvm_tinyml.targets.cortex_m.microkernels.words_code import CHANNELS, ROOM, Code, get, put
from tvm_tinyml.targets.cortex_m.microkernels.words_in_order import InOrder
from tvm_tinyml.targets.cortex_m.microkernels.words_mixed import Mixed

MOST_TAPS = 8
"""Beyond which planes are faster, and from 10 on weights find no room in floating-point registers."""

_CONSTANTS, _NUMBERS, _IMAGE, _OUTPUT, _GROUPS, _ROWS, _ROW_X, _ROW_Y = range(0, ROOM, 4)
"""Words on the stack."""

_COUNT, _HEIGHT, _X_ROW, _Y_ROW, _X_STEP, _LAST, _Y_STEP, _X_STEPS, _OFFSETS = range(0, 36, 4)
"""Words of the geometry."""


@dataclass(frozen=True)
class Geometry:
    """Numbers that a kernel reads from memory, so that layers share its code.

    Attributes
    ----------
    offsets : of each tap from the first one, which has 0, in bytes.
    columns, rows : of outputs.
    x_step, y_step : from a pixel's window to the next in its row, and from its output to the next, in bytes.
    x_row, y_row : from a row to the next, in bytes.
    """

    offsets: Sequence[int]
    columns: int
    rows: int
    x_step: int
    y_step: int
    x_row: int
    y_row: int


@dataclass(frozen=True)
class Words:
    """A kernel for windows of ``taps``.

    Attributes
    ----------
    taps : up to `MOST_TAPS`.
    shared : outputs next to each other that have the same input channel: 1, 2 or 4.
    output : how to round and clamp.
    mixed : the order of instructions is for cores that issue two at a time.
    """

    taps: int
    shared: int
    output: Output | ScaledOutput
    mixed: bool = False

    @property
    def _code(self) -> Code:
        return (Mixed if self.mixed else InOrder)(self.taps, self.shared, self.output)

    @property
    def words(self) -> int:
        """Constants of a group."""
        return 2 + len(self._code.of_group)

    def geometry(self, layer: Geometry, groups: int) -> list[int]:
        """Return the numbers as the kernel reads them."""
        # The only pixel of a row is computed twice, and the loop ends behind it.
        x_step, y_step = (layer.x_step, layer.y_step) if layer.columns > 1 else (0, 0)
        last = x_step * (layer.columns - 1) or -1
        sizes = [groups, layer.rows, layer.x_row, layer.y_row, x_step, last, y_step, 2 * x_step]
        return [*sizes, *layer.offsets[1:]]

    def microkernel(self) -> Microkernel:
        """Return the function.

        Its arguments: constants of the first group (`pack`), the `geometry`, the first channel of the first pixel and
        the first output. The latter two are aligned to nothing: words of four bytes, or two, are loaded where they
        lie, and bytes are stored. Constants and geometry are aligned to 4 bytes.
        """
        order = "mixed_" if self.mixed else ""
        return Microkernel(
            name=f"tinyml_depthwise_words_{order}{self.taps}_{self.shared}_{self.output.name}",
            parameters=("const int32_t *constants", "const int32_t *geometry", "const int8_t *x", "int8_t *y"),
            assembly=self._assembly(),
            portable=self._portable(),
        )

    def pack(self, scales: Scales, multiplier: int) -> NDArray[np.int32]:
        """Return the constants of all groups: where they begin, biases, scales and weights, [groups, words].

        Parameters
        ----------
        scales : weights [O, taps]; of four channels at least.
        multiplier : outputs of each input channel.
        """
        first = group_starts(len(scales.bias))
        channels = first[:, None] + np.arange(CHANNELS)
        order = [0, 2, 1, 3] if self.shared == 1 else [0, 1, 2, 3]
        weight = scales.weight[channels[:, order]].transpose(0, 2, 1).reshape(len(first), -1)
        shifts = scales.shift[channels] << (8 * np.arange(CHANNELS))
        parts = [
            np.stack([first // multiplier, first], axis=1),
            *(values[channels] for values in (scales.bias, scales.multiplier, scales.constant)),
            *([] if isinstance(self.output, ScaledOutput) else [shifts.sum(axis=1, keepdims=True)]),
            np.ascontiguousarray(weight, np.int16).view(np.int32),
        ]
        return np.concatenate(parts, axis=1).astype(np.int32)

    def _assembly(self) -> list[str]:
        """Return the loops over groups, rows and pairs of pixels.

        On the stack: constants of the next group, geometry, image and output, groups left, rows left, and where the
        row begins in image and output; then what has no floating-point register.
        """
        code = self._code
        homes, (x, *_) = code.homes, code.pointers
        frame = ROOM - 16 + 4 * sum(home.startswith("[") for home in homes.values())
        # The four registers of arguments are pushed to make the end of the frame.
        lines = [*code.save, "push {r0-r11, lr}", f"sub sp, #{frame}", f"str r0, [sp, #{_CONSTANTS}]"]
        lines += [f"str r1, [sp, #{_NUMBERS}]", f"str r2, [sp, #{_IMAGE}]", f"str r3, [sp, #{_OUTPUT}]"]
        lines += [f"ldr r2, [r1, #{_COUNT}]", f"str r2, [sp, #{_GROUPS}]"]
        for name, offset in (("y_step", _Y_STEP), ("x_steps", _X_STEPS)):
            lines += [f"ldr r2, [r1, #{offset}]", put(homes[name], "r2")]
        lines += code.keep_offsets(_OFFSETS - 4, _X_STEP)
        lines += ["3:", f"ldr r0, [sp, #{_CONSTANTS}]", f"ldr r2, [sp, #{_IMAGE}]", f"ldr r3, [sp, #{_OUTPUT}]"]
        lines += ["ldm r0!, {r4, r5}", "adds r2, r2, r4", "adds r3, r3, r5", *code.keep_constants()]
        lines += [f"str r0, [sp, #{_CONSTANTS}]", f"ldr r12, [sp, #{_NUMBERS}]", f"ldr lr, [r12, #{_HEIGHT}]"]
        # r2 and r3: where the row begins in image and output; r12 the geometry; lr rows left.
        lines += ["2:", f"str lr, [sp, #{_ROWS}]", f"str r2, [sp, #{_ROW_X}]", f"str r3, [sp, #{_ROW_Y}]"]
        lines += [f"ldr r1, [r12, #{_LAST}]", "adds r1, r1, r2", put(homes["last"], "r1"), put(homes["y"], "r3")]
        lines += [f"ldr r1, [r12, #{_X_STEP}]", "mov r0, r2", "adds r1, r1, r2"]
        lines += [".p2align 2", "1:", *code.pair()]
        lines += [get(homes["last"], "lr"), f"cmp {x}, lr", "blo 1b", "bhi 5f"]
        lines += [get(homes["x_steps"], "lr"), get(homes["y"], "r2"), get(homes["y_step"], "r3")]
        lines += [*(f"sub {pointer}, {pointer}, lr, lsr #1" for pointer in code.pointers), "subs r2, r2, r3"]
        lines += [put(homes["y"], "r2"), "b 1b"]
        lines += ["5:", f"ldr r12, [sp, #{_NUMBERS}]", f"ldr lr, [sp, #{_ROWS}]", f"ldr r2, [sp, #{_ROW_X}]"]
        lines += [f"ldr r3, [sp, #{_ROW_Y}]", f"ldr r0, [r12, #{_X_ROW}]", f"ldr r1, [r12, #{_Y_ROW}]"]
        lines += ["adds r2, r2, r0", "adds r3, r3, r1", "subs lr, #1", "bne 2b"]
        lines += [f"ldr r2, [sp, #{_GROUPS}]", "subs r2, #1", f"str r2, [sp, #{_GROUPS}]", "bne 3b"]
        return [*lines, f"add sp, #{frame + 16}", "pop {r4-r11, lr}", *code.restore, "bx lr"]

    def _portable(self) -> str:
        epilogue = "".join(f"          {line}\n" for line in portable_output(self.output))
        own = not isinstance(self.output, ScaledOutput)
        shift = f", s = constants[{2 + 3 * CHANNELS}] >> (8 * i) & 255" if own else ""
        half = "i / 2 + i % 2 * 2" if self.shared == 1 else "i"
        weights = self.words - 2 * self.taps
        return f"""  const int32_t *const offsets = geometry + {_OFFSETS // 4 - 1};
  const int32_t x_step = geometry[{_X_STEP // 4}], columns = x_step ? geometry[{_LAST // 4}] / x_step + 1 : 1;
  for (int32_t groups = geometry[0]; groups > 0; --groups, constants += {self.words})
    for (int32_t row = 0; row < geometry[{_HEIGHT // 4}]; ++row)
      for (int32_t column = 0; column < columns; ++column) {{
        const int8_t *const from = x + constants[0] + row * geometry[{_X_ROW // 4}] + column * x_step;
        int8_t *const to = y + constants[1] + row * geometry[{_Y_ROW // 4}] + column * geometry[{_Y_STEP // 4}];
        for (int32_t i = 0; i < {CHANNELS}; ++i) {{
          const int16_t *const w = (const int16_t *)(const void *)(constants + {weights}) + {half};
          const int32_t m = constants[{2 + CHANNELS} + i], c = constants[{2 + 2 * CHANNELS} + i]{shift};
          int32_t sum = constants[2 + i];
          for (int32_t k = 0; k < {self.taps}; ++k)
            sum += w[{CHANNELS} * k] * from[(k ? offsets[k] : 0) + i / {self.shared}];
{epilogue}          to[i] = result;
        }}
      }}
"""


def group_starts(channels: int) -> NDArray[np.int64]:
    """Return the first channel of each group; the last group begins early enough to be whole."""
    return np.minimum(np.arange(0, channels, CHANNELS), channels - CHANNELS)
