"""The stack that the header tells is enough and not much more; the decoder it comes from reads every prologue."""

from __future__ import annotations

import struct

import pytest

from tests.library.builds import NETWORKS, library, network
from tvm_tinyml.artifacts.stack import LIBRARY_CALL_BYTES, frames, worst_stack_bytes
from tvm_tinyml.device.assembler import assemble
from tvm_tinyml.device.elf import (
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHT_PROGBITS,
    STB_GLOBAL,
    STB_LOCAL,
    STT_FUNC,
    STT_NOTYPE,
    ElfObject,
    Section,
    Symbol,
)
from tvm_tinyml.device.runtime import ROUTINES
from tvm_tinyml.session import Session


@pytest.mark.parametrize(
    ("name", "core"), [*((name, "cortex-m4") for name in NETWORKS), ("kws", "cortex-m0plus"), ("ad", "cortex-m0plus")]
)
def test_the_stack_is_enough_and_at_most_half_as_much_again(name: str, core: str) -> None:
    built = library(name, core)
    session = Session(built.metadata, built.objects)
    measured = session.run(network(name).random_inputs(1)).call.stack_bytes
    session.close()
    told = built.metadata["ram_bytes"]["stack"]
    assert measured <= told <= 1.5 * measured + 64


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
def test_kernels_call_microkernels_alone_and_these_call_nothing(core: str) -> None:
    """What the estimate takes for granted: two levels below ``run``, and library calls below that."""
    built = library("kws", core)
    functions = {name for data in built.objects for name in frames(data)}
    micro = {name for name in functions if name.startswith("tinyml_")}
    assert functions - micro == {*(layer["kernel"] for layer in built.metadata["layers"]), "tvmgen_kws_run"}
    kernels = ElfObject.parse(built.objects[0])
    for section in kernels.sections:
        if section.executable and section.relocations:
            called = {kernels.symbols[r.symbol] for r in section.relocations}
            names = {s.name for s in called if s.type == STT_FUNC}
            assert names <= (set() if section.name.startswith(".text.tinyml_") else micro), section.name


def test_library_calls_fit_in_what_is_allowed_for_them() -> None:
    for routine in ROUTINES:
        for name, taken in frames(assemble(routine.source())).items():
            assert taken <= LIBRARY_CALL_BYTES, name


