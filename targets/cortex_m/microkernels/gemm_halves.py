"""Matrix product of int16: four pixels times two channels, an activation or a weight in each half of a word.

Nothing is widened in the loop. Weights are stored doubled, or scaled for the shift that all channels share, so that
sums come out as the epilogue wants them; there is no bound on them but the epilogue's. The instructions of a step come
in one of two orders:

- mixed, for cores that issue two instructions at a time: a load goes with every other SMLAD, and an operand is loaded
  as soon as the last SMLAD has read its register. Source: experiments with LLVM's model of the Cortex-M7.
- grouped, for cores that issue one: loads that follow each other take a cycle each. There the other way, of `gemm`,
  needs fewer loads; this one has the shorter epilogue, and wins where a sum has few products.

Layout of activations, four pixels at a time: for each two k a word of each pixel.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.targets.cortex_m.microkernels.gemm import PARAMETERS, as_halves, as_words
from tvm_tinyml.targets.cortex_m.microkernels.gemm_walks import K_STEP, PIXELS
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel, add
from tvm_tinyml.targets.cortex_m.microkernels.output import Output
from tvm_tinyml.targets.cortex_m.microkernels.places import Places
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import ScaledOutput, Scales, portable_output

UNROLL = 8
"""Steps in the body of the loop."""

FARTHEST_STORE = 4095
"""Largest offset of a store."""

BEYOND_WORDS = 2
"""Words behind the end of weights and of activations that the kernel may load and does not use."""

_SUMS = ("r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr")


def fits(step: int) -> bool:
    """Return whether pixels with so many bytes in between lie close enough together for the stores."""
    return (PIXELS - 1) * step + 1 <= FARTHEST_STORE


def gemm_halves(steps: int, places: Places, output: Output | ScaledOutput, width: int, *, mixed: bool) -> Microkernel:
    """Return the kernel for ``width`` channels at a time, 1 or 2.

    Its arguments are those of `gemm.gemm_pairs` but for the last, its constants those of `pack_halves`; words are
    aligned to 4 bytes.
    """
    turns, rest = _runs(steps)
    sums = [_SUMS[width * pixel : width * (pixel + 1)] for pixel in range(PIXELS)]
    tile = [f"vmov {register}, s{channel}" for pixel in sums for channel, register in enumerate(pixel)]
    if width == 2 and mixed:
        tile += _mixed_pairs(turns, rest)
    else:
        tile += _in_groups(_grouped_pair if width == 2 else _grouped_single, turns, rest)
    for channel in range(width):
        words = 2 if isinstance(output, ScaledOutput) else 3
        tile += [f"vmov r{2 + i}, s{width + 3 * channel + i}" for i in range(words)]
        tile += ["vmov r5, s11"] if channel == 0 else []
        registers = [pixel[channel] for pixel in sums]
        epilogues = [output.requantize(register, "r2", "r3", "r4") for register in registers]
        # Stage by stage, so that no instruction waits for the one in front; a clamp's condition must stay together.
        whole = any(line.startswith("it ") for line in epilogues[0])
        stages = epilogues if whole else zip(*epilogues, strict=True)
        tile += [line for stage in stages for line in stage]
        onward = channel * places.channel_step
        if onward + PIXELS > FARTHEST_STORE:
            tile += add("r5", "r5", onward, "r2")
            onward = 0
        tile += [f"strb {register}, [r5, #{i * places.pixel_step + onward}]" for i, register in enumerate(registers)]
    order, runs = "mixed" if mixed else "grouped", f"{'l' if turns else ''}{rest}"
    return Microkernel(
        name=f"tinyml_gemm_halves_{order}_{width}_{runs}_{places.name}_{output.name}",
        parameters=PARAMETERS,
        assembly=_loops(tile, places, looped=turns > 0, width=width),
        portable=_portable(rest, places, output, width),
    )


def pack_halves(scales: Scales, width: int) -> NDArray[np.int32]:
    """Return the constants of `gemm_halves`, [words]: numbers, and each ``width`` channels' biases, scales, weights.

    Parameters
    ----------
    scales : weights [O, K] in the order of the activations, doubled or scaled as the biases are.
    """
    count, steps = scales.weight.shape[0] // width, scales.weight.shape[1] // K_STEP
    each = np.stack([scales.multiplier, scales.constant, scales.shift], axis=1)
    head = np.concatenate([scales.bias.reshape(count, width), each.reshape(count, 3 * width)], axis=1)
    weight = scales.weight.reshape(count, width, steps, K_STEP).transpose(0, 2, 1, 3)
    numbers = np.array([count, 4 * width * UNROLL * _runs(steps)[0]], np.int32)
    rows = np.concatenate([as_words(head), as_halves(weight.reshape(count, -1))], axis=1)
    return np.concatenate([numbers, rows.ravel()])


def _runs(steps: int) -> tuple[int, int]:
    """Turns of the loop, and steps behind it."""
    turns, rest = divmod(steps, UNROLL)
    return (turns, rest) if turns > 1 else (0, steps)


def _mixed_pairs(turns: int, rest: int) -> list[str]:
    lines = ["ldr r2, [r0, #4]", "ldr r3, [r0, #8]", "ldr r4, [r1, #4]", "ldr r5, [r1, #8]"]
    if turns:
        lines += [".p2align 2", "2:"]
        for i in range(UNROLL - 1):
            lines += _pair_step(i, [f"ldr r4, [r1, #{16 * i + 20}]", *_next_weights(i)])
        lines += _pair_step(UNROLL - 1, _turn())
    for i in range(rest - 1):
        lines += _pair_step(i, [f"ldr r4, [r1, #{16 * i + 20}]", *_next_weights(i)])
    return lines + (_pair_step(rest - 1, [f"add r0, #{8 * rest}", f"add r1, #{16 * rest}"]) if rest else [])


def _pair_step(i: int, after: list[str]) -> list[str]:
    """Eight SMLAD, and between them the loads of this step's other pixels; then what leads to the next step."""
    a = _SUMS
    return [
        *(f"smlad {a[0]}, r2, r4, {a[0]}", f"smlad {a[1]}, r3, r4, {a[1]}", f"ldr r4, [r1, #{16 * i + 12}]"),
        *(f"smlad {a[2]}, r2, r5, {a[2]}", f"smlad {a[3]}, r3, r5, {a[3]}", f"ldr r5, [r1, #{16 * i + 16}]"),
        *(f"smlad {a[4]}, r2, r4, {a[4]}", f"smlad {a[5]}, r3, r4, {a[5]}", *after[:1]),
        *(f"smlad {a[6]}, r2, r5, {a[6]}", *after[1:2], f"smlad {a[7]}, r3, r5, {a[7]}", *after[2:]),
    ]


