"""Dense layers for a row of activations on cores with SMLAD: up to eight outputs at once, every weight read once.

The activations are widened to halves once for all outputs (`widen`). Weights stay bytes, in one of two forms:

pairs
    a half is 256 w1 + w0 of two channels. SMLAD of such words gives 256 Y1 + Y0 modulo 2**32 and, after an SXTB16 that
    leaves w0, Y0. The sums of the odd channel must stay below `gemm.LARGEST_ODD_SUM`. Four pairs: 17 instructions and
    19 cycles for 16 products.
single
    a word is four weights of one channel, which two SXTB16 widen: 22 instructions and 23 cycles for 16 products. No
    bound but that of the epilogue.

Products are in the order in which SXTB16 leaves them: k, k + 2, k + 1, k + 3 of four bytes (`Window.order`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.arithmetic import wrap
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Ints, Output, rounding_constant

Words = NDArray[np.int32]

MOST_PAIRED, MOST_SINGLE = 8, 4
"""Channels of one pass over the activations, at most."""

UNROLL = 8
"""Words of activations in the body of the loop: the weights' offsets just fit the short form of LDR."""

SUMS = ("r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr")
PARAMETERS = ("const int32_t *constants", "const int32_t *x", "int8_t *y", "const int8_t *y_end", "int32_t words")


def widen() -> Microkernel:
    """Return the kernel that turns bytes into halves in the order of the products.

    Its arguments: where to (aligned to 4 bytes), from where (aligned to nothing; words are loaded), how many bytes. A
    zero follows an odd number of them.
    """
    four = ["ldr r3, [r1], #4", "sxtb16 r4, r3, ror #8", "sxtb16 r3, r3", "stm r0!, {r3, r4}"]
    eight = ["ldr r3, [r1], #4", "ldr r5, [r1], #4", "sxtb16 r4, r3, ror #8", "sxtb16 r3, r3"]
    eight += ["sxtb16 r12, r5, ror #8", "sxtb16 r5, r5", "stm r0!, {r3, r4, r5, r12}"]
    two = ["ldrsb r3, [r1], #1", "ldrsb r4, [r1], #1", "strh r3, [r0], #2", "strh r4, [r0], #2"]
    one = ["ldrsb r3, [r1]", "uxth r3, r3", "str r3, [r0]"]
    lines = ["push {r4, r5}", "subs r2, #8", "blt 2f", ".p2align 2", "1:", *eight, "subs r2, #8", "bge 1b"]
    for label, (size, rest) in enumerate(((4, four), (2, two), (1, one)), start=2):
        lines += [f"{label}:", f"tst r2, #{size}", f"beq {label + 1}f", *rest]
    return Microkernel(
        name="tinyml_widen",
        parameters=("int32_t *to", "const int8_t *from", "int32_t bytes"),
        assembly=[*lines, "5:", "pop {r4, r5}", "bx lr"],
        portable="""  int16_t *const halves = (int16_t *)(void *)to;
  const int32_t whole = bytes / 4 * 4;
  for (int32_t k = 0; k < whole; ++k) halves[k] = from[k / 4 * 4 + k % 2 * 2 + k / 2 % 2];
  for (int32_t k = whole; k < bytes; ++k) halves[k] = from[k];
  if (bytes % 2) halves[bytes] = 0;
""",
    )


