"""Winograd: transform a tile's inputs, two channels at a time.

First the rows of the patch, then its columns. An addend can be shifted for nothing, and SXTAB16 widens two of four
bytes and makes them 0 to 255 in one instruction. A loop each: one row of four channels, two columns of two channels. A
patch that reaches beyond the image is copied first, with what it lacks. The code depends on no shape.

Layout of the result: for each two channels, for each frequency the words of four tiles; see `winograd`.
"""

from __future__ import annotations

from tvm_tinyml.targets.cortex_m.microkernels import winograd
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.straight_line import StraightLine, Value
from tvm_tinyml.targets.cortex_m.microkernels.winograd import Algorithm

FEWEST_CHANNELS = 8
"""A copied row of pixels is read eight bytes at a time."""

_FREQUENCY_BYTES = 4 * winograd.TILES
_UNROLLED = 2
"""Columns in the body of their loop."""


def scratch_bytes(algorithm: Algorithm, channels: int) -> int:
    """Return what the kernel takes: transformed rows of four channels, and a copied patch."""
    return _rows_bytes(algorithm) + algorithm.frequencies * channels


def winograd_input(algorithm: Algorithm) -> Microkernel:
    """Return the kernel, for one tile.

    Its arguments: the image (aligned to nothing; words are loaded), the result of the tile, row and column of the first
    pixel of its patch, which may lie outside, scratch, and four words: height, width and channels of the image, and its
    zero point in each byte. Result, scratch and words are aligned to 4 bytes; there are `FEWEST_CHANNELS` at least.
    """
    row_bytes = _row_bytes(algorithm)
    # s0 patch of the channels, s1 that of the last four, s2 to the next row less one pixel, s3 pixel, s4 scratch - 4,
    # s5 end of all rows but two there, s6 of all rows, s7 of the first row, s8 end of the rows in turn.
    lines = ["push {r4-r11, lr}", "ldrd r4, r5, [sp, #36]", "ldm r5, {r5-r8}", "mul r9, r6, r7"]
    lines += ["mla r10, r2, r6, r3", "mla r0, r10, r7, r0", *_copy(algorithm)]
    lines += ["vmov s0, r0", "add r5, r0, r7", "subs r5, #4", "vmov s1, r5", "subs r9, r9, r7", "vmov s2, r9"]
    lines += ["vmov s3, r7", "subs r4, #4", "vmov s4, r4"]
    for rows, register in ((algorithm.patch - 2, "s5"), (algorithm.patch, "s6"), (1, "s7")):
        lines += [f"add r5, r4, #{rows * row_bytes}", f"vmov {register}, r5"]
    lines += [f"subs r1, #{_FREQUENCY_BYTES}", "mov lr, r1"]
    lines += ["1:", "vmov s15, lr", "vmov r1, s4", "mov r2, #0x00800080", "mov r3, r2", "vmov r4, s5", "vmov s8, r4"]
    row = _row(algorithm).allocate(
        ("r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr"), ("s9", "s10", "s11")
    )
    lines += [".p2align 2", "2:", *row, "vmov r5, s2", "vmov r4, s8", "add r0, r0, r5", "cmp r1, r4", "bne 2b"]
    # The last two rows hold the corner, in their last two columns.
    lines += ["cmp r2, r3", "vmov r5, s6", f"add r3, r2, #{winograd.CORNER}", "vmov s8, r5", "beq 2b"]
    lines += ["vmov r1, s4", "vmov r0, s15", "vmov lr, s7"]
    column = _columns(algorithm).allocate(("r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12"), ())
    lines += [".p2align 2", "3:", *column, "cmp r1, lr", "bne 3b"]
    lines += ["mov lr, r0", "vmov r0, s0", "vmov r4, s1", "cmp r0, r4", "beq 4f"]
    lines += ["adds r0, #4", "cmp r0, r4", "it hi", "movhi r0, r4", "vmov s0, r0", "b 1b", "4:", "pop {r4-r11, pc}"]
    geometry = ("int32_t row", "int32_t column", "int32_t *scratch", "const int32_t *geometry")
    return Microkernel(
        name=f"tinyml_winograd{algorithm.tile}_input",
        parameters=("const int8_t *x", "int16_t *v", *geometry),
        assembly=lines,
        portable=_portable(algorithm),
    )


def _row_bytes(algorithm: Algorithm) -> int:
    return 4 * 2 * algorithm.patch


def _rows_bytes(algorithm: Algorithm) -> int:
    return _row_bytes(algorithm) * algorithm.patch


