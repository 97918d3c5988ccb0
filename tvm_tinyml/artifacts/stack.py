"""Worst-case stack of compiled functions, from their prologues."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tvm_tinyml.device.elf import ElfObject, Section

LIBRARY_CALL_BYTES = 48
"""Allowed for memcpy, memset and libgcc's arithmetic: leaves with small frames."""

_FUNCTION = 2  # symbol type, ELF specification, table "Symbol types"


def worst_stack_bytes(frames: Mapping[str, int], entry: str) -> int:
    """Return the stack of `entry` when every other function is a leaf that it calls, library calls included."""
    leaves = [frame for name, frame in frames.items() if name != entry]
    return frames[entry] + max(leaves, default=0) + LIBRARY_CALL_BYTES


def frames(data: bytes) -> dict[str, int]:
    """Return the bytes of stack that each function of an object takes for itself.

    A frame is the sum of what PUSH, STMDB, VPUSH and subtractions from sp take anywhere in the function: an upper
    bound, since no path executes one of them twice.

    Source: Arm v7-M and v6-M Architecture Reference Manuals, instruction encodings.
    """
    parsed = ElfObject.parse(data)
    return {
        symbol.name: sum(_taken(*pair) for pair in _instructions(parsed, parsed.sections[symbol.section], symbol.offset, symbol.size_bytes))
        for symbol in parsed.symbols
        if symbol.type == _FUNCTION and symbol.size_bytes
    }


def _instructions(parsed: ElfObject, section: Section, start: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the two halfwords of each instruction (the second is 0 for a short one), literal pools left out."""
    index = parsed.sections.index(section)
    marks = {s.offset: s.name[:2] for s in parsed.symbols if s.section == index and s.name[:2] in ("$d", "$t")}
    code, position = True, start
    while position < start + size:
        code = {"$d": False, "$t": True}.get(marks.get(position, ""), code)
        first = int.from_bytes(section.data[position : position + 2], "little")
        wide = code and first >> 11 in (0b11101, 0b11110, 0b11111)
        second = int.from_bytes(section.data[position + 2 : position + 4], "little") if wide else 0
        if code:
            yield first, second
        position += 4 if wide else 2


def _taken(first: int, second: int) -> int:
    """Return by how many bytes an instruction lowers sp."""
    if first & 0xFE00 == 0xB400:  # PUSH
        return 4 * (first & 0x1FF).bit_count()
    if first == 0xE92D:  # STMDB sp!
        return 4 * second.bit_count()
    if first & 0xFF80 == 0xB080:  # SUB sp, #imm7
        return 4 * (first & 0x7F)
    if first & 0xFBFF == 0xF1AD and second & 0x0F00 == 0x0D00:  # SUB.W sp, sp, #const
        return _expand_immediate((first >> 10 & 1) << 11 | (second >> 12 & 7) << 8 | second & 0xFF)
    if first & 0xFBFF == 0xF2AD and second & 0x0F00 == 0x0D00:  # SUBW sp, sp, #imm12
        return (first >> 10 & 1) << 11 | (second >> 12 & 7) << 8 | second & 0xFF
    if first & 0xFFBF == 0xED2D:  # VPUSH
        return 4 * (second & 0xFF)
    if first == 0xE96D:  # STRD with sp lowered first
        return 4 * (second & 0xFF)
    if first == 0xF84D and second & 0x0FFF == 0x0D04:  # STR with sp lowered by 4 first
        return 4
    assert first & 0xFF87 != 0x4485, "a frame taken through a register cannot be read from the code"
    return 0


def _expand_immediate(encoded: int) -> int:
    """Return the value of a 12-bit modified immediate (ThumbExpandImm)."""
    low = encoded & 0xFF
    if encoded >> 10 == 0:
        return (low, low << 16 | low, low << 24 | low << 8, low * 0x01010101)[encoded >> 8 & 3]
    rotation, value = encoded >> 7, 0x80 | encoded & 0x7F
    return (value >> rotation | value << (32 - rotation)) & 0xFFFFFFFF
