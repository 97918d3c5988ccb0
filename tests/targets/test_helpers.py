"""The helpers, in every body that they have, against exact Python integers."""

from __future__ import annotations

import ctypes
import functools
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
from numpy.typing import NDArray

from tvm_tinyml.device import Simulator, strip
from tvm_tinyml.device.simulator import simulator_installed
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.targets.llvm_object import compile_ir, helper_ir

HELPERS_H = str(resources.files("tvm_tinyml.targets.cortex_m.helpers").joinpath("helpers.h"))
ARITY = {
    "multiply_q31": 2, "rounding_right_shift": 2, "requantize": 3, "requantize_right": 3, "saturate_s8": 1,
    "leading_zeros": 1, "saturate_s16": 1, "requantize_reduced": 2, "scale_long": 4,
}  # fmt: skip
LOW, HIGH = -(2**31), 2**31 - 1
EXTREMES = [LOW, LOW + 1, -(2**30) - 1, -(2**30), -(2**30) + 1, -65537, -65536, -129, -128, -3, -2, -1]
EXTREMES += [-1 - value for value in EXTREMES]
MULTIPLIERS = [0, 1, 2**15, 2**16 - 1, 2**16, 2**30, 2**30 + 1, 2**31 - 2**16, 2**31 - 2, 2**31 - 1]
BODIES = ("llvm cortex-m0plus", "llvm cortex-m3", "llvm cortex-m4", "c host", "c cortex-m0plus", "c cortex-m4")
"""Who compiles which body for what: LLVM IR by TVM's LLVM, C by the host's compiler and by arm-none-eabi-gcc."""

WITH_PRODUCTS = tuple(body for body in BODIES if body not in ("llvm cortex-m0plus", "llvm cortex-m3"))
"""Kernels of cores without the DSP extension call no products of four."""

Numbers = Sequence[int] | NDArray[np.int64]

# Loops are of 32-bit numbers: a sum of 48 bits is made of two that fit.
_SCALE_LONG_C = """static inline int32_t tinyml_scale_long(int32_t a, int32_t b, int32_t multiplier, int32_t bits) {
  return tinyml_requantize_reduced_long(tinyml_product_s64(a, b) * 65536 + a, multiplier, bits);
}"""
_SCALE_LONG_IR = """define i32 @tinyml_scale_long(i32 %a, i32 %b, i32 %multiplier, i32 %bits) alwaysinline nounwind {
  %product = call i64 @tinyml_product_s64(i32 %a, i32 %b)
  %high = shl i64 %product, 16
  %low = sext i32 %a to i64
  %x = add i64 %high, %low
  %r = call i32 @tinyml_requantize_reduced_long(i64 %x, i32 %multiplier, i32 %bits)
  ret i32 %r
}"""


class Helpers(Protocol):
    """The helpers of one body, called with arrays of arguments."""

    def map(self, name: str, *arguments: Numbers) -> list[int]:
        """Apply a function of integers to each position."""

    def memory(self, name: str, blocks: Sequence[bytes], *numbers: int) -> tuple[int, list[bytes]]:
        """Call a function of pointers to blocks, then numbers; return its result and the blocks afterwards."""


def _c_loops() -> str:
    lines = [f'#include "{HELPERS_H}"', _SCALE_LONG_C]
    for name, count in ARITY.items():
        pointers = ", ".join(f"const int32_t *a{i}" for i in range(count))
        values = ", ".join(f"a{i}[i]" for i in range(count))
        lines += [f"void loop_{name}(int32_t *out, int32_t n, {pointers}) {{"]
        lines += [f"  for (int32_t i = 0; i < n; ++i) out[i] = tinyml_{name}({values});", "}"]
    lines += [
        "int32_t run_interpolate(const int16_t *points, int32_t x) { return tinyml_interpolate(x, points); }",
        "int32_t run_dot4_s16s8(const int16_t *a, const int8_t *b, int32_t c) { return tinyml_dot4_s16s8(a, b, c); }",
        "int32_t run_mac4_s16s8(int32_t *s, const int16_t *a, const int8_t *b)",
        "{ tinyml_mac4_s16s8(s, a, b); return 0; }",
        "int32_t run_dot4_s8(const int8_t *a, const int8_t *b, int32_t c) { return tinyml_dot4_s8(a, b, c); }",
        "int32_t run_mac4_s8(int32_t *s, const int8_t *a, const int8_t *b) { tinyml_mac4_s8(s, a, b); return 0; }",
        "int32_t run_fill(int8_t *to, int32_t v, int32_t n) { tinyml_fill(to, v, n); return 0; }",
        "int32_t run_copy(int8_t *to, const int8_t *from, int32_t n) { tinyml_copy(to, from, n); return 0; }",
    ]
    return "\n".join(lines) + "\n"