def dense_pairs(channels: int, output: Output, *, shared: bool) -> Microkernel:
    """Return the kernel in the form of pairs.

    Its arguments: constants (`pack_pairs`), activations from `widen`, the first output, the end of the outputs (a
    multiple of ``channels`` away), words of the activations. Constants and activations are aligned to 4 bytes, outputs,
    of which bytes are stored, to nothing.

    Parameters
    ----------
    channels : at once, 1 to `MOST_PAIRED`; without its partner the last channel is paired with zeros.
    shared : one scale for all channels, in front of the constants, instead of one for each.
    """
    pairs = -(-channels // 2)
    sums = SUMS[: 2 * pairs]
    spare = ("r2", "r3", "r4", "r5", *SUMS[2 * pairs :])
    separate = []
    for raw, low in zip(sums[::2], sums[1::2], strict=True):
        separate += [f"sub {raw}, {raw}, {low}", f"asr {raw}, {raw}, #7", f"lsl {low}, {low}, #1"]
    epilogue = [*separate, *store([sums[channel ^ 1] for channel in range(channels)], output, shared)]
    portable = f"""      const int32_t *const raw = sums + i / 2 * 2;
      int32_t sum = i % 2 ? (int32_t)((uint32_t)raw[0] - (uint32_t)raw[1]) / 256 : raw[1];
      for (int32_t k = 0; k < 2 * words; ++k) {{
        const int16_t half = ((const int16_t *)(const void *)(weights + k / 2 * {pairs} + i / 2))[k % 2];
        sum += (i % 2 ? (half - (int8_t)half) / 256 : (int8_t)half) * halves[k];
      }}
"""
    return Microkernel(
        name=name_of("pairs", channels, output, shared),
        parameters=PARAMETERS,
        assembly=loops(sums, shared, lambda words: _pair_steps(words, sums, spare), 1, epilogue),
        portable=portable_rows(channels, output, shared, len(sums), f"{pairs} * words", portable),
    )


def dense_single(channels: int, output: Output, *, shared: bool) -> Microkernel:
    """Return the kernel in the form of single channels, 1 to `MOST_SINGLE`: see `dense_pairs`.

    The words of the activations are even in number.
    """
    sums = SUMS[:channels]
    epilogue = [*(f"lsl {total}, {total}, #1" for total in sums), *store(sums, output, shared)]
    portable = f"""      int32_t sum = sums[i];
      for (int32_t k = 0; k < 2 * words; ++k)
        sum += ((const int8_t *)(weights + k / 4 * {channels} + i))[k % 2 * 2 + k / 2 % 2] * halves[k];
"""
    return Microkernel(
        name=name_of("single", channels, output, shared),
        parameters=PARAMETERS,
        assembly=loops(sums, shared, lambda words: _single_steps(words, sums), 2, epilogue),
        portable=portable_rows(channels, output, shared, len(sums), f"{channels} * (words / 2)", portable),
    )


def pack_pairs(weight: Ints, bias: Ints, scales: Words | None, channels: int) -> Words:
    """Return the constants of `dense_pairs`: for each pass initial sums, weights, and unless shared the scales.

    Parameters
    ----------
    weight : [O, K] in the order of the products, O a multiple of ``channels`` and K of 2.
    bias : [O], the input's offset included: the sum for an input of zeros.
    scales : `scale_words` of the channels; None where they share one.
    """
    partner = ((0, 0), (0, channels % 2), (0, 0))
    w = np.pad(weight.reshape(-1, channels, weight.shape[1]), partner)
    b = np.pad(bias.reshape(-1, channels, 1), partner)[..., 0]
    sums = np.stack([(b[:, 1::2] << 8) + b[:, ::2], b[:, ::2]], axis=2)
    halves = (256 * w[:, 1::2] + w[:, ::2]).reshape(*w[:, ::2].shape[:2], -1, 2).transpose(0, 2, 1, 3)
    return in_passes(sums, np.ascontiguousarray(halves.astype(np.int16)), scales, len(w))


def pack_single(weight: Ints, bias: Ints, scales: Words | None, channels: int) -> Words:
    """Return the constants of `dense_single`, K a multiple of 4: see `pack_pairs`."""
    fours = weight.reshape(-1, channels, weight.shape[1] // 4, 4)[..., [0, 2, 1, 3]].transpose(0, 2, 1, 3)
    return in_passes(bias, np.ascontiguousarray(fours.astype(np.int8)), scales, len(fours))


def scale_words(multiplier: Ints, shift: Ints, zero_point: Ints) -> Words:
    """Return multiplier, constant and shift of each channel, [O, 3]; the shift is to the right."""
    return wrap(np.stack([multiplier, rounding_constant(shift, zero_point), shift], axis=1))


def in_passes(sums: Ints, weights: NDArray[np.integer], scales: Words | None, passes: int) -> Words:
    """Return initial sums, weights and scales of each pass, [passes, words]."""
    parts = [wrap(sums), weights.view(np.int32), *([] if scales is None else [scales])]
    return np.concatenate([part.reshape(passes, -1) for part in parts], axis=1)


def name_of(form: str, channels: int, output: Output, shared: bool) -> str:
    """Return the name of a microkernel."""
    return f"tinyml_dense_{form}_{channels}_{output.name}{'_shared' if shared else ''}"


def _pair_steps(words: int, sums: Sequence[str], spare: Sequence[str]) -> list[str]:
    """As many words of activations at once as there are registers for, so that loads stand together."""
    pairs = len(sums) // 2
    together = max(n for n in (1, 2, 4) if n <= words and (n == 1 or n * (1 + pairs) <= len(spare)))
    xs, ws = spare[:together], spare[together:]
    lines: list[str] = []
    for first in range(0, words, together):
        lines += [load(x, "r1", first + i, words) for i, x in enumerate(xs)]
        weights = range(first * pairs, (first + together) * pairs)
        for start in weights[:: len(ws)]:
            held = list(zip(weights[start - weights[0] :], ws, strict=False))
            lines += [load(w, "r0", i, words * pairs) for i, w in held]
            for i, w in held:
                x, (raw, low) = xs[(i - weights[0]) // pairs], sums[2 * (i % pairs) :][:2]
                lines += [f"smlad {raw}, {w}, {x}, {raw}", f"sxtb16 {w}, {w}", f"smlad {low}, {w}, {x}, {low}"]
    return lines


def _single_steps(words: int, sums: Sequence[str]) -> list[str]:
    channels = len(sums)
    lines: list[str] = []
    for i in range(0, words, 2):
        lines += [load("r2", "r1", i, words), load("r3", "r1", i + 1, words)]
        held = list(zip(("r4", "r5", "r10", "r11"), sums, strict=False))
        lines += [load(w, "r0", i // 2 * channels + j, words // 2 * channels) for j, (w, _) in enumerate(held)]
        for w, total in held:
            lines += [f"sxtb16 r12, {w}", f"smlad {total}, r12, r2, {total}"]
            lines += [f"sxtb16 {w}, {w}, ror #8", f"smlad {total}, {w}, r3, {total}"]
    return lines


def load(register: str, pointer: str, word: int, words: int) -> str:
    """Load one of the words that come next; the last of them moves the pointer, which is at the word in front."""
    return f"ldr {register}, [{pointer}, #{4 * word + 4}]{'!' if word == words - 1 else ''}"


def store(results: Sequence[str], output: Output, shared: bool) -> list[str]:
    """Turn doubled sums into outputs."""
    lines = ["vmov r5, s3", *(["vmov r2, s5", "vmov r3, s6", "vmov r4, s7"] if shared else [])]
    for i, register in enumerate(results):
        if not shared:
            lines += [f"ldr {to}, [r0, #{4 + 4 * (3 * i + j)}]" for j, to in enumerate(("r2", "r3", "r4"))]
        lines += [*output.requantize(register, "r2", "r3", "r4"), f"strb {register}, [r5, #{i}]"]
    behind = 4 if shared else 4 + 12 * len(results)
    return [*lines, f"adds r0, #{behind}", f"adds r5, #{len(results)}"]


def loops(
    sums: Sequence[str],
    shared: bool,
    steps: Callable[[int], list[str]],
    fewest: int,
    epilogue: Sequence[str],
    begin: Sequence[str] = (),
) -> list[str]:
    """Wrap the steps into a loop that is unrolled and one that is not, and both into the loop over passes.

    What does not change lives in the floating-point registers: s0 activations, s1 their end in the first loop, s2 in
    the second, s3 output, s4 its end, s5 to s7 the shared scale.

    Parameters
    ----------
    begin : what is done to the initial sums of a pass.
    """
    lines = ["push {r4-r11, lr}", "ldr r4, [sp, #36]", "subs r1, #4", "add r5, r1, r4, lsl #2"]
    lines += [f"bic r4, r4, #{UNROLL - 1}", "add r4, r1, r4, lsl #2", "vmov s0, r1", "vmov s1, r4", "vmov s2, r5"]
    lines += ["vmov s3, r2", "vmov s4, r3", *(["vldmia r0!, {s5-s7}"] if shared else [])]
    lines += ["3:", f"ldm r0!, {{{', '.join(sums)}}}", "subs r0, #4", "vmov r1, s0", *begin]
    for label, words, end in ((4, UNROLL, "s1"), (6, fewest, "s2")):
        test = [f"vmov r2, {end}", "cmp r1, r2"]
        loop = [*test, f"beq {label + 1}f", ".p2align 2", f"{label}:", *steps(words), *test, f"bne {label}b"]
        lines += [*loop, f"{label + 1}:"]
    return [*lines, *epilogue, "vmov r2, s4", "vmov s3, r5", "cmp r5, r2", "bne 3b", "pop {r4-r11, pc}"]


def portable_rows(channels: int, output: Output, shared: bool, sums: int, weights: str, total: str) -> str:
    """Return the C body; ``total`` declares the ``sum`` of channel i, ``weights`` says how many words they are."""
    own = 0 if shared else 3 * channels
    head = "  const int32_t *const scale = constants;\n  constants += 3;\n" if shared else ""
    scale = "" if shared else f"      const int32_t *const scale = weights + {weights} + 3 * i;\n"
    epilogue = "".join(f"      {line}\n" for line in output.portable().splitlines())
    return f"""{head}  const int16_t *const halves = (const int16_t *)(const void *)x;
  for (; y != y_end; y += {channels}, constants += {sums + own} + {weights}) {{
    const int32_t *const sums = constants, *const weights = constants + {sums};
    for (int32_t i = 0; i < {channels}; ++i) {{
{scale}      const int32_t m = scale[0], c = scale[1], s = scale[2];
{total}{epilogue}      y[i] = result;
    }}
  }}
"""
