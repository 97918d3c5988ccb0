"""What the engine itself puts at the beginning of flash: vectors, and code that prepares the core for a call."""

from __future__ import annotations

import struct
from collections.abc import Sequence

# Offsets from the beginning of flash, which is itself the address that a program returns to.
RETURNED = 0x02  # a breakpoint waits here
VECTORS = 0x04  # 1 to 15, all of the same handler
HANDLER = 0x40  # another breakpoint
BOOT = 0x44
SETTINGS = 0x80  # pairs of an address and a value
SIZE_BYTES = 4096

BOOT_SOURCE = """
    nop                     @ where the plugin notices that a run begins
1:  ldmia   r4!, {r5, r6}   @ r4: the settings, r7: their number
    str     r6, [r5]
    subs    r7, #1
    bne     1b
    movs    r4, #0
    movs    r5, #0
    movs    r6, #0
    bx      r12             @ the function, with r0 to r3, sp and lr as they came
"""
_BOOT_CODE = struct.pack("<9H", 0xBF00, 0xCC60, 0x602E, 0x3F01, 0xD1FB, 0x2400, 0x2500, 0x2600, 0x4760)
_NOP = b"\x00\xbf"


def firmware(origin: int, settings: Sequence[tuple[int, int]]) -> bytes:
    """The bytes for a flash that begins at ``origin``."""
    parts = {
        0: _NOP * 2,
        VECTORS: struct.pack("<I", origin + HANDLER | 1) * 15,
        HANDLER: _NOP * 2,
        BOOT: _BOOT_CODE,
        SETTINGS: b"".join(struct.pack("<II", *setting) for setting in settings),
    }
    image = bytearray(SIZE_BYTES)
    for offset, part in parts.items():
        image[offset : offset + len(part)] = part
    return bytes(image)


def registers(origin: int, settings: int, entry: int, arguments: Sequence[int], stack_pointer: int) -> list[int]:
    """What the registers hold, r0 to r15 and the status register, when the boot code starts."""
    values = [0] * 17
    values[: len(arguments)] = arguments
    values[4], values[7], values[12] = origin + SETTINGS, settings, entry | 1
    values[13], values[14], values[15] = stack_pointer, origin | 1, origin + BOOT
    values[16] = 1 << 24  # Thumb
    return values
