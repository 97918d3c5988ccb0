"""Averages and largest elements of windows: sixteen channels at once, two or four of them in an instruction.

SXTAB16 adds two of a word's four bytes to two sums of 16 bits, SSUB8 and SEL choose the larger of four. Neighbouring
channels lie next to each other, so a word is four channels of a pixel: no packing. What is left of the channels is done
by eight and by four; the last four overlap those in front, and only where there are fewer than four at all it is one by
one. Short code takes the same number every time, and the last ones overlap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tvm_tinyml.targets.cortex_m.microkernels.affine import Rounding
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel, add
from tvm_tinyml.targets.cortex_m.microkernels.output import Output, clamp

MOST_TAPS = 256
"""Of an average: the sum of so many bytes fits a half."""

FARTHEST_CHANNEL = 2040
"""Channels at most: two pixels are read with one pointer."""

STRAIGHT = 3
"""Pixels of a row that are written out; with more there is a loop over pairs."""

_LOADED = ("r0", "r3", "r4", "r5")
_ACCUMULATORS = ("r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr")


@dataclass(frozen=True)
class Taps:
    """The pixels of a window.

    Attributes
    ----------
    rows, columns : how many.
    row_stride : bytes from a row of the window to the next.
    channels : of a pixel, in bytes from one to the next.
    """

    rows: int
    columns: int
    row_stride: int
    channels: int

    @classmethod
    def of(cls, rows: int, columns: int, row_stride: int, channels: int) -> Taps:
        """Return the window with rows as long as possible."""
        if row_stride == columns * channels:
            return cls(1, rows * columns, rows * row_stride, channels)
        return cls(rows, columns, row_stride, channels)

    @property
    def number(self) -> int:
        """Pixels in all."""
        return self.rows * self.columns

    @property
    def name(self) -> str:
        """Part of a microkernel's name."""
        stride = f"_{self.row_stride}" if self.rows > 1 else ""
        return f"{self.rows}x{self.columns}{stride}_{self.channels}"


@dataclass(frozen=True)
class AffineSum:
    """From a sum to an average as an affine function: three instructions, where one is exact."""

    rounding: Rounding

    @property
    def name(self) -> str:
        """Part of a microkernel's name."""
        return self.rounding.name

    def load(self) -> list[str]:
        """Return what fetches the constants (`Affine.words`) from s2 on."""
        return ["vmov r2, s2", "vmov r3, s3", *(["vmov r4, s4"] if self.rounding.corrected else [])]

    def scale(self, to: str, sums: str, half: str) -> list[str]:
        """Return what makes the average of a sum, the bottom ("b") or top ("t") half of a register."""
        return [f"smlaw{half} {to}, r2, {sums}, r3", *self.rounding.finish(to, "r4")]

    def portable(self) -> str:
        """Return C code that makes an int8 ``result`` of ``sum``."""
        line = "sum = (int32_t)(constants[1] + ((int64_t)constants[0] * sum >> 16));"
        return f"{line}\nconst int8_t result = {self.rounding.portable('constants[2]')};\n"


@dataclass(frozen=True)
class ScaledSum:
    """From a sum to an average as layers with weights are scaled: what is added to the sum, then `Output`.

    left_shift : of the sum before the multiplication.
    """

    output: Output
    left_shift: int

    @property
    def name(self) -> str:
        """Part of a microkernel's name."""
        return f"scaled_{self.left_shift}_{self.output.name}"

    def load(self) -> list[str]:
        """Return what fetches the constants from s2 on: offset, multiplier, rounding constant, shift."""
        return ["vmov r1, s2", "vmov r2, s3", "vmov r3, s4", "vmov r4, s5"]

    def scale(self, to: str, sums: str, half: str) -> list[str]:
        """Return what makes the average of a sum: see `AffineSum`."""
        total = f"sxtah {to}, r1, {sums}{', ror #16' if half == 't' else ''}"
        return [total, f"lsl {to}, {to}, #{1 + self.left_shift}", *self.output.requantize(to, "r2", "r3", "r4")]

    def portable(self) -> str:
        """Return C code that makes an int8 ``result`` of ``sum``."""
        head = f"sum = (sum + constants[0]) * (1 << {self.left_shift});\n"
        return f"{head}const int32_t m = constants[1], c = constants[2], s = constants[3];\n{self.output.portable()}"