def _ir_loops(dsp: bool) -> str:
    lines = [_SCALE_LONG_IR]
    for name, count in ARITY.items():
        pointers = "".join(f", ptr %a{i}" for i in range(count))
        values = ", ".join(f"i32 %v{i}" for i in range(count))
        loads = [f"  %p{i} = getelementptr i32, ptr %a{i}, i32 %i\n  %v{i} = load i32, ptr %p{i}" for i in range(count)]
        lines += [f"define void @loop_{name}(ptr %out, i32 %n{pointers}) nounwind {{", "entry:", "  br label %loop"]
        lines += ["loop:", "  %i = phi i32 [ 0, %entry ], [ %next, %loop ]", *loads]
        lines += [f"  %r = call i32 @tinyml_{name}({values})", "  %q = getelementptr i32, ptr %out, i32 %i"]
        lines += ["  store i32 %r, ptr %q", "  %next = add i32 %i, 1", "  %done = icmp sge i32 %next, %n"]
        lines += ["  br i1 %done, label %end, label %loop", "end:", "  ret void", "}"]
    functions = [("fill", "ptr %a, i32 %b, i32 %c"), ("copy", "ptr %a, ptr %b, i32 %c")]
    for bits in ("s8", "s16s8") if dsp else ():
        functions += [(f"dot4_{bits}", "ptr %a, ptr %b, i32 %c"), (f"mac4_{bits}", "ptr %a, ptr %b, ptr %c")]
    lines += ["define i32 @run_interpolate(ptr %points, i32 %x) nounwind {"]
    lines += ["  %r = call i32 @tinyml_interpolate(i32 %x, ptr %points)", "  ret i32 %r", "}"]
    for name, parameters in functions:
        lines += [f"define i32 @run_{name}({parameters}) nounwind {{"]
        lines += [f"  %r = call i32 @tinyml_{name}({parameters})", "  ret i32 %r", "}"]
    return "\n".join(lines)


class OnSimulator:
    """Objects on a simulated core."""

    CHUNK = 4096

    def __init__(self, simulator: Simulator, objects: Sequence[bytes]) -> None:
        self._simulator = simulator
        simulator.load(objects)
        self._arrays = [simulator.allocate(4 * self.CHUNK) for _ in range(5)]

    def map(self, name: str, *arguments: Numbers) -> list[int]:
        words = [np.asarray(a, np.int64).astype(np.int32) for a in arguments]
        results: list[int] = []
        for start in range(0, len(words[0]), self.CHUNK):
            parts = [word[start : start + self.CHUNK] for word in words]
            for address, part in zip(self._arrays[1:], parts, strict=False):
                self._simulator.write(address, part.tobytes())
            self._simulator.call(f"loop_{name}", self._arrays[0], len(parts[0]), *self._arrays[1 : len(parts) + 1])
            results += np.frombuffer(self._simulator.read(self._arrays[0], 4 * len(parts[0])), np.int32).tolist()
        self._simulator.check_guards()
        return results

    def memory(self, name: str, blocks: Sequence[bytes], *numbers: int) -> tuple[int, list[bytes]]:
        # Bytes need no alignment, and are what the last block holds if any does.
        offset = 0 if name in ("mac4_s8", "mac4_s16s8", "dot4_s16s8", "interpolate") else 1
        addresses = [a + offset for a in self._arrays[: len(blocks)]]
        for address, block in zip(addresses, blocks, strict=True):
            self._simulator.write(address, block)
        result = self._simulator.call(f"run_{name}", *addresses, *numbers).value
        self._simulator.check_guards()
        return result, [self._simulator.read(a, len(b)) if b else b"" for a, b in zip(addresses, blocks, strict=True)]


