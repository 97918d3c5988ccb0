"""From the edges that a run took to its cycles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.device.engine import OUTSIDE, EdgeProfile
from tvm_tinyml.device.timing.decode import Instruction
from tvm_tinyml.device.timing.memory import MemoryTiming
from tvm_tinyml.device.timing.tables import CoreTiming
from tvm_tinyml.device.watch import Event

MODEL_VERSION = "1-draft"
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
    function_at: Callable[[int], str],
) -> Cycles:
    """Count the cycles of a run.

    An edge from one block to the next costs what the next adds to the time of the first, T(first; next) - T(first),
    so that a jump, a pair of instructions across it and a loop in full swing are seen. The end of the run counts as
    a jump.

    Parameters
    ----------
    profile, events : of the run.
    read : reads code: address, size in bytes.
    function_at : names the function that an address lies in.

    Raises
    ------
    DeviceError : an instruction is unknown, or the core's table lacks it.
    """
    count = _Count(profile, core, read, function_at)
    count.add_edges()
    count.add_events(events, memory)
    count.add_mispredictions()
    return Cycles(
        total=sum(count.functions.values()),
        core=core.pipeline.core,
        memory=memory.name,
        model=MODEL_VERSION,
        by_function=dict(sorted(count.functions.items())),
        by_class=dict(sorted(count.classes.items())),
        instructions=dict(sorted(count.executed().items())),
        stalls={name: cycles for name, cycles in sorted(count.stalls.items()) if cycles},
    )


class _Count:
    def __init__(
        self,
        profile: EdgeProfile,
        core: CoreTiming,
        read: Callable[[int, int], bytes],
        function_at: Callable[[int], str],
    ) -> None:
        self.core = core
        self.starts: list[int] = profile.block_start.tolist()
        self.ends: list[int] = [
            start + size for start, size in zip(self.starts, profile.block_size_bytes.tolist(), strict=True)
        ]
        self.code = [core.decode(read(start, end - start), start) for start, end in zip(self.starts, self.ends, strict=True)]
        self.owners = [_owners(code, start, function_at) for code, start in zip(self.code, self.starts, strict=True)]
        self.edges: list[tuple[int, int, int]] = list(
            zip(profile.edge_source.tolist(), profile.edge_target.tolist(), profile.edge_count.tolist(), strict=True)
        )
        self.executions: list[int] = profile.block_executions.tolist()
        self.functions: dict[str, int] = {}
        self.classes: dict[str, int] = {}
        self.stalls: dict[str, int] = {}

    def executed(self) -> Counter[str]:
        """How many instructions of each class were executed."""
        executed: Counter[str] = Counter()
        for code, count in zip(self.code, self.executions, strict=True):
            for instruction in code:
                executed[instruction.kind] += count
        return executed

    def add_edges(self) -> None:
        cycles = self.core.pipeline.cycles
        alone = [cycles(code) for code in self.code]
        left = list(self.executions)
        for source, target, count in self.edges:
            if source == OUTSIDE:
                self._add(target, alone[target], count)
                continue
            left[source] -= count
            first, second = self.code[source], self.code[target]
            jump = len(first) - 1 if self._jumps(source, target) else None
            wide_target = second[0].size_bytes == 4 and self.starts[target] % 4 != 0
            both = cycles(first + second, jump, wide_target=wide_target)
            self._add(source, [b - a for a, b in zip(alone[source], both, strict=False)], count)
            self._add(target, both[len(first) :], count)
        for last, count in enumerate(left):
            if count:
                ending = cycles(self.code[last], len(self.code[last]) - 1)
                self._add(last, [b - a for a, b in zip(alone[last], ending, strict=True)], count)

    def add_events(self, events: NDArray[np.uint64], memory: MemoryTiming) -> None:
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

    def _jumps(self, source: int, target: int) -> bool:
        return self.starts[target] != self.ends[source]

    def _add(self, block: int, cycles: list[int], count: int) -> None:
        for instruction, owner, each in zip(self.code[block], self.owners[block], cycles, strict=True):
            if each:
                self.functions[owner] = self.functions.get(owner, 0) + each * count
                self.classes[instruction.kind] = self.classes.get(instruction.kind, 0) + each * count

    def _stall(self, block: int, reason: str, cycles: int) -> None:
        owner = self.owners[block][-1]
        self.functions[owner] = self.functions.get(owner, 0) + cycles
        self.stalls[reason] = self.stalls.get(reason, 0) + cycles


def _owners(code: tuple[Instruction, ...], start: int, function_at: Callable[[int], str]) -> list[str]:
    owners, address = [], start
    for instruction in code:
        owners.append(function_at(address))
        address += instruction.size_bytes
    return owners
