"""Measure kernels one after another on one simulated core: what a tuner does thousands of times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.device.simulator import Simulator
from tvm_tinyml.device.timing import Cycles, MemoryTiming, load_memory
from tvm_tinyml.errors import DeviceError


class Role(Enum):
    """What a kernel does with an operand."""

    INPUT = "input"
    """Read; lies in RAM."""
    CONSTANT = "constant"
    """Read; lies in flash, so that reading it may have to wait."""
    OUTPUT = "output"
    """Written; the array is what is expected there."""
    SCRATCH = "scratch"
    """Memory for the call alone; only the array's size counts."""


@dataclass(frozen=True)
class Operand:
    """An array behind one pointer of a kernel, aligned to 16 bytes."""

    role: Role
    data: NDArray[Any]


@dataclass(frozen=True)
class KernelCall:
    """What to call and with what: the operands in the order of the function's parameters."""

    symbol: str
    operands: Sequence[Operand]
    budget_instructions: int = 200_000_000
    """A candidate that needs more has run away."""


@dataclass(frozen=True)
class Measurement:
    """What a kernel costs that gives the expected outputs. The same on every host and in every run."""

    cycles: Cycles
    instructions: int
    stack_bytes: int


class MismatchError(DeviceError):
    """A kernel ran to its end and wrote other bytes than expected.

    ``differing`` of ``compared`` bytes of its outputs.
    """

    def __init__(self, message: str, differing: int, compared: int) -> None:
        super().__init__(message)
        self.differing = differing
        self.compared = compared


class KernelBench:
    """One simulated core with its memory that measures any number of kernels.

    Parameters
    ----------
    simulator : is closed with the bench.
    memory : what code and constants lie in: a name, or what ``load_memory`` returns.

    For example, for objects of two candidates that define the same function::

        call = KernelCall("add", [Operand(Role.INPUT, x), Operand(Role.OUTPUT, x + x)])
        with KernelBench(Simulator("cortex-m4"), "l4r5zi-120") as bench:
            best = min(candidates, key=lambda candidate: bench.measure([candidate], call).cycles.total)
    """

    def __init__(self, simulator: Simulator, memory: str | MemoryTiming = "zero-wait") -> None:
        self._simulator = simulator
        self._memory = load_memory(memory) if isinstance(memory, str) else memory

    def measure(self, objects: Sequence[bytes], call: KernelCall) -> Measurement:
        """Load a candidate, call it once, and compare what it wrote.

        Parameters
        ----------
        objects : relocatable objects, as files' contents.

        Raises
        ------
        MismatchError : an output differs from what is expected.
        FaultError, BudgetError : the candidate faults or does not come to an end.
        DeviceError : it cannot be loaded, or writes beside its buffers. In every case the next one can follow.
        """
        simulator = self._simulator
        simulator.load(objects)
        addresses = [self._place(operand) for operand in call.operands]
        result = simulator.call(call.symbol, *addresses, budget=call.budget_instructions, memory=self._memory)
        simulator.check_guards()
        self._compare(call, addresses)
        assert result.cycles is not None, "a call that is given a memory counts cycles"
        return Measurement(result.cycles, result.instructions, result.stack_bytes)

    def close(self) -> None:
        """Give the simulator's memory back."""
        self._simulator.close()

    def __enter__(self) -> KernelBench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _place(self, operand: Operand) -> int:
        if operand.role is Role.CONSTANT:
            return self._simulator.place_constant(operand.data.tobytes())
        address = self._simulator.allocate(operand.data.nbytes)
        if operand.role is Role.INPUT:
            self._simulator.write(address, operand.data.tobytes())
        return address

    def _compare(self, call: KernelCall, addresses: Sequence[int]) -> None:
        written, expected = bytearray(), bytearray()
        for operand, address in zip(call.operands, addresses, strict=True):
            if operand.role is Role.OUTPUT:
                written += self._simulator.read(address, operand.data.nbytes)
                expected += operand.data.tobytes()
        differing = np.flatnonzero(np.frombuffer(written, np.uint8) != np.frombuffer(expected, np.uint8))
        if len(differing):
            first = int(differing[0])
            raise MismatchError(
                f"kernel '{call.symbol}' writes {len(differing)} of {len(expected)} bytes other than expected; the "
                f"first is byte {first}: {written[first]:#04x} instead of {expected[first]:#04x}",
                len(differing),
                len(expected),
            )