class OnHost:
    """A shared library of the host."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))

    def map(self, name: str, *arguments: Numbers) -> list[int]:
        words = [np.asarray(a, np.int64).astype(np.int32) for a in arguments]
        out = np.zeros(len(words[0]), np.int32)
        pointers = [ctypes.c_void_p(word.ctypes.data) for word in (out, *words)]
        getattr(self._library, f"loop_{name}")(pointers[0], len(out), *pointers[1:])
        return [int(value) for value in out]

    def memory(self, name: str, blocks: Sequence[bytes], *numbers: int) -> tuple[int, list[bytes]]:
        buffers = [ctypes.create_string_buffer(block, len(block) or 1) for block in blocks]
        result = getattr(self._library, f"run_{name}")(*buffers, *numbers)
        return int(result), [buffer.raw[: len(block)] for buffer, block in zip(buffers, blocks, strict=True)]


def _compiled_by(compiler: str, flags: Sequence[str], folder: Path, output: str) -> Path:
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}: .ci/run installs it")
    source = folder / "loops.c"
    source.write_text(_c_loops(), encoding="ascii")
    command = [compiler, "-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", *flags, str(source), "-o", folder / output]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / output


@functools.cache
def _llvm_object(core: str) -> bytes:
    target = cortex_m(core)
    return strip(compile_ir(f"{helper_ir(target)}\n{_ir_loops('dsp' in target.features)}", target))


@pytest.fixture(scope="module", params=BODIES)
def body(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def helpers(body: str, tmp_path_factory: pytest.TempPathFactory) -> Helpers:
    language, where = body.split()
    folder = tmp_path_factory.mktemp("helpers")
    if where == "host":
        # Signed overflow traps, so that the C form is defined for all the numbers of these tests.
        flags = [
            "-shared",
            "-fPIC",
            "-fsanitize=undefined",
            "-fno-sanitize-recover=all",
            "-fsanitize-undefined-trap-on-error",
        ]
        return OnHost(_compiled_by("gcc", flags, folder, "loops.so"))
    if not simulator_installed():
        pytest.skip("needs a simulator: pip install tvm_tinyml[sim]")
    if language == "llvm":
        data = _llvm_object(where)
    else:
        flags = [*cortex_m(where).gcc_flags, "-ffreestanding", "-c"]
        data = strip(_compiled_by("arm-none-eabi-gcc", flags, folder, "loops.o").read_bytes())
    return OnSimulator(Simulator(where), [data])


# --- what they must compute -----------------------------------------------------------------------------------------


def multiply_q31(a: int, b: int) -> int:
    return (a * b + 2**30) >> 31


def rounding_right_shift(x: int, bits: int) -> int:
    magnitude = (2 * abs(x) + 2**bits) // 2 ** (bits + 1)
    return magnitude if x >= 0 else -magnitude


def requantize(x: int, multiplier: int, shift: int) -> int:
    raised = min(max(x << max(shift, 0), LOW), HIGH)
    return rounding_right_shift(multiply_q31(raised, multiplier), max(-shift, 0))


def spread(rng: np.random.Generator, count: int, bits: int = 32) -> list[int]:
    """Return random numbers of every magnitude below 2**(bits - 1)."""
    values = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), count) >> rng.integers(0, bits - 1, count)
    return [int(value) for value in values]


def check(helpers: Helpers, name: str, exact: Callable[..., int], cases: Sequence[tuple[int, ...]]) -> None:
    results = helpers.map(name, *[[case[i] for case in cases] for i in range(len(cases[0]))])
    wrong = [(case, ours, exact(*case)) for case, ours in zip(cases, results, strict=True) if ours != exact(*case)]
    assert not wrong, f"{len(wrong)} of {len(cases)}, the first: {wrong[0]}"


def test_multiply_rounds_the_high_half_to_nearest_and_halves_up(helpers: Helpers, rng: np.random.Generator) -> None:
    signed = [*MULTIPLIERS, *(-m for m in MULTIPLIERS if m)]
    halves = [(2**k, (2 * i + 1) * 2 ** (30 - k)) for k in range(30) for i in (-2, -1, 0, 1) if abs(2 * i + 1) < 2**k]
    cases = [*product(EXTREMES, signed), *halves, *zip(spread(rng, 5000), spread(rng, 5000), strict=True)]
    check(helpers, "multiply_q31", multiply_q31, [case for case in cases if case[1] != LOW])


def test_right_shift_rounds_halves_away_from_zero_for_all_shifts(helpers: Helpers, rng: np.random.Generator) -> None:
    halves = [((2 * i + 1) * 2**s // 2, s) for s in range(32) for i in (-3, -2, -1, 0, 1, 2)]
    cases = [*product(EXTREMES, range(32)), *halves, *product(spread(rng, 100), range(32))]
    check(helpers, "rounding_right_shift", rounding_right_shift, [c for c in cases if LOW <= c[0] <= HIGH])


def test_requantize_saturates_to_the_left_and_rounds_twice_to_the_right(
    helpers: Helpers, rng: np.random.Generator
) -> None:
    cases = [*product(EXTREMES, MULTIPLIERS, range(-31, 31))]
    multipliers = [int(m) for m in rng.integers(2**30, 2**31, 6000)]
    shifts = [int(s) for s in rng.integers(-31, 31, 6000)]
    check(helpers, "requantize", requantize, [*cases, *zip(spread(rng, 6000), multipliers, shifts, strict=True)])


def test_requantize_right_is_requantize_inside_its_range(helpers: Helpers, rng: np.random.Generator) -> None:
    inside = [x for x in EXTREMES if abs(x) < 2**30] + [-(2**30), 2**30 - 1, 2**30 - 2]
    cases = [*product(inside, MULTIPLIERS, range(-31, 0))]
    multipliers = [int(m) for m in rng.integers(2**30, 2**31, 6000)]
    shifts = [int(s) for s in rng.integers(-31, 0, 6000)]
    check(
        helpers, "requantize_right", requantize, [*cases, *zip(spread(rng, 6000, 31), multipliers, shifts, strict=True)]
    )


@pytest.mark.parametrize("body", ["llvm cortex-m4"], indirect=True)
def test_beyond_its_range_requantize_right_is_wrong_where_it_doubles(helpers: Helpers) -> None:
    assert helpers.map("requantize_right", [2**30], [2**30], [-1]) != [requantize(2**30, 2**30, -1)]


def test_saturation_is_to_int8(helpers: Helpers, rng: np.random.Generator) -> None:
    cases = [(x,) for x in [*EXTREMES, *range(-300, 300), *spread(rng, 1000)]]
    check(helpers, "saturate_s8", lambda x: min(max(x, -128), 127), cases)


def test_saturation_is_to_int16(helpers: Helpers, rng: np.random.Generator) -> None:
    cases = [(x,) for x in [*EXTREMES, *range(-32800, -32700), *range(32700, 32800), *spread(rng, 1000)]]
    check(helpers, "saturate_s16", lambda x: min(max(x, -32768), 32767), cases)


REDUCED = [0, 1 << 16, 3 << 16, 2**30, 2**30 + 2**16, 0x7FFE << 16, 0x7FFF << 16]


def test_reduced_multipliers_round_once_and_halves_up(helpers: Helpers, rng: np.random.Generator) -> None:
    multipliers = [2 * int(m) for m in rng.integers(2**14, 2**15, 6000) << rng.integers(0, 15, 6000)]
    cases = [*product(EXTREMES, [m >> k for m in REDUCED for k in range(16)])]
    cases += zip(spread(rng, 6000), multipliers, strict=True)
    check(
        helpers, "requantize_reduced", lambda x, m: (x * m + 2**31) >> 32, [c for c in cases if LOW <= c[0] <= HIGH]
    )


def test_sums_of_48_bits_are_scaled_exactly(helpers: Helpers, rng: np.random.Generator) -> None:
    def exact(a: int, b: int, multiplier: int, bits: int) -> int:
        scaled = ((a * b * 65536 + a) * (multiplier >> 16) + 2 ** (bits + 15)) >> (bits + 16)
        return (scaled + 2**31) % 2**32 - 2**31

    ends = (-(2**15), -(2**15) + 1, -1, 0, 1, 2**15 - 1)
    cases = [*product(ends, (-(2**15), -3, 0, 1, 2**15 - 1), REDUCED, range(-8, 31))]
    multipliers, bits = (rng.integers(2**14, 2**15, 6000) << 16).tolist(), rng.integers(-8, 31, 6000).tolist()
    random = (rng.integers(-(2**15), 2**15, 6000).tolist() for _ in range(2))
    check(helpers, "scale_long", exact, [*cases, *zip(*random, multipliers, bits, strict=True)])


def test_a_function_is_interpolated_between_its_points(helpers: Helpers, rng: np.random.Generator) -> None:
    points = rng.integers(-(2**15), 2**15, 513).astype(np.int16)
    for x in [-(2**15), -1, 0, 2**15 - 1, *rng.integers(-(2**15), 2**15, 200).tolist()]:
        here, there = (int(point) for point in points[256 + (x >> 7) :][:2])
        result, _ = helpers.memory("interpolate", [points.tobytes()], x)
        assert result == here + (((there - here) * (x & 127) + 64) >> 7)


def test_leading_zeros_are_counted_zero_included(helpers: Helpers, rng: np.random.Generator) -> None:
    powers = [2**i for i in range(31)]
    cases = [(x,) for x in [*EXTREMES, *powers, *(p - 1 for p in powers), *spread(rng, 500)]]
    check(helpers, "leading_zeros", lambda x: 32 - (x & 0xFFFFFFFF).bit_length(), cases)


BYTES = [(-128, -128, -128, -128), (127, 127, 127, 127), (-128, 127, -128, 127), (-1, 0, 1, 2), (0, 0, 0, -128)]


def byte_pairs(rng: np.random.Generator) -> list[tuple[NDArray[np.int8], NDArray[np.int8]]]:
    random = [tuple(rng.integers(-128, 128, 4).tolist()) for _ in range(60)]
    pairs = [*product(BYTES, BYTES), *zip(random[::2], random[1::2], strict=True)]
    return [(np.array(a, np.int8), np.array(b, np.int8)) for a, b in pairs]


@pytest.mark.parametrize("body", WITH_PRODUCTS, indirect=True)
def test_four_products_are_added_to_the_sum(helpers: Helpers, rng: np.random.Generator) -> None:
    for a, b in byte_pairs(rng):
        for start in (0, -7, 2**30, -(2**30)):
            result, _ = helpers.memory("dot4_s8", [a.tobytes(), b.tobytes()], start)
            assert result == start + int(a.astype(np.int64) @ b.astype(np.int64))


@pytest.mark.parametrize("body", WITH_PRODUCTS, indirect=True)
def test_each_of_four_products_is_added_to_its_sum(helpers: Helpers, rng: np.random.Generator) -> None:
    sums = np.array([2**30, -(2**30), 0, -1], np.int32)
    for a, b in byte_pairs(rng):
        _, (result, *_) = helpers.memory("mac4_s8", [sums.tobytes(), a.tobytes(), b.tobytes()])
        expected = sums + a.astype(np.int32) * b.astype(np.int32)
        assert np.frombuffer(result, np.int32).tolist() == expected.tolist()


HALVES = [(-(2**15),) * 4, (2**15 - 1,) * 4, (-(2**15), 2**15 - 1, -1, 1)]


def halves_and_bytes(rng: np.random.Generator) -> list[tuple[NDArray[np.int16], NDArray[np.int8]]]:
    random = [(tuple(rng.integers(-(2**15), 2**15, 4)), tuple(rng.integers(-128, 128, 4))) for _ in range(30)]
    return [(np.array(x, np.int16), np.array(w, np.int8)) for x, w in [*product(HALVES, BYTES), *random]]


@pytest.mark.parametrize("body", WITH_PRODUCTS, indirect=True)
def test_products_of_halves_and_bytes_are_added_to_the_sum(helpers: Helpers, rng: np.random.Generator) -> None:
    for x, w in halves_and_bytes(rng):
        for start in (0, -7, 2**30, -(2**30)):
            result, _ = helpers.memory("dot4_s16s8", [x.tobytes(), w[[0, 2, 1, 3]].tobytes()], start)
            assert result == start + int(x.astype(np.int64) @ w.astype(np.int64))


@pytest.mark.parametrize("body", WITH_PRODUCTS, indirect=True)
def test_each_product_of_a_half_and_a_byte_is_added_to_its_sum(helpers: Helpers, rng: np.random.Generator) -> None:
    sums = np.array([2**30, -(2**30), 0, -1], np.int32)
    for x, w in halves_and_bytes(rng):
        _, (result, *_) = helpers.memory("mac4_s16s8", [sums.tobytes(), x.tobytes(), w[[0, 2, 1, 3]].tobytes()])
        assert np.frombuffer(result, np.int32).tolist() == (sums + x.astype(np.int32) * w).tolist()


@pytest.mark.parametrize("size", [0, 1, 3, 4, 17, 100])
@pytest.mark.parametrize("value", [-128, -1, 0, 127])
def test_fill_writes_that_many_bytes_and_no_more(helpers: Helpers, size: int, value: int) -> None:
    _, (block,) = helpers.memory("fill", [b"\x55" * 104], value, size)
    assert block == bytes([value & 0xFF]) * size + b"\x55" * (104 - size)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 17, 100])
def test_copy_writes_that_many_bytes_and_no_more(helpers: Helpers, size: int) -> None:
    source = bytes(i * 37 & 0xFF for i in range(104))
    _, (to, unchanged) = helpers.memory("copy", [b"\x55" * 104, source], size)
    assert to == source[:size] + b"\x55" * (104 - size)
    assert unchanged == source


def test_every_helper_has_a_body_in_c_and_in_llvm_ir() -> None:
    c = set(re.findall(r"static inline \w+ tinyml_(\w+)\(", Path(HELPERS_H).read_text(encoding="ascii")))
    ir = set(re.findall(r"define i\d+ @tinyml_(\w+)\(", helper_ir(cortex_m("cortex-m4"))))
    assert c - {"word", "rotate8", "bound"} == ir  # which C bodies alone call
    plain = set(re.findall(r"define i\d+ @tinyml_(\w+)\(", helper_ir(cortex_m("cortex-m0plus"))))
    assert ir - plain == {"dot4_s8", "mac4_s8", "dot4_s16s8", "mac4_s16s8"}
