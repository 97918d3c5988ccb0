"""Say why a program ended in the handler of an exception.

Source: Armv7-M Architecture Reference Manual, B1.5 (exceptions), B3.2 (fault status).
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm_tinyml.device import faults
from tvm_tinyml.device.engine import FaultError
from tvm_tinyml.device.faults import Faults, code_text
from tvm_tinyml.device.memory import MemoryMap

SUPERVISOR_CALL = 11

FAULT_STATUS = 0xE000_ED28
"""Address of CFSR, HFSR, DFSR, MMFAR and BFAR, five words."""

FRAME_BYTES, FRAME_LR = 32, 20
"""What an exception stores at the stack pointer, r0 to r3, r12, lr, pc and xpsr; and the offset of lr."""

ON_PROCESS_STACK = 1 << 2
"""Bit of lr in a handler: the program used the other stack pointer."""

# Bits of CFSR.
_NO_CODE = 1 << 0 | 1 << 8  # IACCVIOL, IBUSERR
NOT_STACKED = 1 << 4 | 1 << 12  # MSTKERR, STKERR
_ADDRESS_IN_MMFAR, _ADDRESS_IN_BFAR = 1 << 7, 1 << 15
_UNDEFINED, _NOT_THUMB, _NO_UNIT, _UNALIGNED = 1 << 16, 1 << 17, 1 << 19, 1 << 24

_BREAKPOINT_CODE, _UNDEFINED_CODE = 0xBE, 0xDE


@dataclass(frozen=True)
class Trap:
    """An exception that was taken.

    ``pc`` is the instruction, or None when the core had no stack to store it on; then ``block`` is near. ``status``,
    ``memory_address`` and ``bus_address`` are the registers CFSR, MMFAR and BFAR; Armv6-M has none and reads as 0.
    ``code`` are four bytes at ``pc``.
    """

    exception: int
    pc: int | None
    return_address: int
    block: int
    status: int
    memory_address: int
    bus_address: int
    code: bytes

    def error(self, faults_: Faults, memory: MemoryMap) -> FaultError:
        """Put it into words."""
        status, code = self.status, code_text(self.code)
        pc = self.block if self.pc is None else self.pc
        if self.exception == SUPERVISOR_CALL:
            return faults_.fault(pc - 2, faults.SERVICE)
        if status & _NO_CODE or not memory.flash.contains(pc):
            return faults_.jump(pc, self.return_address)
        if status & _NOT_THUMB:
            return faults_.fault(pc, f"it jumps to {pc:#010x}, an even address: that would be Arm code", pc)
        if status & (_ADDRESS_IN_MMFAR | _ADDRESS_IN_BFAR):
            return self._access(faults_, memory, pc)
        if self.code[1:2] == bytes([_BREAKPOINT_CODE]):
            return faults_.fault(pc, faults.BREAKPOINT)
        if status & _UNDEFINED or self.code[1:2] == bytes([_UNDEFINED_CODE]):
            return faults_.fault(pc, f"it executes an undefined instruction; the code there is {code}")
        if status & _NO_UNIT:
            return faults_.fault(pc, "the core has no unit for this instruction (such as floating point)")
        if status & _UNALIGNED:
            return faults_.fault(pc, "it accesses several words at an address that is not a multiple of 4")
        return faults_.fault(pc, f"this core does not tell why; the code there is {code}")

    def _access(self, faults_: Faults, memory: MemoryMap, pc: int) -> FaultError:
        address = self.memory_address if self.status & _ADDRESS_IN_MMFAR else self.bus_address
        access = None if self.pc is None else access_of(self.code)
        if access is not None:
            verb, size_bytes = access
            return faults_.access(pc, verb, address, size_bytes, read_only=memory.flash.contains(address))
        where = "which is read-only" if memory.flash.contains(address) else "where no memory is"
        near = "; the stack is used up, so it is this instruction or one of the next" if self.pc is None else ""
        return faults_.fault(pc, f"it accesses {address:#010x}, {where}{near}", address)


def access_of(code: bytes) -> tuple[str, int] | None:
    """Whether an instruction reads or writes, and how many bytes at once; None if it is another one, or Helium's.

    Source: Armv7-M Architecture Reference Manual, A5.2 and A5.3.
    """
    first = int.from_bytes(code[:2], "little")
    wide = first >> 11 >= 0b11101
    if wide:
        load = first >> 4 & 1
        helium = code[3:4] and code[3] >> 1 & 7 == 0b111
        if first >> 9 == 0b1111100:  # one register
            size_bytes = 1 << (first >> 5 & 3)
        elif first >> 9 == 0b1110100 or (first >> 9 == 0b1110110 and not helium):  # several, or floating point
            size_bytes = 4
        else:
            return None
    else:
        match first >> 12:
            case 0b0100 if first >> 11 & 1:  # relative to pc
                load, size_bytes = 1, 4
            case 0b0101:  # with a register as offset: STR, STRH, STRB, LDRSB, LDR, LDRH, LDRB, LDRSH
                operation = first >> 9 & 7
                load, size_bytes = operation >= 3, (4, 2, 1, 1, 4, 2, 1, 2)[operation]
            case 0b0110 | 0b1001 | 0b1100:  # words
                load, size_bytes = first >> 11 & 1, 4
            case 0b0111:
                load, size_bytes = first >> 11 & 1, 1
            case 0b1000:
                load, size_bytes = first >> 11 & 1, 2
            case 0b1011 if first >> 9 & 3 == 0b10:  # PUSH, POP
                load, size_bytes = first >> 11 & 1, 4
            case _:
                return None
    return "reads" if load else "writes", size_bytes
