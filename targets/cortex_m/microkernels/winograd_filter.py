"""Winograd: transform the filters of one or two output channels, two input channels at a time.

Layout of the result: for each two products, for each frequency a word of the first channel and one of the second. See
`winograd` for the mathematics and for the order of the filters' bytes.
"""

from __future__ import annotations

from tvm_tinyml.targets.cortex_m.microkernels import winograd
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.straight_line import StraightLine, Value
from tvm_tinyml.targets.cortex_m.microkernels.winograd import Algorithm

_SET_BYTES = 2 * winograd.TAPS
_FREQUENCY_BYTES = 4 * winograd.CHANNELS
_POOL = ("r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr")
_HOMES = tuple(f"s{i}" for i in range(4, 16))


def winograd_filter(algorithm: Algorithm) -> Microkernel:
    """Return the kernel.

    Its arguments: filters (`pack_filters`), the result (both aligned to 4 bytes), words of a filter (K / 2), and how
    many output channels. Every other two input channels lie at an odd halfword, which costs their loads a cycle.
    """
    code = _two_input_channels(algorithm).allocate(_POOL, _HOMES)
    lines = ["push {r4-r11, lr}", "vmov s0, r2", "vmov s1, r3", "vmov s2, r1"]
    lines += ["2:", "vmov r2, s0", "vmov s3, r2", ".p2align 2", "1:", *code]
    lines += [f"add r1, r1, #{_FREQUENCY_BYTES * algorithm.frequencies}", "vmov r2, s3"]
    lines += ["subs r2, #1", "vmov s3, r2", "bne 1b"]
    lines += ["vmov r1, s2", "vmov r3, s1", "adds r1, #4", "subs r3, #1", "vmov s1, r3", "bne 2b", "pop {r4-r11, pc}"]
    return Microkernel(
        name=f"tinyml_winograd{algorithm.tile}_filter",
        parameters=("const int32_t *filters", "int16_t *u", "int32_t words", "int32_t channels"),
        assembly=lines,
        portable=_portable(algorithm),
    )


def _two_input_channels(algorithm: Algorithm) -> StraightLine:
    """Load the nine taps as words, transform rows and columns, store all frequencies."""
    code = StraightLine()
    last = code(f"ldrh {{}}, [r0, #{_SET_BYTES - 2}]")
    words = [code(f"ldr {{}}, [r0, #{4 * i}]") for i in (1, 2, 3)]
    words = [code(f"ldr {{}}, [r0], #{_SET_BYTES}"), *words]
    taps: list[Value] = []
    for word in words:
        taps += [code("sxtb16 {}, {}", word), code("sxtb16 {}, {}, ror #8", word)]
    last = code("orr {}, {}, {}, lsl #8", last, last)
    taps.append(code("sxtb16 {}, {}", last))
    rows = [algorithm.transform_filter(code, *taps[i : i + 3]) for i in (0, 3, 6)]
    number = 0
    for column in zip(*rows, strict=True):  # each is computed when it is needed
        for frequency in algorithm.transform_filter(code, *column):
            code.do(f"str {{}}, [r1, #{_FREQUENCY_BYTES * number}]", frequency)
            number += 1
    return code


def _portable(algorithm: Algorithm) -> str:
    patch = algorithm.patch
    return f"""  static const int8_t g[{patch}][3] = {{{winograd.c_matrix(algorithm.filter)}}};
  const int8_t *weights = (const int8_t *)(const void *)filters;
  for (int32_t channel = 0; channel < channels; ++channel)
    for (int32_t word = 0; word < words; ++word, weights += {_SET_BYTES})
      for (int32_t f = 0; f < {algorithm.frequencies}; ++f)
        for (int32_t half = 0; half < 2; ++half) {{
          const int8_t *const row = g[f % {patch}], *const column = g[f / {patch}];
          int32_t sum = 0;
          for (int32_t tap = 0; tap < {winograd.TAPS}; ++tap) {{
            const int8_t weight = weights[tap < 8 ? 4 * (tap / 2) + 2 * half + tap % 2 : 16 + half];
            sum += weight * row[tap / 3] * column[tap % 3];
          }}
          u[4 * ({algorithm.frequencies} * word + f) + 2 * channel + half] = (int16_t)sum;
        }}
"""
