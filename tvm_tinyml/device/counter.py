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
from tvm_tinyml.device.watch import Event, RecentLines, Watch
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

    def watch(self, machine: Machine, watch: Watch | None) -> None:
        """Count also what ``watch`` asks for, once what was translated before is flushed; None: no more."""

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

    def events(self) -> NDArray[np.uint64]:
        """How often each ``Event`` came in each block of the profile, [blocks, events]; only while watching."""

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
            "watch": (ctypes.c_int, [pointer, ctypes.c_int, *[u32] * 6]),
            "unwatch": (None, [pointer]),
            "events": (None, [pointer] * 2),
        }
        for name, (result, arguments) in signatures.items():
            if not hasattr(library, f"tinyml_counter_{name}"):
                raise ImportError("it was built from another version's source")
            function = getattr(library, f"tinyml_counter_{name}")
            function.restype, function.argtypes = result, arguments
        self._handle: int | None = None
        self._watching: list[ctypes.c_size_t] = []

    def attach(self, machine: Machine, *, check_alignment: bool) -> None:
        """See ``Counter.attach``."""
        # Unicorn's own bindings can only hook Python functions. uclib and _uch are private: their version is pinned.
        from unicorn.arm_const import UC_ARM_REG_PC
        from unicorn.unicorn_const import UC_HOOK_BLOCK, UC_HOOK_MEM_READ, UC_HOOK_MEM_WRITE
        from unicorn.unicorn_py3.unicorn import uclib

        handle = self._library.tinyml_counter_new(
            _address(uclib.uc_mem_read), _address(uclib.uc_reg_read), _address(uclib.uc_emu_stop), UC_ARM_REG_PC
        )
        if not handle:
            raise DeviceError("no memory for the instruction counter")
        self._handle = handle
        self._hook(machine, UC_HOOK_BLOCK, self._library.tinyml_counter_on_block)
        if check_alignment:
            self._hook(machine, UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE, self._library.tinyml_counter_on_access)
        # A block that was translated before its hook was added would never call it.
        machine.ctl_flush_tb()
        self.start(0)

    def watch(self, machine: Machine, watch: Watch | None) -> None:
        """See ``Counter.watch``."""
        from unicorn.unicorn_const import UC_HOOK_BLOCK, UC_HOOK_MEM_READ, UC_HOOK_MEM_WRITE
        from unicorn.unicorn_py3.unicorn import uclib

        while self._watching:
            uclib.uc_hook_del(machine._uch, self._watching.pop())
        if watch is None:
            self._library.tinyml_counter_unwatch(self._handle)
        else:
            region = watch.region
            shapes = [number for b in (watch.data, watch.code) for number in ((b.line_shift, b.lines) if b else (0, 0))]
            numbers = (watch.alignment, region.origin, region.size_bytes, *shapes)
            if not self._library.tinyml_counter_watch(self._handle, *numbers):
                raise DeviceError("no memory to watch the run")
            if watch.alignment:
                kinds = UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE
                self._watching.append(self._hook(machine, kinds, self._library.tinyml_counter_watch_access))
            elif watch.data:
                callback, within = self._library.tinyml_counter_watch_access, (region.origin, region.end - 1)
                self._watching.append(self._hook(machine, UC_HOOK_MEM_READ, callback, *within))
            if watch.code:
                self._watching.append(self._hook(machine, UC_HOOK_BLOCK, self._library.tinyml_counter_watch_block))

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

    def events(self) -> NDArray[np.uint64]:
        """See ``Counter.events``."""
        events = np.empty((self._library.tinyml_counter_block_count(self._handle), len(Event)), np.uint64)
        self._library.tinyml_counter_events(self._handle, events.ctypes.data)
        return events

    def close(self) -> None:
        """See ``Counter.close``."""
        self._library.tinyml_counter_free(self._handle)
        self._handle = None

    def _hook(self, machine: Machine, kind: int, callback: Any, first: int = 1, last: int = 0) -> ctypes.c_size_t:
        """Call back for a range of addresses, or for all (Unicorn's way to say it: the last before the first)."""
        from unicorn.unicorn_py3.unicorn import uclib

        hook, function = ctypes.c_size_t(), _address(callback)
        status = uclib.uc_hook_add(machine._uch, ctypes.byref(hook), kind, function, self._handle, first, last)
        if status != 0:
            raise DeviceError(f"Unicorn refuses the instruction counter (status {status})")
        return hook


def _address(function: Any) -> int | None:
    return ctypes.cast(function, ctypes.c_void_p).value


class PythonCounter:
    """The same numbers without native code."""

    def __init__(self) -> None:
        self._watch: Watch | None = None
        self._watching: list[int] = []
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
        self._events: dict[tuple[int, Event], int] = {}
        data, code = (self._watch.data, self._watch.code) if self._watch else (None, None)
        self._data, self._code = data and RecentLines(data), code and RecentLines(code)

    def attach(self, machine: Machine, *, check_alignment: bool) -> None:
        """See ``Counter.attach``."""
        from unicorn.unicorn_const import UC_HOOK_BLOCK, UC_HOOK_MEM_READ, UC_HOOK_MEM_WRITE

        machine.hook_add(UC_HOOK_BLOCK, self._on_block)
        if check_alignment:
            machine.hook_add(UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE, self._on_access)
        machine.ctl_flush_tb()

    def watch(self, machine: Machine, watch: Watch | None) -> None:
        """See ``Counter.watch``."""
        from unicorn.unicorn_const import UC_HOOK_BLOCK, UC_HOOK_MEM_READ, UC_HOOK_MEM_WRITE

        while self._watching:
            machine.hook_del(self._watching.pop())
        self._watch = watch
        if watch is not None:
            self._watching.append(machine.hook_add(UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE, self._watch_access))
            if watch.code:
                self._watching.append(machine.hook_add(UC_HOOK_BLOCK, self._watch_block))

    def events(self) -> NDArray[np.uint64]:
        """See ``Counter.events``."""
        events = np.zeros((len(self._instructions), len(Event)), np.uint64)
        for (block, event), count in self._events.items():
            events[block, event] = count
        return events

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

    def _watch_access(self, _machine: Machine, _kind: int, address: int, size: int, _value: int, _user: object) -> None:
        if self._watch is None:
            return
        if self._watch.alignment and size == 2 and address & 1:
            self._count(Event.HALFWORD_AT_ODD)
        if self._watch.alignment and size >= 4 and address & 3:
            self._count(Event.WORD_AT_ODD if address & 1 else Event.WORD_AT_EVEN)
        if self._data and self._watch.region.contains(address):
            for line in self._data.lines(address, size):
                if not self._data.touch(line)[0]:
                    self._count(Event.DATA_MISS)

    def _watch_block(self, _machine: Machine, address: int, size: int, _user: object) -> None:
        if self._code and self._watch and self._watch.region.contains(address):
            for line in self._code.lines(address, size):
                found, follows = self._code.touch(line)
                if not found:
                    self._count(Event.NEXT_CODE_MISS if follows else Event.CODE_MISS)

    def _count(self, event: Event) -> None:
        self._events[self._current, event] = self._events.get((self._current, event), 0) + 1


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
