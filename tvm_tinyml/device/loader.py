"""Place relocatable objects in a device's memory and connect them: a linker for one program at a time."""

from __future__ import annotations

import bisect
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from tvm_tinyml.device.elf import (
    ABSOLUTE,
    COMMON,
    SHT_ARM_EXIDX,
    SHT_NOBITS,
    SHT_NOTE,
    STB_WEAK,
    STT_FUNC,
    STT_SECTION,
    UNDEFINED,
    ElfObject,
    Section,
    Symbol,
)
from tvm_tinyml.device.memory import MemoryMap, Region
from tvm_tinyml.device.relocate import R_ARM_GOT_PREL, Target, apply
from tvm_tinyml.errors import DeviceError


@dataclass(frozen=True)
class Segment:
    """Bytes at an address."""

    address: int
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class CodeRange:
    """A function, or the part of a code section in front of its first function; ``end`` is exclusive."""

    start: int
    end: int
    name: str


@dataclass(frozen=True)
class Image:
    """A program ready to be written into a device.

    ``symbols`` holds the global symbols' addresses without the Thumb bit, as ``nm`` prints them. ``code`` is sorted
    by address, does not overlap and covers every code section.
    """

    flash: tuple[Segment, ...]
    ram: tuple[Segment, ...]
    symbols: Mapping[str, int]
    code: tuple[CodeRange, ...]
    flash_end: int
    ram_end: int

    def range_at(self, address: int) -> CodeRange | None:
        """The function that holds ``address``, or None."""
        index = bisect.bisect_right(self.code, address, key=lambda r: r.start) - 1
        return self.code[index] if index >= 0 and address < self.code[index].end else None

    def describe(self, address: int) -> str:
        """``0x08000124 (conv2d+0x24)``: an address with the function it lies in."""
        found = self.range_at(address)
        return f"{address:#010x} ({found.name}+{address - found.start:#x})" if found else f"{address:#010x}"


def link(objects: Sequence[ElfObject], memory: MemoryMap) -> Image:
    """Place the objects' sections, code and constants in flash, variables in RAM, and resolve their symbols.

    Sections stay in the order of the objects, each aligned to at least 4 bytes, so equal objects give equal
    addresses. Weak symbols give way to global ones, else the first one counts. Symbols that are read through a global
    offset table (TVM's LLVM generates position-independent code) get a table in flash.

    Raises
    ------
    DeviceError : a symbol is defined twice or nowhere, a region is too small, a branch does not reach its target, a
        relocation or symbol kind is not one of Thumb code.
    """
    return _Linker(objects, memory).link()


