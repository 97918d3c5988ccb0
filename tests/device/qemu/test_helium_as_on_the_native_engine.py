"""Armv8.1-M on the native engine and on QEMU, instruction by instruction; where they differ, the reason is here."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from random import Random

import pytest
from device.qemu.vector_program import (
    FPSCR,
    NAMES,
    SLOT,
    VECTORS,
    VPR,
    Outcomes,
    VectorProgram,
    random_state,
)

from tvm_tinyml.device import Simulator
from tvm_tinyml.device.native_engine import APSR as NATIVE_APSR
from tvm_tinyml.device.native_engine import (
    ARMV81M,
    FP_DOUBLE,
    FP_HALF,
    FP_SINGLE,
    HELIUM,
    HELIUM_FLOAT,
    RETURNED,
    STATE_WORDS,
    Encoding,
    NativeEngine,
    encodings,
)
from tvm_tinyml.device.native_engine import LR as NATIVE_LR
from tvm_tinyml.device.native_engine import SP as NATIVE_SP
from tvm_tinyml.device.qemu import QemuEngine

Programs = tuple[VectorProgram, VectorProgram, NativeEngine]

CASES = 100
INVALID = 1

FLOATS = HELIUM_FLOAT | FP_HALF | FP_SINGLE | FP_DOUBLE
ELSEWHERE = ("b", "le", "letp", "wls", "dls", "lctp", "vmrs", "vmsr", "vmrs_predicate", "vmsr_predicate")
"""Loops have tests of their own; the registers of states are read and written all the time."""

SHIFTS_OF_48 = ("sqrshrl_register", "uqrshll_register")
"""Shifted right by 48 and more, QEMU gives 0 also when the number has more than 48 bits."""
QUIET_COMPARISONS = ("vcmp_f16", "vcmp_f32", "vcmp_general_f16", "vcmp_general_f32")
"""Whether two numbers are equal may be asked about a quiet NaN; on QEMU that is an invalid operation."""
NO_INVALID = ("vcvt_widen",)
"""QEMU does not always tell that it widened a signaling NaN."""


@pytest.fixture(scope="module")
def programs(engine: Callable[[str], QemuEngine]) -> Programs:
    """The program on the native engine and on QEMU, and that engine for other things."""
    qemu = engine("cortex-m55")
    native = NativeEngine("cortex-m55", qemu.memory, check_alignment=True)
    return (
        VectorProgram(Simulator(engine=native), CASES),
        VectorProgram(Simulator(engine=qemu), CASES),
        NativeEngine("cortex-m55", qemu.memory, check_alignment=True),
    )


def chosen() -> list[Encoding]:
    """All wide encodings of vectors, floats and Armv8.1-M."""
    return [
        e
        for e in encodings()
        if e.features & (ARMV81M | HELIUM | FLOATS) and len(e.pattern) == 32 and e.name not in ELSEWHERE
    ]


def fill(rng: Random, encoding: Encoding) -> bytes:
    word = int("".join(sign if sign in "01" else rng.choice("01") for sign in encoding.pattern), 2)
    return struct.pack("<HH", word >> 16, word & 0xFFFF)


def mask_of(code: bytes) -> int:
    """The four bits of VPT; 0: VCMP, or VPNOT."""
    return (code[0] >> 6 & 1) << 3 | code[3] >> 5


def returns(engine: NativeEngine, code: bytes, state: list[int]) -> bool:
    """Whether the code runs to its end: addresses and what is unpredictable are random, too."""
    entry = engine.memory.exit_address + 0x400
    engine.write(entry, code + b"\x70\x47")
    words = (ctypes.c_uint32 * STATE_WORDS)(*state[:13])
    words[NATIVE_SP], words[NATIVE_LR] = engine.memory.stack.end, engine.memory.exit_address | 1
    words[NATIVE_APSR] = state[14]
    words[16:48] = state[VECTORS:]
    return bool(engine._library.tinyml_machine_run(engine._machine, entry, words, 100) == RETURNED)


def comparable(name: str, state: tuple[int, ...]) -> list[int]:
    words = list(state)
    words[VPR] &= 0xFF_FFFF  # the rest does not exist; QEMU keeps it
    if name in QUIET_COMPARISONS or name in NO_INVALID:
        words[FPSCR] &= ~INVALID
    return words


def compare(names: list[str], codes: list[bytes], before: list[list[int]], ours: Outcomes, theirs: Outcomes) -> None:
    for name, code, start, *after in zip(names, codes, before, ours.states, theirs.states, strict=True):
        a, b = (comparable(name, state) for state in after)
        different = [(NAMES[i], hex(start[i]), hex(a[i]), hex(b[i])) for i in range(len(a)) if a[i] != b[i]]
        assert different == [], f"{name} {code.hex()}: before, native, QEMU"
    assert ours.memory == theirs.memory


def run_all(programs: Programs, rng: Random, cases: list[tuple[str, bytes, list[int]]]) -> None:
    ours, theirs, _ = programs
    assert ours.data == theirs.data
    idle = ("nothing", b"\0\xbf", random_state(rng, ours.data, floats=False, predicated=False))
    for first in range(0, len(cases), CASES):
        batch = cases[first : first + CASES]
        batch += [idle] * (CASES - len(batch))
        names, codes, states = (list(column) for column in zip(*batch, strict=True))
        memory = rng.randbytes(4096)
        compare(names, codes, states, ours.run(codes, states, memory), theirs.run(codes, states, memory))


@pytest.mark.usefixtures("native")
def test_every_encoding_does_the_same(programs: Programs) -> None:
    rng = Random("every encoding")
    middle = programs[0].data + 2048
    cases = []
    for encoding in chosen():
        found = 0
        for _ in range(400):
            if found == 6:
                break
            code = fill(rng, encoding)
            floats = bool(encoding.features & FLOATS)
            state = random_state(rng, middle, floats=floats)
            begins = encoding.name.startswith("vpst") or (encoding.name.startswith("vcmp") and mask_of(code))
            if begins or not encoding.features & (HELIUM | HELIUM_FLOAT):
                state[VPR] &= 0xFFFF  # a VPT block holds neither another one nor what is no vector instruction
            if encoding.name in SHIFTS_OF_48 and code[2] >> 7:
                continue
            if encoding.name.startswith(("vld", "vst")) and code[0] & 15 in (NATIVE_SP, NATIVE_LR):
                continue  # SP points to the states, and ``returns`` has its own LR
            if encoding.name == "vldr_system" and code[3] >> 5 == 1:
                continue  # a random FPSCR
            if returns(programs[2], code, state):
                cases.append((encoding.name, code, state))
                found += 1
        assert found, f"{encoding} never ran"
    run_all(programs, rng, cases)


LANE_WISE = (
    "vadd", "vsub", "vhadd", "vqadd", "vqsub", "vmax", "vmin", "vabd", "vmul", "vmla", "vshl", "vshr", "vqshl",
    "vqrshl", "vand", "vorr", "veor", "vmvn", "vrev", "vqdmulh", "vmladav", "vaddv", "vidup",
    "vdup", "vpsel", "vpnot", "vctp",
)  # fmt: skip


@pytest.mark.usefixtures("native")
def test_vpt_blocks_do_the_same(programs: Programs) -> None:
    """VPT or VPST, and one to four instructions."""
    rng = Random("VPT blocks")
    inner = [e for e in chosen() if e.name.split("_")[0] in LANE_WISE and e.features & HELIUM]
    openers = [e for e in chosen() if e.name.startswith(("vcmp", "vpst")) and e.features & HELIUM]
    middle = programs[0].data + 2048
    cases = []
    while len(cases) < 5 * CASES:
        count = rng.randint(1, SLOT - 1)
        opener = int.from_bytes(fill(rng, rng.choice(openers)), "little")
        mask = (rng.getrandbits(count) | 1) << (4 - count) & 15
        first, second = opener & 0xFFFF, opener >> 16
        first, second = first & ~0x40 | (mask >> 3) << 6, second & ~0xE000 | (mask & 7) << 13
        body = [fill(rng, rng.choice(inner)) for _ in range(count)]
        code = b"".join([struct.pack("<HH", first, second), *body])
        state = random_state(rng, middle, floats=False, predicated=False)
        if returns(programs[2], code, state):
            cases.append((f"VPT block of {count}", code, state))
    run_all(programs, rng, cases)
