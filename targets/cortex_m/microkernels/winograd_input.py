"""Winograd F(4x4, 3x3): transform a tile's inputs, two channels at a time.

First the rows of the patch, then its columns, by 12 additions for 6 values. An addend can be shifted for nothing, and
SXTAB16 widens two of four bytes and makes them 0 to 255 in one instruction. A loop each: one row of four channels, two
columns of two channels. A patch that reaches beyond the image is copied first, with what it lacks. The code depends on
no shape.

Layout of the result: for each two channels, for each frequency the words of four tiles; see `winograd`.
"""

from __future__ import annotations

from tvm_tinyml.targets.cortex_m.microkernels import winograd
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.straight_line import StraightLine, Value

GEOMETRY = 4
"""Words that describe the image: height, width, channels, and its zero point in each byte."""

FEWEST_CHANNELS = 8
"""A copied row of pixels is read eight bytes at a time."""

_ROW_BYTES = 4 * 2 * winograd.PATCH
_ROWS_BYTES = _ROW_BYTES * winograd.PATCH
_FREQUENCY_BYTES = 4 * winograd.TILES
_UNROLLED = 2
"""Columns in the body of their loop."""


def scratch_bytes(channels: int) -> int:
    """Return what the kernel takes: transformed rows of four channels, and a copied patch."""
    return _ROWS_BYTES + winograd.PATCH**2 * channels


def winograd_input() -> Microkernel:
    """Return the kernel, for one tile.

    Its arguments: the image (aligned to nothing), the result of the tile, row and column of the first pixel of its
    patch, which may lie outside, scratch, and the words of the geometry, these and the result aligned to 4 bytes.
    """
    # s0 patch of the channels, s1 that of the last four, s2 to the next row less one pixel, s3 pixel, s4 scratch - 4,
    # s5 its end of four rows, s6 of all rows, s7 of the first row, s8 end of the rows in turn.
    lines = ["push {r4-r11, lr}", "ldrd r4, r5, [sp, #36]", "ldm r5, {r5-r8}", "mul r9, r6, r7"]
    lines += ["mla r10, r2, r6, r3", "mla r0, r10, r7, r0", *_copy()]
    lines += ["vmov s0, r0", "add r5, r0, r7", "subs r5, #4", "vmov s1, r5", "subs r9, r9, r7", "vmov s2, r9"]
    lines += ["vmov s3, r7", "subs r4, #4", "vmov s4, r4"]
    for rows, register in ((4, "s5"), (6, "s6"), (1, "s7")):
        lines += [f"add r5, r4, #{rows * _ROW_BYTES}", f"vmov {register}, r5"]
    lines += [f"subs r1, #{_FREQUENCY_BYTES}", "mov lr, r1"]
    lines += ["1:", "vmov s15, lr", "vmov r1, s4", "mov r2, #0x00800080", "mov r3, r2", "vmov r4, s5", "vmov s8, r4"]
    row = _row().allocate(("r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr"), ("s9", "s10", "s11"))
    lines += [".p2align 2", "2:", *row, "vmov r5, s2", "vmov r4, s8", "add r0, r0, r5", "cmp r1, r4", "bne 2b"]
    # The last two rows hold the corner, in their last two columns.
    lines += ["cmp r2, r3", "vmov r5, s6", f"add r3, r2, #{winograd.CORNER}", "vmov s8, r5", "beq 2b"]
    lines += ["vmov r1, s4", "vmov r0, s15", "vmov lr, s7"]
    column = _columns().allocate(("r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12"), ())
    lines += [".p2align 2", "3:", *column, "cmp r1, lr", "bne 3b"]
    lines += ["mov lr, r0", "vmov r0, s0", "vmov r4, s1", "cmp r0, r4", "beq 4f"]
    lines += ["adds r0, #4", "cmp r0, r4", "it hi", "movhi r0, r4", "vmov s0, r0", "b 1b", "4:", "pop {r4-r11, pc}"]
    geometry = ("int32_t row", "int32_t column", "int32_t *scratch", "const int32_t *geometry")
    return Microkernel(
        name="tinyml_winograd_input",
        parameters=("const int8_t *x", "int16_t *v", *geometry),
        assembly=lines,
        portable=_PORTABLE,
    )


