"""Cycles of a few instructions, for numbers that are checked by hand."""

from __future__ import annotations

from device.thumb import function

from tvm_tinyml.device import Simulator, assemble
from tvm_tinyml.device.timing import Cycles, MemoryTiming

RETURN = {"cortex-m0plus": 2, "cortex-m3": 3, "cortex-m4": 3}
"""BX LR to the caller, which every measured function ends with: 2, and 1+P with P = 2."""


def run(
    core: str, body: str, *arguments: int, memory: str | MemoryTiming = "zero-wait", data: bytes = bytes(256)
) -> Cycles:
    """Cycles of a function; an argument below 256 is an offset into ``data``, which lies in RAM."""
    with Simulator(core) as simulator:
        simulator.load([assemble(function("f", body), core)])
        address = simulator.allocate(len(data))
        simulator.write(address, data)
        result = simulator.call("f", *(a + address if a < 256 else a - 256 for a in arguments), memory=memory)
        assert result.cycles is not None
        return result.cycles


def number(value: int) -> int:
    """An argument that is a number, not an offset into the data."""
    return value + 256


def cycles(core: str, body: str, *arguments: int) -> int:
    """Cycles of instructions without memory's own, less those of the return behind them."""
    return run(core, body + ";bx lr", *arguments).total - RETURN[core]
