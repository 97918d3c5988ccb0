"""Dense layers for a row of activations on cores without SMLAD: products of two channels in one multiplication.

Activations and weights are moved to 0 to 255. Then a word with weights of two channels in its halves, u0 + 65536 u1,
times an activation is a word with both products, which have no sign and fill their halves. The sum of the words, modulo
2**32, and the sum of their upper halves tell the sums of both channels: four instructions for two products, with the
mask that takes two bytes out of a word of four weights. What the move has added is 128 times the sum of the
activations, the same for all channels, and a constant of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.arithmetic import wrap
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import THUMB1, THUMB2, Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Ints, Output, rounding_constant
from tvm_tinyml.targets.cortex_m.microkernels.scalar_output_long import requantize

MOST_CHANNELS = 6
"""Of one pass over the activations."""

K_STEP = 2
"""Products of a step."""

UNROLL = 4
"""Steps in the body of the loop: the activations are padded to it."""

K_MULTIPLE = K_STEP * UNROLL

MASK = 0x00FF00FF

PARAMETERS = (
    *("const int32_t *constants", "const uint8_t *x", "int8_t *y", "const int8_t *y_end", "int32_t products"),
    "const int32_t *moved",
)

_SUMS = (("r8", "r9"), ("r10", "r11"), ("r12", "lr"))
_FRAME_BYTES, _SAVED_BYTES = 20, 36
_X, _X_END, _Y, _Y_END, _SHIFTED = (f"[sp, #{4 * i}]" for i in range(5))
_PRODUCTS, _MOVED = (f"[sp, #{_FRAME_BYTES + _SAVED_BYTES + 4 * i}]" for i in range(2))


def flip() -> Microkernel:
    """Return the kernel that moves bytes from -128...127 to 0...255 and adds them to a sum.

    Its arguments: where to and from where, aligned to nothing, how many bytes, one at least, and the sum.
    """
    return Microkernel(
        name="tinyml_flip",
        parameters=("uint8_t *to", "const int8_t *from", "int32_t bytes", "int32_t *sum"),
        assembly=[
            *("push {r4-r7, lr}", "ldr r4, [r3]", "movs r5, #128", "adds r6, r0, r2"),
            *("1:", "ldrb r7, [r1]", "eors r7, r5", "adds r4, r4, r7", "strb r7, [r0]"),
            *("adds r1, #1", "adds r0, #1", "cmp r0, r6", "bne 1b", "str r4, [r3]", "pop {r4-r7, pc}"),
        ],
        portable="""  for (int32_t i = 0; i < bytes; ++i) {
    to[i] = (uint8_t)(from[i] + 128);
    *sum += to[i];
  }
