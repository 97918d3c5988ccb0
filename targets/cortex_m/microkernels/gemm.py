"""Matrix product of int8 on cores with SMLAD: four pixels times two channels, two int8 values in each half of a word.

Modulo 2**32 everything is linear. A half of an activation word holds the bytes of two pixels, the first with its sign
bit flipped: 256 x1 + (x0 + 128); a half of a weight word holds two channels, 256 w1 + w0. SMLAD of such words gives
four sums at once, and one SXTB16 takes x1 or w0 out of a word, so that three more SMLAD tell the sums apart:

====  =====================  ==================================================
RR    raw * raw              65536 Y11 + 256 (Y10 + Y01) + Y00
LR    w0 * raw               256 Y01 + Y00, with Y(channel, pixel)
RH    raw * x1               256 Y11 + Y01
LH    w0 * x1                Y01
====  =====================  ==================================================

where pixel 0 counts as x0 + 128, which the bias takes back. Four SMLAD and two SXTB16 for 8 products, and neither
activations nor weights grow. The sums of the odd channel come out 256 times too large: they must stay below 2**23.

Layout of activations, four pixels at a time: for each two k the word of pixels 0 and 1, then that of pixels 2 and 3; a
word holds k of both pixels, then k + 1 of both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel, add
from tvm_tinyml.targets.cortex_m.microkernels.output import Ints, Output, rounding_constant

PIXELS = 4
"""Of one tile; pixels come in multiples of it."""

K_STEP = 2
"""Products of one step: the reduction is padded to a multiple of it."""

LARGEST_ODD_SUM = 1 << 23
"""Sums of the odd channel of a pair stay below this magnitude."""

UNROLL, LONGEST = 8, 10
"""Steps in the body of the loop, and together with the rest behind it, at most. More would save little, and would not
fit a flash cache of 1 KiB beside the epilogue."""

FARTHEST_STORE = 4095
"""Largest offset of a store."""

_ROW_SUMS = ("r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr")
COPIED_WORDS = 8
"""Weights that are copied to RAM are copied in groups of so many words, the last of which may reach beyond the end."""

PARAMETERS = ("const int32_t *constants", "const int32_t *x", "int8_t *y", "const int32_t *x_end", "int32_t count")
"""In C, of a product. Packed activations are words, so that their alignment holds in C, too."""

_COPY = "int32_t *copy"


@dataclass(frozen=True)
class _Steps:
    """How the reduction runs: ``turns`` of a loop with ``body`` steps, then ``rest`` steps straight on.

    Turns are no part of the code: the constants tell where the loop ends.
    """

    turns: int
    body: int
    rest: int

    @classmethod
    def of(cls, steps: int) -> _Steps:
        """Return the fewest turns among loops whose code is short enough for a flash cache."""
        if steps <= LONGEST:
            return cls(0, 0, steps)
        loops = [cls(steps // body, body, steps % body) for body in range(UNROLL, UNROLL // 2 - 1, -1)]
        return min((loop for loop in loops if loop.body + loop.rest <= LONGEST), key=lambda loop: loop.turns)

    @property
    def name(self) -> str:
        return f"{self.body}_{self.rest}"

    @property
    def loop_bytes(self) -> int:
        """Weights of a pair, or of a channel, that the loop reads."""
        return 4 * self.turns * self.body


def fits(channels: int) -> bool:
    """Return whether the outputs of a tile lie close enough together for the stores."""
    return (PIXELS - 1) * channels + 1 <= FARTHEST_STORE


def gemm_pairs(steps: int, channels: int, output: Output, *, copies: bool = False) -> Microkernel:
    """Return the kernel for pairs of channels.

    Its arguments: constants of the first pair (`pack_pairs`), activations and their end (both multiples of a tile), the
    output of the first pixel and channel, the number of pairs. Constants and activations are aligned to 4 bytes,
    the output, of which bytes are stored, to nothing.

    Parameters
    ----------
    steps : products of one sum, divided by `K_STEP`.
    channels : of the output, from one pixel to the next in bytes.
    copies : the weights of a pair are copied to RAM, one more argument, before its pixels are computed. It pays where
        they are more than a buffer before the flash holds, since every tile reads them all.
    """
    runs = _Steps.of(steps)
    tile = [f"vmov {register}, s{i % 4}" for i, register in enumerate(_ROW_SUMS)]
    tile += _reduction(runs, _pair_step)
    for rr, lr, rh, lh in (_ROW_SUMS[:4], _ROW_SUMS[4:]):
        tile += [f"sub {rr}, {rr}, {lr}", f"sub {rh}, {rh}, {lh}"]
        tile += [f"sub {rr}, {rr}, {rh}, lsl #8", f"sub {lr}, {lr}, {lh}, lsl #8"]
    tile += ["vmov r5, s11", "vmov r2, s7", "vmov r3, s8", "vmov r4, s9"]
    for pixel, register in enumerate(("r6", "r8", "r10", "r12")):
        tile += [f"asr {register}, {register}, #7", *output.requantize(register, "r2", "r3", "r4")]
        tile += [f"strb {register}, [r5, #{pixel * channels + 1}]"]
    tile += ["vmov r2, s4", "vmov r3, s5", "vmov r4, s6"]
    for pixel, register in enumerate(("r7", "r9", "r11", "lr")):
        tile += [f"lsl {register}, {register}, #1", *output.requantize(register, "r2", "r3", "r4")]
        tile += [f"strb {register}, [r5, #{pixel * channels}]"]
    return Microkernel(
        name=f"tinyml_gemm_pairs_{runs.name}_{channels}_{output.name}{'_copy' if copies else ''}",
        parameters=(*PARAMETERS, *([_COPY] if copies else [])),
        assembly=_loops(runs, tile, channels, words=11, advance=2, copies=copies),
        portable=_portable(runs, channels, output, words=11, width=2, copies=copies),
    )


def gemm_single(steps: int, channels: int, output: Output, *, copies: bool = False) -> Microkernel:
    """Return the kernel for channels one by one, whose sums may be as large as 2**30: see `gemm_pairs`."""
    runs = _Steps.of(steps)
    tile = ["vmov r6, s0", "vmov r7, s1", "vmov r8, s0", "vmov r9, s1"]
    tile += _reduction(runs, _single_step)
    tile += ["sub r6, r6, r7, lsl #8", "sub r8, r8, r9, lsl #8"]
    tile += ["vmov r5, s11", "vmov r2, s2", "vmov r3, s3", "vmov r4, s4"]
    for pixel, register in enumerate(("r6", "r7", "r8", "r9")):
        tile += [f"lsl {register}, {register}, #1", *output.requantize(register, "r2", "r3", "r4")]
        tile += [f"strb {register}, [r5, #{pixel * channels}]"]
    return Microkernel(
        name=f"tinyml_gemm_single_{runs.name}_{channels}_{output.name}{'_copy' if copies else ''}",
        parameters=(*PARAMETERS, *([_COPY] if copies else [])),
        assembly=_loops(runs, tile, channels, words=6, advance=1, copies=copies),
        portable=_portable(runs, channels, output, words=6, width=1, copies=copies),
    )


def pack_pairs(weight: Ints, bias: Ints, multiplier: Ints, shift: Ints, zero_point: Ints) -> NDArray[np.int32]:
    """Return the constants of `gemm_pairs`: for each pair initial sums, scales, and its weights.

    Parameters
    ----------
    weight : [O, K] in the order of the activations, O and K even.
    bias : [O], the input's offset included: the sum for an input of zeros.
    multiplier, shift : [O]; the shift is to the right.
    """
    pairs, steps = weight.shape[0] // 2, weight.shape[1] // K_STEP
    b0, b1 = bias[0::2], bias[1::2]
    unsigned0, unsigned1 = (b - 128 * weight[i::2].sum(axis=1) for i, b in enumerate((b0, b1)))
    lh = b0
    lr = unsigned0 + (b0 << 8)
    rh = (b1 << 8) + lh
    rr = (unsigned1 << 8) + (b1 << 16) + lr
    constant = rounding_constant(shift, zero_point)
    scales = [values[i::2] for i in range(2) for values in (multiplier, constant, shift)]
    head = np.stack([rr, lr, rh, lh, *scales, np.full(pairs, _Steps.of(steps).loop_bytes)], axis=1)
    halves = 256 * weight[1::2] + weight[0::2]
    return np.concatenate([as_words(head), as_halves(halves)], axis=1)


def pack_single(weight: Ints, bias: Ints, multiplier: Ints, shift: Ints, zero_point: Ints) -> NDArray[np.int32]:
    """Return the constants of `gemm_single`: see `pack_pairs`."""
    count, steps = weight.shape[0], weight.shape[1] // K_STEP
    raw = bias - 128 * weight.sum(axis=1) + (bias << 8)
    constant = rounding_constant(shift, zero_point)
    head = np.stack([raw, bias, multiplier, constant, shift, np.full(count, _Steps.of(steps).loop_bytes)], axis=1)
    return np.concatenate([as_words(head), as_halves(weight)], axis=1)


def as_words(values: Ints) -> NDArray[np.int32]:
    """Return numbers modulo 2**32 as words."""
    return (values.astype(np.int64) & 0xFFFF_FFFF).astype(np.uint32).view(np.int32)


def as_halves(values: Ints) -> NDArray[np.int32]:
    """Return int16 numbers two to a word, the first in the low half."""
    return np.ascontiguousarray(values.astype(np.int16)).view(np.int32)


def _reduction(runs: _Steps, step: Callable[[int, bool], list[str]]) -> list[str]:
    lines: list[str] = []
    if runs.turns:
        lines += [".p2align 2", "2:"]
        for i in range(runs.body):
            lines += step(i, i == runs.body - 1)
        lines += ["vmov r2, s12", "cmp r0, r2", "bne 2b"]
    for i in range(runs.rest):
        lines += step(i, i == runs.rest - 1)
    return lines


def _pair_step(i: int, last: bool) -> list[str]:
    """14 instructions, 15 cycles, 16 products: the loads stand together, and pixels are widened in place."""
    advance = "!" if last else ""
    lines = [f"ldr r2, [r0, #{4 * i + 4}]{advance}", f"ldr r4, [r1, #{8 * i + 4}]"]
    lines += [f"ldr r5, [r1, #{8 * i + 8}]{advance}", "sxtb16 r3, r2"]
    for pixels, (rr, lr, rh, lh) in (("r4", _ROW_SUMS[:4]), ("r5", _ROW_SUMS[4:])):
        lines += [f"smlad {rr}, r2, {pixels}, {rr}", f"smlad {lr}, r3, {pixels}, {lr}"]
        lines += [f"sxtb16 {pixels}, {pixels}, ror #8"]
        lines += [f"smlad {rh}, r2, {pixels}, {rh}", f"smlad {lh}, r3, {pixels}, {lh}"]
    return lines


def _single_step(i: int, last: bool) -> list[str]:
    advance = "!" if last else ""
    lines = [f"ldr r2, [r0, #{4 * i + 4}]{advance}", f"ldr r4, [r1, #{8 * i + 4}]"]
    lines += [f"ldr r5, [r1, #{8 * i + 8}]{advance}"]
    for pixels, raw, high in (("r4", "r6", "r7"), ("r5", "r8", "r9")):
        lines += [f"smlad {raw}, r2, {pixels}, {raw}", f"sxtb16 {pixels}, {pixels}, ror #8"]
        lines += [f"smlad {high}, r2, {pixels}, {high}"]
    return lines


def _loops(runs: _Steps, tile: list[str], channels: int, *, words: int, advance: int, copies: bool) -> list[str]:
    """Wrap a tile into the loops over pixels and channels.

    What does not change in the pixel loop lives in the floating-point registers: one cycle to fetch, no address needed.
    s0 to s10 the constants of a channel or pair, s11 output, s12 end of the looped weights, s13 weights, s14
    activations, s15 their end. On the stack: the first pixel's output, with copies the next constants, and the count.
    """
    saved, size = ("r2-r11, lr", 44) if copies else ("r2, r4-r11, lr", 40)
    count, copy = f"[sp, #{size}]", f"[sp, #{size + 4}]"
    lines = [f"push {{{saved}}}", "subs r1, #4", "subs r3, #4", "vmov s14, r1", "vmov s15, r3"]
    lines += ["3:", f"vldmia r0!, {{s0-s{words - 1}}}"]
    if copies:
        lines += [f"vmov r3, s{words - 1}", "add r3, r3, r0", *add("r3", "r3", 4 * runs.rest, "r2"), "str r3, [sp, #4]"]
        lines += [f"ldr r2, {copy}", "4:", "ldm r0!, {r4-r11}", "stm r2!, {r4-r11}", "cmp r0, r3", "blo 4b"]
        lines += [f"ldr r0, {copy}"]
    lines += ["subs r0, #4", "ldr r2, [sp]"]
    lines += [f"vmov r4, s{words - 1}", "add r4, r4, r0", "vmov s12, r4"] if runs.turns else []
    lines += ["vmov s11, r2", "vmov s13, r0", "vmov r1, s14", ".p2align 2", "1:", *tile]
    lines += add("r5", "r5", PIXELS * channels, "r2")
    lines += ["vmov r2, s15", "vmov s11, r5", "cmp r1, r2", "it ne", "vmovne r0, s13", "bne 1b"]
    lines += ["ldr r2, [sp]", f"ldr r3, {count}", "ldr r0, [sp, #4]" if copies else "adds r0, #4"]
    lines += [f"adds r2, #{advance}", "str r2, [sp]", "subs r3, #1", f"str r3, {count}", "bne 3b"]
    return [*lines, f"pop {{{saved.replace('lr', 'pc')}}}"]


def _portable(runs: _Steps, channels: int, output: Output, *, words: int, width: int, copies: bool) -> str:
    pair = width == 2
    bias = (
        "i ? (int32_t)((uint32_t)constants[2] - (uint32_t)constants[3]) / 256 : constants[3]"
        if pair
        else "constants[1]"
    )
    weight = "i ? (weights[k] - (int8_t)weights[k]) / 256 : (int8_t)weights[k]" if pair else "weights[k]"
    scale = f"constants + {words - 1 - 3 * width} + 3 * i"
    epilogue = "".join(f"          {line}\n" for line in output.portable().splitlines())
    unused = "  (void)copy;\n" if copies else ""
    return f"""{unused}  const int32_t steps = constants[{words - 1}] / 4 + {runs.rest};
  for (; count > 0; --count, constants += {words} + steps, y += {width}) {{
    const int16_t *const weights = (const int16_t *)(const void *)(constants + {words});
    int8_t *to = y;
    for (const int32_t *words = x; words != x_end; words += {K_STEP} * steps, to += {PIXELS * channels})
      for (int32_t i = 0; i < {width}; ++i) {{
        const int8_t *const tile = (const int8_t *)words;
        const int32_t *const scale = {scale};
        const int32_t m = scale[0], c = scale[1], s = scale[2];
        for (int32_t p = 0; p < {PIXELS}; ++p) {{
          int32_t sum = {bias};
          for (int32_t k = 0; k < {K_STEP} * steps; ++k) {{
            const int8_t byte = tile[8 * (k / 2) + 4 * (p / 2) + 2 * (k % 2) + p % 2];
            sum += ({weight}) * (p % 2 ? byte : (int8_t)(byte ^ -128));
          }}
{epilogue}          to[{channels} * p + i] = result;
        }}
      }}
  }}
"""
