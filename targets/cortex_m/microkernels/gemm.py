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

With one shift for all channels (`scaled_output`) it is the instruction which doubles a sum that also scales it, by a
shift of the channel's own; odd sums are shifted to the left already.

Layout of activations, four pixels at a time: for each two k the word of pixels 0 and 1, then that of pixels 2 and 3; a
word holds k of both pixels, then k + 1 of both.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.targets.cortex_m.microkernels.gemm_walks import (
    K_STEP,
    PIXELS,
    AnySteps,
    Steps,
    Walk,
    kernel_lines,
    stores,
)
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Ints, Output
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import MOST_RAISED, ScaledOutput, Scales

LARGEST_ODD_SUM = 1 << 23
"""Sums of the odd channel of a pair stay below this magnitude."""

COPIED_WORDS = 8
"""Weights that are copied to RAM are copied in groups of so many words, the last of which may reach beyond the end."""

LARGEST_HALF = 0xFFFF
"""Largest number in half of a word: bytes of the weights of a pair, and pairs."""

PARAMETERS = ("const int32_t *constants", "const void *x", "int8_t *y", "const void *x_end")
"""In C, of a product. Packed activations are words, in scratch or as a tensor of bytes."""

_SUMS = ("r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr")


def fits(steps: int, pixel_step: int) -> bool:
    """Return whether these numbers, and that of the channels, fit halves of a word."""
    return 4 * steps <= LARGEST_HALF and pixel_step <= LARGEST_HALF


def gemm_pairs(steps: int, output: Output | ScaledOutput, *, shared: bool = False, planes: bool = False) -> Microkernel:
    """Return the kernel for pairs of channels.

    Its arguments: constants of the pairs (`pack_pairs`), activations and their end (both multiples of a tile), the
    output of the first pixel and channel, and room for the weights of a pair, or null. They are copied there before the
    pair's pixels are computed: it pays where they are more than a buffer before the flash holds, since every tile reads
    them all. Constants and activations are aligned to 4 bytes, the output, of which bytes are stored, to nothing.

    Parameters
    ----------
    steps : products of one sum, divided by `K_STEP`.
    shared : the code is that for any number of steps, and takes about five cycles more a tile.
    planes : the output is channel after channel, instead of pixel after pixel.
    """
    walk: Walk = AnySteps() if shared else Steps.of(steps)
    sums = [f"vmov {register}, s{i % 4}" for i, register in enumerate(_SUMS)]
    tile = walk.reduction(_pair_step)
    for rr, lr, rh, lh in (_SUMS[:4], _SUMS[4:]):
        tile += [f"sub {rr}, {rr}, {lr}", f"sub {rh}, {rh}, {lh}"]
        tile += [f"sub {rr}, {rr}, {rh}, lsl #8", f"sub {lr}, {lr}, {lh}, lsl #8"]
    odd, even = _SUMS[::2], _SUMS[1::2]
    for registers, shift, fixed, first in ((odd, "asr", "#7", 7), (even, "lsl", "#1", 4)):
        tile += [f"vmov r{2 + i}, s{first + i}" for i in range(3)]
        by = "r4" if isinstance(output, ScaledOutput) else fixed
        for register in registers:
            tile += [f"{shift} {register}, {register}, {by}", *output.requantize(register, "r2", "r3", "r4")]
    tile += stores(list(zip(even, odd, strict=True)), planes=planes)
    return Microkernel(
        name=f"tinyml_gemm_pairs_{walk.name}_{output.name}{'_planes' if planes else ''}",
        parameters=(*PARAMETERS, "int32_t *copy"),
        assembly=kernel_lines(walk, sums, tile, head=10, width=2, planes=planes),
        portable=_portable(output, head=10, width=2, planes=planes),
    )


def gemm_single(
    steps: int, output: Output | ScaledOutput, *, shared: bool = False, planes: bool = False
) -> Microkernel:
    """Return the kernel for channels one by one, whose sums may be as large as 2**30: see `gemm_pairs`."""
    walk: Walk = AnySteps() if shared else Steps.of(steps)
    sums = ["vmov r6, s0", "vmov r7, s1", "vmov r8, s0", "vmov r9, s1"]
    tile = walk.reduction(_single_step)
    tile += ["sub r6, r6, r7, lsl #8", "sub r8, r8, r9, lsl #8", "vmov r2, s2", "vmov r3, s3", "vmov r4, s4"]
    for register in _SUMS[:4]:
        by = "r4" if isinstance(output, ScaledOutput) else "#1"
        tile += [f"lsl {register}, {register}, {by}", *output.requantize(register, "r2", "r3", "r4")]
    tile += stores([(register,) for register in _SUMS[:4]], planes=planes)
    return Microkernel(
        name=f"tinyml_gemm_single_{walk.name}_{output.name}{'_planes' if planes else ''}",
        parameters=(*PARAMETERS, "int32_t *copy"),
        assembly=kernel_lines(walk, sums, tile, head=5, width=1, planes=planes),
        portable=_portable(output, head=5, width=1, planes=planes),
    )


