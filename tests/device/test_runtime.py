"""Every runtime function against Python, on the smallest core and on one with all instructions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from device.thumb import function
from simulated import needs_simulator

from tvm_tinyml.device import ElfObject, Simulator, assemble
from tvm_tinyml.device.runtime import ROUTINES, SUPPLIED, supplements

pytestmark = needs_simulator

M32, M64 = 2**32 - 1, 2**64 - 1
EXTREMES_32 = [0, 1, 2, 7, 10, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001, 0xFFFF_FFFE, M32]
EXTREMES_64 = [0, 1, 0xFFFF, 0x10000, M32, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 63) + 1, M64]

# Calls a function with two words in r0, r1 and two in r2, r3, and stores r0 and r1 where the fifth argument points.
PAIR = "push {{r4, lr}};bl {0};ldr r2, [sp, #8];str r0, [r2];str r1, [r2, #4];pop {{r4, pc}}"


@dataclass
class Bench:
    """A simulator with all runtime functions, a buffer and a place for results."""

    simulator: Simulator
    arena: int
    out: int

    def pair(self, name: str, *arguments: int) -> tuple[int, int]:
        """Call a function; what it leaves in r0 and r1."""
        words = [a & M32 for a in arguments] + [0] * (4 - len(arguments))
        self.simulator.call(f"pair_{name}", *words, self.out)
        low, high = np.frombuffer(self.simulator.read(self.out, 8), np.uint32).tolist()
        return low, high

    def fill(self, size: int) -> bytes:
        """Put a known pattern into the arena."""
        data = bytes((i * 7 + 1) & 0xFF for i in range(size))
        self.simulator.write(self.arena, data)
        return data


@pytest.fixture(scope="module", params=["cortex-m0plus", "cortex-m4"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    source = [function(f"pair_{name}", PAIR.format(name)) for name in sorted(SUPPLIED)]
    with Simulator(request.param) as simulator:
        simulator.load([assemble("\n".join(source))])
        yield Bench(simulator, simulator.allocate(1024), simulator.allocate(8))


def signed(value: int, bits: int = 32) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def numbers(rng: np.random.Generator, extremes: list[int], count: int) -> list[tuple[int, int]]:
    bits = 32 if max(extremes) <= M32 else 64
    # Random widths, so that small and large operands meet.
    random = [
        tuple(int.from_bytes(rng.bytes(8), "little") >> int(s) & (1 << bits) - 1 for s in rng.integers(0, 64, 2))
        for _ in range(count)
    ]
    return [(a, b) for a in extremes for b in extremes] + [(a, b) for a, b in random]


@pytest.mark.parametrize("name", ["__aeabi_uidiv", "__aeabi_uidivmod", "__udivsi3"])
def test_unsigned_division(bench: Bench, rng: np.random.Generator, name: str) -> None:
    for a, b in numbers(rng, EXTREMES_32, 100):
        quotient, remainder = divmod(a, b) if b else (0, a)
        got = bench.pair(name, a, b)
        assert got[0] == quotient, (a, b)
        if name.endswith("mod"):
            assert got[1] == remainder, (a, b)


@pytest.mark.parametrize("name", ["__aeabi_idiv", "__aeabi_idivmod", "__divsi3"])
def test_signed_division_rounds_toward_zero(bench: Bench, rng: np.random.Generator, name: str) -> None:
    for a, b in numbers(rng, EXTREMES_32, 100):
        n, d = signed(a), signed(b)
        quotient = abs(n) // abs(d) * (1 if (n < 0) == (d < 0) else -1) if d else 0
        got = bench.pair(name, a, b)
        assert got[0] == quotient & M32, (n, d)
        if name.endswith("mod"):
            assert got[1] == (n - quotient * d) & M32, (n, d)


@pytest.mark.parametrize(("name", "is_signed"), [("__modsi3", True), ("__umodsi3", False)])
def test_a_remainder_has_the_sign_of_the_dividend(
    bench: Bench, rng: np.random.Generator, name: str, is_signed: bool
) -> None:
    for a, b in numbers(rng, EXTREMES_32, 100):
        n, d = (signed(a), signed(b)) if is_signed else (a, b)
        remainder = (abs(n) % abs(d)) * (-1 if n < 0 else 1) if d else n
        assert bench.pair(name, a, b)[0] == remainder & M32, (n, d)


def test_long_multiplication(bench: Bench, rng: np.random.Generator) -> None:
    for a, b in numbers(rng, EXTREMES_64, 150):
        low, high = bench.pair("__aeabi_lmul", a, a >> 32, b, b >> 32)
        assert high << 32 | low == a * b & M64, (a, b)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("__aeabi_llsl", lambda a, s: a << s & M64),
        ("__aeabi_llsr", lambda a, s: a >> s),
        ("__aeabi_lasr", lambda a, s: signed(a, 64) >> s & M64),
    ],
)
def test_long_shifts_by_0_to_63(bench: Bench, rng: np.random.Generator, name: str, expected) -> None:  # type: ignore[no-untyped-def]
    values = [0x8000_0000_0000_0001, 0x7FFF_FFFF_8000_0000, *(int.from_bytes(rng.bytes(8), "little") for _ in range(2))]
    for a in values:
        for shift in range(64):
            low, high = bench.pair(name, a, a >> 32, shift)
            assert high << 32 | low == expected(a, shift), (hex(a), shift)


def test_count_leading_zeros(bench: Bench, rng: np.random.Generator) -> None:
    for value in (0, *(1 << i for i in range(32)), *(M32 >> i for i in range(32)), *rng.integers(0, M32, 20).tolist()):
        assert bench.pair("__clzsi2", value)[0] == 32 - value.bit_length(), value


SIZES = [*range(20), 31, 32, 33, 47, 48, 49, 64, 100, 255]


@pytest.mark.parametrize("name", ["memcpy", "__aeabi_memcpy", "memmove", "__aeabi_memmove"])
def test_copying_at_every_alignment_and_size(bench: Bench, name: str) -> None:
    for size in SIZES:
        for to, source in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 2), (3, 1), (2, 0)):
            base, before = bench.arena, bench.fill(800)
            destination, start = base + 16 + to, base + 400 + source
            result, _ = bench.pair(name, destination, start, size)
            if not name.startswith("__aeabi"):
                assert result == destination
            expected = bytearray(before)
            expected[16 + to : 16 + to + size] = before[400 + source : 400 + source + size]
            assert bench.simulator.read(base, 800) == expected, (size, to, source)


@pytest.mark.parametrize("name", ["memmove", "__aeabi_memmove"])
def test_moving_between_overlapping_places(bench: Bench, name: str) -> None:
    for size in (1, 3, 4, 5, 16, 33, 64):
        for distance in (-65, -64, -33, -16, -5, -4, -1, 0, 1, 2, 4, 7, 16, 33, 64):
            base, before = bench.arena, bench.fill(300)
            result, _ = bench.pair(name, base + 100 + distance, base + 100, size)
            if not name.startswith("__aeabi"):
                assert result == base + 100 + distance
            expected = bytearray(before)
            expected[100 + distance : 100 + distance + size] = before[100 : 100 + size]
            assert bench.simulator.read(base, 300) == expected, (size, distance)


@pytest.mark.parametrize("name", ["memset", "__aeabi_memset", "__aeabi_memclr"])
def test_setting_takes_its_arguments_in_the_order_of_its_interface(bench: Bench, name: str) -> None:
    for size in SIZES:
        for offset in range(4):
            base, before = bench.arena, bench.fill(400)
            start = base + 20 + offset
            value = 0 if name == "__aeabi_memclr" else 0xB7
            # C: (pointer, value, size); ABI: (pointer, size, value). Only the low byte of the value counts.
            result, _ = bench.pair(name, start, *((0xFFB7, size) if name == "memset" else (size, 0xFFB7)))
            if name == "memset":
                assert result == start
            expected = bytearray(before)
            expected[20 + offset : 20 + offset + size] = bytes([value]) * size
            assert bench.simulator.read(base, 400) == expected, (size, offset)


def test_variants_for_aligned_pointers_are_the_same_functions(bench: Bench) -> None:
    for name in ("memcpy", "memmove", "memset", "memclr"):
        addresses = {bench.simulator.symbols[f"__aeabi_{name}{suffix}"] for suffix in ("", "4", "8")}
        assert len(addresses) == 1, name


def test_functions_keep_the_registers_that_belong_to_the_caller(bench: Bench) -> None:
    check = (
        "push {r4-r7, lr};movs r4, #44;movs r5, #55;movs r6, #66;movs r7, #77;bl memcpy;"
        "subs r4, #44;subs r5, #55;subs r6, #66;subs r7, #77;orrs r4, r5;orrs r4, r6;orrs r4, r7;mov r0, r4;"
        "pop {r4-r7, pc}"
    )
    for name in sorted(SUPPLIED):
        with Simulator(bench.simulator.core) as fresh:
            fresh.load([assemble(function("check", check.replace("memcpy", name)))])
            buffer = fresh.allocate(256)
            second = buffer + 128 if "cpy" in name or "move" in name else 40
            assert fresh.call("check", buffer, second, 40, 3).value == 0, name


def test_only_what_is_missing_is_supplied() -> None:
    needs = ElfObject.parse(assemble(function("f", "push {r4, lr};bl __aeabi_memcpy;bl __aeabi_idiv;pop {r4, pc}")))
    names = [item.name for item in supplements([needs])]
    assert names == ["runtime object 'memcpy'", "runtime object '__aeabi_uidiv'"]
    own = ElfObject.parse(assemble(function("__aeabi_idiv", "bx lr")))
    assert [item.name for item in supplements([needs, own])] == ["runtime object 'memcpy'"]


def test_a_program_may_bring_its_own_part_of_a_routine() -> None:
    source = function("f", "push {r4, lr};bl memcpy;bl memmove;pop {r4, pc}")
    with Simulator("cortex-m4") as simulator:
        simulator.load([assemble(source), assemble(function("memcpy", "movs r2, #0;bx lr"))])
        x = simulator.allocate(4)
        result = simulator.call("f", x, x, 0)
    assert result.instructions_by_symbol["memcpy"] == 2


def test_every_routine_defines_just_its_names_and_needs_nothing() -> None:
    for routine in ROUTINES:
        item = ElfObject.parse(assemble(routine.source()))
        assert set(item.defined_symbols()) == set(routine.names)
        assert item.undefined_symbols() == ()
