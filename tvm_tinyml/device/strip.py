"""Reduce an object to what a library needs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from tvm_tinyml.device.elf import (
    ABSOLUTE,
    COMMON,
    SHT_ARM_ATTRIBUTES,
    SHT_ARM_EXIDX,
    SHT_NOBITS,
    SHT_NOTE,
    SHT_PROGBITS,
    STB_GLOBAL,
    STT_FILE,
    STT_SECTION,
    UNDEFINED,
    ElfObject,
    Section,
    Symbol,
)
from tvm_tinyml.errors import DeviceError

UNWANTED_PREFIXES = (".ARM.extab", ".eh_frame", ".text.tvm.fp16.conv")
"""Allocated sections that a bare library has no use for: unwind tables and TVM's half-precision helpers, which it puts
into every object. The index of the unwind tables, which needs ``__aeabi_unwind_cpp_pr0``, has a type of its own."""


def strip(data: bytes, name: str = "object", *, discard: Collection[str] = ()) -> bytes:
    """Keep code, constants, variables, the ARM attributes, and the symbols and relocations that belong to them.

    Parameters
    ----------
    data : a relocatable object.
    name : how error messages call it.
    discard : names of further sections to leave out.

    Returns
    -------
    A relocatable object; the same input gives the same bytes, and stripping it again changes nothing.

    Raises
    ------
    DeviceError : not an ARM object, or code that stays refers to a local symbol of a section that goes.
    """
    item = ElfObject.parse(data, name)
    kept = [i for i, section in enumerate(item.sections) if _wanted(section, name) and section.name not in discard]
    position = {old: new for new, old in enumerate(kept)}
    referenced = {r.symbol for i in kept for r in item.sections[i].relocations}

    symbols: list[Symbol] = []
    new_symbol: dict[int, int] = {-1: -1}  # a relocation without a symbol stays without one
    for index, symbol in enumerate(item.symbols):
        section = symbol.section if symbol.section in (ABSOLUTE, COMMON) else position.get(symbol.section)
        if section is None:
            if index not in referenced:
                continue
            if symbol.local:
                raise DeviceError(
                    f"{name}: code refers to '{symbol.name or item.sections[symbol.section].name}' in a section that "
                    "stripping removes"
                )
            binding = symbol.binding if symbol.section == UNDEFINED else STB_GLOBAL
            symbol = replace(symbol, section=UNDEFINED, value=0, size_bytes=0, binding=binding)
        elif index not in referenced and (symbol.type in (STT_SECTION, STT_FILE) or section == ABSOLUTE):
            continue
        else:
            symbol = replace(symbol, section=section)
        new_symbol[index] = len(symbols)
        symbols.append(symbol)
    sections = tuple(
        replace(
            section,
            relocations=tuple(replace(r, symbol=new_symbol[r.symbol]) for r in section.relocations),
        )
        for section in (item.sections[i] for i in kept)
    )
    return ElfObject(sections, tuple(symbols), item.flags, name).to_bytes()


def _wanted(section: Section, name: str) -> bool:
    if section.type == SHT_ARM_ATTRIBUTES:
        return True
    if not section.allocated or section.size_bytes == 0 or section.name.startswith(UNWANTED_PREFIXES):
        return False
    if section.type in (SHT_PROGBITS, SHT_NOBITS):
        return True
    if section.type in (SHT_NOTE, SHT_ARM_EXIDX):
        return False
    raise DeviceError(
        f"{name}: section '{section.name}' has type {section.type:#x}, which needs start-up code that a library lacks"
    )