def _next_weights(i: int) -> list[str]:
    return [f"ldr r2, [r0, #{8 * i + 12}]", f"ldr r3, [r0, #{8 * i + 16}]", f"ldr r5, [r1, #{16 * i + 24}]"]


def _turn() -> list[str]:
    """Advance, load the operands of the next turn or of what is behind the loop, and test."""
    step = [f"add r0, #{8 * UNROLL}", f"add r1, #{16 * UNROLL}", "vmov r4, s12", "ldr r2, [r0, #4]", "ldr r3, [r0, #8]"]
    return [*step, "cmp r0, r4", "ldr r4, [r1, #4]", "ldr r5, [r1, #8]", "bne 2b"]


def _in_groups(step: Callable[[int, bool], list[str]], turns: int, rest: int) -> list[str]:
    lines: list[str] = []
    if turns:
        lines += [".p2align 2", "2:"]
        for i in range(UNROLL):
            lines += step(i, i == UNROLL - 1)
        lines += ["vmov r2, s12", "cmp r0, r2", "bne 2b"]
    for i in range(rest):
        lines += step(i, i == rest - 1)
    return lines


def _grouped_pair(i: int, last: bool) -> list[str]:
    """16 cycles for 16 products: four loads, four SMLAD, two loads, four SMLAD."""
    advance, lines = "!" if last else "", []
    lines += [f"ldr r2, [r0, #{8 * i + 4}]", f"ldr r3, [r0, #{8 * i + 8}]{advance}"]
    for half in range(2):
        lines += [f"ldr r4, [r1, #{16 * i + 8 * half + 4}]"]
        lines += [f"ldr r5, [r1, #{16 * i + 8 * half + 8}]{advance if half else ''}"]
        a = _SUMS[4 * half :]
        lines += [f"smlad {a[0]}, r2, r4, {a[0]}", f"smlad {a[1]}, r3, r4, {a[1]}"]
        lines += [f"smlad {a[2]}, r2, r5, {a[2]}", f"smlad {a[3]}, r3, r5, {a[3]}"]
    return lines