def average(taps: Taps, scaling: AffineSum | ScaledSum, *, short: bool = False) -> Microkernel:
    """Return the kernel for one output pixel, of a window of at most `MOST_TAPS`.

    Its arguments: four constants of the scaling (aligned to 4 bytes), the window's first pixel, the output. The latter
    two are aligned to nothing; words of pixels are loaded.

    Parameters
    ----------
    short : few bytes of code, for a window that is taken once.
    """
    head = ["push {r4-r11, lr}", "vldm r0, {s2-s5}", "vmov s0, r1", "vmov s1, r2"]
    return Microkernel(
        name=f"tinyml_average_{'short_' if short else ''}{taps.name}_{scaling.name}",
        parameters=("const int32_t *constants", "const int8_t *x", "int8_t *y"),
        assembly=[*head, *_all(taps, _Average(scaling), short=short)],
        portable=_portable(taps, "0", "sum + x[at]", scaling.portable()),
    )


def largest(taps: Taps, low: int, high: int) -> Microkernel:
    """Return the kernel for the largest elements, clamped.

    Its arguments are those of `average` but the constants; words of the output are stored, too.
    """
    bounds = "" if (low, high) == (-128, 127) else f"_{low & 0xFF}_{high & 0xFF}"
    result = f"const int8_t result = (int8_t)tinyml_bound(sum, {low}, {high});\n"
    return Microkernel(
        name=f"tinyml_largest_{taps.name}{bounds}",
        parameters=("const int8_t *x", "int8_t *y"),
        assembly=["push {r4-r11, lr}", "vmov s0, r0", "vmov s1, r1", *_all(taps, _Largest(low, high))],
        portable=_portable(taps, "-128", "x[at] > sum ? x[at] : sum", result),
    )


