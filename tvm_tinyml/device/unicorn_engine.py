"""Run Cortex-M code on Unicorn (optional: it is GPLv2, see ``pip install tvm_tinyml[sim]``)."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from tvm_tinyml.device import faults
from tvm_tinyml.device.counter import BUDGET_SPENT, MISALIGNED, Counter
from tvm_tinyml.device.engine import EdgeProfile, FaultError, Run
from tvm_tinyml.device.faults import Faults, code_text
from tvm_tinyml.device.loader import Image
from tvm_tinyml.device.memory import MemoryMap
from tvm_tinyml.device.v7m import find_dsp_instruction
from tvm_tinyml.device.watch import Watch
from tvm_tinyml.errors import DeviceError

CPU_MODELS = {
    "cortex-m0plus": "UC_CPU_ARM_CORTEX_M0",  # the same instructions; Unicorn has no model of the M0+
    "cortex-m3": "UC_CPU_ARM_CORTEX_M3",
    "cortex-m4": "UC_CPU_ARM_CORTEX_M4",
    "cortex-m7": "UC_CPU_ARM_CORTEX_M7",
    "cortex-m33": "UC_CPU_ARM_CORTEX_M33",
}

_EXCEPTIONS = {
    2: faults.SERVICE,
    4: faults.MISALIGNED,
    7: faults.BREAKPOINT,
    17: "the core has no unit for this instruction (such as floating point)",
}
"""QEMU's numbers of the exceptions that a program can raise."""

_PREFETCH_ABORT = 3


