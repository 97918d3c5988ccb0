"""Relocatable ELF objects for ARM, 32 bit, little endian: read, write, summarize.

Source: Tool Interface Standard, ELF specification 1.2; "ELF for the Arm Architecture" (AAELF32).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from tvm_tinyml.errors import DeviceError

SHT_NULL = 0
SHT_PROGBITS = 1
SHT_SYMTAB = 2
SHT_STRTAB = 3
SHT_RELA = 4
SHT_NOTE = 7
SHT_NOBITS = 8
SHT_REL = 9
SHT_GROUP = 17
SHT_ARM_EXIDX = 0x7000_0001
SHT_ARM_ATTRIBUTES = 0x7000_0003

SHF_WRITE = 0x1
SHF_ALLOC = 0x2
SHF_EXECINSTR = 0x4
SHF_INFO_LINK = 0x40
SHF_GROUP = 0x200

STB_LOCAL = 0
STB_GLOBAL = 1
STB_WEAK = 2

STT_NOTYPE = 0
STT_OBJECT = 1
STT_FUNC = 2
STT_SECTION = 3
STT_FILE = 4

UNDEFINED = -1
ABSOLUTE = -2
COMMON = -3

_SHN_SPECIAL = {0: UNDEFINED, 0xFFF1: ABSOLUTE, 0xFFF2: COMMON}
_SPECIAL_SHN = {section: index for index, section in _SHN_SPECIAL.items()}

_MACHINE_ARM = 40
_TYPE_RELOCATABLE = 1
_IDENTITY = b"\x7fELF\x01\x01\x01" + bytes(9)  # 32 bit, little endian, version 1, no operating system
_HEADER = struct.Struct("<16sHHIIIIIHHHHHH")
_SECTION = struct.Struct("<IIIIIIIIII")
_SYMBOL = struct.Struct("<IIIBBH")
_RELOCATION = struct.Struct("<II")


@dataclass(frozen=True)
class Relocation:
    """A place in a section that depends on a symbol's address; the addend is in the place itself (REL)."""

    offset: int
    type: int
    symbol: int
    """Index into the object's symbols."""


@dataclass(frozen=True)
class Section:
    """A section with its own relocations; ``data`` is empty for NOBITS."""

    name: str
    type: int
    flags: int
    alignment: int
    size_bytes: int
    data: bytes = field(repr=False)
    relocations: tuple[Relocation, ...] = field(default=(), repr=False)
    entry_size: int = 0

    @property
    def allocated(self) -> bool:
        """Whether the section occupies memory of the device."""
        return bool(self.flags & SHF_ALLOC)

    @property
    def executable(self) -> bool:
        """Whether the section holds instructions."""
        return bool(self.flags & SHF_EXECINSTR)

    @property
    def writable(self) -> bool:
        """Whether the section must lie in RAM."""
        return bool(self.flags & SHF_WRITE)


@dataclass(frozen=True)
class Symbol:
    """A symbol; ``value`` is an offset into its section, with bit 0 set for Thumb functions."""

    name: str
    value: int
    size_bytes: int
    binding: int
    type: int
    visibility: int
    section: int
    """Index into the object's sections, or UNDEFINED, ABSOLUTE or COMMON."""

    @property
    def local(self) -> bool:
        """Whether only its own object sees the symbol."""
        return self.binding == STB_LOCAL

    @property
    def thumb(self) -> int:
        """1 for a Thumb function, else 0: the T of AAELF32."""
        return self.value & 1 if self.type == STT_FUNC else 0

    @property
    def offset(self) -> int:
        """``value`` without the Thumb bit."""
        return self.value & ~self.thumb


@dataclass(frozen=True)
class ObjectSize:
    """What an object occupies, in bytes and without padding between sections."""

    code_bytes: int
    rodata_bytes: int
    data_bytes: int
    bss_bytes: int


