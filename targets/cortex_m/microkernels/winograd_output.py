"""Winograd: from the sums of all frequencies to outputs: first all columns, then all rows.

Two kernels, so that each loop fits a flash cache of 1 KiB without being rolled up, and the columns do not depend on the
layer. What a result is too large by is taken out by a multiplication with the inverse of the odd factor, if there is
one, and a shift, one less than it should be: the requantization wants the doubled sum.

A tile's two places, in bytes, tell where its sums are behind those of the first tile, and where its outputs are.
"""

from __future__ import annotations

from tvm_tinyml.targets.cortex_m.microkernels import winograd
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel, move
from tvm_tinyml.targets.cortex_m.microkernels.output import Output
from tvm_tinyml.targets.cortex_m.microkernels.straight_line import StraightLine, Value
from tvm_tinyml.targets.cortex_m.microkernels.winograd import Algorithm
from tvm_tinyml.targets.cortex_m.microkernels.winograd_products import SUM_BYTES

_POOL = ("r4", "r5", "r6", "r7", "r8", "r9", "r10")
_ARGUMENTS = ("const int32_t *places", "const int32_t *constants", "int32_t tiles", "int32_t channels")


def winograd_columns(algorithm: Algorithm) -> Microkernel:
    """Return the kernel that adds the bias and transforms columns.

    Its arguments: the sums of the first tile and channel, which are overwritten; the places of the tiles; words of each
    channel (`pack_parameters`), all aligned to 4 bytes; numbers of tiles and of channels.
    """
    # r0 sums of the tile, r1 places, r2 6, r3 words of the channel, r11 bias, r12 sums of the channel, lr end of
    # places; s0 places, s1 end of the channels' sums.
    lines = ["push {r4-r11, lr}", "add lr, r1, r3, lsl #3", "vmov s0, r1", "mov r12, r0", "mov r3, r2", "mov r2, #6"]
    lines += ["ldr r0, [sp, #36]", "add r4, r12, r0, lsl #2", "vmov s1, r4"]
    lines += ["1:", "vmov r1, s0", f"ldr r11, [r3], #{4 * winograd.PARAMETERS}"]
    lines += [".p2align 2", "2:", "ldr r0, [r1], #8", "add r0, r0, r12", "cmp r1, lr"]
    lines += [*_columns(algorithm).allocate(_POOL, ()), "bne 2b"]
    lines += ["vmov r4, s1", "add r12, r12, #4", "cmp r12, r4", "bne 1b", "pop {r4-r11, pc}"]
    return Microkernel(
        name=f"tinyml_winograd{algorithm.tile}_columns",
        parameters=("int32_t *sums", *_ARGUMENTS),
        assembly=lines,
        portable=_portable_columns(algorithm),
    )


def winograd_rows(algorithm: Algorithm, output: Output) -> Microkernel:
    """Return the kernel that transforms rows and requantizes.

    Its arguments: sums after `winograd_columns`; the output's first channel; the places of the tiles; words of each
    channel; numbers of tiles and of channels; bytes from an output to the next one in its row, and to the next row. The
    output is aligned to nothing, the rest to 4 bytes.
    """
    # r0 sums, r1 output, r2 6, r3 inverse of the odd factor, r11 multiplier, r12 rounding constant, lr shift.
    # s0-s7 words of the channel, s8 its sums, s9 its output, s10 places, s11 to the next output, s12 from the last
    # output of a row to the next row, s13 words of the next channel, s14 places of the tile, s15 end of places.
    lines = ["push {r4-r11, lr}", "vmov s8, r0", "vmov s9, r1", "vmov s10, r2", "vmov s13, r3", "add r4, sp, #36"]
    lines += ["ldm r4, {r4-r7}", "add r4, r2, r4, lsl #3", "vmov s15, r4", "vmov s11, r6", "mov r2, #6"]
    lines += [f"mov r8, #{algorithm.tile - 1}", "mls r7, r6, r8, r7", "vmov s12, r7"]
    lines += move("r3", algorithm.inverse or 1)
    lines += ["1:", "vmov r4, s13", "vldmia r4!, {s0-s7}", "vmov s13, r4", "str r5, [sp, #40]", "vmov r4, s10"]
    lines += ["vmov r11, s5", "vmov r12, s6", "vmov lr, s7"]
    lines += [".p2align 2", "2:", "vmov r0, s8", "vmov r1, s9", "ldrd r5, r6, [r4], #8", "vmov s14, r4"]
    lines += ["add r0, r0, r5", "add r1, r1, r6", *_rows(algorithm, output).allocate(_POOL, ())]
    lines += ["vmov r4, s14", "vmov r5, s15", "cmp r4, r5", "bne 2b"]
    lines += ["vmov r4, s8", "vmov r6, s9", "ldr r5, [sp, #40]", "adds r4, #4", "adds r6, #1"]
    lines += ["vmov s8, r4", "vmov s9, r6", "subs r5, #1", "bne 1b", "pop {r4-r11, pc}"]
    return Microkernel(
        name=f"tinyml_winograd{algorithm.tile}_rows_{output.name}",
        parameters=("const int32_t *sums", "int8_t *y", *_ARGUMENTS, "int32_t pixel_bytes", "int32_t row_bytes"),
        assembly=lines,
        portable=_portable_rows(algorithm, output),
    )


