"""Run Cortex-M code on QEMU, the program, with a plugin of ours inside."""

from __future__ import annotations

import struct
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tvm_tinyml.device import faults
from tvm_tinyml.device.engine import EdgeProfile, Run, instruction_offsets
from tvm_tinyml.device.faults import Faults
from tvm_tinyml.device.loader import Image
from tvm_tinyml.device.memory import MemoryMap, Region
from tvm_tinyml.device.qemu import firmware
from tvm_tinyml.device.qemu.boards import BOARDS, Board
from tvm_tinyml.device.qemu.counts import BUDGET_SPENT, READY, RETURNED, STRAYED, WAITING
from tvm_tinyml.device.qemu.gdb import ANSWER_SECONDS, DisconnectedError
from tvm_tinyml.device.qemu.plugin import build_plugin, find_qemu, plugin_api
from tvm_tinyml.device.qemu.process import QemuProcess
from tvm_tinyml.device.qemu.traps import FAULT_STATUS, FRAME_BYTES, FRAME_LR, NOT_STACKED, ON_PROCESS_STACK, Trap
from tvm_tinyml.device.v7m import find_dsp_instruction
from tvm_tinyml.device.watch import Watch
from tvm_tinyml.errors import DeviceError

_POLL_SECONDS = 0.01
"""How soon a run is stopped that cannot go on by itself. A run that returns is noticed at once."""

_SP, _LR, _PC, _XPSR = 13, 14, 15, 16


