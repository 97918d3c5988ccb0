"""Winograd F(4x4, 3x3): from the sums of all frequencies to outputs: first all columns, then all rows.

Two kernels, so that each loop fits a flash cache of 1 KiB without being rolled up, and the columns do not depend on the
layer. Both take ten instructions for six sums and four results. What a result is too large by is taken out by a
multiplication with the inverse of 9 and a shift, one less than it should be: the requantization wants the doubled sum.

A tile's two places, in bytes, tell where its sums are behind those of the first tile, and where its outputs are.
"""

from __future__ import annotations

from tvm_tinyml.targets.cortex_m.microkernels import winograd
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel, move
from tvm_tinyml.targets.cortex_m.microkernels.output import Output
from tvm_tinyml.targets.cortex_m.microkernels.straight_line import StraightLine, Value
from tvm_tinyml.targets.cortex_m.microkernels.winograd_products import SUM_BYTES

_COLUMN_BYTES = SUM_BYTES * winograd.PATCH
_POOL = ("r4", "r5", "r6", "r7", "r8", "r9", "r10")
_ARGUMENTS = ("const int32_t *places", "const int32_t *constants", "int32_t tiles", "int32_t channels")


def winograd_columns() -> Microkernel:
    """Return the kernel that adds the bias and transforms columns.

    Its arguments: the sums of the first tile and channel, which are overwritten; the places of the tiles; words of each
    channel (`pack_parameters`), all aligned to 4 bytes; numbers of tiles and of channels.
    """
    # r0 sums of the tile, r1 places, r2 6, r3 words of the channel, r11 bias, r12 sums of the channel, lr end of
    # places; s0 places, s1 end of the channels' sums.
    lines = ["push {r4-r11, lr}", "add lr, r1, r3, lsl #3", "vmov s0, r1", "mov r12, r0", "mov r3, r2", "movs r2, #6"]
    lines += ["ldr r0, [sp, #36]", "add r4, r12, r0, lsl #2", "vmov s1, r4"]
    lines += ["1:", "vmov r1, s0", f"ldr r11, [r3], #{4 * winograd.PARAMETERS}"]
    lines += [".p2align 2", "2:", "ldr r0, [r1], #8", "add r0, r0, r12", "cmp r1, lr"]
    lines += [*_columns().allocate(_POOL, ()), "bne 2b"]
    lines += ["vmov r4, s1", "add r12, r12, #4", "cmp r12, r4", "bne 1b", "pop {r4-r11, pc}"]
    return Microkernel(
        name="tinyml_winograd_columns",
        parameters=("int32_t *sums", *_ARGUMENTS),
        assembly=lines,
        portable=_PORTABLE_COLUMNS,
    )


def winograd_rows(output: Output) -> Microkernel:
    """Return the kernel that transforms rows and requantizes.

    Its arguments: sums after `winograd_columns`; the output's first channel; the places of the tiles; words of each
    channel; numbers of tiles and of channels; bytes from an output to the next one in its row, and to the next row. The
    output is aligned to nothing, the rest to 4 bytes.
    """
    # r0 sums, r1 output, r2 6, r3 inverse of 9, r11 multiplier, r12 rounding constant, lr shift.
    # s0-s7 words of the channel, s8 its sums, s9 its output, s10 places, s11 to the next output, s12 from the last
    # output of a row to the next row, s13 words of the next channel, s14 places of the tile, s15 end of places.
    lines = ["push {r4-r11, lr}", "vmov s8, r0", "vmov s9, r1", "vmov s10, r2", "vmov s13, r3", "add r4, sp, #36"]
    lines += ["ldm r4, {r4-r7}", "add r4, r2, r4, lsl #3", "vmov s15, r4", "vmov s11, r6", "add r6, r6, r6, lsl #1"]
    lines += ["subs r7, r7, r6", "vmov s12, r7", "movs r2, #6", *move("r3", winograd.INVERSE_OF_9)]
    lines += ["1:", "vmov r4, s13", "vldmia r4!, {s0-s7}", "vmov s13, r4", "str r5, [sp, #40]", "vmov r4, s10"]
    lines += ["vmov r11, s5", "vmov r12, s6", "vmov lr, s7"]
    lines += [".p2align 2", "2:", "vmov r0, s8", "vmov r1, s9", "ldrd r5, r6, [r4], #8", "vmov s14, r4"]
    lines += ["add r0, r0, r5", "add r1, r1, r6", *_rows(output).allocate(_POOL, ())]
    lines += ["vmov r4, s14", "vmov r5, s15", "cmp r4, r5", "bne 2b"]
    lines += ["vmov r4, s8", "vmov r6, s9", "ldr r5, [sp, #40]", "adds r4, #4", "adds r6, #1"]
    lines += ["vmov s8, r4", "vmov s9, r6", "subs r5, #1", "bne 1b", "pop {r4-r11, pc}"]
    return Microkernel(
        name=f"tinyml_winograd_rows_{output.name}",
        parameters=("const int32_t *sums", "int8_t *y", *_ARGUMENTS, "int32_t pixel_bytes", "int32_t row_bytes"),
        assembly=lines,
        portable=_portable_rows(output),
    )


def _columns() -> StraightLine:
    code = StraightLine()
    for position, column in enumerate(winograd.COLUMNS):
        places = [f"[r0, #{_COLUMN_BYTES * position + SUM_BYTES * i}]" for i in range(winograd.PATCH)]
        sums = [code(f"ldr {{}}, {place}") for place in places]
        if column == 1:
            sums[1] = code("add {}, {}, r11", sums[1])
        for place, result in zip(places, _transform(code, sums), strict=False):
            code.do(f"str {{}}, {place}", result)
    return code


