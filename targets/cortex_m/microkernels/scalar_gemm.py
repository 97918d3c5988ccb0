"""Matrix product of int8 on cores without SMLAD: one multiplication for two products of one sum.

A word holds two activations, x0 + 65536 x1, and a word two weights the other way round, w1 + 65536 w0. Their product
modulo 2**32 is 65536 (x0 w0 + x1 w1) + x0 w1. The upper half is what is wanted, except that a negative x0 w1 lowers it
by one. Then bit 15 is set, and only then, since x0 w1 is at most 2**14 in magnitude; ASRS by 16 moves it into the
carry, and ADC adds it with the upper half. Three cycles for two products, where two MLA take four, and half the loads.

The upper half must hold the sum of two products: every two weights but -128 and -128 do (`fits`).

Three pixels times two channels. Weights are bytes in flash; those of two channels are spread to words in RAM before
their pixels are computed, which costs as much as two and a half products each.

Layout of activations, three pixels at a time: for each two k a word of each pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.arithmetic import wrap
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import THUMB2, Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Ints, Output, rounding_constant
from tvm_tinyml.targets.cortex_m.microkernels.scalar_output_long import requantize

PIXELS = 3
"""Of one tile; pixels come in multiples of it."""

K_STEP = 2
"""Products of one step: the reduction is padded to a multiple of it."""

LONGEST, UNROLL = 10, 8
"""Steps in the body of the loop and behind it, at most, and in the body."""

SPREAD_BYTES = 8
"""Weights are spread in groups of so many; the last group may be padded."""

_SUMS = (("r8", "r9"), ("r10", "r11"), ("r12", "lr"))
_FRAME_BYTES, _SAVED_BYTES = 60, 36
_Y_TILE, _Y, _X, _X_END, _CONSTANTS, _LOOP_END, _SPREAD_END = (f"[sp, #{32 + 4 * i}]" for i in range(7))
_COUNT, _COPY, _STEPS, _CHANNELS = (f"[sp, #{_FRAME_BYTES + _SAVED_BYTES + 4 * i}]" for i in range(4))

PARAMETERS = (
    *("const int32_t *constants", "const int32_t *x", "int8_t *y", "const int32_t *x_end", "int32_t count"),
    *("int32_t *copy", "int32_t steps", "int32_t channels"),
)


@dataclass(frozen=True)
class Steps:
    """How the reduction runs: ``turns`` of a loop with ``body`` steps, then ``rest`` steps straight on.

    Turns are no part of the code, but an argument.
    """

    turns: int
    body: int
    rest: int

    @classmethod
    def of(cls, steps: int, unroll: int, longest: int) -> Steps:
        """Return the fewest turns of at most ``unroll`` steps among those with at most ``longest`` steps of code."""
        if steps <= longest:
            return cls(0, 0, steps)
        loops = [cls(steps // body, body, steps % body) for body in range(unroll, unroll // 2, -1)]
        return min((loop for loop in loops if loop.body + loop.rest <= longest), key=lambda loop: loop.turns)

    @property
    def name(self) -> str:
        """Part of a microkernel's name."""
        return f"{self.body}_{self.rest}"


def cut(steps: int) -> Steps:
    """Return how the reduction runs."""
    return Steps.of(steps, UNROLL, LONGEST)


def fits(weight: Ints) -> bool:
    """Return whether all pairs of weights, [O, K] in the order of the activations, leave sums of 16 bits."""
    return bool((weight.reshape(-1, K_STEP).sum(axis=1) > -256).all())