class UnicornEngine:
    """One Cortex-M on Unicorn; see ``Engine`` for the methods.

    It counts in Python, about 50 times slower than the native engine, which it stands in for and is a check on.

    Parameters
    ----------
    core : one of ``CPU_MODELS``.
    memory : the regions to map. Flash is readable and executable, RAM and stack are readable and writable.
    check_alignment : stop at misaligned LDM, LDRD, VLDR and the like, which Unicorn performs and a Cortex-M3 or
        later refuses. Costs speed. (Unicorn's own model of the M0+ refuses every misaligned access.)

    Raises
    ------
    DeviceError : Unicorn is not installed, or the core is not one of those it can run.
    """

    def __init__(self, core: str, memory: MemoryMap | None = None, *, check_alignment: bool = False) -> None:
        if core not in CPU_MODELS:
            raise DeviceError(f"the simulator cannot run '{core}'; it runs {', '.join(CPU_MODELS)}")
        self._uc, self._arm, constants = _import_unicorn()
        self._constants = constants
        self.core = core
        self.memory = memory or MemoryMap()
        # UC_MODE_MCLASS would silently replace the chosen model by one that executes every instruction.
        self._open_machine: Any = self._uc.Uc(constants.UC_ARCH_ARM, constants.UC_MODE_THUMB)
        self._machine.ctl_set_cpu_model(getattr(self._arm, CPU_MODELS[core]))
        read, write, execute = constants.UC_PROT_READ, constants.UC_PROT_WRITE, constants.UC_PROT_EXEC
        for region, rights in (
            (self.memory.flash, read | execute),
            (self.memory.ram, read | write),
            (self.memory.stack, read | write),
        ):
            self._machine.mem_map(region.origin, region.size_bytes, rights)
        self._access: tuple[int, int, int] | None = None
        self._exception: int | None = None
        self._machine.hook_add(constants.UC_HOOK_MEM_INVALID, self._on_invalid_access)
        self._machine.hook_add(constants.UC_HOOK_INTR, self._on_exception)
        self._counter = Counter()
        self._counter.attach(self._machine, check_alignment=check_alignment and core != "cortex-m0plus")
        self._fresh = self._machine.context_save()
        self._faults = Faults(core)
        self._watch: Watch | None = None

    def load(self, image: Image) -> None:
        """See ``Engine.load``."""
        for segment in (*image.flash, *image.ram):
            self._machine.mem_write(segment.address, segment.data)
        # Writing does not invalidate what was translated before: without this the previous program would run again.
        # ctl_remove_cache would do as well, but the translations' memory grows with each program then.
        self._machine.ctl_flush_tb()
        self._faults.image = image

    def write(self, address: int, data: bytes) -> None:
        """See ``Engine.write``."""
        machine = self._machine
        region = self.memory.region_of(address, len(data))
        machine.mem_write(address, data)
        if region is self.memory.flash:
            machine.ctl_flush_tb()

    def read(self, address: int, size_bytes: int) -> bytes:
        """See ``Engine.read``."""
        machine = self._machine
        self.memory.region_of(address, size_bytes)
        return bytes(machine.mem_read(address, size_bytes))

    def run(
        self, entry: int, registers: Sequence[int], stack_pointer: int, budget: int, watch: Watch | None = None
    ) -> Run:
        """See ``Engine.run``."""
        machine, arm = self._machine, self._arm
        if watch != self._watch:
            self._counter.watch(machine, watch)
            # Runs nothing, but lets go of hooks that were removed: code translated before that would still be slow.
            machine.emu_start(self.memory.exit_address | 1, self.memory.exit_address)
            machine.ctl_flush_tb()
            self._watch = watch
        # A fault may have left the processor in the middle of an IT block or with odd rounding: begin afresh.
        machine.context_restore(self._fresh)
        for register, value in zip(_argument_registers(arm), registers, strict=False):
            machine.reg_write(register, value)
        machine.reg_write(arm.UC_ARM_REG_SP, stack_pointer)
        machine.reg_write(arm.UC_ARM_REG_LR, self.memory.exit_address | 1)
        self._access = self._exception = None
        self._counter.start(budget)
        error = None
        try:
            machine.emu_start(entry | 1, self.memory.exit_address)
        except self._uc.UcError as raised:
            error = raised
        pc = int(machine.reg_read(arm.UC_ARM_REG_PC))
        self._raise_fault(entry, pc, budget, error)
        profile = self._counter.profile()
        self._check_instructions(profile)
        return Run(int(machine.reg_read(arm.UC_ARM_REG_R0)), profile, self._counter.events() if watch else None)

    def close(self) -> None:
        """See ``Engine.close``."""
        if self._open_machine is not None:
            self._open_machine = self._fresh = None  # Unicorn frees the machine with the objects

    @property
    def _machine(self) -> Any:
        if self._open_machine is None:
            raise DeviceError(f"the simulator of {self.core} is closed; make a new one")
        return self._open_machine

    def _on_invalid_access(self, _machine: Any, kind: int, address: int, size: int, _value: int, _user: object) -> bool:
        self._access = (kind, address, size)
        return False  # do not retry

    def _on_exception(self, machine: Any, number: int, _user: object) -> None:
        self._exception = number
        machine.emu_stop()

    def _raise_fault(self, entry: int, pc: int, budget: int, error: Exception | None) -> None:
        if self._counter.state == BUDGET_SPENT:
            raise self._faults.budget(entry, pc, budget)
        if self._counter.state == MISALIGNED:
            raise self._faults.misaligned_words(pc, self._counter.misaligned_address)
        if self._access is not None:
            raise self._access_fault(pc, *self._access)
        if self._exception is not None:
            if self._exception == _PREFETCH_ABORT:
                raise self._jump_fault(pc)
            raise self._faults.fault(pc, _EXCEPTIONS.get(self._exception, f"it raises exception {self._exception}"))
        if error is not None:
            code = code_text(self.read(pc, 4)) if self.memory.flash.contains(pc, 4) else ""
            raise self._faults.fault(pc, f"{error}; the code there is {code}" if code else str(error))
        if pc != self.memory.exit_address:
            raise self._faults.fault(pc, faults.WAITING)

    def _access_fault(self, pc: int, kind: int, address: int, size: int) -> FaultError:
        constants = self._constants
        if kind in (constants.UC_MEM_FETCH_UNMAPPED, constants.UC_MEM_FETCH_PROT):
            return self._jump_fault(pc)
        verb = "reads" if kind in (constants.UC_MEM_READ_UNMAPPED, constants.UC_MEM_READ_PROT) else "writes"
        return self._faults.access(pc, verb, address, size, read_only=kind == constants.UC_MEM_WRITE_PROT)

    def _jump_fault(self, pc: int) -> FaultError:
        return self._faults.jump(pc, int(self._machine.reg_read(self._arm.UC_ARM_REG_LR)))

    def _check_instructions(self, profile: EdgeProfile) -> None:
        if self.core != "cortex-m3":
            return
        for start, size in zip(profile.block_start.tolist(), profile.block_size_bytes.tolist(), strict=True):
            offset = find_dsp_instruction(self.read(start, size))
            if offset is not None:
                reason = "it executes a DSP instruction, which this core does not have"
                raise self._faults.fault(start + offset, reason)


def _argument_registers(arm: ModuleType) -> tuple[int, ...]:
    return arm.UC_ARM_REG_R0, arm.UC_ARM_REG_R1, arm.UC_ARM_REG_R2, arm.UC_ARM_REG_R3


def _import_unicorn() -> tuple[ModuleType, ModuleType, ModuleType]:
    try:
        import unicorn
        from unicorn import arm_const, unicorn_const
    except ImportError as error:
        raise DeviceError(
            f"the simulator needs Unicorn, which is not installed ({error}): pip install tvm_tinyml[sim]"
        ) from error
    return unicorn, arm_const, unicorn_const
