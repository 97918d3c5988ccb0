"""The native engine does what Unicorn does, instruction by instruction; where it does not, the reason is here."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import groupby, pairwise
from random import Random

import pytest
from device.conftest import MakeEngine
from device.differential import (
    ASTRAY,
    BX_LR,
    CODE,
    DATA,
    MEMORY,
    STACK,
    WINDOW,
    Native,
    Outcome,
    Unicorn,
    random_state,
)
from device.thumb import CORES

from tvm_tinyml.device.engine import instruction_offsets
from tvm_tinyml.device.native_engine import (
    APSR,
    ARM_STATE,
    CORE_FEATURES,
    FLOAT_MODE,
    FP_SINGLE,
    FPSCR,
    LACKING,
    LR,
    MISALIGNED,
    SP,
    UNDEFINED,
    UNPREDICTABLE,
    UNSUPPORTED,
    encodings,
)
from tvm_tinyml.device.v7m import find_dsp_instruction

REACH = 1 << 17
UDF = b"\x00\xde"
Q = 1 << 27
UNDERFLOW = 1 << 3

ACCEPTED_BY_UNICORN = {
    "Neon loads and stores": (0xFF10_0000, 0xF900_0000),
    "Neon loads and stores, loading": (0xFF10_0000, 0xF910_0000),
    "STREXD, LDREXD of the A profile": (0xFFE0_0070, 0xE8C0_0070),
    "FSTMX, FLDMX, deprecated": (0xFE00_0F01, 0xEC00_0B01),
    "SSAT16, USAT16 with bits that must be 0": (0xFF70_F0C0, 0xF320_0000),
}
"""Encodings that are undefined on every Cortex-M and that Unicorn executes: (mask, value)."""


def words(code: bytes) -> list[int]:
    """The instructions as numbers, wide ones with their first halfword on top."""
    offsets = [*instruction_offsets(code), len(code)]
    return [
        int.from_bytes(code[a : a + 2], "little") << (8 * (b - a - 2)) | int.from_bytes(code[a + 2 : b], "little")
        for a, b in pairwise(offsets)
    ]


def is_known(core: str, code: bytes, ours: Outcome, theirs: Outcome) -> bool:
    """Whether the engines may end differently here."""
    instructions = words(code)
    if ours.stopped in (UNPREDICTABLE, UNSUPPORTED, FLOAT_MODE):
        return True  # refused on purpose
    if ours.stopped == UNDEFINED and theirs.stopped is None:
        return any(word & mask == value for word in instructions for mask, value in ACCEPTED_BY_UNICORN.values())
    if ours.stopped == LACKING and theirs.stopped is None:
        if core == "cortex-m0plus":  # CBZ, CBNZ, IT
            return any(word & 0xF500 == 0xB100 or word & 0xFF00 == 0xBF00 for word in instructions)
        return find_dsp_instruction(code) is not None
    if ours.stopped == MISALIGNED and core != "cortex-m0plus":
        # STREX, LDA and STL to an address that is not aligned: Unicorn does not look at it.
        return any(word & 0xFFF0_0000 in (0xE840_0000, 0xE8C0_0000, 0xE8D0_0000) for word in instructions)
    if theirs.stopped == ASTRAY:
        return True  # a jump to where nothing is
    if ours.stopped == ARM_STATE and not theirs.state[LR] & 1:
        return True  # Unicorn stops at the exit address also when the program returns there as to Arm code
    # YIELD is a hint, and Unicorn stops.
    return any(word in (0xBF10, 0xF3AF_8001) for word in instructions) and theirs.stopped is not None


def comparable(core: str, code: bytes, outcome: Outcome) -> tuple[list[int], bytes]:
    """What must be equal after a run that returned."""
    state = outcome.state.copy()
    state[15] = 0
    state[SP] &= ~3  # these two bits are always 0; Unicorn keeps them
    state[FPSCR] &= ~UNDERFLOW  # the host looks for it after rounding
    if any(word & 0xFFF0_00E0 == 0xFB20_0000 for word in words(code)):
        # SMLAD sets Q when its sum overflows; Unicorn sets it already when the two products do, and the sum does not.
        state[APSR] &= ~Q
    if core in ("cortex-m0plus", "cortex-m3"):
        state[16:48] = [0] * 32
    return state, outcome.data


def from_bits(bits: str) -> bytes:
    code = int(bits, 2)
    return struct.pack("<HH", code >> 16, code & 0xFFFF) if len(bits) == 32 else struct.pack("<H", code)


def from_patterns(rng: Random, core: str) -> Iterator[bytes]:
    """Encodings that the core has, with everything random that may be."""
    has = CORE_FEATURES[core]
    patterns = [e.pattern for e in encodings() if e.features & has == e.features]
    while True:
        pattern = rng.choice(patterns)
        yield from_bits("".join(sign if sign in "01" else rng.choice("01") for sign in pattern))


def anything(rng: Random, _core: str) -> Iterator[bytes]:
    """Halfwords and words of any value; the second halfword often begins as those of data processing do."""
    while True:
        first = rng.getrandbits(16)
        if first >> 11 < 0x1D and rng.getrandbits(1):
            yield struct.pack("<H", first)
        second = rng.getrandbits(16)
        match rng.randrange(4):
            case 0:
                second |= 0xF000
            case 1:
                second &= 0x7FFF
            case 2:
                second = second & 0xF0FF | 0x0A00 | rng.getrandbits(1) << 8
        yield struct.pack("<HH", rng.randrange(0xE800, 0x10000), second)


def conditional(rng: Random, core: str) -> Iterator[bytes]:
    """IT blocks of one to four instructions."""
    single = from_patterns(rng, core)
    while True:
        count = rng.randint(1, 4)
        condition = rng.randrange(14)
        mask = (rng.getrandbits(count) | 1) << (4 - count)
        body = [next(single) for _ in range(count)]
        # No IT inside of one; behind ISB and SG, Unicorn forgets that it is in the middle of one.
        if not any(is_it(code) or code.startswith((b"\xbf\xf3", b"\x7f\xe9")) for code in body):
            yield struct.pack("<H", 0xBF00 | condition << 4 | mask) + b"".join(body)


def sequences(rng: Random, core: str) -> Iterator[bytes]:
    """Five instructions in a row."""
    single = from_patterns(rng, core)
    while True:
        yield b"".join([code for code in (next(single) for _ in range(5)) if not is_it(code)])


def is_it(code: bytes) -> bool:
    return len(code) == 2 and code[1] == 0xBF and code[0] & 15 != 0


CASES = [
    *((core, "from_patterns", 4000) for core in CORES),
    *((core, "anything", 3000) for core in CORES),
    *((core, "sequences", 1500) for core in CORES),
    *((core, "conditional", 1500) for core in CORES if core != "cortex-m0plus"),
]


@pytest.mark.usefixtures("native", "unicorn_engine")
@pytest.mark.parametrize(("core", "kind", "count"), CASES)
def test_random_instructions_do_the_same(core: str, kind: str, count: int) -> None:
    rng = Random(f"{core} {kind}")
    floats = bool(CORE_FEATURES[core] & FP_SINGLE)
    ours, theirs = Native(core), Unicorn(core, floats=floats)
    data = rng.randbytes(WINDOW[1])
    source = {f.__name__: f for f in (from_patterns, anything, conditional, sequences)}[kind](rng, core)
    for engine in (ours, theirs):
        engine.write(MEMORY.flash.origin, UDF * (REACH // len(UDF)))  # where jumps lead to
    executed = 0
    for _ in range(count):
        code = next(source)
        # On the M33 Unicorn begins with a new floating-point context, whose FPSCR is 0.
        state = random_state(rng, floats=floats, flags=core != "cortex-m33")
        for engine in (ours, theirs):
            engine.write(CODE, code + BX_LR + UDF * 16)
            engine.write(WINDOW[0], data)
            engine.write(STACK[0], bytes(STACK[1]))
        a, b = ours.run(CODE, state), theirs.run(CODE, state)
        if (a.stopped is None) != (b.stopped is None):
            assert is_known(core, code, a, b), f"{label(code)}: {a.stopped} here, {b.stopped} on Unicorn"
        elif a.stopped is None and not (len(words(code)) > 1 and b.state[SP] & 3):
            executed += 1
            assert comparable(core, code, a) == comparable(core, code, b), label(code)
    assert executed > count // 20


def label(code: bytes) -> str:
    """The instructions as text, for a message."""
    import capstone

    decoder = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS | capstone.CS_MODE_V8)
    text = "; ".join(f"{i.mnemonic} {i.op_str}" for i in decoder.disasm(code, CODE))
    return f"{code.hex()} ({text})"


def test_patterns_have_the_length_of_an_instruction(native: MakeEngine) -> None:
    for encoding in encodings():
        assert len(encoding.pattern) in (16, 32), encoding
        assert set(encoding.pattern) <= set("01-dnmaDNMAxyziskw"), encoding
        assert sum(sign.isalpha() for sign, _ in groupby(encoding.pattern)) <= 12  # as many as the decoder has room for
        assert (encoding.pattern[:3] == "111" and encoding.pattern[3:5] != "00") is (len(encoding.pattern) == 32)


PASSED_OVER = {("ssat", "ssat16"), ("usat", "usat16"), ("vrmlaldavh_s32", "vmaxnmv_f32")}
"""(earlier, later): the form of the earlier one refuses what is left to the later one."""


def test_every_pattern_is_reached(native: MakeEngine) -> None:
    """A pattern that an earlier one covers would never be used."""
    found = encodings()
    for index, later in enumerate(found):
        for earlier in found[:index]:
            covered = len(earlier.pattern) == len(later.pattern) and all(
                a == b or a not in "01" for a, b in zip(earlier.pattern, later.pattern, strict=True)
            )
            passed_over = (earlier.name, later.name) in PASSED_OVER
            assert not covered or passed_over, (earlier, later)


def test_registers_point_into_the_window_that_is_compared() -> None:
    assert WINDOW[0] <= DATA - 4096
    assert sum(WINDOW) >= DATA + 64 + 4096