def spread_words(steps: int, width: int) -> int:
    """Return the words of RAM that the weights of ``width`` channels are spread to."""
    return -(-steps * width * K_STEP // SPREAD_BYTES) * SPREAD_BYTES // K_STEP


def gemm(steps: int, output: Output, width: int) -> Microkernel:
    """Return the kernel for ``width`` channels at a time, 1 or 2.

    Its arguments: constants of the first (`pack`), activations, the output of the first pixel and channel, the end of
    the activations (a multiple of a tile away), how many times ``width`` channels, `spread_words` of RAM, the steps,
    and from one pixel of the output to the next in bytes. All words are aligned to 4 bytes, the output to nothing.

    Parameters
    ----------
    steps : products of one sum, divided by `K_STEP`; only how they are cut is part of the code.
    """
    runs = cut(steps)
    sums = [pixel[:width] for pixel in _SUMS]
    tile = [f"ldr {register}, [sp, #{4 * i}]" for i, register in enumerate(sums[0])] + [f"ldr r1, {_COPY}"]
    tile += [f"mov {to}, {by}" for pixel in sums[1:] for to, by in zip(pixel, sums[0], strict=True)]
    tile += _reduction(runs, lambda i, last: _step(i, width, last))
    for channel in range(width):
        tile += [f"ldr r7, {_Y_TILE}", f"ldr r1, {_CHANNELS}"] if channel == 0 else ["adds r7, #1"]
        tile += [f"ldr r{2 + i}, [sp, #{4 * (width + 3 * channel + i)}]" for i in range(3)]
        for registers, place in zip(sums, ("[r7]", "[r7, r1]", "[r7, r1, lsl #1]"), strict=True):
            tile += [f"lsl {registers[channel]}, {registers[channel]}, #1"]
            tile += requantize(output, registers[channel], "r2", "r3", "r4", "r5", "r6")
            tile += [f"strb r6, {place}"]
    return Microkernel(
        name=f"tinyml_gemm_mul_{width}_{runs.name}_{output.name}",
        parameters=PARAMETERS,
        assembly=_loops(runs, tile, width),
        portable=_portable(output, width),
        condition=THUMB2,
    )


def pack(weight: Ints, bias: Ints, multiplier: Ints, shift: Ints, zero_point: Ints, width: int) -> NDArray[np.int32]:
    """Return the constants of `gemm`: for each ``width`` channels biases, scales, weights.

    Parameters
    ----------
    weight : [O, K] in the order of the activations, O a multiple of ``width`` and K of `K_STEP`.
    bias : [O], the input's offset included: the sum for an input of zeros.
    multiplier, shift : [O]; the shift is to the right.
    """
    count, steps = weight.shape[0] // width, weight.shape[1] // K_STEP
    scales = np.stack([multiplier, rounding_constant(shift, zero_point), shift], axis=1).reshape(count, 3 * width)
    head = wrap(np.concatenate([bias.reshape(count, width), scales], axis=1))
    swapped = weight.reshape(count, width, steps, K_STEP)[..., ::-1].transpose(0, 2, 1, 3).reshape(count, -1)
    padded = np.pad(swapped, ((0, 0), (0, -swapped.shape[1] % SPREAD_BYTES))).astype(np.int8)
    return np.concatenate([head, np.ascontiguousarray(padded).view(np.int32)], axis=1)


def _reduction(runs: Steps, step: Callable[[int, bool], list[str]]) -> list[str]:
    lines: list[str] = []
    if runs.turns:
        lines += [".p2align 2", "2:"]
        for i in range(runs.body):
            lines += step(i, i == runs.body - 1)
        lines += [f"ldr r7, {_LOOP_END}", "cmp r1, r7", "bne 2b"]
    for i in range(runs.rest):
        lines += step(i, i == runs.rest - 1)
    return lines


def _step(i: int, width: int, last: bool) -> list[str]:
    """Two products of each sum: for two channels 23 instructions and 24 cycles for 12 products."""
    advance = "!" if last else ""
    weights, pixels = ("r2", "r3")[:width], ("r4", "r5", "r6")
    loads = [(w, "r1", 4 * (width * i + j + 1)) for j, w in enumerate(weights)]
    lines = [f"ldr {to}, [{by}, #{at}]{advance if to == weights[-1] else ''}" for to, by, at in loads]
    lines += [f"ldr {x}, [r0, #{4 * (PIXELS * i + j + 1)}]{advance if x == 'r6' else ''}" for j, x in enumerate(pixels)]
    for x, sums in zip(pixels, _SUMS, strict=True):
        if width == 2:
            lines += [f"mul r7, {x}, r2", "asrs r7, r7, #16", f"adc {sums[0]}, {sums[0]}, r7"]
        last_sum = sums[width - 1]
        lines += [f"muls {x}, {weights[-1]}, {x}", f"asrs {x}, {x}, #16", f"adc {last_sum}, {last_sum}, {x}"]
    return lines


def _spread() -> list[str]:
    """Spread weights from r0 on to the words from r1 to r2."""
    lines = [".p2align 2", "4:", *(f"ldrsb r{4 + i}, [r0, #{i}]" for i in range(1, SPREAD_BYTES))]
    lines += [f"ldrsb r4, [r0], #{SPREAD_BYTES}"]
    lines += [f"add r{4 + i}, r{4 + 2 * i}, r{5 + 2 * i}, lsl #16" for i in range(4)]
    lines += [f"str r{4 + i}, [r1, #{4 * i}]" for i in range(1, 4)]
    return [*lines, "str r4, [r1], #16", "cmp r1, r2", "blo 4b"]


def _loops(runs: Steps, tile: list[str], width: int) -> list[str]:
    """Wrap a tile into the loops over pixels and channels.

    On the stack: 8 words of constants; output of the tile and of the first pixel; activations and their end, less 4;
    the next constants; the end of the looped weights, less 4, and of all; behind the saved registers the count, the
    spread weights, less 4, the steps, and from a pixel to the next.
    """
    head = f"{{r4-r{3 + 4 * width}}}"
    lines = ["push {r4-r11, lr}", f"sub sp, #{_FRAME_BYTES}", "subs r1, #4", "subs r3, #4", f"ldr r4, {_COPY}"]
    lines += [f"ldr r5, {_STEPS}", f"str r1, {_X}", f"str r3, {_X_END}", f"add r6, r4, r5, lsl #{width + 1}"]
    lines += [f"str r6, {_SPREAD_END}", f"subs r6, #{4 * width * runs.rest + 4}", f"str r6, {_LOOP_END}"]
    lines += ["subs r4, #4", f"str r4, {_COPY}", "3:", f"ldm r0!, {head}", f"stm sp, {head}", f"str r2, {_Y_TILE}"]
    lines += [f"str r2, {_Y}", f"ldr r1, {_COPY}", f"ldr r2, {_SPREAD_END}", "adds r1, #4", *_spread()]
    lines += [f"str r0, {_CONSTANTS}", f"ldr r0, {_X}", ".p2align 2", "1:", *tile]
    lines += [f"ldr r2, {_X_END}", *(["subs r7, #1"] if width == 2 else []), "add r7, r7, r1, lsl #1"]
    lines += ["add r7, r7, r1", f"str r7, {_Y_TILE}", "cmp r0, r2", "bne 1b"]
    lines += [f"ldr r2, {_Y}", f"ldr r3, {_COUNT}", f"ldr r0, {_CONSTANTS}", f"adds r2, #{width}", "subs r3, #1"]
    return [*lines, f"str r3, {_COUNT}", "bne 3b", f"add sp, #{_FRAME_BYTES}", "pop {r4-r11, pc}"]


def _portable(output: Output, width: int) -> str:
    words = 4 * width
    epilogue = "".join(f"          {line}\n" for line in output.portable().splitlines())
    return f"""  (void)copy;
  const int32_t weight_words = ({K_STEP * width} * steps + {SPREAD_BYTES - 1}) / {SPREAD_BYTES} * {SPREAD_BYTES // 4};
  for (; count > 0; --count, constants += {words} + weight_words, y += {width}) {{
    const int8_t *const weights = (const int8_t *)(constants + {words});
    int8_t *to = y;
    for (const int32_t *tile = x; tile != x_end; tile += {PIXELS} * steps, to += {PIXELS} * channels)
      for (int32_t i = 0; i < {width}; ++i) {{
        const int32_t *const scale = constants + {width} + 3 * i;
        const int32_t m = scale[0], c = scale[1], s = scale[2];
        for (int32_t p = 0; p < {PIXELS}; ++p) {{
          int32_t sum = constants[i];
          for (int32_t k = 0; k < steps; ++k) {{
            const int32_t word = tile[{PIXELS} * k + p];
            const int32_t x0 = (int16_t)word, x1 = (word - x0) / 65536;
            const int8_t *const pair = weights + {K_STEP} * ({width} * k + i);
            sum += x0 * pair[1] + x1 * pair[0];
          }}
{epilogue}          to[channels * p + i] = result;
        }}
      }}
  }}
"""
