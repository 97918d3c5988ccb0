"""Patch addresses into Thumb code and data.

Source: "ELF for the Arm Architecture" (AAELF32), section "Relocation"; instruction encodings: Armv7-M and Armv6-M
Architecture Reference Manuals. Names S, A, P and T are those of AAELF32: symbol, addend, place, Thumb bit.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from tvm_tinyml.errors import DeviceError


@dataclass(frozen=True)
class Target:
    """What a relocation refers to: name for messages, address without Thumb bit, Thumb bit, is it an ARM function."""

    name: str
    address: int
    thumb: int
    arm_code: bool = False
    table_entry: int | None = None
    """Address of the word that holds the symbol's address (its entry in the global offset table), if it has one."""


@dataclass(frozen=True)
class Field:
    """How a value lies in instruction or data bytes: ``read`` gives the addend, ``write`` stores the result.

    ``bits`` is the width of the signed value that fits; 32 means that every value fits (modulo 2**32).
    """

    size_bytes: int
    bits: int
    read: Callable[[int], int]
    write: Callable[[int, int], int]


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


# Two halfwords of a 32-bit instruction are handled as one integer with the first halfword in the low 16 bits.


def _read_branch24(code: int) -> int:
    first, second = code & 0xFFFF, code >> 16
    sign = first >> 10 & 1
    bit23, bit22 = (~(second >> 13 ^ sign)) & 1, (~(second >> 11 ^ sign)) & 1
    return _signed(sign << 24 | bit23 << 23 | bit22 << 22 | (first & 0x3FF) << 12 | (second & 0x7FF) << 1, 25)


def _write_branch24(code: int, value: int) -> int:
    first, second = code & 0xF800, code >> 16 & 0xD000
    sign, bit23, bit22 = value >> 24 & 1, value >> 23 & 1, value >> 22 & 1
    first |= sign << 10 | (value >> 12 & 0x3FF)
    second |= (1 ^ bit23 ^ sign) << 13 | (1 ^ bit22 ^ sign) << 11 | (value >> 1 & 0x7FF)
    return first | second << 16


def _read_branch19(code: int) -> int:
    first, second = code & 0xFFFF, code >> 16
    sign, j1, j2 = first >> 10 & 1, second >> 13 & 1, second >> 11 & 1
    return _signed(sign << 20 | j2 << 19 | j1 << 18 | (first & 0x3F) << 12 | (second & 0x7FF) << 1, 21)


def _write_branch19(code: int, value: int) -> int:
    first, second = code & 0xFBC0, code >> 16 & 0xD000
    first |= (value >> 20 & 1) << 10 | (value >> 12 & 0x3F)
    second |= (value >> 18 & 1) << 13 | (value >> 19 & 1) << 11 | (value >> 1 & 0x7FF)
    return first | second << 16


def _read_immediate16(code: int) -> int:
    first, second = code & 0xFFFF, code >> 16
    return _signed((first & 15) << 12 | (first >> 10 & 1) << 11 | (second >> 12 & 7) << 8 | second & 0xFF, 16)


def _write_immediate16(code: int, value: int) -> int:
    first, second = code & 0xFBF0, code >> 16 & 0x8F00
    first |= (value >> 12 & 15) | (value >> 11 & 1) << 10
    second |= (value >> 8 & 7) << 12 | value & 0xFF
    return first | second << 16


_WORD = Field(4, 32, lambda word: _signed(word, 32), lambda _, value: value & 0xFFFF_FFFF)
_WORD31 = Field(4, 31, lambda word: _signed(word, 31), lambda word, value: word & 0x8000_0000 | value & 0x7FFF_FFFF)
_BRANCH24 = Field(4, 25, _read_branch24, _write_branch24)
_BRANCH19 = Field(4, 21, _read_branch19, _write_branch19)
_BRANCH11 = Field(2, 12, lambda code: _signed(code << 1, 12), lambda code, value: code & 0xF800 | value >> 1 & 0x7FF)
_BRANCH8 = Field(2, 9, lambda code: _signed(code << 1, 9), lambda code, value: code & 0xFF00 | value >> 1 & 0xFF)
_LOW16 = Field(4, 32, _read_immediate16, _write_immediate16)
_HIGH16 = Field(4, 32, _read_immediate16, lambda code, value: _write_immediate16(code, value >> 16))


def _absolute(target: Target, addend: int, _place: int) -> int:
    return (target.address + addend) | target.thumb


def _absolute_plain(target: Target, addend: int, _place: int) -> int:
    return target.address + addend


