"""Dense layers with weights of four bits, which never become bytes: see `dense_rows` for the row and the loops.

nibbles
    a half has the weights of four channels, 8 added to the lower three: ``w3 << 12 | n2 << 8 | n1 << 4 | n0``. SMLAD of
    the whole word, and of what is left as one nibble after the other is cut off, gives sums that differ by the sum of a
    channel times 4096, 256, 16 and 1. Seven instructions and a load for eight products: fewer than bytes take.
scaled
    the same, where the weights of `GROUP` inputs have a multiplier in each channel: sums of a group are told apart when
    it ends, multiplied and added up.
table
    a byte is two weights of a channel that follow each other, as two indices of a table of 16. It is looked up in a
    table of all pairs, whose words are what SMLAD takes.

What was added to a weight, 8 times all activations, is taken off the initial sums (`row_sums`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.targets.cortex_m.microkernels.dense_rows import (
    PARAMETERS,
    UNROLL,
    Words,
    in_passes,
    load,
    loops,
    name_of,
    portable_rows,
    store,
)
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Ints, Output

FOUR = 4
"""Channels in a word; all that `dense_scaled` and `dense_table` compute at once."""

GROUP = 32
"""Inputs that share a multiplier in a channel."""

GROUP_WORDS = GROUP // 2

LARGEST_SUMS = np.array([1 << 30, 1 << 27, 1 << 23, 1 << 19])
"""Of the channels of a word: the magnitude of each must be smaller, or it loses its upper bits."""

TABLE_WORDS = 256

_OF_FOUR = ("r6", "r7", "r8", "r9")
_TOTALS = ("r10", "r11", "r12", "lr")


def row_sums() -> Microkernel:
    """Return the kernel that adds up activations, times -8.

    Its arguments: where to, one word for each group; activations from `dense_rows.widen`, how many words they are, and
    how many of those are a group; the last may be shorter. Both are words, aligned to 4 bytes.
    """
    return Microkernel(
        name="tinyml_row_sums",
        parameters=("int32_t *to", "const int32_t *x", "int32_t words", "int32_t at_once"),
        assembly=[
            *("push {r4-r6, lr}", "mvn r5, #7", "pkhbt r5, r5, r5, lsl #16", "add r2, r1, r2, lsl #2"),
            *("1:", "add r6, r1, r3, lsl #2", "cmp r6, r2", "it hi", "movhi r6, r2", "movs r4, #0"),
            *("sub lr, r6, r1", "tst lr, #4", "beq 2f", "ldr r12, [r1], #4", "smlad r4, r12, r5, r4"),
            *("2:", "cmp r1, r6", "beq 4f", ".p2align 2"),
            *("3:", "ldr r12, [r1], #4", "ldr lr, [r1], #4", "smlad r4, r12, r5, r4", "smlad r4, lr, r5, r4"),
            *("cmp r1, r6", "bne 3b"),
            *("4:", "str r4, [r0], #4", "cmp r1, r2", "bne 1b", "pop {r4-r6, pc}"),
        ],
        portable="""  const int16_t *halves = (const int16_t *)(const void *)x, *const end = halves + 2 * words;
  while (halves != end) {
    int32_t total = 0;
    for (int32_t k = 0; k < 2 * at_once && halves != end; ++k) total -= 8 * *halves++;
    *to++ = total;
  }
""",
    )


def dense_nibbles(channels: int, output: Output, *, shared: bool) -> Microkernel:
    """Return the kernel of 1 to 8 ``channels`` at once.

    Its arguments are those of `dense_rows.dense_pairs`. Behind the activations is what `row_sums` makes of all of them.
    """
    words = -(-channels // FOUR)
    sums = ("r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr")[: FOUR * words]
    begin = ["vmov r2, s2", "ldr r2, [r2, #4]", *_initial(sums)]
    epilogue = [line for first in range(0, len(sums), FOUR) for line in _doubled(sums[first : first + FOUR])]
    epilogue += store([sums[channel] for channel in range(channels)], output, shared)

    def steps(count: int) -> list[str]:
        lines: list[str] = []
        for i in range(count):
            held = ("r3", "r4")[:words]
            lines += [load("r2", "r1", i, count)]
            lines += [load(w, "r0", i * words + j, count * words) for j, w in enumerate(held)]
            parts = [_products(w, "r2", sums[FOUR * j :]) for j, w in enumerate(held)]
            lines += [line for together in zip(*parts, strict=True) for line in together]
        return lines

    total = f"""      const int32_t j = i % 4;
      int32_t sum = j ? (int32_t)((uint32_t)sums[i] - (uint32_t)sums[i - 1]) / (1 << 4 * j) : sums[i];
      for (int32_t k = 0; k < 2 * words; ++k)
        sum += {_nibble(f"weights[k / 2 * {words} + i / 4]")} * halves[k];