def _copy(algorithm: Algorithm) -> list[str]:
    """Replace the patch by a copy if it reaches beyond the image.

    r0 patch, r2 row, r3 column, r4 scratch, r5 height, r6 width, r7 channels, r8 zero point, r9 bytes of a row: r0 and
    r9 become those of the copy; r1, r4 and r7 are kept.
    """
    # The first pixel inside and how many are: rows in r2 and r5, columns in r3 and r6.
    patch, copy_at = algorithm.patch, _rows_bytes(algorithm)
    lines = []
    for first, number in (("r2", "r5"), ("r3", "r6")):
        lines += [f"subs {number}, {number}, {first}", f"cmp {number}, #{patch}", "it gt"]
        lines += [f"movgt {number}, #{patch}", f"rsbs {first}, {first}, #0", "it mi", f"movmi {first}, #0"]
        lines += [f"subs {number}, {number}, {first}"]
    lines += ["add r10, r5, r6", f"cmp r10, #{2 * patch}", "beq 9f"]
    lines += [f"add r10, r4, #{copy_at}", "mov r11, r7", "5:"]
    words = algorithm.frequencies // 4  # of the copy, for each channel
    lines += [f"str r8, [r10, #{4 * i}]" for i in range(words)]
    lines += [f"add r10, r10, #{4 * words}", "subs r11, r11, #1", "bne 5b"]
    # r10 where to, r11 where from, r12 bytes of a row of the copy.
    lines += [f"mov r12, #{patch}", "mul r12, r12, r7", "cmp r5, #0", "it gt", "cmpgt r6, #0", "ble 8f"]
    lines += ["mul lr, r3, r7", "mla r11, r2, r9, lr", "mla r10, r2, r12, lr", "add r11, r11, r0", "add r10, r10, r4"]
    lines += [f"add r10, r10, #{copy_at}", "muls r6, r7, r6"]
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
    return [*lines, "8:", f"add r0, r4, #{copy_at}", "mov r9, r12", "9:"]


def _row(algorithm: Algorithm) -> StraightLine:
    """Transform a row of four channels: r0 its first pixel, r1 where to, r2 to widen with, r3 the same for the corner.

    Of every other pixel come sums and a result, and of the pixels between and those sums the other results.
    """
    code, patch = StraightLine(), algorithm.patch
    pixel = code.given("s3")
    store = _Stores(code, "r1", 4, 2 * patch)
    words = _pixels(code, pixel, patch // 2)
    code.do("add r0, r0, {}", pixel)
    kept = []
    for half in range(2):
        first, sums = algorithm.transform_even(code, _widen(code, words, half))
        store(first, patch * half)
        kept.append(sums)
    words = _pixels(code, pixel, patch // 2)
    for half in range(2):
        results = algorithm.transform_odd(code, _widen(code, words, half), kept[half])
        for position, result in enumerate(results, patch * half + 1):
            store(result, position)
    return code


def _columns(algorithm: Algorithm) -> StraightLine:
    """Transform some columns: r1 the rows, r0 where to."""
    code, patch = StraightLine(), algorithm.patch
    store = _Stores(code, "r0", _FREQUENCY_BYTES, patch * _UNROLLED)
    for column in range(_UNROLLED):
        places = [f"[r1, #{_row_bytes(algorithm) * row + 4 * column + 4}]" for row in range(patch)]
        places[0] += "!" if column == _UNROLLED - 1 else ""  # loaded last
        pixels = [code(f"ldr {{}}, {place}") for place in reversed(places)][::-1]
        first, kept = algorithm.transform_even(code, pixels[0::2])
        store(first, patch * column)
        for position, result in enumerate(algorithm.transform_odd(code, pixels[1::2], kept), patch * column + 1):
            store(result, position)
    return code


class _Stores:
    """Stores to elements behind a pointer, which stands one in front; the last store moves it on by all of them."""

    def __init__(self, code: StraightLine, pointer: str, stride: int, count: int) -> None:
        self._code, self._pointer, self._stride, self._count = code, pointer, stride, count

    def __call__(self, value: Value, position: int) -> None:
        end = "!" if position == self._count - 1 else ""
        self._code.do(f"str {{}}, [{self._pointer}, #{self._stride * (position + 1)}]{end}", value)


def _pixels(code: StraightLine, pixel: Value, count: int) -> list[Value]:
    """Load four channels of the pixel at r0, the next but one, and perhaps the next but three."""
    far = [code(f"ldr {{}}, [r0, {{}}, lsl #{i}]", pixel) for i in range(1, count)]
    return [code("ldr {}, [r0]"), *far]


def _widen(code: StraightLine, words: list[Value], half: int) -> list[Value]:
    """Return two channels of each; the last one may be of the corner."""
    rotate = ", ror #8" if half else ""
    offsets = ["r2"] * (len(words) - 1) + ["r3"]
    return [code(f"sxtab16 {{}}, {r}, {{}}{rotate}", word) for r, word in zip(offsets, words, strict=True)]


def _portable(algorithm: Algorithm) -> str:
    patch, frequencies = algorithm.patch, algorithm.frequencies
    return f"""  static const int8_t b[{patch}][{patch}] = {{{winograd.c_matrix(algorithm.input)}}};
  const int32_t height = geometry[0], width = geometry[1], channels = geometry[2], zero = (int8_t)(geometry[3] & 0xff);
  (void)scratch;
  for (int32_t group = 0; group < channels; group += 4, v += {2 * 2 * winograd.TILES * frequencies})
    for (int32_t i = 0; i < 4; ++i)
      for (int32_t f = 0; f < {frequencies}; ++f) {{
        const int8_t *const row_factors = b[f % {patch}], *const column_factors = b[f / {patch}];
        const int32_t channel = (group < channels - 4 ? group : channels - 4) + i;
        int32_t sum = i < 2 ? {winograd.CORNER} : 0;
        for (int32_t r = row; r < row + {patch}; ++r)
          for (int32_t c = column; c < column + {patch}; ++c) {{
            const int32_t inside = r >= 0 && r < height && c >= 0 && c < width;
            const int32_t pixel = inside ? x[(r * width + c) * channels + channel] : zero;
            sum += (pixel + 128) * row_factors[r - row] * column_factors[c - column];
          }}
        v[{2 * winograd.TILES} * ({frequencies} * (i % 2) + f) + i / 2] = (int16_t)sum;
      }}
"""