def _relative(target: Target, addend: int, place: int) -> int:
    return ((target.address + addend) | target.thumb) - place


def _relative_plain(target: Target, addend: int, place: int) -> int:
    return target.address + addend - place


def _table_entry(target: Target, addend: int, place: int) -> int:
    assert target.table_entry is not None  # the loader gives an entry to every symbol that a GOT_PREL names
    return target.table_entry + addend - place


@dataclass(frozen=True)
class Kind:
    """A relocation type: where the value goes and what it is."""

    name: str
    field: Field
    value: Callable[[Target, int, int], int]
    branch: bool = False


R_ARM_NONE = 0
R_ARM_V4BX = 40
R_ARM_GOT_PREL = 96

IGNORED = {R_ARM_NONE, R_ARM_V4BX}
"""Types that change no byte: a mere dependency, and the mark of a BX for processors older than ARMv4T."""

KINDS = {
    2: Kind("R_ARM_ABS32", _WORD, _absolute),
    3: Kind("R_ARM_REL32", _WORD, _relative),
    10: Kind("R_ARM_THM_CALL", _BRANCH24, _relative_plain, branch=True),
    30: Kind("R_ARM_THM_JUMP24", _BRANCH24, _relative_plain, branch=True),
    38: Kind("R_ARM_TARGET1", _WORD, _absolute),
    42: Kind("R_ARM_PREL31", _WORD31, _relative),
    47: Kind("R_ARM_THM_MOVW_ABS_NC", _LOW16, _absolute),
    48: Kind("R_ARM_THM_MOVT_ABS", _HIGH16, _absolute_plain),
    49: Kind("R_ARM_THM_MOVW_PREL_NC", _LOW16, _relative),
    50: Kind("R_ARM_THM_MOVT_PREL", _HIGH16, _relative_plain),
    51: Kind("R_ARM_THM_JUMP19", _BRANCH19, _relative_plain, branch=True),
    R_ARM_GOT_PREL: Kind("R_ARM_GOT_PREL", _WORD, _table_entry),
    102: Kind("R_ARM_THM_JUMP11", _BRANCH11, _relative_plain, branch=True),
    103: Kind("R_ARM_THM_JUMP8", _BRANCH8, _relative_plain, branch=True),
}

_OTHER_NAMES = {
    1: "R_ARM_PC24",
    11: "R_ARM_THM_PC8",
    24: "R_ARM_GOTOFF32",
    25: "R_ARM_BASE_PREL",
    26: "R_ARM_GOT_BREL",
    28: "R_ARM_CALL",
    29: "R_ARM_JUMP24",
    41: "R_ARM_TARGET2",
    43: "R_ARM_MOVW_ABS_NC",
    44: "R_ARM_MOVT_ABS",
}


def apply(contents: bytearray, offset: int, place: int, kind_number: int, target: Target, where: str) -> None:
    """Patch one place.

    Parameters
    ----------
    contents : the section's bytes, changed in place.
    offset : of the place in the section.
    place : address of the place on the device.
    kind_number : the relocation's type.
    target : what it refers to.
    where : object and section, for messages.

    Raises
    ------
    DeviceError : unknown type, place outside of the section, target out of reach, or a call of ARM (not Thumb) code.
    """
    if kind_number in IGNORED:
        return
    kind = KINDS.get(kind_number)
    if kind is None:
        name = _OTHER_NAMES.get(kind_number, "a type without a name here")
        raise DeviceError(
            f"{where}+{offset:#x}: relocation type {kind_number} ({name}) for symbol '{target.name}' is not one of "
            "those that Thumb code for Cortex-M needs; was the object built for another processor?"
        )
    if offset + kind.field.size_bytes > len(contents):
        raise DeviceError(f"{where}+{offset:#x}: {kind.name} lies outside of the section's {len(contents)} bytes")
    if kind.branch and target.arm_code:
        raise DeviceError(f"{where}+{offset:#x}: '{target.name}' is ARM code, Cortex-M runs Thumb only")
    layout = "<I" if kind.field.size_bytes == 4 else "<H"
    (code,) = struct.unpack_from(layout, contents, offset)
    value = kind.value(target, kind.field.read(code), place)
    reach = 1 << (kind.field.bits - 1)
    if kind.field.bits < 32 and not -reach <= value < reach:
        raise DeviceError(
            f"{where}+{offset:#x}: '{target.name}' is {value} bytes away, {kind.name} reaches {-reach} to {reach - 1}; "
            "place the two closer together"
        )
    struct.pack_into(layout, contents, offset, kind.field.write(code, value))
