"""Count block edges of a Unicorn machine: natively, or in Python where the extension module is missing."""

from __future__ import annotations

import ctypes
import importlib
import warnings
from functools import cache
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.device.engine import OUTSIDE, EdgeProfile, instruction_offsets
from tvm_tinyml.errors import DeviceError

Machine = Any
"""A ``unicorn.Uc``; its bindings are typed in part only, and need not be installed."""

RUNNING, BUDGET_SPENT, OUT_OF_MEMORY, UNREADABLE, MISALIGNED = range(5)
"""States of a counter; all but the first stop the machine."""


class Counter(Protocol):
    """Counts the blocks that a machine executes and stops it when the budget is spent."""

    def attach(self, machine: Machine, *, check_alignment: bool) -> None:
        """Hook into a machine, once.

        check_alignment : also stop at misaligned accesses that a Cortex-M refuses and Unicorn performs.
        """

    def start(self, budget: int) -> None:
        """Forget all counts; the next run may execute ``budget`` instructions."""

    @property
    def state(self) -> int:
        """RUNNING unless the counter has stopped the machine."""

    @property
    def misaligned_address(self) -> int:
        """The address at which the counter stopped in state MISALIGNED."""

    def profile(self) -> EdgeProfile:
        """What was counted since ``start``."""

    def close(self) -> None:
        """Give the memory back, after the machine is gone."""


def make_counter() -> Counter:
    """The native counter, or with a RuntimeWarning the one in Python, which is 50 times slower."""
    try:
        return NativeCounter(importlib.import_module("tvm_tinyml.device._counter"))
    except (ImportError, OSError) as error:
        _warn_slow(str(error))
        return PythonCounter()


@cache  # once per process and reason
def _warn_slow(reason: str) -> None:
    warnings.warn(
        f"simulation is about 50 times slower than it could be, since the native counter is missing ({reason}); "
        "reinstall tvm_tinyml from a wheel or with a C compiler",
        RuntimeWarning,
        stacklevel=2,
    )


class NativeCounter:
    """Calls ``_counter.c`` through ctypes; Unicorn calls it back without passing through Python."""

    def __init__(self, module: ModuleType) -> None:
        if module.__file__ is None:
            raise ImportError("the native counter has no file")
        self._library = library = ctypes.CDLL(module.__file__)
        pointer, u32, u64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64
        signatures: dict[str, tuple[Any, list[Any]]] = {
            "new": (pointer, [pointer, pointer, pointer, ctypes.c_int]),
            "free": (None, [pointer]),
            "start": (None, [pointer, u64]),
            "state": (ctypes.c_int, [pointer]),
            "misaligned_address": (u32, [pointer]),
            "block_count": (u32, [pointer]),
            "edge_count": (u32, [pointer]),
            "blocks": (None, [pointer] * 4),
            "edges": (None, [pointer] * 4),
        }
        for name, (result, arguments) in signatures.items():
            function = getattr(library, f"tinyml_counter_{name}")
            function.restype, function.argtypes = result, arguments
        self._handle: int | None = None

    def attach(self, machine: Machine, *, check_alignment: bool) -> None:
        """See ``Counter.attach``."""
        # Unicorn's own bindings can only hook Python functions. These two names are private: their version is pinned.
        from unicorn.arm_const import UC_ARM_REG_PC
        from unicorn.unicorn_const import UC_HOOK_BLOCK, UC_HOOK_MEM_READ, UC_HOOK_MEM_WRITE
        from unicorn.unicorn_py3.unicorn import uclib

        def address_of(function: Any) -> int | None:
            return ctypes.cast(function, ctypes.c_void_p).value

        handle = self._library.tinyml_counter_new(
            address_of(uclib.uc_mem_read), address_of(uclib.uc_reg_read), address_of(uclib.uc_emu_stop), UC_ARM_REG_PC
        )
        if not handle:
            raise DeviceError("no memory for the instruction counter")
        self._handle = handle
        hooks = [(UC_HOOK_BLOCK, self._library.tinyml_counter_on_block)]
        if check_alignment:
            hooks.append((UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE, self._library.tinyml_counter_on_access))
        for kind, callback in hooks:
            hook = ctypes.c_size_t()
            status = uclib.uc_hook_add(machine._uch, ctypes.byref(hook), kind, address_of(callback), handle, 1, 0)
            if status != 0:
                raise DeviceError(f"Unicorn refuses the instruction counter (status {status})")
        # A block that was translated before its hook was added would never call it.
        machine.ctl_flush_tb()
        self.start(0)

    def start(self, budget: int) -> None:
        """See ``Counter.start``."""
        self._library.tinyml_counter_start(self._handle, budget)

    @property
    def state(self) -> int:
        """See ``Counter.state``."""
        return int(self._library.tinyml_counter_state(self._handle))

    @property
    def misaligned_address(self) -> int:
        """See ``Counter.misaligned_address``."""
        return int(self._library.tinyml_counter_misaligned_address(self._handle))

    def profile(self) -> EdgeProfile:
        """See ``Counter.profile``."""
        blocks = self._library.tinyml_counter_block_count(self._handle)
        edges = self._library.tinyml_counter_edge_count(self._handle)
        start, size, instructions = (np.empty(blocks, np.uint32) for _ in range(3))
        source, target = (np.empty(edges, np.int32) for _ in range(2))
        count = np.empty(edges, np.uint64)
        self._library.tinyml_counter_blocks(self._handle, start.ctypes.data, size.ctypes.data, instructions.ctypes.data)
        self._library.tinyml_counter_edges(self._handle, source.ctypes.data, target.ctypes.data, count.ctypes.data)
        return _profile(start, size, instructions, source, target, count)

    def close(self) -> None:
        """See ``Counter.close``."""
        self._library.tinyml_counter_free(self._handle)
        self._handle = None


