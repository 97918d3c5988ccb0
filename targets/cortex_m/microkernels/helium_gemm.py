"""Matrix product of int8 with Helium: two pixels times four channels, sixteen products an instruction.

VMLADAVA adds the products of two vectors of bytes to a core register. Eight sums take the eight registers of even
numbers; six loads serve eight multiplications. Activations are read where they lie: the last vector of a pixel is
loaded by a predicate, so that nothing behind it is touched. Sums become vectors for the epilogue, `helium_output`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.targets.cortex_m.microkernels import helium_output
from tvm_tinyml.targets.cortex_m.microkernels.helium_output import LANES, MVE
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Ints, Output

CHANNELS = LANES
"""Of one tile."""

VECTOR_BYTES = 16
"""Products of one step."""

HEADER_WORDS = 1 + 4 * LANES
"""Of a group of channels, in front of its weights: where its outputs lie, and its scales."""

UNROLLED = 2
"""Steps in the body of the loop."""

_SUMS = (("r0", "r2", "r4", "r6"), ("r8", "r10", "r12", "lr"))
_POINTERS = ("r1", "r3")

_SAVED_BYTES = 64  # d8 to d15, below r0 to r11 and lr
_CONSTANTS, _X, _Y, _PIXELS = (_SAVED_BYTES + 4 * i for i in range(4))
_GROUPS, _X_STRIDE, _X_STEP, _Y_STRIDE, _TURNS, _LAST = (_SAVED_BYTES + 52 + 4 * i for i in range(6))

PARAMETERS = (
    *("const int32_t *constants", "const int8_t *x", "int8_t *y", "int32_t pixels", "int32_t groups"),
    *("int32_t x_stride", "int32_t x_step", "int32_t y_stride", "int32_t turns", "int32_t last"),
)


def steps_of(products: int) -> int:
    """Return how many vectors the products of a sum take."""
    return -(-products // VECTOR_BYTES)


def numbers(products: int, stride: int, channels: int) -> tuple[int, int, int, int, int]:
    """Return the last five arguments of `helium_gemm`.

    Parameters
    ----------
    products : of a sum; contiguous bytes of a pixel.
    stride : from a pixel to the next in bytes.
    channels : the same for the output.
    """
    steps = steps_of(products)
    done = VECTOR_BYTES * (steps - 1)
    return stride, stride - done, channels, max(steps - 2, 0) // UNROLLED, products - done


def helium_gemm(steps: int, output: Output, *, pixels: int = 2) -> Microkernel:
    """Return the kernel for sums of so many vectors; from four on all even ones share it, and all odd ones.

    Its arguments: constants (`pack`, aligned to 4 bytes), the first pixel and output (aligned to nothing: vectors of
    bytes need no more), the number of pixels (a multiple of the parameter), the number of groups of channels, and
    `numbers`.

    Parameters
    ----------
    pixels : of a tile, 1 or 2.
    """
    kind = steps if steps < 4 else 4 + steps % UNROLLED
    lines = ["push {r0-r11, lr}", "vpush {d8-d15}", f"ldr r0, [sp, #{_LAST}]", "vctp.8 r0", "3:"]
    lines += [f"ldr r5, [sp, #{_CONSTANTS}]", "ldr r0, [r5], #4"]
    lines += [f"vldrw.u32 q{q}, [r5], #16" for q in (4, 5, 6, 7)]
    lines += [f"str r5, [sp, #{_CONSTANTS}]", f"ldr r7, [sp, #{_Y}]", "add r7, r7, r0"]
    lines += [f"ldr r1, [sp, #{_X}]", f"ldr r11, [sp, #{_PIXELS}]", ".p2align 2", "2:"]
    lines += [f"ldr r0, [sp, #{_X_STRIDE}]", "add r3, r1, r0"] if pixels == 2 else []
    lines += [f"ldr r5, [sp, #{_CONSTANTS}]"]
    if kind > 1:
        lines += step(pixels, first=True)
    if kind in (3, 5):
        lines += step(pixels)
    if kind > 3:
        lines += loop(f"ldr r9, [sp, #{_TURNS}]", pixels)
    lines += step(pixels, first=kind == 1, last=True)
    lines += [f"ldr r9, [sp, #{_X_STEP}]", f"add r1, {_POINTERS[pixels - 1]}, r9"]
    lines += finish(output, pixels, f"ldr r0, [sp, #{_Y_STRIDE}]")
    lines += [f"subs r11, #{pixels}", "bne 2b", f"str r5, [sp, #{_CONSTANTS}]"]
    lines += [f"ldr r0, [sp, #{_GROUPS}]", "subs r0, #1", f"str r0, [sp, #{_GROUPS}]", "bne 3b"]
    lines += ["vpop {d8-d15}", "add sp, #16", "pop {r4-r11, pc}"]
    return Microkernel(
        name=f"tinyml_helium_gemm_{pixels}_{kind}_{output.name}",
        parameters=PARAMETERS,
        assembly=lines,
        portable=_portable(kind, output),
        condition=MVE,
    )


def step(pixels: int, *, first: bool = False, last: bool = False) -> list[str]:
    """Return how to multiply a vector of each pixel with one of each channel.

    Parameters
    ----------
    first, last : it starts the sums; it loads by the predicate.
    """
    multiply = "vmladav.s8" if first else "vmladava.s8"
    loads = [
        f"vldrb{'t' if last else ''}.u8 q{p}, [{pointer}]{'' if last else ', #16'}"
        for p, pointer in enumerate(_POINTERS[:pixels])
    ]
    # The loads of pixels stand together behind a predicate; else each goes with a multiplication of the other unit.
    lines = [f"vps{'t' * pixels}", *loads] if last else loads[:1]
    for channel in range(CHANNELS):
        weight = f"q{2 + channel % 2}"
        lines.append(f"vldrb.u8 {weight}, [r5], #16")
        for p in range(pixels):
            lines += [loads[p]] if channel == 0 and p and not last else []
            lines.append(f"{multiply} {_SUMS[p][channel]}, q{p}, {weight}")
    return lines


def loop(load_turns: str, pixels: int) -> list[str]:
    """Return the loop over pairs of steps; the instruction loads their number into r9."""
    return [load_turns, ".p2align 2", "1:", *step(pixels) * UNROLLED, "subs r9, #1", "bne 1b"]


def finish(output: Output, pixels: int, load_stride: str) -> list[str]:
    """Return the end of a tile: from its sums to outputs at r7, which moves on. The instruction loads their stride."""
    vectors = [f"q{p}" for p in range(pixels)]
    lines = []
    for q, (a, b, c, d) in zip(vectors, _SUMS, strict=False):
        lines += [f"vmov {q}[2], {q}[0], {a}, {c}", f"vmov {q}[3], {q}[1], {b}, {d}"]
    lines += [f"vadd.i32 {q}, {q}, q4" for q in vectors]
    lines += helium_output.scale(output, vectors, "q5", "q6", "q7", "q2")
    lines += [*helium_output.clamp(output, vectors, "q2", "q3"), load_stride]
    for q in vectors:
        lines += [f"vstrb.32 {q}, [r7]", "add r7, r7, r0"]
    return lines


def _portable(kind: int, output: Output) -> str:
    steps = f"{UNROLLED} * turns + {kind - 2}" if kind > 3 else str(kind)
    epilogue = "".join(f"        {line}\n" for line in output.portable().splitlines())
    return f"""  const int32_t steps = {steps}, products = {VECTOR_BYTES} * (steps - 1) + last;
  (void)x_step, (void)turns;
  for (; groups > 0; --groups, constants += {HEADER_WORDS} + {CHANNELS * VECTOR_BYTES // 4} * steps) {{
    const int8_t *const weight = (const int8_t *)(constants + {HEADER_WORDS});
    for (int32_t p = 0; p < pixels; ++p)
      for (int32_t i = 0; i < {CHANNELS}; ++i) {{
        const int32_t *const scale = constants + 1 + i;
        const int32_t m = scale[{LANES}], c = scale[{2 * LANES}], s = -scale[{3 * LANES}];
        int32_t sum = scale[0];
        for (int32_t k = 0; k < products; ++k)
          sum += x[p * x_stride + k] * weight[{CHANNELS * VECTOR_BYTES} * (k / {VECTOR_BYTES}) + \
{VECTOR_BYTES} * i + k % {VECTOR_BYTES}];
{epilogue}        y[constants[0] + p * y_stride + i] = result;
      }}
  }}
"""


def pack(weight: Ints, bias: Ints, multiplier: Ints, shift: Ints, zero_point: Ints) -> NDArray[np.int32]:
    """Return the constants of all channels, [groups, words]; the last group may share channels with the one before.

    Parameters
    ----------
    weight : [O, K], O of `CHANNELS` at least.
    """
    count, products = weight.shape
    first = np.minimum(np.arange(0, count, CHANNELS), count - CHANNELS)
    of_group = first[:, None] + np.arange(CHANNELS)
    steps = steps_of(products)
    padded = np.pad(weight, ((0, 0), (0, steps * VECTOR_BYTES - products))).astype(np.int8)
    vectors = padded[of_group].reshape(len(first), CHANNELS, steps, VECTOR_BYTES).transpose(0, 2, 1, 3)
    words = np.ascontiguousarray(vectors).reshape(len(first), -1).view(np.int32)
    scales = helium_output.scale_words(*(values[of_group] for values in (bias, multiplier, shift, zero_point)))
    return np.concatenate([first[:, None].astype(np.int32), scales.reshape(len(first), -1), words], axis=1)
