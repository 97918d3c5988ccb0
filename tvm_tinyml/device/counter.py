"""Count block edges of a Unicorn machine."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.device.engine import OUTSIDE, EdgeProfile, instruction_offsets
from tvm_tinyml.device.watch import Event, RecentLines, Watch

Machine = Any
"""A ``unicorn.Uc``; its bindings are typed in part only, and need not be installed."""

RUNNING, BUDGET_SPENT, MISALIGNED = range(3)
"""States of a counter; all but the first stop the machine."""


class Counter:
    """Counts the blocks that a machine executes and stops it when the budget is spent."""

    def __init__(self) -> None:
        self._watch: Watch | None = None
        self._watching: list[int] = []
        self.start(0)

    def start(self, budget: int) -> None:
        """Forget all counts; the next run may execute ``budget`` instructions."""
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
        """Hook into a machine, once.

        check_alignment : also stop at misaligned accesses that a Cortex-M refuses and Unicorn performs.
        """
        from unicorn.unicorn_const import UC_HOOK_BLOCK, UC_HOOK_MEM_READ, UC_HOOK_MEM_WRITE

        machine.hook_add(UC_HOOK_BLOCK, self._on_block)
        if check_alignment:
            machine.hook_add(UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE, self._on_access)
        machine.ctl_flush_tb()

    def watch(self, machine: Machine, watch: Watch | None) -> None:
        """Count also what ``watch`` asks for, once what was translated before is flushed; None: no more."""
        from unicorn.unicorn_const import UC_HOOK_BLOCK, UC_HOOK_MEM_READ, UC_HOOK_MEM_WRITE

        while self._watching:
            machine.hook_del(self._watching.pop())
        self._watch = watch
        if watch is not None:
            self._watching.append(machine.hook_add(UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE, self._watch_access))
            if watch.code:
                self._watching.append(machine.hook_add(UC_HOOK_BLOCK, self._watch_block))

    def events(self) -> NDArray[np.uint64]:
        """How often each ``Event`` came in each block of the profile, [blocks, events]; only while watching."""
        events = np.zeros((len(self._instructions), len(Event)), np.uint64)
        for (block, event), count in self._events.items():
            events[block, event] = count
        return events

    def profile(self) -> EdgeProfile:
        """What was counted since ``start``."""
        start, size = np.array(list(self._indices), np.uint32).reshape(-1, 2).T
        source, target = np.array(list(self._edges), np.int32).reshape(-1, 2).T
        count = np.array(list(self._edges.values()), np.uint64)
        order = np.lexsort((target, source))
        instructions = np.array(self._instructions, np.uint32)
        return EdgeProfile(start, size, instructions, source[order], target[order], count[order])

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