@dataclass(frozen=True)
class ElfObject:
    """A relocatable object: sections that hold something, symbols without the leading null symbol."""

    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]
    flags: int = 0x0500_0000  # EABI version 5
    name: str = "object"

    @classmethod
    def parse(cls, data: bytes, name: str = "object") -> ElfObject:
        """Read an object.

        Parameters
        ----------
        data : the whole file.
        name : how error messages call it.

        Raises
        ------
        DeviceError : not a relocatable 32-bit little-endian ARM ELF file, or cut short.
        """
        try:
            return _parse(data, name)
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise DeviceError(f"{name}: the ELF file of {len(data)} bytes is cut short or damaged ({error})") from error

    def to_bytes(self) -> bytes:
        """Write the object; equal objects give equal bytes.

        Local symbols move to the front, as ELF demands. Unwind tables lose the link to their code: strip them first.
        """
        return _Writer(self).to_bytes()

    def size(self) -> ObjectSize:
        """Sum the allocated sections by kind."""
        code = rodata = data = bss = 0
        for section in self.sections:
            if not section.allocated:
                continue
            if section.type == SHT_NOBITS:
                bss += section.size_bytes
            elif section.executable:
                code += section.size_bytes
            elif section.writable:
                data += section.size_bytes
            else:
                rodata += section.size_bytes
        return ObjectSize(code, rodata, data, bss)

    def defined_symbols(self) -> tuple[str, ...]:
        """Names of the global and weak symbols defined here, sorted."""
        return _names(s for s in self.symbols if not s.local and s.section != UNDEFINED)

    def undefined_symbols(self) -> tuple[str, ...]:
        """Names of the symbols that another object must define, sorted."""
        return _names(s for s in self.symbols if not s.local and s.section == UNDEFINED)


def _names(symbols: Iterable[Symbol]) -> tuple[str, ...]:
    return tuple(sorted({symbol.name for symbol in symbols}))


@lru_cache(maxsize=16)
def _parse(data: bytes, name: str) -> ElfObject:
    """Read an object; one build asks for its own several times."""
    if data[:4] != b"\x7fELF":
        raise DeviceError(f"{name}: not an ELF file (it begins with {data[:4]!r})")
    if data[4:6] != b"\x01\x01":
        raise DeviceError(f"{name}: not a 32-bit little-endian ELF file")
    header = _HEADER.unpack_from(data)
    kind, machine, table, flags, count, names_index = (header[i] for i in (1, 2, 6, 7, 12, 13))
    if machine != _MACHINE_ARM or kind != _TYPE_RELOCATABLE:
        raise DeviceError(
            f"{name}: expected a relocatable ARM object (type 1, machine 40), got type {kind}, machine {machine}"
        )
    headers = [_SECTION.unpack_from(data, table + i * _SECTION.size) for i in range(count)]

    def contents(index: int) -> bytes:
        _, section_type, _, _, offset, size = headers[index][:6]
        if section_type == SHT_NOBITS:
            return b""
        if offset + size > len(data):
            raise DeviceError(f"{name}: section {index} ends at byte {offset + size}, the file has {len(data)}")
        return data[offset : offset + size]

    # Tables that describe other sections are taken apart; what is left keeps its order under a new index.
    described = {SHT_NULL, SHT_SYMTAB, SHT_STRTAB, SHT_REL, SHT_RELA, SHT_GROUP}
    kept = [i for i, h in enumerate(headers) if h[1] not in described]
    position = {old: new for new, old in enumerate(kept)}

    symbols: list[Symbol] = []
    for index, section_header in enumerate(headers):
        if section_header[1] == SHT_SYMTAB:
            strings = contents(section_header[6])
            for entry in list(_SYMBOL.iter_unpack(contents(index)))[1:]:
                where = _SHN_SPECIAL[entry[5]] if entry[5] in _SHN_SPECIAL else position.get(entry[5])
                # A symbol of a section that was taken apart (the signature of a group) defines nothing.
                symbols.append(
                    Symbol(
                        name=_string(strings, entry[0]),
                        value=entry[1],
                        size_bytes=entry[2],
                        binding=entry[3] >> 4,
                        type=entry[3] & 15,
                        visibility=entry[4] & 3,
                        section=ABSOLUTE if where is None else where,
                    )
                )

    relocations: dict[int, tuple[Relocation, ...]] = {}
    for index, section_header in enumerate(headers):
        if section_header[1] == SHT_RELA:
            raise DeviceError(f"{name}: section {index} has relocations with explicit addends (RELA); ARM uses REL")
        if section_header[1] == SHT_REL:
            relocations[section_header[7]] = tuple(
                Relocation(offset, info & 0xFF, (info >> 8) - 1)
                for offset, info in _RELOCATION.iter_unpack(contents(index))
            )

    section_names = contents(names_index)
    sections = tuple(
        Section(
            name=_string(section_names, headers[i][0]),
            type=headers[i][1],
            flags=headers[i][2] & ~SHF_GROUP,
            alignment=max(1, headers[i][8]),
            size_bytes=headers[i][5],
            data=contents(i),
            relocations=relocations.get(i, ()),
            entry_size=headers[i][9],
        )
        for i in kept
    )
    return ElfObject(sections, tuple(symbols), flags, name)