"""
    return Microkernel(
        name=name_of("nibbles", channels, output, shared),
        parameters=PARAMETERS,
        assembly=loops(sums, shared, steps, 1, epilogue, begin),
        portable=portable_rows(channels, output, shared, len(sums), f"{words} * words", total),
    )


def dense_scaled(channels: int, output: Output, *, shared: bool) -> Microkernel:
    """Return the kernel of 1 to `FOUR` ``channels`` at once whose groups have multipliers: see `dense_nibbles`.

    The words of the activations are even in number. Behind them is what `row_sums` makes of each group.
    """
    end, sums_at, loop_end, group_end = "s2", "s8", "s9", "s10"
    group = [
        *(".p2align 2", "8:"),
        *(f"vmov r3, {sums_at}", "ldr r2, [r3, #4]!", f"vmov {sums_at}, r3"),
        *("movs r6, #0", "movs r7, #0", "movs r8, #0", "movs r9, #0", *_initial(_OF_FOUR)),
        *(f"vmov r2, {end}", "subs r2, r1", f"cmp r2, #{4 * GROUP_WORDS}", "it hi", f"movhi r2, #{4 * GROUP_WORDS}"),
        *("add r3, r1, r2", f"vmov {group_end}, r3", f"bic r2, #{4 * UNROLL - 1}", "add r2, r1"),
        f"vmov {loop_end}, r2",
    ]
    for label, words, stop in ((4, UNROLL, loop_end), (6, 2, group_end)):
        test, steps = [f"vmov r2, {stop}", "cmp r1, r2"], list[str]()
        for i in range(0, words, 2):
            steps += [load("r2", "r1", i, words), load("r3", "r1", i + 1, words)]
            steps += [load("r4", "r0", i, words), load("r5", "r0", i + 1, words)]
            steps += [*_products("r4", "r2", _OF_FOUR), *_products("r5", "r3", _OF_FOUR)]
        group += [
            *test,
            f"beq {label + 1}f",
            ".p2align 2",
            f"{label}:",
            *steps,
            *test,
            f"bne {label}b",
            f"{label + 1}:",
        ]
    group += [*_apart(_OF_FOUR), "ldr r2, [r0, #4]!"]
    for j, (part, total) in enumerate(zip(_OF_FOUR, _TOTALS, strict=True)):
        group += [*([f"asr {part}, {part}, #{4 * j}"] if j else []), f"ubfx r3, r2, #{8 * j}, #8"]
        group += [f"mla {total}, {part}, r3, {total}"]
    group += [f"vmov r2, {end}"]
    epilogue = [*(f"lsl {total}, {total}, #1" for total in _TOTALS), *store(_TOTALS[:channels], output, shared)]
    total = f"""      const int32_t j = i, *word = weights;
      int32_t sum = sums[i];
      for (int32_t first = 0; first < words; first += {GROUP_WORDS}, ++word) {{
        const int32_t stop = words < first + {GROUP_WORDS} ? words : first + {GROUP_WORDS};
        int32_t part = 0;
        for (int32_t k = 2 * first; k < 2 * stop; word += k++ % 2)
          part += {_nibble("*word")} * halves[k];
        sum += part * (*word >> 8 * j & 0xff);
      }}