class QemuEngine:
    """One Cortex-M on QEMU; see ``Engine`` for the methods.

    Misaligned LDM, LDRD, VLDR and the like always fault, as on hardware. The program runs privileged, in the secure
    state where there is one, and the memory protection unit keeps it to its memory. The Cortex-M0 has none: there a
    program may read more than it should. WFE does not wait.

    Parameters
    ----------
    core : one of ``BOARDS``.
    memory : regions inside of those of the board; default is all of them.
    executable : QEMU's name or path.

    Raises
    ------
    DeviceError : QEMU or a C compiler is not installed, the core is not one of those that can run, or the memory is not
        there.
    """

    def __init__(self, core: str, memory: MemoryMap | None = None, *, executable: str = "qemu-system-arm") -> None:
        if core not in BOARDS:
            raise DeviceError(f"QEMU cannot run '{core}'; it runs {', '.join(BOARDS)}")
        board = BOARDS[core]
        self.core = core
        self.memory = memory or board.memory
        _check_memory(self.memory, board)
        self._settings = board.settings(self.memory)
        qemu = find_qemu(executable)
        self._process = QemuProcess(qemu, board.arguments, build_plugin(plugin_api(qemu)))
        self._close = weakref.finalize(self, self._process.close)
        self._faults = Faults(core)
        self._watch: Watch | None = None
        self._checked: set[tuple[int, int]] = set()
        with self._connected() as process:
            self._install_firmware(process)

    def load(self, image: Image) -> None:
        """See ``Engine.load``."""
        for segment in (*image.flash, *image.ram):
            self.write(segment.address, segment.data)
        self._faults.image = image

    def write(self, address: int, data: bytes) -> None:
        """See ``Engine.write``."""
        with self._connected() as process:
            region = self.memory.region_of(address, len(data))
            process.gdb.write(address, data)
            if region is self.memory.flash:
                process.shared.control.forget = 1
                self._checked.clear()

    def read(self, address: int, size_bytes: int) -> bytes:
        """See ``Engine.read``."""
        with self._connected() as process:
            self.memory.region_of(address, size_bytes)
            return process.gdb.read(address, size_bytes)

    def run(
        self, entry: int, registers: Sequence[int], stack_pointer: int, budget: int, watch: Watch | None = None
    ) -> Run:
        """See ``Engine.run``."""
        origin = self.memory.flash.origin
        with self._connected() as process:
            gdb, shared = process.gdb, process.shared
            if watch != self._watch:
                shared.set_watch(watch)
                self._watch = watch
            gdb.monitor("system_reset")  # a fresh processor state; memory stays
            gdb.write_registers(firmware.registers(origin, len(self._settings), entry, registers, stack_pointer))
            shared.control.left = budget
            shared.control.state = READY
            gdb.resume()
            self._wait(process)
            values = gdb.read_registers()
            if values[_PC] != origin + firmware.RETURNED or shared.control.state != RETURNED:
                self._raise_fault(process, values, entry, budget)
            profile, events = shared.profile()
            self._check_instructions(process, profile)
            return Run(values[0], profile, events)

    def close(self) -> None:
        """See ``Engine.close``."""
        self._close()

    @contextmanager
    def _connected(self) -> Iterator[QemuProcess]:
        """QEMU, for a conversation. When that fails or is broken off, what QEMU would say next is unknown: it ends."""
        if not self._close.alive:
            raise DeviceError(f"the simulator of {self.core} is closed; make a new one")
        try:
            yield self._process
        except DisconnectedError:
            error = self._process.ended()
            self._close()
            raise error from None
        except TimeoutError as late:
            self._close()
            raise DeviceError(f"{late}; it was ended") from None
        except DeviceError:
            raise
        except BaseException:
            self._close()
            raise

    def _install_firmware(self, process: QemuProcess) -> None:
        flash, control = self.memory.flash, process.shared.control
        process.gdb.write(flash.origin, firmware.firmware(flash.origin, self._settings))
        for offset in (firmware.RETURNED, firmware.HANDLER):
            process.gdb.insert_breakpoint(flash.origin + offset)
        control.boot, control.exit = flash.origin + firmware.BOOT, self.memory.exit_address
        control.own_start, control.own_end = flash.origin, flash.origin + firmware.SIZE_BYTES
        control.code_start, control.code_end = control.own_end, flash.end
        control.forget = 1

    def _wait(self, process: QemuProcess) -> None:
        """Wait until the run has ended, in whatever way."""
        while not process.gdb.wait(_POLL_SECONDS):
            if process.shared.control.state in (BUDGET_SPENT, STRAYED, WAITING):
                process.gdb.interrupt()
                if not process.gdb.wait(ANSWER_SECONDS):
                    raise TimeoutError(f"QEMU has not stopped for {ANSWER_SECONDS:.0f} seconds")
                return

    def _raise_fault(self, process: QemuProcess, values: Sequence[int], entry: int, budget: int) -> None:
        control = process.shared.control
        handled = values[_PC] == self.memory.flash.origin + firmware.HANDLER
        if control.state == BUDGET_SPENT:  # what the program did afterwards does not matter
            raise self._faults.budget(entry, control.block_start, budget)
        if control.state == STRAYED:
            return_address = self._trap(process, values).return_address if handled else values[_LR]
            raise self._faults.jump(control.block_start, return_address)
        if handled:
            raise self._trap(process, values).error(self._faults, self.memory)
        if control.state == WAITING:
            raise self._faults.fault(self._instruction_before(process, values[_PC]), faults.WAITING)
        raise DeviceError(f"QEMU stopped for no known reason at {self._faults.describe(values[_PC])}")

    def _trap(self, process: QemuProcess, values: Sequence[int]) -> Trap:
        """What the handler of exceptions found."""
        gdb, flash = process.gdb, self.memory.flash
        status, _, _, memory_address, bus_address = struct.unpack("<5I", gdb.read(FAULT_STATUS, 20))
        pc, return_address = None, 0
        if not values[_LR] & ON_PROCESS_STACK and not status & NOT_STACKED and self._is_stack(values[_SP]):
            return_address, pc = struct.unpack("<2I", gdb.read(values[_SP] + FRAME_LR, 8))
        block = process.shared.control.block_start
        place = block if pc is None else pc
        code = gdb.read(place, 4) if flash.contains(place, 4) else b""
        exception = values[_XPSR] & 0x1FF
        return Trap(exception, pc, return_address, block, status, memory_address, bus_address, code)

    def _is_stack(self, address: int) -> bool:
        return any(region.contains(address, FRAME_BYTES) for region in (self.memory.stack, self.memory.ram))

    def _instruction_before(self, process: QemuProcess, pc: int) -> int:
        """The instruction in front of ``pc``, which lies in or at the end of the block that ran last."""
        start: int = process.shared.control.block_start
        return start + instruction_offsets(process.gdb.read(start, pc - start))[-1]

    def _check_instructions(self, process: QemuProcess, profile: EdgeProfile) -> None:
        """QEMU's Cortex-M3 executes the same foreign instructions as Unicorn's, which is made of it."""
        if self.core != "cortex-m3":
            return
        blocks = set(zip(profile.block_start.tolist(), profile.block_size_bytes.tolist(), strict=True)) - self._checked
        if not blocks:
            return
        first, end = min(start for start, _ in blocks), max(start + size for start, size in blocks)
        code = process.gdb.read(first, end - first)
        for start, size in sorted(blocks):
            offset = find_dsp_instruction(code[start - first : start - first + size])
            if offset is not None:
                raise self._faults.fault(start + offset, "it executes a DSP instruction, which this core does not have")
        self._checked |= blocks


def _check_memory(memory: MemoryMap, board: Board) -> None:
    for name in ("flash", "ram", "stack"):
        region: Region = getattr(memory, name)
        place: Region = getattr(board.memory, name)
        if not place.contains(region.origin, region.size_bytes):
            raise DeviceError(
                f"{region.name} from {region.origin:#010x} to {region.end:#010x} does not lie where QEMU's board has "
                f"it, {place.origin:#010x} to {place.end:#010x}"
            )
    if memory.reserved_bytes < firmware.SIZE_BYTES:
        raise DeviceError(
            f"{memory.reserved_bytes} bytes of flash are reserved; with QEMU the first {firmware.SIZE_BYTES} must be"
        )
