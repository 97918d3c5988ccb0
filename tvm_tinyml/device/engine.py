"""What an engine that runs Cortex-M code offers, whichever emulator it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.device.loader import Image
from tvm_tinyml.device.memory import MemoryMap
from tvm_tinyml.device.watch import Watch
from tvm_tinyml.errors import DeviceError

OUTSIDE = -1
"""The source of the first edge of a run: the call came from outside of the program."""


class FaultError(DeviceError):
    """The program did what the processor refuses.

    ``pc`` is the address of the instruction, ``address`` the one it accessed, or None if it is not about memory.
    """

    def __init__(self, message: str, pc: int, address: int | None = None) -> None:
        super().__init__(message)
        self.pc = pc
        self.address = address


class BudgetError(DeviceError):
    """The program did not return within its budget of instructions."""

    def __init__(self, message: str, pc: int, budget: int) -> None:
        super().__init__(message)
        self.pc = pc
        self.budget = budget


@dataclass(frozen=True)
class EdgeProfile:
    """How often each block ran, and after which other block.

    A block is a stretch of code that the emulator translates as one piece: it is entered at its start only. Blocks
    may overlap (a loop's entry and its body) and a long one is split where no branch is, so blocks are told apart by
    start and size and never merged. Blocks are listed in the order in which they first ran, edges by source and
    target. Conditional instructions in IT blocks count as executed whether or not their condition held.
    """

    block_start: NDArray[np.uint32]
    block_size_bytes: NDArray[np.uint32]
    block_instructions: NDArray[np.uint32]
    edge_source: NDArray[np.int32]
    """Index of a block, or OUTSIDE."""
    edge_target: NDArray[np.int32]
    """Index of a block."""
    edge_count: NDArray[np.uint64]

    @property
    def block_executions(self) -> NDArray[np.uint64]:
        """How often each block was entered."""
        executions = np.zeros(len(self.block_start), np.uint64)
        np.add.at(executions, self.edge_target, self.edge_count)
        return executions

    @property
    def instructions(self) -> int:
        """Instructions executed in total."""
        return int((self.block_executions * self.block_instructions).sum())


@dataclass(frozen=True)
class Run:
    """A call that returned: register r0 as an unsigned number, and the profile.

    ``events`` says how often each ``Event`` came in each block, [blocks, events]; None if the run was not watched.
    """

    r0: int
    profile: EdgeProfile
    events: NDArray[np.uint64] | None = None


class Engine(Protocol):
    """A processor with memory. One instance runs any number of programs, one after the other."""

    core: str
    memory: MemoryMap

    def load(self, image: Image) -> None:
        """Put a program in place of the one before, and set its variables to their initial values."""

    def write(self, address: int, data: bytes) -> None:
        """Write into any region; DeviceError if a byte lies outside."""

    def read(self, address: int, size_bytes: int) -> bytes:
        """Read from any region; DeviceError if a byte lies outside."""

    def run(
        self, entry: int, registers: Sequence[int], stack_pointer: int, budget: int, watch: Watch | None = None
    ) -> Run:
        """Call the function at ``entry`` with r0 to r3 and the stack pointer given, in a fresh processor state.

        A run that is watched takes longer; its buffers are empty at first. FaultError if the program faults,
        BudgetError if it would execute more than ``budget`` instructions. Either way the next run can follow.
        """

    def close(self) -> None:
        """Give the memory back; the engine cannot be used afterwards."""


def instruction_offsets(code: bytes) -> list[int]:
    """Where the instructions of a stretch of Thumb code begin, in bytes from its start.

    A halfword whose top five bits are 11101, 11110 or 11111 begins a 32-bit instruction.
    """
    offsets = []
    offset = 0
    while offset + 2 <= len(code):
        offsets.append(offset)
        offset += 4 if code[offset + 1] >> 3 >= 0b11101 else 2
    return offsets