def _string(table: bytes, offset: int) -> str:
    return table[offset : table.index(b"\0", offset)].decode() if offset else ""


class _Strings:
    """A string table that holds each string once."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0")
        self._offsets = {"": 0}

    def add(self, text: str) -> int:
        if text not in self._offsets:
            self._offsets[text] = len(self.data)
            self.data += text.encode() + b"\0"
        return self._offsets[text]


class _Writer:
    """Lays out one object: sections, their relocations, symbols, names; then the table of all these."""

    def __init__(self, item: ElfObject) -> None:
        self.item = item
        order = sorted(range(len(item.symbols)), key=lambda i: not item.symbols[i].local)  # stable: locals first
        self.symbols = [item.symbols[i] for i in order]
        self.new_index = {-1: 0} | {old: new for new, old in enumerate(order, start=1)}  # 0 is the null symbol
        self.names = _Strings()
        self.body = bytearray(_HEADER.size)
        self.headers = [bytes(_SECTION.size)]

    def to_bytes(self) -> bytes:
        sections = self.item.sections
        for s in sections:
            self._add(s.name, s.type, s.data, s.alignment, flags=s.flags, size=s.size_bytes, entry_size=s.entry_size)
        symtab_index = 1 + len(sections) + sum(1 for s in sections if s.relocations)
        for index, s in enumerate(sections, start=1):
            if s.relocations:
                table = [_RELOCATION.pack(r.offset, self.new_index[r.symbol] << 8 | r.type) for r in s.relocations]
                self._add_table(f".rel{s.name}", SHT_REL, table, flags=SHF_INFO_LINK, link=symtab_index, info=index)
        strings = _Strings()
        symbols = [bytes(_SYMBOL.size), *(self._symbol(symbol, strings) for symbol in self.symbols)]
        first_global = 1 + sum(1 for symbol in self.symbols if symbol.local)
        self._add_table(".symtab", SHT_SYMTAB, symbols, link=symtab_index + 1, info=first_global)
        self._add(".strtab", SHT_STRTAB, bytes(strings.data), 1)
        self.names.add(".shstrtab")
        self._add(".shstrtab", SHT_STRTAB, bytes(self.names.data), 1)
        self._align(4)
        fixed = (_IDENTITY, _TYPE_RELOCATABLE, _MACHINE_ARM, 1, 0, 0, len(self.body), self.item.flags, _HEADER.size)
        last = len(self.headers) - 1
        self.body[: _HEADER.size] = _HEADER.pack(*fixed, 0, 0, _SECTION.size, len(self.headers), last)
        return bytes(self.body) + b"".join(self.headers)

    def _symbol(self, symbol: Symbol, strings: _Strings) -> bytes:
        name = strings.add(symbol.name)
        kind = symbol.binding << 4 | symbol.type
        section = _SPECIAL_SHN.get(symbol.section, symbol.section + 1)
        return _SYMBOL.pack(name, symbol.value, symbol.size_bytes, kind, symbol.visibility, section)

    def _align(self, alignment: int) -> None:
        self.body += bytes(-len(self.body) % alignment)

    def _add_table(self, name: str, kind: int, rows: list[bytes], *, flags: int = 0, link: int, info: int) -> None:
        self._add(name, kind, b"".join(rows), 4, flags=flags, link=link, info=info, entry_size=len(rows[0]))

    def _add(
        self,
        name: str,
        kind: int,
        data: bytes,
        alignment: int,
        *,
        flags: int = 0,
        size: int | None = None,
        link: int = 0,
        info: int = 0,
        entry_size: int = 0,
    ) -> None:
        self._align(alignment)
        size = len(data) if size is None else size
        place = (self.names.add(name), kind, flags, 0, len(self.body), size)
        self.headers.append(_SECTION.pack(*place, link, info, alignment, entry_size))
        self.body += data