"""
    groups = f"(words + {GROUP_WORDS - 1}) / {GROUP_WORDS}"
    return Microkernel(
        name=name_of("scaled", channels, output, shared),
        parameters=PARAMETERS,
        assembly=_passes_of_four(shared, ["vmov r3, s2", f"vmov {sums_at}, r3"], group, epilogue),
        portable=portable_rows(channels, output, shared, FOUR, f"(words + {groups})", total),
    )


def pair_table() -> Microkernel:
    """Return the kernel that makes the table of all pairs.

    Its arguments: where to, `TABLE_WORDS` words, and the table of 16, a word each: both aligned to 4 bytes.
    """
    return Microkernel(
        name="tinyml_pair_table",
        parameters=("int32_t *to", "const int32_t *numbers"),
        assembly=[
            *("push {r4, r5}", "add r3, r1, #64", "mov r2, r1"),
            *("1:", "ldr r4, [r2], #4", "sub r12, r3, #64", ".p2align 2"),
            *("2:", "ldr r5, [r12], #4", "pkhbt r5, r5, r4, lsl #16", "str r5, [r0], #4", "cmp r12, r3", "bne 2b"),
            *("cmp r2, r3", "bne 1b", "pop {r4, r5}", "bx lr"),
        ],
        portable="""  int16_t *halves = (int16_t *)(void *)to;
  for (int32_t pair = 0; pair < 256; ++pair) {
    *halves++ = (int16_t)numbers[pair % 16];
    *halves++ = (int16_t)numbers[pair / 16];
  }
""",
    )


def dense_table(channels: int, output: Output, *, shared: bool) -> Microkernel:
    """Return the kernel of 1 to `FOUR` ``channels`` at once whose weights are in a table: see `dense_nibbles`.

    The words of the activations are a multiple of four. One more argument: what `pair_table` makes.
    """
    lines: list[str] = [".p2align 2", "8:", "vmov r1, s8", "ldm r1!, {r2, r3, r4, r5}", "vmov s8, r1", "vmov r1, s9"]
    for total in _OF_FOUR[:channels]:
        lines += [
            "ldr lr, [r0, #4]!",
            "uxtb r10, lr",
            "uxtb r11, lr, ror #8",
            "uxtb r12, lr, ror #16",
            "lsr lr, lr, #24",
        ]
        lines += [f"ldr {t}, [r1, {t}, lsl #2]" for t in ("r10", "r11", "r12", "lr")]
        pairs = zip(("r10", "r11", "r12", "lr"), ("r2", "r3", "r4", "r5"), strict=True)
        lines += [f"smlad {total}, {t}, {x}, {total}" for t, x in pairs]
    lines += ["vmov r1, s8", "vmov r2, s2", "adds r2, #4"]
    sums = _OF_FOUR[:channels]
    total = f"""      int32_t sum = sums[i];
      for (int32_t k = 0; k < 2 * words; ++k) {{
        const int32_t byte = weights[k / 8 * {channels} + i] >> 8 * (k % 8 / 2) & 0xff;
        sum += ((const int16_t *)(const void *)(table + byte))[k % 2] * halves[k];
      }}
