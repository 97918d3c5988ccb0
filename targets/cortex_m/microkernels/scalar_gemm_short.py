"""The matrix product of `scalar_gemm` in instructions of the Armv6-M: four pixels times one channel.

Three sums are in low registers, where ADCS can add to them. The fourth is in a high one; half a unit is added to its
products instead. Weights are bytes in flash, all with their sign bit flipped, in words of two steps: one mask and one
subtraction make a step's word of two bytes (`pack`). They are spread to RAM before the pixels are computed, which costs
two and a half cycles each.

Layout of activations, four pixels at a time: for each two k a word of each pixel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.arithmetic import wrap
from tvm_tinyml.targets.cortex_m.microkernels import scalar_short as short
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import THUMB1, Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Ints
from tvm_tinyml.targets.cortex_m.microkernels.scalar_gemm import K_STEP, PARAMETERS, Steps
from tvm_tinyml.targets.cortex_m.microkernels.scalar_output_short import ShortOutput

PIXELS = 4
"""Of one tile; pixels come in multiples of it."""

LONGEST, UNROLL = 10, 6
"""Steps in the body of the loop and behind it, at most, and in the body: a branch reaches no farther."""

SPREAD_STEPS = 4
"""Weights are spread in groups of so many steps."""

_FRAME_BYTES, _SAVED_BYTES = 52, 36
_LOWER, _UPPER, _P, _STEP, _BIAS = (f"[sp, #{4 * i}]" for i in range(5))
_Y_TILE, _Y, _X, _X_END, _CONSTANTS, _X_TILE, _LOOP_END, _SPREAD_END = (f"[sp, #{20 + 4 * i}]" for i in range(8))
_COUNT, _COPY, _STEPS, _CHANNELS = (f"[sp, #{_FRAME_BYTES + _SAVED_BYTES + 4 * i}]" for i in range(4))


def cut(steps: int) -> Steps:
    """Return how the reduction runs."""
    return Steps.of(steps, UNROLL, LONGEST)


def spread_words(steps: int) -> int:
    """Return the words of RAM that the weights of a channel are spread to."""
    return -(-steps // SPREAD_STEPS) * SPREAD_STEPS


def gemm(steps: int, output: ShortOutput) -> Microkernel:
    """Return the kernel.

    Its arguments: constants of the first channel (`pack`), activations, the output of the first pixel and channel, the
    end of the activations (a multiple of a tile away), the number of channels, `spread_words` of RAM, the steps, and
    from one pixel of the output to the next in bytes. All words are aligned to 4 bytes, the output to nothing.

    Parameters
    ----------
    steps : products of one sum, divided by `K_STEP`; only how they are cut is part of the code.
    """
    runs = cut(steps)
    tile = [f"ldr r5, {_BIAS}", "movs r6, r5", "movs r7, r5", "mov r8, r5", f"ldr r1, {_COPY}"]
    if runs.turns:
        tile += [".p2align 2", "2:", *_step() * runs.body, "cmp r1, r10", "bne 2b"]
    tile += [*_step() * runs.rest, *_epilogue(output)]
    return Microkernel(
        name=f"tinyml_gemm_short_{runs.name}_{output.name}",
        parameters=PARAMETERS,
        assembly=_loops(runs, tile, output),
        portable=_portable(output),
        condition=THUMB1,
    )


def pack(weight: Ints, scales: Ints) -> NDArray[np.int32]:
    """Return the constants of `gemm`: for each channel its scale and its weights.

    Parameters
    ----------
    weight : [O, K] in the order of the activations, K a multiple of `K_STEP`.
    scales : [O, words], see `scalar_output_short.fit`.
    """
    count = weight.shape[0]
    padded = np.pad(weight, ((0, 0), (0, -weight.shape[1] % (K_STEP * SPREAD_STEPS))))
    # A word: the upper weight of two steps, then the lower one of both.
    swapped = padded.reshape(count, -1, 2, K_STEP)[..., ::-1].transpose(0, 1, 3, 2).reshape(count, -1) ^ -128
    return np.concatenate([wrap(scales), np.ascontiguousarray(swapped.astype(np.int8)).view(np.int32)], axis=1)


def _step() -> list[str]:
    """Two products of each of the four sums: 21 cycles."""
    lines = ["ldm r1!, {r2}", "ldm r0!, {r3, r4}"]
    lines += [
        "muls r3, r2, r3",
        "asrs r3, r3, #16",
        "adcs r5, r3",
        "muls r4, r2, r4",
        "asrs r4, r4, #16",
        "adcs r6, r4",
    ]
    lines += ["ldm r0!, {r3, r4}", "muls r3, r2, r3", "asrs r3, r3, #16", "adcs r7, r3"]
    return [*lines, "muls r4, r2, r4", "add r4, r9", "asrs r4, r4, #16", "add r8, r4"]


def _epilogue(output: ShortOutput) -> list[str]:
    """Scale and store.

    r0 is the output, r2 to r4 lower, upper and p, r7 what is added behind zero, r10 from a pixel to the next.
    """
    if output.signed:
        lines = [f"str r0, {_X_TILE}", "mov r9, r7", "mov r1, sp", "ldm r1!, {r2, r3, r4, r7}"]
        places = ("r5", "r6", "r9", "r8")
    else:
        lines = ["mov lr, r0", "mov r1, sp", "ldm r1!, {r2, r3, r4}"]
        places = ("r5", "r6", "r7", "r8")
    lines += [f"ldr r0, {_CHANNELS}", "mov r10, r0", f"ldr r0, {_Y_TILE}"]
    for place in places:
        t = place if place in ("r5", "r6", "r7") else "r5"
        lines += [f"mov {t}, {place}"] if t != place else []
        lines += output.requantize(t, "r1", "r11", upper="r3", lower="r2", p="r4", constant="r12")
        lines += output.finish(t, "r1", step="r7", constant="lr")
        lines += [f"strb {t}, [r0]", "add r0, r10"]
    lines += [f"str r0, {_Y_TILE}", f"ldr r0, {_LOOP_END}", "mov r10, r0"]
    return [*lines, *([f"ldr r0, {_X_TILE}", *_half()] if output.signed else ["mov r0, lr"])]


def _half() -> list[str]:
    return ["movs r3, #128", "lsls r3, r3, #8", "mov r9, r3"]


def _loops(runs: Steps, tile: list[str], output: ShortOutput) -> list[str]:
    """Wrap a tile into the loops over pixels and channels.

    r10 is the end of the looped weights, r11 the highest sum, r12 and lr the constants. On the stack: lower, upper, p,
    step, bias; output of the tile and of the first pixel; activations and their end; the next constants; the next tile;
    the end of the looped weights and of all.
    """
    lines = ["push {r4-r7, lr}", "mov r4, r8", "mov r5, r9", "mov r6, r10", "mov r7, r11", "push {r4-r7}"]
    lines += [f"sub sp, #{_FRAME_BYTES}", f"str r1, {_X}", f"str r3, {_X_END}", f"str r2, {_Y}", f"ldr r4, {_COPY}"]
    lines += [f"ldr r5, {_STEPS}", "lsls r5, r5, #2", "adds r4, r4, r5", f"str r4, {_SPREAD_END}"]
    lines += [
        f"subs r4, #{4 * runs.rest}",
        f"str r4, {_LOOP_END}",
        "mov r10, r4",
        "3:",
        "ldm r0!, {r3, r4, r5, r6, r7}",
        "lsrs r1, r3, #24",
    ]
    lines += ["lsls r3, r3, #8", "lsrs r3, r3, #8", f"str r3, {_LOWER}", f"str r4, {_UPPER}", f"str r1, {_P}"]
    lines += ["mov r11, r5", "mov r12, r6"]
    lines += [f"str r7, {_STEP}", "ldm r0!, {r6, r7}", "mov lr, r6"] if output.signed else []
    lines += [f"str r7, {_BIAS}"]
    lines += [f"ldr r1, {_COPY}", f"ldr r3, {_SPREAD_END}", "mov r8, r3", *short.put("r2", 0x00FF00FF)]
    lines += [*short.put("r6", 0x00800080), "4:", "ldm r0!, {r3, r5}", "lsrs r4, r3, #8", "lsrs r7, r5, #8"]
    lines += [f"{what} {w}, {by}" for what, by in (("ands", "r2"), ("subs", "r6")) for w in ("r3", "r4", "r5", "r7")]
    lines += ["stm r1!, {r3, r4, r5, r7}", "cmp r1, r8", "blo 4b", f"str r0, {_CONSTANTS}", *_half()]
    lines += [f"ldr r0, {_X}", f"ldr r3, {_Y}", f"str r3, {_Y_TILE}", "1:", *tile, f"ldr r1, {_X_END}", "cmp r0, r1"]
    lines += ["beq 5f", "b 1b", "5:", f"ldr r2, {_Y}", "adds r2, #1", f"str r2, {_Y}", f"ldr r0, {_CONSTANTS}"]
    lines += [f"ldr r3, {_COUNT}", "subs r3, #1", f"str r3, {_COUNT}", "beq 6f", "b 3b", "6:"]
    lines += [f"add sp, #{_FRAME_BYTES}", "pop {r4-r7}", "mov r8, r4", "mov r9, r5", "mov r10, r6", "mov r11, r7"]
    return [*lines, "pop {r4-r7, pc}", short.POOL]


def _portable(output: ShortOutput) -> str:
    epilogue = "".join(f"        {line}\n" for line in output.portable().splitlines())
    return f"""  (void)copy;
  for (; count > 0; --count, ++y) {{
    const int32_t *const scale = constants;
    const int8_t *const weights = (const int8_t *)(constants + {output.words});
    int8_t *to = y;
    for (const int32_t *tile = x; tile != x_end; tile += {PIXELS} * steps, to += {PIXELS} * channels)
      for (int32_t p = 0; p < {PIXELS}; ++p) {{
        int32_t sum = scale[{output.words - 1}];
        for (int32_t k = 0; k < steps; ++k) {{
          const int32_t word = tile[{PIXELS} * k + p];
          const int32_t x0 = (int16_t)word, x1 = (word - x0) / 65536;
          const int8_t *const pair = weights + k / 2 * 4 + k % 2;
          sum += x0 * (int8_t)(pair[2] ^ -128) + x1 * (int8_t)(pair[0] ^ -128);
        }}
{epilogue}        to[channels * p] = result;
      }}
    constants += {output.words} + (steps + {SPREAD_STEPS - 1}) / {SPREAD_STEPS} * {SPREAD_STEPS // 2};
  }}
"""