def _grouped_single(i: int, last: bool) -> list[str]:
    advance = "!" if last else ""
    return [
        *(f"ldr r2, [r0, #{4 * i + 4}]{advance}", f"ldr r3, [r1, #{16 * i + 4}]", f"ldr r4, [r1, #{16 * i + 8}]"),
        *(f"ldr r5, [r1, #{16 * i + 12}]", "smlad r6, r2, r3, r6", f"ldr r3, [r1, #{16 * i + 16}]{advance}"),
        *("smlad r7, r2, r4, r7", "smlad r8, r2, r5, r8", "smlad r9, r2, r3, r9"),
    ]


def _loops(tile: list[str], places: Places, *, looped: bool, width: int) -> list[str]:
    """Wrap a tile into the loops over pixels and channels.

    The floating-point registers hold what does not change in the loop over tiles: s0 to s7 the constants of a pair, s10
    bytes of looped weights, s11 output, s12 end of the looped weights, s13 weights, s14 activations, s15 their end. On
    the stack: number of pairs left, and the first pixel's output.
    """
    lines = ["push {r1-r11, lr}", "ldm r0!, {r4, r5}", "subs r1, #4", "subs r3, #4", "vmov s14, r1", "vmov s15, r3"]
    lines += ["str r4, [sp]", *(["vmov s10, r5"] if looped else [])]
    lines += ["3:", f"vldmia r0!, {{s0-s{4 * width - 1}}}", "subs r0, #4", "ldr r2, [sp, #4]"]
    lines += ["vmov r4, s10", "add r4, r4, r0", "vmov s12, r4"] if looped else []
    lines += ["vmov s11, r2", "vmov s13, r0", "vmov r1, s14", ".p2align 2", "1:", *tile]
    back = (width - 1) * places.channel_step
    back = back if back + PIXELS > FARTHEST_STORE else 0
    lines += add("r5", "r5", PIXELS * places.pixel_step - back, "r2")
    lines += ["vmov r2, s15", "vmov s11, r5", "cmp r1, r2", "it ne", "vmovne r0, s13", "bne 1b"]
    lines += ["ldr r3, [sp]", "ldr r2, [sp, #4]", "adds r0, #4"]
    lines += [*add("r2", "r2", width * places.channel_step, "r4"), "str r2, [sp, #4]"]
    return [*lines, "subs r3, #1", "str r3, [sp]", "bne 3b", "pop {r1-r11, pc}"]


def _portable(rest: int, places: Places, output: Output | ScaledOutput, width: int) -> str:
    epilogue = "".join(f"          {line}\n" for line in portable_output(output))
    shift = "" if isinstance(output, ScaledOutput) else ", s = scale[2]"
    onward = width * places.channel_step
    return f"""  const int32_t steps = constants[1] / {4 * width} + {rest};
  int32_t count = constants[0];
  for (constants += 2; count > 0; --count, constants += {4 * width} + {width} * steps, y += {onward}) {{
    const int16_t *const weights = (const int16_t *)(const void *)(constants + {4 * width});
    int8_t *to = y;
    for (const int32_t *tile = x; tile != x_end; tile += {PIXELS} * steps, to += {PIXELS * places.pixel_step})
      for (int32_t i = 0; i < {width}; ++i) {{
        const int16_t *const halves = (const int16_t *)(const void *)tile;
        const int32_t *const scale = constants + {width} + 3 * i;
        const int32_t m = scale[0], c = scale[1]{shift};
        for (int32_t p = 0; p < {PIXELS}; ++p) {{
          int32_t sum = constants[i];
          for (int32_t k = 0; k < {K_STEP} * steps; ++k) {{
            const int16_t weight = weights[{K_STEP * width} * (k / 2) + 2 * i + k % 2];
            sum += weight * halves[{K_STEP * PIXELS} * (k / 2) + 2 * p + k % 2];
          }}
{epilogue}          to[{places.pixel_step} * p + {places.channel_step} * i] = result;
        }}
      }}
  }}
"""