def _copy() -> list[str]:
    """Replace the patch by a copy if it reaches beyond the image.

    r0 patch, r2 row, r3 column, r4 scratch, r5 height, r6 width, r7 channels, r8 zero point, r9 bytes of a row: r0 and
    r9 become those of the copy; r1, r4 and r7 are kept.
    """
    # The first pixel inside and how many are: rows in r2 and r5, columns in r3 and r6.
    lines = []
    for first, number in (("r2", "r5"), ("r3", "r6")):
        lines += [f"subs {number}, {number}, {first}", f"cmp {number}, #{winograd.PATCH}", "it gt"]
        lines += [f"movgt {number}, #{winograd.PATCH}", f"rsbs {first}, {first}, #0", "it mi", f"movmi {first}, #0"]
        lines += [f"subs {number}, {number}, {first}"]
    lines += ["add r10, r5, r6", f"cmp r10, #{2 * winograd.PATCH}", "beq 9f"]
    lines += [f"add r10, r4, #{_ROWS_BYTES}", "mov r11, r7", "5:"]
    lines += [f"str r8, [r10, #{4 * i}]" for i in range(winograd.TAPS)]
    lines += [f"add r10, r10, #{4 * winograd.TAPS}", "subs r11, r11, #1", "bne 5b"]
    # r10 where to, r11 where from, r12 bytes of a row of the copy.
    lines += ["add r12, r7, r7, lsl #1", "lsl r12, r12, #1", "cmp r5, #0", "it gt", "cmpgt r6, #0", "ble 8f"]
    lines += ["mul lr, r3, r7", "mla r11, r2, r9, lr", "mla r10, r2, r12, lr", "add r11, r11, r0", "add r10, r10, r4"]
    lines += [f"add r10, r10, #{_ROWS_BYTES}", "muls r6, r7, r6"]
    # The last eight bytes of a row may begin before the end of those in front.
    lines += ["6:", "mov r2, r11", "mov r3, r10", "add lr, r11, r6", "sub lr, lr, #8"]
    lines += [
        "7:",
        "ldr r8, [r2, #4]",
        "ldr r0, [r2], #8",
        "str r8, [r3, #4]",
        "str r0, [r3], #8",
        "cmp r2, lr",
        "bls 7b",
    ]
    lines += ["sub r0, r2, lr", "cmp r0, #8", "ittt ne", "subne r2, r2, r0", "subne r3, r3, r0", "bne 7b"]
    lines += ["add r11, r11, r9", "add r10, r10, r12", "subs r5, #1", "bne 6b"]
    return [*lines, "8:", f"add r0, r4, #{_ROWS_BYTES}", "mov r9, r12", "9:"]


def _row() -> StraightLine:
    """Transform a row of four channels: r0 its first pixel, r1 where to, r2 to widen with, r3 the same for the corner.

    Pixels 0, 2 and 4 make two sums and a result, pixels 1, 3 and 5 as well, and four more results come of the sums.
    """
    code = StraightLine()
    pixel = code.given("s3")
    store = _Stores(code, "r1", 4, 2 * winograd.PATCH)
    even = _pixels(code, pixel)
    code.do("add r0, r0, {}", pixel)
    halves = []
    for half in range(2):
        d0, d2, d4 = (_widen(code, word, half, corner=i == 2) for i, word in enumerate(even))
        c, a = code("sub {}, {}, {}", d4, d2), code("sub {}, {}, {}, lsl #2", d4, d2)
        store(code("add {}, {}, {}, lsl #2", c, code("sub {}, {}, {}", d0, d2)), 6 * half)
        halves.append((a, c))
    odd = _pixels(code, pixel)
    for half, (a, c) in enumerate(halves):
        d1, d3, d5 = (_widen(code, word, half, corner=i == 2) for i, word in enumerate(odd))
        e, b = code("sub {}, {}, {}", d3, d1), code("sub {}, {}, {}, lsl #2", d3, d1)
        last = code("sub {}, {}, {}, lsl #2", code("sub {}, {}, {}", d5, d3), e)
        store(last, 6 * half + winograd.COLUMNS.index(5))
        results = [code("add {}, {}, {}", a, b), code("sub {}, {}, {}", a, b)]
        results += [code("add {}, {}, {}, lsl #1", c, e), code("sub {}, {}, {}, lsl #1", c, e)]
        for i, result in enumerate(results):
            store(result, 6 * half + winograd.COLUMNS.index(1 + i))
    return code