""",
        condition=THUMB1,
    )


def dense(channels: int, output: Output) -> Microkernel:
    """Return the kernel.

    Its arguments: constants (`pack`), activations from `flip`, the first output, the end of the outputs (a multiple of
    ``channels`` away), how many activations (a multiple of `K_MULTIPLE`; those behind the last one are zeros), and
    their sum. Constants are aligned to 4 bytes, all else to nothing.

    Parameters
    ----------
    channels : at once, 1 to `MOST_CHANNELS`.
    """
    pairs = -(-channels // 2)
    lines = [
        "push {r4-r11, lr}",
        f"sub sp, #{_FRAME_BYTES}",
        f"ldr r4, {_PRODUCTS}",
        f"ldr r5, {_MOVED}",
        "ldr r5, [r5]",
    ]
    lines += ["add r4, r4, r1", "lsls r5, r5, #7", f"str r1, {_X}", f"str r4, {_X_END}", f"str r2, {_Y}"]
    lines += [f"str r3, {_Y_END}", f"str r5, {_SHIFTED}", "2:", f"ldr r4, {_SHIFTED}", f"ldr r1, {_X}"]
    for lower, upper in _SUMS[:pairs]:
        lines += ["ldm r0!, {r2, r3}", f"sub {upper}, r3, r4", "subs r2, r2, r4", f"add {lower}, r2, {upper}, lsl #16"]
    lines += [f"mov r7, #{MASK:#x}", ".p2align 2", "1:", *(line for i in range(UNROLL) for line in _step(i, pairs))]
    lines += [f"ldr r6, {_X_END}", f"adds r1, #{K_MULTIPLE}", f"adds r0, #{4 * UNROLL * pairs}", "cmp r1, r6", "bne 1b"]
    lines += [f"ldr r7, {_Y}"]
    for channel in range(channels):
        lower, upper = _SUMS[channel // 2]
        total = upper if channel % 2 else lower
        lines += [f"sub {lower}, {lower}, {upper}, lsl #16"] if channel % 2 == 0 else []
        lines += ["ldm r0!, {r2, r3, r4}", f"lsl {total}, {total}, #1"]
        lines += [*requantize(output, total, "r2", "r3", "r4", "r5", "r6"), f"strb r6, [r7, #{channel}]"]
    lines += [f"ldr r2, {_Y_END}", f"adds r7, #{channels}", f"str r7, {_Y}", "cmp r7, r2", "bne 2b"]
    scale = "const int32_t m = scale[0], c = scale[1], s = scale[2];\n"
    return Microkernel(
        name=f"tinyml_dense_mul_{channels}_{output.name}",
        parameters=PARAMETERS,
        assembly=[*lines, f"add sp, #{_FRAME_BYTES}", "pop {r4-r11, pc}"],
        portable=portable(channels, 3, scale + output.portable()),
        condition=THUMB2,
    )


def pack(weight: Ints, bias: Ints, scale: Ints, channels: int) -> NDArray[np.int32]:
    """Return the constants of `dense`, here and in `scalar_dense_short`: for each pass initial sums, weights, scales.

    Parameters
    ----------
    weight : [O, K], O a multiple of ``channels``.
    bias : [O], the input's offset included: the sum for an input of zeros.
    scale : [O, words], see `scale_words`.
    """
    passes, pairs = len(weight) // channels, -(-channels // 2)
    start = np.zeros((passes, 2 * pairs), np.int64)
    start[:, :channels] = (bias - 128 * weight.sum(axis=1)).reshape(passes, channels)
    length = -(-weight.shape[1] // K_MULTIPLE) * K_MULTIPLE
    moved = np.zeros((passes, 2 * pairs, length), np.uint8)
    moved[:, :channels, : weight.shape[1]] = (weight + 128).reshape(passes, channels, -1)
    # A word: a step of the lower channel, then the same of the upper one.
    steps = moved.reshape(passes, pairs, 2, -1, K_STEP).transpose(0, 3, 1, 2, 4).reshape(passes, -1)
    words = np.ascontiguousarray(steps).view(np.int32)
    return np.concatenate([wrap(start), words, wrap(scale).reshape(passes, -1)], axis=1)


def scale_words(multiplier: Ints, shift: Ints, zero_point: Ints) -> Ints:
    """Return multiplier, constant and shift of each channel, [O, 3]; the shift is to the right."""
    return np.stack([multiplier, rounding_constant(shift, zero_point), shift], axis=1)


def portable(channels: int, scale_words: int, epilogue: str) -> str:
    """Return the C body; ``epilogue`` makes the ``result`` of ``sum`` and ``scale``, which has so many words."""
    even = channels + channels % 2
    lines = "".join(f"      {line}\n" for line in epilogue.splitlines())
    return f"""  for (; y != y_end; y += {channels}) {{
    const uint8_t *const weights = (const uint8_t *)(constants + {even});
    const int32_t *const scales = constants + {even} + products / {K_STEP} * {even // 2};
    for (int32_t i = 0; i < {channels}; ++i) {{
      const int32_t *const scale = scales + {scale_words} * i;
      int32_t sum = constants[i] - 128 * *moved;
      for (int32_t k = 0; k < products; ++k) sum += weights[k / 2 * {2 * even} + 2 * i + k % 2] * x[k];
{lines}      y[i] = result;
    }}
    constants = scales + {channels * scale_words};
  }}
"""


def _step(i: int, pairs: int) -> list[str]:
    """Two products of each channel; the loads of two words of weights stand together."""
    lines = [f"ldrb r2, [r1, #{K_STEP * i}]", f"ldrb r3, [r1, #{K_STEP * i + 1}]"]
    for first in range(0, pairs, 2):
        held = list(zip(_SUMS[first:pairs], ("r4", "r5"), strict=False))
        lines += [f"ldr {w}, [r0, #{4 * (i * pairs + first + j)}]" for j, (_, w) in enumerate(held)]
        for sums, w in held:
            lines += [f"and r6, r7, {w}", *_product("r6", "r2", sums)]
            lines += [f"and {w}, r7, {w}, lsr #8", *_product(w, "r3", sums)]
    return lines


def _product(w: str, x: str, sums: Sequence[str]) -> list[str]:
    lower, upper = sums
    return [f"mul {w}, {w}, {x}", f"add {lower}, {lower}, {w}", f"add {upper}, {upper}, {w}, lsr #16"]
