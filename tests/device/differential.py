"""Run the same instructions from the same state on the native engine and on Unicorn."""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass
from random import Random
from typing import Any

from tvm_tinyml.device.memory import MemoryMap
from tvm_tinyml.device.native_engine import APSR, FPSCR, LR, RETURNED, SP, STATE_WORDS, NativeEngine
from tvm_tinyml.device.unicorn_engine import CPU_MODELS

MEMORY = MemoryMap()
CODE = MEMORY.exit_address + 0x100
DATA = MEMORY.ram.origin + 0x10000
"""What registers point to; the window that is compared lies around it."""
WINDOW = (DATA - 0x1400, 0x2800)
STACK = (MEMORY.stack.origin + 0x7800, 0x1000)
FIRST_FLOAT = 16
BX_LR = b"\x70\x47"
ASTRAY = "went astray"

INTERESTING = (
    0, 1, 2, 31, 32, 33, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF,
    0x8000_8000, 0x7FFF_7FFF, 0x7FFF_8000, 0xFFFF_FFFE,
)  # fmt: skip
SINGLES = (
    0, 0x8000_0000, 0x3F80_0000, 0xBF80_0000, 0x7F80_0000, 0xFF80_0000, 0x7FC0_0000, 0x7FC1_2345, 0xFFC5_4321,
    0x7F81_2345, 0xFF80_0001, 1, 0x8000_0001, 0x007F_FFFF, 0x0080_0000, 0x7F7F_FFFF, 0x4B00_0000, 0x4F00_0000,
    0xCF00_0000, 0x5F00_0000, 0x3F00_0000, 0xBF00_0000, 0x3FC0_0000, 0x4020_0000, 0x477F_E000, 0x3380_0000,
)  # fmt: skip
"""Zeros, ones, infinities, quiet and signaling NaNs, the smallest and largest numbers, halves, ends of integers."""
DOUBLES = (
    0, 1 << 63, 0x3FF0 << 48, 0xBFF0 << 48, 0x7FF0 << 48, 0xFFF0 << 48, 0x7FF8 << 48, 0x7FF8_1234_5678_9ABC,
    0x7FF4_1234_5678_9ABC, 0xFFF8_0000_0000_0001, 1, 0x000F_FFFF_FFFF_FFFF, 0x0010_0000_0000_0000,
    0x7FEF_FFFF_FFFF_FFFF, 0x41E0 << 48, 0xC1E0 << 48, 0x43E0 << 48, 0x3FE0 << 48, 0x3FF8 << 48, 0x4004 << 48,
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """How a run ended: None if it returned, else something of the engine's own; and what it left."""

    stopped: Any
    state: list[int]
    data: bytes


def random_state(rng: Random, *, floats: bool, flags: bool = True) -> list[int]:
    """A state of the processor in which addresses, small numbers and the ends of ranges are likely."""
    state = [0] * STATE_WORDS
    for register in range(13):
        match rng.randrange(4):
            case 0:
                state[register] = rng.getrandbits(32)
            case 1:
                state[register] = rng.choice(INTERESTING)
            case 2:
                state[register] = DATA + 4 * rng.getrandbits(4)
            case _:
                state[register] = DATA + rng.getrandbits(6)
    state[SP] = STACK[0] + 0x800 + 4 * rng.getrandbits(4)
    state[LR] = MEMORY.exit_address | 1
    state[APSR] = rng.getrandbits(5) << 27
    if floats:
        state[APSR] |= rng.getrandbits(4) << 16
        state[FPSCR] = rng.getrandbits(4) << 28 if flags else 0
        for register in range(FIRST_FLOAT, FIRST_FLOAT + 32, 2):
            state[register : register + 2] = _random_floats(rng)
    return state


def _random_floats(rng: Random) -> tuple[int, int]:
    """Two words that are singles or a double, with all that is special about them."""
    match rng.randrange(5):
        case 0:
            return rng.getrandbits(32), rng.getrandbits(32)
        case 1:
            return rng.choice(SINGLES), rng.choice(SINGLES)
        case 2:
            double = rng.choice(DOUBLES)
            return double & 0xFFFF_FFFF, double >> 32
        case 3:
            numbers = (rng.gauss(0, 1) * 2.0 ** rng.randrange(-20, 40) for _ in range(2))
            first, second = struct.unpack("<2I", struct.pack("<2f", *numbers))
            return first, second
        case _:
            (bits,) = struct.unpack("<Q", struct.pack("<d", rng.gauss(0, 1) * 2.0 ** rng.randrange(-20, 60)))
            return bits & 0xFFFF_FFFF, bits >> 32


class Native:
    """The native engine, from any state."""

    def __init__(self, core: str) -> None:
        self.engine = NativeEngine(core)

    def write(self, address: int, data: bytes) -> None:
        """Write into memory."""
        self.engine.write(address, data)

    def run(self, entry: int, state: list[int]) -> Outcome:
        """Run until the exit address."""
        words = (ctypes.c_uint32 * STATE_WORDS)(*state)
        status = self.engine._library.tinyml_machine_run(self.engine._machine, entry, words, 1000)
        data = self.engine.read(*WINDOW) + self.engine.read(*STACK)
        return Outcome(None if status == RETURNED else status, list(words), data)


class Unicorn:
    """Unicorn, from any state: with whole registers written and read in one call."""

    def __init__(self, core: str, *, floats: bool) -> None:
        os.environ.setdefault("UC_IGNORE_REG_BREAK", "1")  # a register that is only written: Unicorn would complain
        import unicorn
        from unicorn import arm_const, unicorn_const
        from unicorn.unicorn_py3.unicorn import uclib

        self._error, self._library = unicorn.UcError, uclib
        self._machine = machine = unicorn.Uc(unicorn_const.UC_ARCH_ARM, unicorn_const.UC_MODE_THUMB)
        machine.ctl_set_cpu_model(getattr(arm_const, CPU_MODELS[core]))
        for region, rights in ((MEMORY.flash, 5), (MEMORY.ram, 3), (MEMORY.stack, 3)):
            machine.mem_map(region.origin, region.size_bytes, rights)
        machine.hook_add(unicorn_const.UC_HOOK_INTR, self._on_exception)
        machine.hook_add(unicorn_const.UC_HOOK_MEM_INVALID, lambda *_: False)
        if floats:
            # The processor has used floating point before: otherwise the first such instruction would clear FPSCR.
            machine.reg_write(arm_const.UC_ARM_REG_CONTROL, 4)
        self._fresh = machine.context_save()
        self._pc = arm_const.UC_ARM_REG_PC
        core_registers = [*range(arm_const.UC_ARM_REG_R0, arm_const.UC_ARM_REG_R0 + 13)]
        core_registers += [arm_const.UC_ARM_REG_SP, arm_const.UC_ARM_REG_LR]
        float_registers = [*range(arm_const.UC_ARM_REG_D0, arm_const.UC_ARM_REG_D0 + 16), arm_const.UC_ARM_REG_FPSCR]
        if not floats:
            float_registers = []
        write_apsr = arm_const.UC_ARM_REG_APSR_NZCVQG if floats else arm_const.UC_ARM_REG_APSR
        self._count = len(core_registers) + 1 + len(float_registers)
        ids = ctypes.c_int * self._count
        self._written = ids(*core_registers, write_apsr, *float_registers)
        self._read = ids(*core_registers, arm_const.UC_ARM_REG_APSR, *float_registers)
        self._state = (ctypes.c_uint32 * STATE_WORDS)()
        words = [*range(15), APSR, *([*range(FIRST_FLOAT, FIRST_FLOAT + 32, 2), FPSCR] if floats else [])]
        start = ctypes.addressof(self._state)
        self._places = (ctypes.c_void_p * self._count)(*(start + 4 * word for word in words))
        for function in (uclib.uc_reg_write_batch, uclib.uc_reg_read_batch):
            function.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_int]
        self._exception: int | None = None

    def write(self, address: int, data: bytes) -> None:
        """Write into memory; code takes effect at once."""
        self._machine.mem_write(address, data)
        if MEMORY.flash.contains(address):
            self._machine.ctl_flush_tb()

    def run(self, entry: int, state: list[int]) -> Outcome:
        """Run until the exit address, for 50 instructions at most."""
        machine = self._machine
        machine.context_restore(self._fresh)
        self._exception = None
        self._state[:] = state
        self._library.uc_reg_write_batch(machine._uch, self._written, self._places, self._count)
        stopped: Any = None
        try:
            machine.emu_start(entry | 1, MEMORY.exit_address, count=50)
        except self._error as error:
            stopped = str(error)
        if self._exception is not None:
            stopped = self._exception
        if stopped is None and machine.reg_read(self._pc) != MEMORY.exit_address:
            stopped = ASTRAY
        self._library.uc_reg_read_batch(machine._uch, self._read, self._places, self._count)
        data = bytes(machine.mem_read(*WINDOW)) + bytes(machine.mem_read(*STACK))
        return Outcome(stopped, list(self._state), data)

    def _on_exception(self, machine: Any, number: int, _user: object) -> None:
        self._exception = number
        machine.emu_stop()