def _columns(algorithm: Algorithm) -> StraightLine:
    code, patch = StraightLine(), algorithm.patch
    for column in range(patch):
        places = [f"[r0, #{SUM_BYTES * (patch * column + row)}]" for row in range(patch)]
        sums = [code(f"ldr {{}}, {place}") for place in places]
        if column == winograd.CONSTANT:
            sums[column] = code("add {}, {}, r11", sums[column])
        for place, result in zip(places, algorithm.transform_sums(code, sums), strict=False):
            code.do(f"str {{}}, {place}", result)
    return code


def _rows(algorithm: Algorithm, output: Output) -> StraightLine:
    code, patch, tile = StraightLine(), algorithm.patch, algorithm.tile
    for row in range(tile):
        sums = [code(f"ldr {{}}, [r0, #{SUM_BYTES * (patch * column + row)}]") for column in range(patch)]
        results = algorithm.transform_sums(code, sums)
        _requantize(code, output, [_divide(code, algorithm, result, row, i) for i, result in enumerate(results)])
        if row < tile - 1:
            code.do("add r1, r1, {}", code("vmov {}, s12"))
    return code


def _divide(code: StraightLine, algorithm: Algorithm, value: Value, row: int, column: int) -> Value:
    """Make it twice the sum, and take back what the corner added to the last two by two."""
    shift = algorithm.shifts[row] + algorithm.shifts[column] - 1
    i, j = row - (algorithm.tile - 2), column - (algorithm.tile - 2)
    if min(i, j) >= 0:
        added = code.given(f"s{1 + 2 * i + j}")
        multiply_add = "mla {}, {}, r3, {}" if algorithm.inverse else "add {}, {}, {}"
        value = code(multiply_add, value, added)
    elif algorithm.inverse:
        value = code("mul {}, {}, r3", value)
    return code(f"asr {{}}, {{}}, #{shift}", value)


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


def _portable_columns(algorithm: Algorithm) -> str:
    tile, patch = algorithm.tile, algorithm.patch
    return f"""  static const int8_t a[{tile}][{patch}] = {{{winograd.c_matrix(algorithm.output)}}};
  for (int32_t channel = 0; channel < channels; ++channel)
    for (int32_t tile = 0; tile < tiles; ++tile)
      for (int32_t column = 0; column < {patch}; ++column) {{
        int32_t *const to = sums + places[2 * tile] / 4 + channel + {SUM_BYTES // 4 * patch} * column;
        uint32_t results[{tile}] = {{0}};
        for (int32_t i = 0; i < {patch}; ++i) {{
          const int32_t biased = column == {winograd.CONSTANT} && i == {winograd.CONSTANT};
          const int32_t bias = biased ? constants[{winograd.PARAMETERS} * channel] : 0;
          const uint32_t sum = (uint32_t)to[{SUM_BYTES // 4} * i] + (uint32_t)bias;
          for (int32_t row = 0; row < {tile}; ++row) results[row] += (uint32_t)(int32_t)a[row][i] * sum;
        }}
        for (int32_t row = 0; row < {tile}; ++row) to[{SUM_BYTES // 4} * row] = (int32_t)results[row];
      }}
"""


def _portable_rows(algorithm: Algorithm, output: Output) -> str:
    tile, patch = algorithm.tile, algorithm.patch
    epilogue = "".join(f"          {line}\n" for line in output.portable().splitlines())
    return f"""  static const int8_t a[{tile}][{patch}] = {{{winograd.c_matrix(algorithm.output)}}};
  static const int8_t shifts[{tile}] = {{{", ".join(map(str, algorithm.shifts))}}};
  for (int32_t channel = 0; channel < channels; ++channel, constants += {winograd.PARAMETERS})
    for (int32_t tile = 0; tile < tiles; ++tile)
      for (int32_t row = 0; row < {tile}; ++row)
        for (int32_t column = 0; column < {tile}; ++column) {{
          const int32_t *const from = sums + places[2 * tile] / 4 + channel + {SUM_BYTES // 4} * row;
          const int32_t m = constants[5], c = constants[6], s = constants[7], k = shifts[row] + shifts[column];
          const int32_t i = row - {tile - 2}, j = column - {tile - 2};
          uint32_t scaled = 0;
          for (int32_t f = 0; f < {patch}; ++f)
            scaled += (uint32_t)(int32_t)a[column][f] * (uint32_t)from[{SUM_BYTES // 4 * patch} * f];
          scaled *= {algorithm.inverse or 1}u;
          if (i >= 0 && j >= 0) scaled += (uint32_t)constants[1 + 2 * i + j];
          const int32_t sum = (int32_t)scaled / (1 << k);
{epilogue}          y[places[2 * tile + 1] + row_bytes * row + pixel_bytes * column + channel] = result;
        }}
"""
