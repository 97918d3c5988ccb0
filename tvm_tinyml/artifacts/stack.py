"""Worst-case stack of compiled functions, from their prologues."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from tvm_tinyml.device.elf import STT_FUNC, ElfObject, Symbol

LIBRARY_CALL_BYTES = 48
"""Allowed for memcpy, memset and libgcc's arithmetic: leaves with small frames."""


class Instruction(NamedTuple):
    """A Thumb instruction: offset in its section and halfwords; the second is 0 for a short one."""

    offset: int
    first: int
    second: int


def worst_stack_bytes(frames: Mapping[str, int], entry: str, callees: Mapping[str, Iterable[str]]) -> int:
    """Return the stack of `entry`, which calls kernels, which call leaves; library calls included.

    Parameters
    ----------
    frames : bytes of each function's own.
    callees : of each kernel.
    """
    depths = (frames[kernel] + max((frames[c] for c in called), default=0) for kernel, called in callees.items())
    return frames[entry] + max(depths, default=0) + LIBRARY_CALL_BYTES


def frames(data: bytes) -> dict[str, int]:
    """Return the bytes of stack that each function of an object takes for itself.

    A frame is the sum of what PUSH, STMDB, VPUSH and subtractions from sp take anywhere in the function: an upper
    bound, since no path executes one of them twice.

    Source: Arm v7-M and v6-M Architecture Reference Manuals, instruction encodings.
    """
    parsed = ElfObject.parse(data)
    return {s.name: _frame(parsed, s) for s in parsed.symbols if s.type == STT_FUNC and s.size_bytes}


def _frame(parsed: ElfObject, function: Symbol) -> int:
    code = parsed.sections[function.section].data
    literals: dict[int, int] = {}
    """Register -> the constant last loaded into it."""
    total = 0
    for offset, first, second in _instructions(parsed, function):
        if first & 0xF800 == 0x4800:  # LDR Rt, [pc, #imm8]
            address = (offset + 4 & ~3) + 4 * (first & 0xFF)
            literals[first >> 8 & 7] = int.from_bytes(code[address : address + 4], "little", signed=True)
        elif first & 0xFF87 == 0x4485:  # ADD sp, Rm: how the Armv6-M takes and gives back more than SUB can say
            register = first >> 3 & 15
            assert register in literals, "a frame taken through a register cannot be read from the code"
            total += max(-literals[register], 0)
        else:
            total += _taken(first, second)
    return total


def _instructions(parsed: ElfObject, function: Symbol) -> Iterator[Instruction]:
    """Yield the instructions of a function, literal pools left out."""
    data = parsed.sections[function.section].data
    marks = {s.offset: s.name[:2] for s in parsed.symbols if s.section == function.section and s.name[:1] == "$"}
    code, position = True, function.offset
    while position < function.offset + function.size_bytes:
        code = {"$d": False, "$t": True}.get(marks.get(position, ""), code)
        first = int.from_bytes(data[position : position + 2], "little")
        wide = code and first >> 11 in (0b11101, 0b11110, 0b11111)
        second = int.from_bytes(data[position + 2 : position + 4], "little") if wide else 0
        if code:
            yield Instruction(position, first, second)
        position += 4 if wide else 2


def _taken(first: int, second: int) -> int:
    """Return by how many bytes an instruction lowers sp."""
    if first & 0xFE00 == 0xB400:  # PUSH
        return 4 * (first & 0x1FF).bit_count()
    if first == 0xE92D:  # STMDB sp!
        return 4 * second.bit_count()
    if first & 0xFF80 == 0xB080:  # SUB sp, #imm7
        return 4 * (first & 0x7F)
    if first & 0xFBEF == 0xF1AD and second & 0x0F00 == 0x0D00:  # SUB.W or SUBS.W sp, sp, #const
        return _expand_immediate((first >> 10 & 1) << 11 | (second >> 12 & 7) << 8 | second & 0xFF)
    if first & 0xFBFF == 0xF2AD and second & 0x0F00 == 0x0D00:  # SUBW sp, sp, #imm12
        return (first >> 10 & 1) << 11 | (second >> 12 & 7) << 8 | second & 0xFF
    if first & 0xFFBF == 0xED2D and second & 0x0E00 == 0x0A00:  # VPUSH
        return 4 * (second & 0xFF)
    if first == 0xE96D:  # STRD with sp lowered first
        return 4 * (second & 0xFF)
    if first == 0xF84D and second & 0x0F00 == 0x0D00:  # STR with sp lowered first
        return second & 0xFF
    by_register = first & 0xFFEF == 0xEBAD and second & 0x0F00 == 0x0D00  # SUB.W sp, sp, Rm
    assert not by_register, "a frame taken through a register cannot be read from the code"
    return 0


def _expand_immediate(encoded: int) -> int:
    """Return the value of a 12-bit modified immediate (ThumbExpandImm)."""
    low = encoded & 0xFF
    if encoded >> 10 == 0:
        return (low, low << 16 | low, low << 24 | low << 8, low * 0x01010101)[encoded >> 8 & 3]
    rotation, value = encoded >> 7, 0x80 | encoded & 0x7F
    return (value >> rotation | value << (32 - rotation)) & 0xFFFFFFFF