def pack_pairs(scales: Scales, output: Output | ScaledOutput, step: int) -> NDArray[np.int32]:
    """Return the constants of `gemm_pairs`, [words]: some numbers; for each pair initial sums, scales, and its weights.

    Parameters
    ----------
    scales : weights [O, K] in the order of the activations, O and K even; biases [O], the input's offset included.
    step : of `Places`: channels of the output, or bytes of a plane.
    """
    weight, bias, shift = scales.weight, scales.bias, scales.shift
    b0, b1 = bias[0::2], bias[1::2]
    unsigned0, unsigned1 = (b - 128 * weight[i::2].sum(axis=1) for i, b in enumerate((b0, b1)))
    lh = b0
    lr = unsigned0 + (b0 << 8)
    rh = (b1 << 8) + lh
    rr = (unsigned1 << 8) + (b1 << 16) + lr
    # Odd sums come shifted as far as any is.
    shifts = shift[0::2], MOST_RAISED - shift[1::2] if isinstance(output, ScaledOutput) else shift[1::2]
    each = [(scales.multiplier[i::2], scales.constant[i::2], shifts[i]) for i in range(2)]
    return _packed([rr, lr, rh, lh, *each[0], *each[1]], 256 * weight[1::2] + weight[0::2], step)


def pack_single(scales: Scales, _output: Output | ScaledOutput, step: int) -> NDArray[np.int32]:
    """Return the constants of `gemm_single`: see `pack_pairs`."""
    raw = scales.bias - 128 * scales.weight.sum(axis=1) + (scales.bias << 8)
    head = [raw, scales.bias, scales.multiplier, scales.constant, scales.shift]
    return _packed(head, scales.weight, step)


def _packed(head: list[Ints], halves: Ints, step: int) -> NDArray[np.int32]:
    """Return numbers of the layer, and of each pair or channel its head and its weights."""
    steps = halves.shape[1] // K_STEP
    numbers = np.array([step, len(halves), 4 * steps, AnySteps().gap_bytes(steps)], np.int32)
    rows = np.concatenate([as_words(np.stack(head, axis=1)), as_halves(halves)], axis=1)
    return np.concatenate([numbers, rows.ravel()])


def as_words(values: Ints) -> NDArray[np.int32]:
    """Return numbers modulo 2**32 as words."""
    return (values.astype(np.int64) & 0xFFFF_FFFF).astype(np.uint32).view(np.int32)


def as_halves(values: Ints) -> NDArray[np.int32]:
    """Return int16 numbers two to a word, the first in the low half."""
    return np.ascontiguousarray(values.astype(np.int16)).view(np.int32)


def _pair_step(i: int, last: bool) -> list[str]:
    """14 instructions, 15 cycles, 16 products: the loads stand together, and pixels are widened in place."""
    advance = "!" if last else ""
    lines = [f"ldr r2, [r0, #{4 * i + 4}]{advance}", f"ldr r4, [r1, #{8 * i + 4}]"]
    lines += [f"ldr r5, [r1, #{8 * i + 8}]{advance}", "sxtb16 r3, r2"]
    for pixels, (rr, lr, rh, lh) in (("r4", _SUMS[:4]), ("r5", _SUMS[4:])):
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


def _portable(output: Output | ScaledOutput, *, head: int, width: int, planes: bool) -> str:
    pair = width == 2
    bias = (
        "i ? (int32_t)((uint32_t)constants[2] - (uint32_t)constants[3]) / 256 : constants[3]"
        if pair
        else "constants[1]"
    )
    weight = "i ? (weights[k] - (int8_t)weights[k]) / 256 : (int8_t)weights[k]" if pair else "weights[k]"
    scale = f"constants + {head - 3 * width} + 3 * i"
    raised = f"sum = (int32_t)((uint32_t)sum << {f'(i ? {MOST_RAISED} - s : s)' if pair else 's'});"
    lines = [*([raised] if isinstance(output, ScaledOutput) else []), *output.portable().splitlines()]
    epilogue = "".join(f"          {line}\n" for line in lines)
    if planes:
        onward, advance, place = f"{width} * step", f"{PIXELS}", "step * i + p"
    else:
        onward, advance, place = f"{width}", f"{PIXELS} * step", "step * p + i"
    return f"""  (void)copy;
  const int32_t step = constants[0], steps = constants[2] / 4;
  int32_t count = constants[1];
  for (constants += 4; count > 0; --count, constants += {head} + steps, y += {onward}) {{
    const int16_t *const weights = (const int16_t *)(const void *)(constants + {head});
    int8_t *to = y;
    for (const int32_t *words = x; words != x_end; words += {K_STEP} * steps, to += {advance})
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
{epilogue}          to[{place}] = result;
        }}
      }}
  }}
"""
