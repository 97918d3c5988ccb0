"""One program that executes instructions from states that it reads, and writes the states that they leave."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from device.differential import INTERESTING, SINGLES
from device.thumb import function

from tvm_tinyml.device import Simulator, assemble

SLOT = 5
"""Words for the instructions of a case."""

# A state: r0 to r12, lr, APSR, VPR, FPSCR, nothing, q0 to q7; where a case reads it, and 256 bytes on writes it.
STATE_BYTES, CASE_BYTES = 200, 512
APSR, VPR, FPSCR, VECTORS = 14, 15, 16, 18
NAMES = [*(f"r{i}" for i in range(13)), "lr", "apsr", "vpr", "fpscr", "", *(f"q{i // 4}[{i % 4}]" for i in range(32))]

_NOP = struct.pack("<2H", 0xF3AF, 0x8000)
_CASE = f"""ldr r0, [sp, #{4 * APSR}]; msr apsr_nzcvqg, r0
ldr r0, [sp, #{4 * VPR}]; vmsr vpr, r0
ldr r0, [sp, #{4 * FPSCR}]; vmsr fpscr, r0
add r0, sp, #{4 * VECTORS}; vldmia r0, {{s0-s31}}
ldmia.w sp, {{r0-r12, lr}}
{"; ".join(["nop.w"] * SLOT)}
add sp, sp, #256
stmia.w sp, {{r0-r12, lr}}
mrs r0, apsr; str r0, [sp, #{4 * APSR}]
vmrs r0, vpr; str r0, [sp, #{4 * VPR}]
vmrs r0, fpscr; str r0, [sp, #{4 * FPSCR}]
add r0, sp, #{4 * VECTORS}; vstmia r0, {{s0-s31}}
add sp, sp, #256"""
# r0 points to the cases, behind which the address of a word lies that keeps the stack pointer.
_BEGIN = "push {r4-r11, lr}; ldr r1, [r1]; str.w sp, [r1]; mov sp, r0"
_END = "ldr r1, [sp]; ldr sp, [r1]; movs r0, #0; vmsr vpr, r0; mov.w r0, #0x40000; vmsr fpscr, r0; pop {r4-r11, pc}"


@dataclass(frozen=True)
class Outcomes:
    """What cases left: the words of each state, and the memory that they share."""

    states: list[tuple[int, ...]]
    memory: bytes


class VectorProgram:
    """The program for a number of cases, on one simulator."""

    def __init__(self, simulator: Simulator, count: int) -> None:
        text = "; ".join([_BEGIN, *[_CASE.replace("\n", "; ")] * count, _END])
        simulator.load([assemble(function("f", text), "cortex-m55")])
        self._simulator, self._count = simulator, count
        self._entry = simulator.symbols["f"]
        code = simulator.read(self._entry, 200 * count)
        self._slots = []
        at = code.find(_NOP * SLOT)
        while at >= 0:
            self._slots.append(self._entry + at)
            at = code.find(_NOP * SLOT, at + 4 * SLOT)
        assert len(self._slots) == count
        self._code = code[: self._slots[-1] + 4 * SLOT - self._entry]
        self._cases = simulator.allocate(CASE_BYTES * count + 4, alignment=64)
        self._stack_pointer = simulator.allocate(4)
        self._pointer = simulator.allocate(4)
        simulator.write(self._pointer, self._stack_pointer.to_bytes(4, "little"))
        simulator.write(self._cases + CASE_BYTES * count, self._stack_pointer.to_bytes(4, "little"))
        self.data = simulator.allocate(4096, alignment=64)
        """Where registers may point to, in the middle."""

    def run(self, codes: Sequence[bytes], states: Sequence[Sequence[int]], memory: bytes) -> Outcomes:
        """Execute the code of each case from its state."""
        simulator, code = self._simulator, bytearray(self._code)
        for slot, case in zip(self._slots, codes, strict=True):
            padded = case + b"\0\xbf" * ((4 * SLOT - len(case)) // 2)
            code[slot - self._entry : slot - self._entry + 4 * SLOT] = padded
        simulator.write(self._entry, bytes(code))
        blob = b"".join(struct.pack("<50I", *state).ljust(CASE_BYTES, b"\0") for state in states)
        simulator.write(self._cases, blob)
        simulator.write(self.data, memory)
        simulator.call("f", self._cases, self._pointer, budget=10**6)
        after = simulator.read(self._cases, len(blob))
        left = [struct.unpack_from("<50I", after, CASE_BYTES * i + 256) for i in range(self._count)]
        return Outcomes(left, simulator.read(self.data, len(memory)))


_HALVES = (
    0, 0x8000, 0x3C00, 0xBC00, 0x7C00, 0xFC00, 0x7E00, 0x7E55, 0xFE12, 0x7D01, 0xFC01, 1, 0x8001, 0x3FF, 0x400, 0x7BFF,
    0x3800, 0x3E00, 0x4900, 0x6400, 0x7800,
)  # fmt: skip
_BYTES = (0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 31, 32, 0xFF, 0xF8, 0xF0, 0xE0, 0x80, 0x7F)


def _float_words(rng: Random) -> list[int]:
    makers: list[Callable[[], int]] = [
        lambda: rng.choice(SINGLES),
        lambda: rng.choice(_HALVES) | rng.choice(_HALVES) << 16,
        lambda: int.from_bytes(struct.pack("<f", rng.gauss(0, 1) * 2.0 ** rng.randint(-10, 20)), "little"),
        lambda: int.from_bytes(struct.pack("<f", rng.gauss(0, 1) * 2.0 ** rng.randint(-75, -55)), "little"),
        lambda: int.from_bytes(
            struct.pack("<2e", *(rng.gauss(0, 1) * 2.0 ** rng.randint(-12, 12) for _ in "ab")), "little"
        ),
    ]
    maker = rng.choice(makers)
    return [maker() for _ in range(4)]


def _integer_words(rng: Random, data: int) -> list[int]:
    makers: list[Callable[[], int]] = [
        lambda: rng.getrandbits(32),
        lambda: rng.choice(INTERESTING),
        lambda: int.from_bytes(bytes(rng.choice(_BYTES) for _ in range(4)), "little"),
        lambda: 4 * rng.randrange(16),
        lambda: data + 4 * rng.randrange(32),
    ]
    maker = rng.choice(makers)
    return [maker() for _ in range(4)]


def random_state(rng: Random, data: int, *, floats: bool, predicated: bool = True) -> list[int]:
    """A state in which addresses around ``data``, tails of loops and VPT blocks are likely."""
    registers = [
        rng.choice([rng.getrandbits(32), rng.choice(INTERESTING), rng.randrange(64), data + 8 * rng.randrange(16)])
        for _ in range(13)
    ]
    lr = rng.choice([1, 2, 3, 5, 7, 8, 15, 16, 17, 100, rng.getrandbits(32)])
    apsr = rng.getrandbits(5) << 27 | rng.getrandbits(4) << 16
    vpr = rng.choice([0, 0xFFFF, rng.getrandbits(16), 0xF0F0, 0x0F0F, 0x3333])
    if predicated:
        vpr |= rng.choice([0, rng.randrange(16) * 0x11, rng.getrandbits(8)]) << 16
    tail = rng.choice([4, 4, 4, rng.randrange(4)])
    fpscr = rng.getrandbits(5) << 27 | tail << 16
    vectors = [w for _ in range(8) for w in (_float_words(rng) if floats else _integer_words(rng, data))]
    return [*registers, lr, apsr, vpr, fpscr, 0, *vectors]
