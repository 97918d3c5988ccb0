"""From the edges that a run took to its cycles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.device.engine import OUTSIDE, EdgeProfile
from tvm_tinyml.device.timing.decode import Instruction
from tvm_tinyml.device.timing.memory import MemoryTiming
from tvm_tinyml.device.timing.tables import CoreTiming
from tvm_tinyml.device.watch import Event

MODEL_VERSION = "1"
"""Changes whenever the same program may get other cycles."""


@dataclass(frozen=True)
class Cycles:
    """Cycles of a run by our model: an estimate, never a measurement. Say it with core, memory and model.

    by_function : as ``CallResult.instructions_by_symbol``; adds up to ``total``.
    by_class : class of instructions -> cycles; with ``stalls`` it adds up to ``total``.
    instructions : class of instructions -> how many were executed.
    stalls : what comes on top of the instructions: ``unaligned`` accesses, flash read for ``code`` and ``constants``,
        mispredicted ``branches``.
    """

    total: int
    core: str
    memory: str
    model: str
    by_function: Mapping[str, int] = field(repr=False)
    by_class: Mapping[str, int] = field(repr=False)
    instructions: Mapping[str, int] = field(repr=False)
    stalls: Mapping[str, int]

    @property
    def flash_stall_cycles(self) -> int:
        """Cycles in which the core waits for code or constants from flash."""
        return self.stalls.get("code", 0) + self.stalls.get("constants", 0)


def count_cycles(
    profile: EdgeProfile,
    events: NDArray[np.uint64],
    core: CoreTiming,
    memory: MemoryTiming,
    read: Callable[[int, int], bytes],
    function_at: Callable[[int], tuple[str, int]],
) -> Cycles:
    """Count the cycles of a run.

    An edge from one block to the next costs what the next adds to the time of the first, T(first; next) - T(first),
    so that a jump, a pair of instructions across it and a loop in full swing are seen. The end of the run counts as
    a jump.

    Parameters
    ----------
    profile, events : of the run.
    read : reads code: address, size in bytes.
    function_at : names the function that an address lies in, and where it ends.

    Raises
    ------
    DeviceError : an instruction is unknown, or the core's table lacks it.
    """
    count = _Count(profile, core, read, function_at)
    count.add_edges()
    count.add_instructions()
    count.add_events(events, memory)
    count.add_mispredictions()
    return Cycles(
        total=sum(count.functions.values()),
        core=core.pipeline.core,
        memory=memory.name,
        model=MODEL_VERSION,
        by_function=_sorted(count.functions),
        by_class=_sorted(count.classes),
        instructions=_sorted(count.instructions),
        stalls=_sorted(count.stalls),
    )


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in sorted(counts.items()) if count}


class _Count:
    def __init__(
        self,
        profile: EdgeProfile,
        core: CoreTiming,
        read: Callable[[int, int], bytes],
        function_at: Callable[[int], tuple[str, int]],
    ) -> None:
        self.core = core
        self.starts: list[int] = profile.block_start.tolist()
        sizes: list[int] = profile.block_size_bytes.tolist()
        self.ends: list[int] = [start + size for start, size in zip(self.starts, sizes, strict=True)]
        self.code = [core.decode(read(start, size), start) for start, size in zip(self.starts, sizes, strict=True)]
        self.owners = [_owners(*block, function_at) for block in zip(self.code, self.starts, self.ends, strict=True)]
        self.edges: list[tuple[int, int, int]] = list(
            zip(profile.edge_source.tolist(), profile.edge_target.tolist(), profile.edge_count.tolist(), strict=True)
        )
        self.executions: list[int] = profile.block_executions.tolist()
        self.cycles = [np.zeros(len(code), np.int64) for code in self.code]
        """Of each instruction of each block, all its executions together."""
        self.functions: Counter[str] = Counter()
        self.classes: Counter[str] = Counter()
        self.instructions: Counter[str] = Counter()
        self.stalls: Counter[str] = Counter()

    def add_edges(self) -> None:
        """Charge each block alone, and on each edge what its two blocks change of each other."""
        alone = [self._time(code) for code in self.code]
        tails, heads = (self._parts(part, alone) for part in (slice(-self._context, None), slice(self._context)))
        left = list(self.executions)
        for source, target, count in self.edges:
            self.cycles[target] += alone[target] * count
            if source == OUTSIDE:
                continue
            left[source] -= count
            (first, first_alone), (second, second_alone) = tails[source], heads[target]
            jump = len(first) - 1 if self._jumps(source, target) else None
            wide_target = second[0].size_bytes == 4 and self.starts[target] % 4 != 0
            both = self._time(first + second, jump, wide_target=wide_target)
            before, after = np.split((both - np.concatenate([first_alone, second_alone])) * count, [len(first)])
            self.cycles[source][-len(first) :] += before
            self.cycles[target][: len(second)] += after
        for last, count in enumerate(left):
            if count:
                code, code_alone = tails[last]
                self.cycles[last][-len(code) :] += (self._time(code, len(code) - 1) - code_alone) * count

    def add_instructions(self) -> None:
        """Sum up the cycles of all instructions by function and by class."""
        for code, owners, cycles, count in zip(self.code, self.owners, self.cycles, self.executions, strict=True):
            for instruction, owner, each in zip(code, owners, cycles.tolist(), strict=True):
                self.functions[owner] += each
                self.classes[instruction.kind] += each
                self.instructions[instruction.kind] += count

    def add_events(self, events: NDArray[np.uint64], memory: MemoryTiming) -> None:
        """Charge what memory adds."""
        charges = {Event[name.upper()]: ("unaligned", cycles) for name, cycles in self.core.unaligned.items()}
        if memory.data:
            charges[Event.DATA_MISS] = ("constants", memory.data.miss_cycles)
        if memory.code:
            charges[Event.CODE_MISS] = ("code", memory.code.miss_cycles)
            charges[Event.NEXT_CODE_MISS] = ("code", memory.code.next_miss_cycles)
        for event, (reason, cycles) in charges.items():
            for block in np.flatnonzero(events[:, event]).tolist():
                self._stall(block, reason, cycles * int(events[block, event]))

    def add_mispredictions(self) -> None:
        """Charge each branch for the way it goes less often, as if the other one were always predicted."""
        if not self.core.mispredicted:
            return
        ways: dict[int, tuple[int, list[int]]] = {}  # end of a branch -> a block that ends there, [straight on, taken]
        for source, target, count in self.edges:
            if source != OUTSIDE and self.code[source][-1].conditional:
                _, counts = ways.setdefault(self.ends[source], (source, [0, 0]))
                counts[self._jumps(source, target)] += count
        for block, counts in ways.values():
            self._stall(block, "branches", self.core.mispredicted * min(counts))

    @property
    def _context(self) -> int:
        return self.core.pipeline.context

    def _time(
        self, code: Sequence[Instruction], jump: int | None = None, *, wide_target: bool = False
    ) -> NDArray[np.int64]:
        return np.array(self.core.pipeline.cycles(code, jump, wide_target=wide_target), np.int64)

    def _jumps(self, source: int, target: int) -> bool:
        return self.starts[target] != self.ends[source]

    def _parts(
        self, part: slice, alone: Sequence[NDArray[np.int64]]
    ) -> list[tuple[tuple[Instruction, ...], NDArray[np.int64]]]:
        """Return a part of each block with its time, which is known of a whole one."""
        parts = [(code[part], len(code[part]) == len(code)) for code in self.code]
        return [(code, time if whole else self._time(code)) for (code, whole), time in zip(parts, alone, strict=True)]

    def _stall(self, block: int, reason: str, cycles: int) -> None:
        self.functions[self.owners[block][-1]] += cycles
        self.stalls[reason] += cycles


def _owners(
    code: tuple[Instruction, ...], start: int, end: int, function_at: Callable[[int], tuple[str, int]]
) -> list[str]:
    name, function_end = function_at(start)
    if end <= function_end:
        return [name] * len(code)
    owners, address = [], start
    for instruction in code:  # a function without a return runs into the next one
        owners.append(function_at(address)[0])
        address += instruction.size_bytes
    return owners