@dataclass(frozen=True)
class _Average:
    scaling: AffineSum | ScaledSum

    def start(self, width: int) -> list[str]:
        return [f"mov {register}, #0" for register in _ACCUMULATORS[: max(1, width // 2)]]

    def take(self, loaded: str, width: int, word: int) -> list[str]:
        if width == 1:
            return [f"adds r6, r6, {loaded}"]
        even, odd = _ACCUMULATORS[2 * word :][:2]
        return [f"sxtab16 {even}, {even}, {loaded}", f"sxtab16 {odd}, {odd}, {loaded}, ror #8"]

    def store(self, width: int) -> list[str]:
        lines = self.scaling.load()
        for channel in range(width):
            sums, half = _ACCUMULATORS[channel // 4 * 2 + channel % 2], "bt"[channel // 2 % 2]
            lines += [*self.scaling.scale("r0", sums, half), f"strb r0, [r5, #{channel}]"]
        return lines


@dataclass(frozen=True)
class _Largest:
    low: int
    high: int

    def start(self, width: int) -> list[str]:
        return [f"mov {register}, #0x80808080" for register in _ACCUMULATORS[: max(1, width // 4)]]

    def take(self, loaded: str, width: int, word: int) -> list[str]:
        if width == 1:
            return [f"cmp {loaded}, r6", "it gt", f"movgt r6, {loaded}"]
        return _larger(_ACCUMULATORS[word], loaded)

    def store(self, width: int) -> list[str]:
        if width == 1:
            return [*clamp("r6", self.low, self.high), "strb r6, [r5]"]
        words = _ACCUMULATORS[: width // 4]
        lines = []
        if self.low > -128:
            lines += [f"mov r0, #{(self.low & 0xFF) * 0x01010101:#x}"]
            lines += [line for word in words for line in _larger(word, "r0")]
        if self.high < 127:
            lines += [f"mov r0, #{(self.high & 0xFF) * 0x01010101:#x}"]
            lines += [line for word in words for line in (f"ssub8 r2, r0, {word}", f"sel {word}, {word}, r0")]
        return [*lines, *(f"str {word}, [r5, #{4 * i}]" for i, word in enumerate(words))]


def _larger(word: str, other: str) -> list[str]:
    return [f"ssub8 r12, {word}, {other}", f"sel {word}, {word}, {other}"]


def _all(taps: Taps, kind: _Average | _Largest, *, short: bool = False) -> list[str]:
    """Return the code for all channels, some at a time.

    s0 is the first pixel and s1 the output of the channels that come next, s2 to s5 an average's constants, s6 where
    channels end, s7 rows that are left.
    """
    lines: list[str] = []
    reached = 0
    for first, width, number in _pieces_of_one_width(taps.channels) if short else _pieces(taps.channels):
        beyond = max(0, first + number * width - taps.channels)
        if first != reached:
            lines += _move("r1", "s0", first - reached) + _move("r5", "s1", first - reached)
        if number > 1:
            lines += ["vmov r1, s0", *add("r2", "r1", number * width - beyond, "r3"), "vmov s6, r2", "4:"]
        lines += [*kind.start(width), *_window(taps, kind, width), "vmov r5, s1", *kind.store(width)]
        lines += [f"adds r5, #{width}", "vmov s1, r5", *_move("r1", "s0", width)]
        if number > 1:
            lines += ["vmov r2, s6", *([] if beyond else ["cmp r1, r2", "bne 4b"])]
        if beyond:  # the last piece begins as much earlier
            lines += ["cmp r1, r2", "beq 5f", f"subs r2, #{width}", "cmp r1, r2", "bls 4b", f"subs r1, #{beyond}"]
            lines += ["vmov s0, r1", f"subs r5, #{beyond}", "vmov s1, r5", "b 4b", "5:"]
        reached = first + number * width
    return [*lines, "pop {r4-r11, pc}"]


def _pieces(channels: int) -> Iterator[tuple[int, int, int]]:
    """Yield first channel, width and number of pieces of that width."""
    if channels < 4:
        yield 0, 1, channels
        return
    at = channels // 16 * 16
    if at:
        yield 0, 16, channels // 16
    for width in (8, 4):
        if channels - at >= width:
            yield at, width, 1
            at += width
    if at < channels:
        yield channels - 4, 4, 1


def _pieces_of_one_width(channels: int) -> Iterator[tuple[int, int, int]]:
    """Yield the same of pieces that reach beyond the channels, which the last one does not."""
    width = next(width for width in (16, 8, 4, 1) if width <= channels)
    yield 0, width, -(-channels // width)


def _move(register: str, home: str, distance: int) -> list[str]:
    return [f"vmov {register}, {home}", *add(register, register, distance, "r3"), f"vmov {home}, {register}"]


def _window(taps: Taps, kind: _Average | _Largest, width: int) -> list[str]:
    """Take all pixels of the window for one piece of the channels."""
    pairs = taps.columns // 2 if taps.columns > STRAIGHT else 0
    rest = taps.columns - 2 * pairs
    row = []
    if pairs:
        both = _pixels(taps, kind, width, 2)
        row += [f"movw r2, #{pairs}", ".p2align 2", "2:", *both, *add("r1", "r1", 2 * taps.channels, "r3")]
        row += ["subs r2, #1", "bne 2b"]
    row += _pixels(taps, kind, width, rest)
    if taps.rows == 1:
        return ["vmov r1, s0", *row]
    row += add("r1", "r1", taps.row_stride - 2 * pairs * taps.channels, "r3")
    return [
        *("vmov r1, s0", f"mov r2, #{taps.rows}", "vmov s7, r2"),
        *("3:", *row, "vmov r2, s7", "subs r2, #1", "vmov s7, r2", "bne 3b"),
    ]


def _pixels(taps: Taps, kind: _Average | _Largest, width: int, number: int) -> list[str]:
    """Take pixels next to each other; up to four loads stand together."""
    load, words = ("ldrsb", 1) if width == 1 else ("ldr", width // 4)
    every = [(taps.channels * pixel + 4 * word, word) for pixel in range(number) for word in range(words)]
    lines: list[str] = []
    for start in range(0, len(every), len(_LOADED)):
        held = list(zip(_LOADED, every[start:], strict=False))
        lines += [f"{load} {register}, [r1, #{offset}]" for register, (offset, _) in held]
        lines += [line for register, (_, word) in held for line in kind.take(register, width, word)]
    return lines


def _portable(taps: Taps, start: str, step: str, result: str) -> str:
    lines = "".join(f"    {line}\n" for line in result.splitlines())
    return f"""  for (int32_t channel = 0; channel < {taps.channels}; ++channel) {{
    int32_t sum = {start};
    for (int32_t row = 0; row < {taps.rows}; ++row)
      for (int32_t column = 0; column < {taps.columns}; ++column) {{
        const int32_t at = {taps.row_stride} * row + {taps.channels} * column + channel;
        sum = {step};
      }}
{lines}    y[channel] = result;
  }}
"""