class PythonCounter:
    """The same numbers without native code."""

    def __init__(self) -> None:
        self.start(0)

    def start(self, budget: int) -> None:
        """See ``Counter.start``."""
        self.state = RUNNING
        self.misaligned_address = 0
        self._left = budget
        self._current = OUTSIDE
        self._indices: dict[tuple[int, int], int] = {}
        self._instructions: list[int] = []
        self._edges: dict[tuple[int, int], int] = {}

    def attach(self, machine: Machine, *, check_alignment: bool) -> None:
        """See ``Counter.attach``."""
        from unicorn.unicorn_const import UC_HOOK_BLOCK, UC_HOOK_MEM_READ, UC_HOOK_MEM_WRITE

        machine.hook_add(UC_HOOK_BLOCK, self._on_block)
        if check_alignment:
            machine.hook_add(UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE, self._on_access)
        machine.ctl_flush_tb()

    def profile(self) -> EdgeProfile:
        """See ``Counter.profile``."""
        start, size = np.array(list(self._indices), np.uint32).reshape(-1, 2).T
        source, target = np.array(list(self._edges), np.int32).reshape(-1, 2).T
        count = np.array(list(self._edges.values()), np.uint64)
        return _profile(start, size, np.array(self._instructions, np.uint32), source, target, count)

    def close(self) -> None:
        """See ``Counter.close``."""

    def _on_block(self, machine: Machine, address: int, size: int, _user: object) -> None:
        index = self._indices.get((address, size))
        if index is None:
            index = self._indices[address, size] = len(self._instructions)
            self._instructions.append(len(instruction_offsets(bytes(machine.mem_read(address, size)))))
        if self.state != RUNNING or self._instructions[index] > self._left:
            self.state = self.state or BUDGET_SPENT
            machine.emu_stop()
            return
        self._left -= self._instructions[index]
        edge = (self._current, index)
        self._edges[edge] = self._edges.get(edge, 0) + 1
        self._current = index

    def _on_access(self, machine: Machine, _kind: int, address: int, size: int, _value: int, _user: object) -> None:
        from unicorn.arm_const import UC_ARM_REG_PC

        if address & 3 == 0 or size < 4 or self.state != RUNNING:
            return
        halfword = int.from_bytes(machine.mem_read(machine.reg_read(UC_ARM_REG_PC), 2), "little")
        if not may_be_misaligned(halfword):
            self.state, self.misaligned_address = MISALIGNED, address
            machine.emu_stop()


def may_be_misaligned(halfword: int) -> bool:
    """Whether a load or store, known by its first halfword, may access a misaligned word: only single ones may."""
    if halfword >> 11 >= 0b11101:
        return halfword >> 9 == 0b1111100
    return 5 <= halfword >> 12 <= 9


def _profile(
    start: NDArray[np.uint32],
    size: NDArray[np.uint32],
    instructions: NDArray[np.uint32],
    source: NDArray[np.int32],
    target: NDArray[np.int32],
    count: NDArray[np.uint64],
) -> EdgeProfile:
    order = np.lexsort((target, source))
    return EdgeProfile(start, size, instructions, source[order], target[order], count[order])
