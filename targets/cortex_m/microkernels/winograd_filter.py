"""Winograd F(4x4, 3x3): transform the filters of one or two output channels, two input channels at a time.

Layout of the result: for each two products, for each frequency a word of the first channel and one of the second. See
`winograd` for the mathematics and for the order of the filters' bytes.
"""

from __future__ import annotations

from tvm_tinyml.targets.cortex_m.microkernels import winograd
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.straight_line import StraightLine, Value

_SET_BYTES = 2 * winograd.TAPS
_STEP_BYTES = 4 * winograd.CHANNELS * winograd.FREQUENCIES
_POOL = ("r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr")
_HOMES = tuple(f"s{i}" for i in range(4, 16))


def winograd_filter() -> Microkernel:
    """Return the kernel.

    Its arguments: filters (`pack_filters`), the result (both aligned to 4 bytes), words of a filter (K / 2), and how
    many output channels. Every other two input channels lie at an odd halfword, which costs their loads a cycle.
    """
    code = _two_input_channels().allocate(_POOL, _HOMES)
    lines = ["push {r4-r11, lr}", "vmov s0, r2", "vmov s1, r3", "vmov s2, r1"]
    lines += ["2:", "vmov r2, s0", "vmov s3, r2", ".p2align 2", "1:", *code]
    lines += [f"add r1, r1, #{_STEP_BYTES}", "vmov r2, s3", "subs r2, #1", "vmov s3, r2", "bne 1b"]
    lines += ["vmov r1, s2", "vmov r3, s1", "adds r1, #4", "subs r3, #1", "vmov s1, r3", "bne 2b", "pop {r4-r11, pc}"]
    return Microkernel(
        name="tinyml_winograd_filter",
        parameters=("const int32_t *filters", "int16_t *u", "int32_t words", "int32_t channels"),
        assembly=lines,
        portable=_PORTABLE,
    )


def _two_input_channels() -> StraightLine:
    """Nine taps, 81 additions, 36 words stored."""
    code = StraightLine()
    last = code(f"ldrh {{}}, [r0, #{_SET_BYTES - 2}]")
    words = [code(f"ldr {{}}, [r0, #{4 * i}]") for i in (1, 2, 3)]
    words = [code(f"ldr {{}}, [r0], #{_SET_BYTES}"), *words]
    taps: list[Value] = []
    for word in words:
        taps += [code("sxtb16 {}, {}", word), code("sxtb16 {}, {}, ror #8", word)]
    last = code("orr {}, {}, {}, lsl #8", last, last)
    taps.append(code("sxtb16 {}, {}", last))
    left, middle, right = (taps[i::3] for i in range(3))

    def column(number: int, x: Value, y: Value, z: Value) -> None:
        """Transform and store the column's six frequencies."""
        at = _frequency_bytes(number)
        code.do(f"str {{}}, [r1, #{at}]", x)
        code.do(f"str {{}}, [r1, #{at + 40}]", z)
        total = code("sadd16 {}, {}, {}", x, z)
        code.do(f"str {{}}, [r1, #{at + 8}]", code("sadd16 {}, {}, {}", total, y))
        code.do(f"str {{}}, [r1, #{at + 16}]", code("ssub16 {}, {}, {}", total, y))
        far = _times_4_plus(code, z, x)
        twice = code("sadd16 {}, {}, {}", y, y)
        code.do(f"str {{}}, [r1, #{at + 24}]", code("sadd16 {}, {}, {}", far, twice))
        code.do(f"str {{}}, [r1, #{at + 32}]", code("ssub16 {}, {}, {}", far, twice))

    column(0, *left)
    column(5, *right)
    near = [code("sadd16 {}, {}, {}", x, z) for x, z in zip(left, right, strict=True)]
    far = [_times_4_plus(code, z, x) for x, z in zip(left, right, strict=True)]
    column(1, *[code("sadd16 {}, {}, {}", s, y) for s, y in zip(near, middle, strict=True)])
    column(2, *[code("ssub16 {}, {}, {}", s, y) for s, y in zip(near, middle, strict=True)])
    twice = [code("sadd16 {}, {}, {}", y, y) for y in middle]
    column(3, *[code("sadd16 {}, {}, {}", d, v) for d, v in zip(far, twice, strict=True)])
    column(4, *[code("ssub16 {}, {}, {}", d, v) for d, v in zip(far, twice, strict=True)])
    return code


def _times_4_plus(code: StraightLine, z: Value, x: Value) -> Value:
    double = code("sadd16 {}, {}, {}", z, z)
    return code("sadd16 {}, {}, {}", code("sadd16 {}, {}, {}", double, double), x)


def _frequency_bytes(column: int) -> int:
    return 4 * winograd.CHANNELS * winograd.PATCH * winograd.COLUMNS.index(column)


_PORTABLE = f"""  const int8_t *weights = (const int8_t *)(const void *)filters;
  static const int8_t g[6][3] = {{{winograd.c_matrix(winograd.FILTER)}}};
  static const int8_t columns[6] = {{{", ".join(map(str, winograd.COLUMNS))}}};
  for (int32_t channel = 0; channel < channels; ++channel)
    for (int32_t word = 0; word < words; ++word, weights += {_SET_BYTES})
      for (int32_t f = 0; f < {winograd.FREQUENCIES}; ++f)
        for (int32_t half = 0; half < 2; ++half) {{
          const int8_t *const row = g[f % 6], *const column = g[columns[f / 6]];
          int32_t sum = 0;
          for (int32_t tap = 0; tap < {winograd.TAPS}; ++tap) {{
            const int8_t weight = weights[tap < 8 ? 4 * (tap / 2) + 2 * half + tap % 2 : 16 + half];
            sum += weight * row[tap / 3] * column[tap % 3];
          }}
          u[4 * ({winograd.FREQUENCIES} * word + f) + 2 * channel + half] = (int16_t)sum;
        }}
"""
