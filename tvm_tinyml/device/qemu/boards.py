"""The boards that QEMU knows, one for each core: where their memory lies, and how it is protected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm_tinyml.device.memory import MemoryMap, Region
from tvm_tinyml.errors import DeviceError

Settings = list[tuple[int, int]]
"""Addresses of a core's own registers, and what is written there."""

_MIB = 1 << 20
_RESERVED_BYTES = 4096
_STACK_BYTES = 16 << 10  # it is painted before each call, and QEMU is slow at taking bytes

# The system control block and the memory protection unit behind it.
VTOR, CPACR = 0xE000_ED08, 0xE000_ED88
_MPU_CTRL, _MPU_RNR, _MPU_RBAR = 0xE000_ED94, 0xE000_ED98, 0xE000_ED9C
_MPU_RASR = _MPU_RLAR = 0xE000_EDA0
_MPU_MAIR0 = 0xE000_EDC0


def _no_protection(_memory: MemoryMap) -> Settings:
    return []


def _protect_v7(memory: MemoryMap) -> Settings:
    """Armv7-M: regions are powers of two. Source: Armv7-M Architecture Reference Manual, B3.5."""
    normal_memory, read_only, read_write, never_execute = 0b000011 << 16, 6 << 24, 3 << 24, 1 << 28
    settings = []
    for number, region in enumerate((memory.flash, memory.ram, memory.stack)):
        if region.size_bytes & (region.size_bytes - 1) or region.origin % region.size_bytes:
            raise DeviceError(
                f"{region.name} ({region.size_bytes} bytes at {region.origin:#010x}) cannot be protected: on this core "
                "the size is a power of two and the address a multiple of it"
            )
        rights = read_only if region is memory.flash else read_write | never_execute
        size_field = region.size_bytes.bit_length() - 2
        settings += [
            (_MPU_RBAR, region.origin | 1 << 4 | number),
            (_MPU_RASR, rights | normal_memory | size_field << 1 | 1),
        ]
    return [*settings, (_MPU_CTRL, 1)]


def _protect_v8(memory: MemoryMap) -> Settings:
    """Armv8-M: regions are multiples of 32 bytes. Source: Armv8-M Architecture Reference Manual, D1.2."""
    normal_memory, read_only, read_write, never_execute = 0xFF, 3 << 1, 1 << 1, 1
    settings = [(_MPU_MAIR0, normal_memory)]
    for number, region in enumerate((memory.flash, memory.ram, memory.stack)):
        rights = read_only if region is memory.flash else read_write | never_execute
        settings += [
            (_MPU_RNR, number),
            (_MPU_RBAR, region.origin | rights),
            (_MPU_RLAR, region.end - 32 | 1),
        ]
    return [*settings, (_MPU_CTRL, 1)]


@dataclass(frozen=True)
class Board:
    """A machine of QEMU.

    ``arguments`` choose it; its own memory is at least ``memory``; ``protect`` gives the settings that let a program
    execute flash, read it, read and write RAM and stack, and do nothing else.
    """

    arguments: tuple[str, ...]
    memory: MemoryMap
    protect: Callable[[MemoryMap], Settings]

    def settings(self, memory: MemoryMap) -> Settings:
        """What is written to the core's registers after a reset: vectors, floating point and Helium, protection."""
        return [(VTOR, memory.flash.origin), (CPACR, 0b1111 << 20), *self.protect(memory)]


def _memory(flash: tuple[int, int], ram: tuple[int, int], stack: int) -> MemoryMap:
    return MemoryMap(
        Region("flash", *flash), Region("RAM", *ram), Region("stack", stack, _STACK_BYTES), _RESERVED_BYTES
    )


# Memory is taken where an address of 0 lies outside of it. The last two start, and stay, in the secure state, in which
# nothing has been given to the other one.
BOARDS = {
    # A Cortex-M0: the same instructions; QEMU has no M0+. Its sizes can be chosen, but flash lies at 0, and the core
    # has nothing to protect memory with.
    "cortex-m0plus": Board(
        (
            *("-machine", "microbit"),
            *("-global", f"nrf51-soc.flash-size={4 * _MIB}"),
            *("-global", f"nrf51-soc.sram-size={4 * _MIB}"),
        ),
        _memory((0, 4 * _MIB), (0x2001_0000, 3 * _MIB), 0x2000_0000),
        _no_protection,
    ),
    "cortex-m3": Board(
        ("-machine", "mps2-an385"), _memory((0x0040_0000, 4 * _MIB), (0x2100_0000, 8 * _MIB), 0x21F0_0000), _protect_v7
    ),
    "cortex-m4": Board(
        ("-machine", "mps2-an386"), _memory((0x0040_0000, 4 * _MIB), (0x2100_0000, 8 * _MIB), 0x21F0_0000), _protect_v7
    ),
    "cortex-m7": Board(
        ("-machine", "mps2-an500"), _memory((0x0040_0000, 4 * _MIB), (0x6000_0000, 8 * _MIB), 0x60F0_0000), _protect_v7
    ),
    "cortex-m33": Board(
        ("-machine", "mps2-an505"), _memory((0x1000_0000, 4 * _MIB), (0x8000_0000, 8 * _MIB), 0x80F0_0000), _protect_v8
    ),
    "cortex-m55": Board(
        ("-machine", "mps3-an547"), _memory((0x6000_0000, 16 * _MIB), (0x6100_0000, 8 * _MIB), 0x6200_0000), _protect_v8
    ),
}