class _Cursor:
    """The next free address of a region."""

    def __init__(self, region: Region, reserved_bytes: int = 0) -> None:
        self.region = region
        self.address = region.origin + reserved_bytes

    def take(self, size_bytes: int, alignment: int, what: str) -> int:
        start = -(-self.address // alignment) * alignment
        if start + size_bytes > self.region.end:
            raise DeviceError(
                f"{what} ({size_bytes} bytes) does not fit into {self.region.name}: "
                f"{max(0, self.region.end - start)} of {self.region.size_bytes} bytes are left"
            )
        self.address = start + size_bytes
        return start


@dataclass
class _Placed:
    section: Section
    address: int
    contents: bytearray
    where: str


class _Linker:
    def __init__(self, objects: Sequence[ElfObject], memory: MemoryMap) -> None:
        self.objects = objects
        self.flash = _Cursor(memory.flash, memory.reserved_bytes)
        self.ram = _Cursor(memory.ram)
        self.placed: dict[tuple[int, int], _Placed] = {}
        self.globals: dict[str, tuple[int, Symbol]] = {}
        self.table: dict[str | tuple[int, int], int] = {}

    def link(self) -> Image:
        self._place()
        self._define()
        self._require_all()
        table = self._build_table()
        for (number, _), item in self.placed.items():
            for relocation in item.section.relocations:
                target = self._target(number, relocation.symbol)
                apply(
                    item.contents,
                    relocation.offset,
                    item.address + relocation.offset,
                    relocation.type,
                    target,
                    item.where,
                )
        segments = [(p.section.writable, Segment(p.address, bytes(p.contents))) for p in self.placed.values()]
        return Image(
            flash=(*(s for writable, s in segments if not writable), *table),
            ram=tuple(s for writable, s in segments if writable),
            symbols=MappingProxyType({name: self._address(*found) for name, found in sorted(self.globals.items())}),
            code=self._code_ranges(),
            flash_end=self.flash.address,
            ram_end=self.ram.address,
        )

    def _place(self) -> None:
        for number, item in enumerate(self.objects):
            for index, section in enumerate(item.sections):
                if not section.allocated or section.type in (SHT_ARM_EXIDX, SHT_NOTE) or section.size_bytes == 0:
                    continue
                where = f"{item.name}, section '{section.name}'"
                cursor = self.ram if section.writable else self.flash
                address = cursor.take(section.size_bytes, max(4, section.alignment), where)
                contents = bytearray(section.size_bytes) if section.type == SHT_NOBITS else bytearray(section.data)
                self.placed[number, index] = _Placed(section, address, contents, where)

    def _define(self) -> None:
        for number, item in enumerate(self.objects):
            for symbol in item.symbols:
                if symbol.local or symbol.section == UNDEFINED:
                    continue
                if symbol.section == COMMON:
                    raise DeviceError(
                        f"{item.name}: '{symbol.name}' is a common symbol; compile C code with -fno-common"
                    )
                if symbol.section != ABSOLUTE and (number, symbol.section) not in self.placed:
                    continue  # in a section that occupies no memory
                known = self.globals.get(symbol.name)
                if known is None or (known[1].binding == STB_WEAK and symbol.binding != STB_WEAK):
                    self.globals[symbol.name] = (number, symbol)
                elif known[1].binding != STB_WEAK and symbol.binding != STB_WEAK:
                    raise DeviceError(
                        f"symbol '{symbol.name}' is defined twice: in {self.objects[known[0]].name} and in {item.name}"
                    )

    def _require_all(self) -> None:
        wanted: dict[str, str] = {}
        for (number, _), item in self.placed.items():
            for relocation in item.section.relocations:
                if relocation.symbol >= 0:
                    symbol = self.objects[number].symbols[relocation.symbol]
                    if symbol.section == UNDEFINED and symbol.name not in self.globals:
                        wanted.setdefault(symbol.name, self.objects[number].name)
        if wanted:
            names = ", ".join(f"'{name}' (needed by {where})" for name, where in sorted(wanted.items()))
            raise DeviceError(f"{len(wanted)} undefined symbol{'s' if len(wanted) > 1 else ''}: {names}")

    def _build_table(self) -> list[Segment]:
        """Give each symbol that code reads through the global offset table one word in flash."""
        words: list[Segment] = []
        for (number, _), item in self.placed.items():
            for relocation in item.section.relocations:
                if relocation.type != R_ARM_GOT_PREL:
                    continue
                key = self._key(number, relocation.symbol)
                if key not in self.table:
                    address = self.flash.take(4, 4, "the global offset table")
                    target = self._target(number, relocation.symbol)
                    self.table[key] = address
                    words.append(Segment(address, struct.pack("<I", target.address | target.thumb)))
        return words

    def _key(self, number: int, index: int) -> str | tuple[int, int]:
        symbol = self.objects[number].symbols[index]
        return (number, index) if symbol.local else symbol.name

    def _target(self, number: int, index: int) -> Target:
        if index < 0:
            return Target("", 0, 0)
        symbol = self.objects[number].symbols[index]
        where = number
        if not symbol.local:
            where, symbol = self.globals[symbol.name]
        name = symbol.name
        if symbol.type == STT_SECTION:
            name = self.objects[where].sections[symbol.section].name
        return Target(
            name=name,
            address=self._address(where, symbol),
            thumb=symbol.thumb,
            arm_code=symbol.type == STT_FUNC and not symbol.thumb,
            table_entry=self.table.get(self._key(number, index)),
        )

    def _address(self, number: int, symbol: Symbol) -> int:
        if symbol.section == ABSOLUTE:
            return symbol.value
        item = self.placed.get((number, symbol.section))
        if item is None:
            raise DeviceError(
                f"{self.objects[number].name}: code refers to '{symbol.name}' in a section that occupies no memory"
            )
        return item.address + symbol.offset

    def _code_ranges(self) -> tuple[CodeRange, ...]:
        starts: dict[tuple[int, int], dict[int, str]] = {}
        for number, item in enumerate(self.objects):
            functions = [s for s in item.symbols if s.type == STT_FUNC and (number, s.section) in self.placed]
            for symbol in sorted(functions, key=lambda s: self._preference(number, s)):
                starts.setdefault((number, symbol.section), {}).setdefault(symbol.offset, symbol.name)
        ranges: list[CodeRange] = []
        for key, placed in self.placed.items():
            if not placed.section.executable:
                continue
            names = {0: placed.section.name} | starts.get(key, {})
            offsets = sorted(names)
            for offset, end in zip(offsets, [*offsets[1:], placed.section.size_bytes], strict=True):
                if end > offset:
                    ranges.append(CodeRange(placed.address + offset, placed.address + end, names[offset]))
        return tuple(sorted(ranges, key=lambda r: r.start))

    def _preference(self, number: int, symbol: Symbol) -> tuple[bool, int, str]:
        """Of several names for one address the first by this key is shown: one that leads there, a short one."""
        leads_here = not symbol.local and self.globals[symbol.name] == (number, symbol)
        return not leads_here, len(symbol.name), symbol.name