def program(halfwords: list[int], marks: dict[int, str] | None = None, start: int = 0) -> bytes:
    """An object with one function ``f`` of these halfwords, marked as code and data at the offsets given."""
    code = b"\x00\xbf" * (start // 2) + struct.pack(f"<{len(halfwords)}H", *halfwords)
    section = Section(".text.f", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 4, len(code), code)
    symbols = [Symbol(mark, at, 0, STB_LOCAL, STT_NOTYPE, 0, 0) for at, mark in (marks or {0: "$t"}).items()]
    symbols.append(Symbol("f", start | 1, len(code) - start, STB_GLOBAL, STT_FUNC, 0, 0))
    return ElfObject((section,), tuple(symbols)).to_bytes()


RETURN = [0x4770]  # bx lr

PROLOGUES = {
    "push {r4, lr}": ([0xB510], 8),
    "push {r0-r7, lr}": ([0xB5FF], 36),
    "push {r7}": ([0xB480], 4),
    "push.w {r4-r11, lr}": ([0xE92D, 0x4FF0], 36),
    "push.w {r8}": ([0xF84D, 0x8D04], 4),
    "str r0, [sp, #-16]!": ([0xF84D, 0x0D10], 16),
    "strd r0, r1, [sp, #-16]!": ([0xE96D, 0x0104], 16),
    "sub sp, #508": ([0xB0FF], 508),
    "sub sp, #4": ([0xB081], 4),
    "sub.w sp, sp, #512": ([0xF5AD, 0x7D00], 512),
    "sub.w sp, sp, #1024": ([0xF5AD, 0x6D80], 1024),
    "sub.w sp, sp, #0xab00ab": ([0xF1AD, 0x1DAB], 0xAB00AB),
    "subs.w sp, sp, #512": ([0xF5BD, 0x7D00], 512),
    "subw sp, sp, #1028": ([0xF2AD, 0x4D04], 1028),
    "subw sp, sp, #4095": ([0xF6AD, 0x7DFF], 4095),
    "vpush {d8-d15}": ([0xED2D, 0x8B10], 64),
    "vpush {s16-s19}": ([0xED2D, 0x8A04], 16),
    "vpush {s17}": ([0xED6D, 0x8A01], 4),
    "push, vpush and sub": ([0xE92D, 0x4FF0, 0xED2D, 0x8B02, 0xB084], 36 + 8 + 16),
    "add sp, #508": ([0xB07F], 0),
    "pop {r4, pc}": ([0xBD10], 0),
    "pop.w {r4-r11, pc}": ([0xE8BD, 0x8FF0], 0),
    "vpop {d8}": ([0xECBD, 0x8B02], 0),
    "str r0, [sp, #4]": ([0x9001], 0),
    "ldr.w r8, [sp], #4": ([0xF85D, 0x8B04], 0),
    "strd r0, r1, [sp, #16]": ([0xE9CD, 0x0104], 0),
    "sub.w r0, sp, #512": ([0xF5AD, 0x7000], 0),
    "add r7, sp, #8": ([0xAF02], 0),
    "mov sp, r7": ([0x46BD], 0),
    "ldr.w r11, [r0, #0x5ff], whose second half looks like a push": ([0xF8D0, 0xB5FF], 0),
}


@pytest.mark.parametrize("text", PROLOGUES)
def test_an_instruction_takes_what_the_architecture_says(text: str) -> None:
    halfwords, taken = PROLOGUES[text]
    assert frames(program(halfwords + RETURN)) == {"f": taken}


def test_literal_pools_are_no_code() -> None:
    push, pool = [0xB510], [0xB5FF, 0xE92D, 0x4FF0]
    assert frames(program(push + RETURN + pool, {0: "$t", 4: "$d"})) == {"f": 8}
    assert frames(program(push + pool + push, {0: "$t", 2: "$d", 8: "$t"})) == {"f": 16}
    assert frames(program(push + RETURN + pool)) == {"f": 8 + 36 + 36}, "without the mark it is taken for code"


@pytest.mark.parametrize("start", [0, 2, 4, 6])
def test_a_frame_too_large_for_an_immediate_is_read_from_its_literal(start: int) -> None:
    """``ldr r4, =-1100; add sp, r4; ...; ldr r4, =1100; add sp, r4``: what Armv6-M compilers emit above 508 bytes."""
    load, add, nop = 0x4C00, 0x44A5, 0xBF00
    body = [load, add, load, add, 0x4770, nop, *([nop] if start % 4 else [])]
    pool = start + 2 * len(body)
    for position, literal in ((0, pool), (2, pool + 4)):
        body[position] |= (literal - (start + 2 * position + 4 & ~3)) // 4
    literals = struct.unpack("<4H", struct.pack("<ii", -1100, 1100))
    assert frames(program([*body, *literals], {0: "$t", pool: "$d"}, start)) == {"f": 1100}


@pytest.mark.parametrize("halfwords", [[0x44A5], [0xEBAD, 0x0D04]], ids=["add sp, r4", "sub.w sp, sp, r4"])
def test_a_frame_of_unknown_size_is_not_taken_for_none(halfwords: list[int]) -> None:
    with pytest.raises(AssertionError, match="a frame taken through a register cannot be read"):
        frames(program(halfwords + RETURN))


def test_functions_are_found_by_their_section_even_if_two_are_alike() -> None:
    code = struct.pack("<4H", 0xB510, 0x4770, 0xB5FF, 0xB5FF)
    alike = Section(".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 4, len(code), code)
    symbols = [Symbol("$t", 0, 0, STB_LOCAL, STT_NOTYPE, 0, 0), Symbol("$t", 0, 0, STB_LOCAL, STT_NOTYPE, 0, 1)]
    symbols += [Symbol("$d", 4, 0, STB_LOCAL, STT_NOTYPE, 0, 1)]
    symbols += [Symbol(name, 1, 8, STB_GLOBAL, STT_FUNC, 0, section) for section, name in enumerate("ab")]
    assert frames(ElfObject((alike, alike), tuple(symbols)).to_bytes()) == {"a": 8 + 36 + 36, "b": 8}


def test_the_worst_case_is_the_entry_with_its_deepest_callee_and_a_library_call() -> None:
    frames = {"run": 40, "a": 100, "b": 200, "micro": 120, "small": 8}
    calls = {"a": {"micro", "small"}, "b": {"small"}}
    assert worst_stack_bytes(frames, "run", calls) == 40 + 100 + 120 + LIBRARY_CALL_BYTES
    assert worst_stack_bytes(frames, "run", {"a": (), "b": ()}) == 40 + 200 + LIBRARY_CALL_BYTES
    assert worst_stack_bytes({"run": 40}, "run", {}) == 40 + LIBRARY_CALL_BYTES
