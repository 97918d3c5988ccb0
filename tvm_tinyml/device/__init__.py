"""Devices that run compiled code: for now a Cortex-M simulator, and the object files it loads."""

from tvm_tinyml.device.archive import read_archive, write_archive
from tvm_tinyml.device.assembler import assemble
from tvm_tinyml.device.elf import ElfObject, ObjectSize
from tvm_tinyml.device.engine import BudgetError, EdgeProfile, Engine, FaultError
from tvm_tinyml.device.measure import KernelBench, KernelCall, Measurement, MismatchError, Operand, Role
from tvm_tinyml.device.simulator import CallResult, Simulator
from tvm_tinyml.device.strip import strip

__all__ = [
    "BudgetError",
    "CallResult",
    "EdgeProfile",
    "ElfObject",
    "Engine",
    "FaultError",
    "KernelBench",
    "KernelCall",
    "Measurement",
    "MismatchError",
    "ObjectSize",
    "Operand",
    "Role",
    "Simulator",
    "assemble",
    "read_archive",
    "strip",
    "write_archive",
]