"""
    epilogue = [*(f"lsl {register}, {register}, #1" for register in sums), *store(sums, output, shared)]
    head = ("ldr r12, [sp, #40]", "vmov s9, r12")
    return Microkernel(
        name=name_of("table", channels, output, shared),
        parameters=(*PARAMETERS, "const int32_t *table"),
        assembly=_passes_of_four(shared, ["add r1, #4", "vmov s8, r1"], lines, epilogue, sums, head),
        portable=portable_rows(channels, output, shared, channels, f"{channels} * (words / 4)", total),
    )


def pack_nibbles(weight: Ints, bias: Ints, scales: Words | None, channels: int) -> Words:
    """Return the constants of `dense_nibbles`: see `dense_rows.pack_pairs`. Weights are -8 to 7."""
    passes, length = len(weight) // channels, weight.shape[1]
    w, b = (_fours(values, channels) for values in (weight, bias[:, None]))
    sums = (b[..., 0] << 4 * np.arange(FOUR)).cumsum(axis=2)
    halves = _halves(w).reshape(passes, -1, length // 2, 2).transpose(0, 2, 1, 3)
    return in_passes(sums, np.ascontiguousarray(halves), scales, passes)


def pack_scaled(weight: Ints, multipliers: Ints, bias: Ints, scales: Words | None, channels: int) -> Words:
    """Return the constants of `dense_scaled`, K a multiple of 4.

    Parameters
    ----------
    weight : -8 to 7, to be multiplied.
    multipliers : [O, groups], 1 to 255.
    """
    passes = len(weight) // channels
    bits = _halves(_fours(weight, channels)).reshape(passes, -1).view(np.int32)
    of_groups = _fours(multipliers, channels).reshape(passes, FOUR, -1).transpose(0, 2, 1).astype(np.uint8)
    behind = np.ascontiguousarray(of_groups).view(np.int32)[..., 0]
    starts = range(0, bits.shape[1], GROUP_WORDS)
    parts = [
        part for i, start in enumerate(starts) for part in (bits[:, start:][:, :GROUP_WORDS], behind[:, i : i + 1])
    ]
    stream = np.ascontiguousarray(np.concatenate(parts, axis=1))
    return in_passes(_fours(bias[:, None], channels), stream, scales, passes)


def pack_table(indices: Ints, bias: Ints, scales: Words | None, channels: int) -> Words:
    """Return the constants of `dense_table`, K a multiple of 8.

    Parameters
    ----------
    indices : of the weights in the table, [O, K].
    """
    passes = len(indices) // channels
    of_pairs = (indices[:, ::2] | indices[:, 1::2] << 4).astype(np.uint8)
    words = of_pairs.reshape(passes, channels, -1, FOUR).transpose(0, 2, 1, 3)
    return in_passes(bias, np.ascontiguousarray(words), scales, passes)


def _fours(values: Ints, channels: int) -> Ints:
    """Return [passes, words, 4, K] of [O, K], zeros for channels that are missing in a word."""
    w = values.reshape(-1, channels, values.shape[1])
    return np.pad(w, ((0, 0), (0, -channels % FOUR), (0, 0))).reshape(len(w), -1, FOUR, values.shape[1])


def _halves(weight: Ints) -> NDArray[np.int16]:
    """Return the halves of weights [..., 4, K]."""
    bits = (weight + np.array([8, 8, 8, 0])[:, None] & 15) << 4 * np.arange(FOUR)[:, None]
    halves: NDArray[np.int16] = bits.sum(axis=-2).astype(np.uint16).view(np.int16)
    return halves


def _nibble(word: str) -> str:
    """Return weight k of channel j in C."""
    return f"((({word} >> (16 * (k % 2) + 4 * j) & 15) ^ (j == 3 ? 8 : 0)) - 8)"


def _initial(sums: tuple[str, ...]) -> list[str]:
    """Take off what is added to weights; r2 is the word of `row_sums`."""
    lines = ["add r3, r2, r2, lsl #4", "add r4, r3, r2, lsl #8"]
    return [*lines, *(f"add {total}, {('r2', 'r3', 'r4', 'r4')[i % FOUR]}" for i, total in enumerate(sums))]


def _products(word: str, x: str, sums: tuple[str, ...]) -> list[str]:
    """Add the products of a word of weights, which is used up, to the sums of four channels."""
    cut = [f"bic {word}, {word}, #0xf000f000", f"uxtb16 {word}, {word}", f"and {word}, {word}, #0x000f000f"]
    lines: list[str] = []
    for total, shorter in zip(reversed(sums[:FOUR]), [*cut, ""], strict=True):
        lines += [f"smlad {total}, {word}, {x}, {total}", *([shorter] if shorter else [])]
    return lines


def _apart(sums: tuple[str, ...]) -> list[str]:
    """Leave the sum of each of four channels, times 1, 16, 256 and 4096."""
    return [f"sub {sums[i]}, {sums[i]}, {sums[i - 1]}" for i in (3, 2, 1)]


def _doubled(sums: tuple[str, ...]) -> list[str]:
    shifts = [f"asr {total}, {total}, #{4 * j - 1}" for j, total in enumerate(sums) if j]
    return [*_apart(sums), *shifts, f"lsl {sums[0]}, {sums[0]}, #1"]


def _passes_of_four(
    shared: bool,
    begin: list[str],
    body: list[str],
    epilogue: list[str],
    sums: tuple[str, ...] = _TOTALS,
    head: tuple[str, ...] = (),
) -> list[str]:
    """Wrap a loop, which leaves its pointer to the activations in r1 and their end in r2, into that over passes.

    The floating-point registers are those of `dense_rows.loops`, s8 and higher the body's.
    """
    lines = ["push {r4-r11, lr}", "ldr r4, [sp, #36]", "subs r1, #4", "add r5, r1, r4, lsl #2", "vmov s0, r1"]
    lines += ["vmov s2, r5", "vmov s3, r2", "vmov s4, r3", *(["vldmia r0!, {s5-s7}"] if shared else []), *head]
    lines += ["3:", f"ldm r0!, {{{', '.join(sums)}}}", "subs r0, #4", "vmov r1, s0", *begin]
    lines += [*body, "cmp r1, r2", "bne 8b", *epilogue]
    return [*lines, "vmov r2, s4", "vmov s3, r5", "cmp r5, r2", "bne 3b", "pop {r4-r11, pc}"]