def _rows(output: Output) -> StraightLine:
    code = StraightLine()
    for row in range(winograd.TILE):
        at = [SUM_BYTES * row + _COLUMN_BYTES * winograd.COLUMNS.index(i) for i in range(winograd.PATCH)]
        results = _transform(code, [code(f"ldr {{}}, [r0, #{offset}]") for offset in at])
        doubled = [_divide(code, result, row, column) for column, result in enumerate(results)]
        _requantize(code, output, doubled)
        if row < winograd.TILE - 1:
            code.do("add r1, r1, {}", code("vmov {}, s12"))
    return code


def _transform(code: StraightLine, sums: list[Value]) -> list[Value]:
    """Six sums times `OUTPUT`."""
    m0, m1, m2, m3, m4, m5 = sums
    p, q = code("add {}, {}, {}", m1, m2), code("sub {}, {}, {}", m2, m1)
    r, t = code("add {}, {}, {}", m3, m4), code("sub {}, {}, {}", m3, m4)
    y0 = code("mla {}, {}, r2, {}", m0, code("sub {}, {}, {}, lsl #2", r, p))
    y2 = code("sub {}, {}, {}", r, p)
    y1 = code("add {}, {}, {}, lsl #1", t, q)
    y3 = code("mla {}, {}, r2, {}", m5, code("add {}, {}, {}, lsl #1", q, t))
    return [y0, y1, y2, y3]


def _divide(code: StraightLine, value: Value, row: int, column: int) -> Value:
    """Make it twice the sum, and take back what the corner added."""
    if row < 2 or column < 2:
        multiplied = code("mul {}, {}, r3", value)
    else:
        multiplied = code("mla {}, {}, r3, {}", value, code.given(f"s{1 + 2 * (row - 2) + column - 2}"))
    return code(f"asr {{}}, {{}}, #{winograd.SHIFTS[row] + winograd.SHIFTS[column] - 1}", multiplied)


def _requantize(code: StraightLine, output: Output, doubled: list[Value]) -> None:
    """Requantize and store a row of a tile, the four stage by stage: a core that takes two instructions at once can."""
    stages = output.requantize("{0}", "r11", "r12", "lr")
    first = stages.index("ssat {0}, #8, {0}")
    for stage in stages[:first]:
        for value in doubled:
            code.do(stage, value)
    pixel = code.given("s11")
    for i, value in enumerate(doubled):
        for stage in stages[first:]:
            code.do(stage, value)
        code.do("strb {}, [r1]", value)
        if i < len(doubled) - 1:
            code.do("add r1, r1, {}", pixel)


_PORTABLE_COLUMNS = f"""  static const int8_t a[4][6] = {{{winograd.c_matrix(winograd.OUTPUT)}}};
  for (int32_t channel = 0; channel < channels; ++channel)
    for (int32_t tile = 0; tile < tiles; ++tile)
      for (int32_t column = 0; column < 6; ++column) {{
        int32_t *const to = sums + places[2 * tile] / 4 + channel + {_COLUMN_BYTES // 4} * column;
        uint32_t results[4] = {{0}};
        for (int32_t i = 0; i < 6; ++i) {{
          const int32_t biased = column == {winograd.COLUMNS.index(1)} && i == 1;
          const int32_t bias = biased ? constants[{winograd.PARAMETERS} * channel] : 0;
          const uint32_t sum = (uint32_t)to[{SUM_BYTES // 4} * i] + (uint32_t)bias;
          for (int32_t row = 0; row < 4; ++row) results[row] += (uint32_t)(int32_t)a[row][i] * sum;
        }}
        for (int32_t row = 0; row < 4; ++row) to[{SUM_BYTES // 4} * row] = (int32_t)results[row];
      }}
"""


def _portable_rows(output: Output) -> str:
    epilogue = "".join(f"          {line}\n" for line in output.portable().splitlines())
    return f"""  static const int8_t a[4][6] = {{{winograd.c_matrix(winograd.OUTPUT)}}};
  static const int8_t columns[6] = {{{", ".join(map(str, winograd.COLUMNS))}}};
  static const int8_t shifts[4] = {{{", ".join(map(str, winograd.SHIFTS))}}};
  for (int32_t channel = 0; channel < channels; ++channel, constants += {winograd.PARAMETERS})
    for (int32_t tile = 0; tile < tiles; ++tile)
      for (int32_t row = 0; row < 4; ++row)
        for (int32_t column = 0; column < 4; ++column) {{
          const int32_t *const from = sums + places[2 * tile] / 4 + channel + {SUM_BYTES // 4} * row;
          const int32_t m = constants[5], c = constants[6], s = constants[7], k = shifts[row] + shifts[column];
          uint32_t scaled = 0;
          for (int32_t i = 0; i < 6; ++i)
            scaled += (uint32_t)(int32_t)a[column][columns[i]] * (uint32_t)from[{_COLUMN_BYTES // 4} * i];
          scaled *= {winograd.INVERSE_OF_9}u;
          if (row > 1 && column > 1) scaled += (uint32_t)constants[1 + 2 * (row - 2) + column - 2];
          const int32_t sum = (int32_t)scaled / (1 << k);
{epilogue}          y[places[2 * tile + 1] + row_bytes * row + pixel_bytes * column + channel] = result;
        }}
"""