def _columns() -> StraightLine:
    """Transform some columns: r1 the rows, r0 where to."""
    code = StraightLine()
    store = _Stores(code, "r0", _FREQUENCY_BYTES, winograd.PATCH * _UNROLLED)
    for column in range(_UNROLLED):
        write_back = "!" if column == _UNROLLED - 1 else ""
        d5, d4, d3, d2, d1 = (code(f"ldr {{}}, [r1, #{_ROW_BYTES * row + 4 * column + 4}]") for row in range(5, 0, -1))
        d0 = code(f"ldr {{}}, [r1, #{4 * column + 4}]{write_back}")
        c, a = code("sub {}, {}, {}", d4, d2), code("sub {}, {}, {}, lsl #2", d4, d2)
        e, b = code("sub {}, {}, {}", d3, d1), code("sub {}, {}, {}, lsl #2", d3, d1)
        first = 6 * column
        store(code("add {}, {}, {}, lsl #2", c, code("sub {}, {}, {}", d0, d2)), first)
        store(code("add {}, {}, {}", a, b), first + 1)
        store(code("sub {}, {}, {}", a, b), first + 2)
        store(code("add {}, {}, {}, lsl #1", c, e), first + 3)
        store(code("sub {}, {}, {}, lsl #1", c, e), first + 4)
        store(code("sub {}, {}, {}, lsl #2", code("sub {}, {}, {}", d5, d3), e), first + 5)
    return code


class _Stores:
    """Stores to elements behind a pointer, which stands one in front; the last store moves it on by all of them."""

    def __init__(self, code: StraightLine, pointer: str, stride: int, count: int) -> None:
        self._code, self._pointer, self._stride, self._count = code, pointer, stride, count

    def __call__(self, value: Value, position: int) -> None:
        end = "!" if position == self._count - 1 else ""
        self._code.do(f"str {{}}, [{self._pointer}, #{self._stride * (position + 1)}]{end}", value)


def _pixels(code: StraightLine, pixel: Value) -> list[Value]:
    """Load the pixel at r0, the next but one, and the next but three."""
    far = [code(f"ldr {{}}, [r0, {{}}, lsl #{i}]", pixel) for i in (1, 2)]
    return [code("ldr {}, [r0]"), *far]


def _widen(code: StraightLine, word: Value, half: int, *, corner: bool) -> Value:
    return code(f"sxtab16 {{}}, {'r3' if corner else 'r2'}, {{}}{', ror #8' if half else ''}", word)


_PORTABLE = f"""  static const int8_t b[6][6] = {{{winograd.c_matrix(winograd.INPUT)}}};
  static const int8_t columns[6] = {{{", ".join(map(str, winograd.COLUMNS))}}};
  const int32_t height = geometry[0], width = geometry[1], channels = geometry[2], zero = (int8_t)(geometry[3] & 0xff);
  (void)scratch;
  for (int32_t group = 0; group < channels; group += 4, v += {2 * 2 * winograd.TILES * winograd.FREQUENCIES})
    for (int32_t i = 0; i < 4; ++i)
      for (int32_t f = 0; f < {winograd.FREQUENCIES}; ++f) {{
        const int8_t *const row_factors = b[f % 6], *const column_factors = b[columns[f / 6]];
        const int32_t channel = (group < channels - 4 ? group : channels - 4) + i;
        int32_t sum = i < 2 ? {winograd.CORNER} : 0;
        for (int32_t r = row; r < row + 6; ++r)
          for (int32_t c = column; c < column + 6; ++c) {{
            const int32_t inside = r >= 0 && r < height && c >= 0 && c < width;
            const int32_t pixel = inside ? x[(r * width + c) * channels + channel] : zero;
            sum += (pixel + 128) * row_factors[r - row] * column_factors[c - column];
          }}
        v[{2 * winograd.TILES} * ({winograd.FREQUENCIES} * (i % 2) + f) + i / 2] = (int16_t)sum;
      }}
"""
