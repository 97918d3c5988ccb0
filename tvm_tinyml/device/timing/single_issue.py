"""Time of a sequence on a core that issues one instruction at a time: its own cycles, and what neighbours change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tvm_tinyml.device.timing.decode import Instruction
from tvm_tinyml.errors import DeviceError

RULES = frozenset(("load_after_load", "indexed_store", "address_from_result", "float_result_next", "wide_target"))

_LOADS = {"load", "load_narrow", "float_load"}
_PIPELINED = {*_LOADS, "float_store"}
_RESULTS = {
    *("alu", "alu_shifted", "shift", "extend", "bit_field", "saturate", "saturating_add"),
    *("multiply", "multiply_add", "multiply_add_dsp", "multiply_long", "multiply_add_long"),
}
_FLOAT_RESULTS = {"float_add", "float_multiply", "float_multiply_add", "float_convert", "float_divide"}


@dataclass(frozen=True)
class Cost:
    """Cycles of a class of instructions: always, for each register of its list, and more if it jumps."""

    cycles: int
    per_register: int = 0
    taken: int = 0


@dataclass(frozen=True)
class SingleIssue:
    """A core with its table; rules that a core lacks cost nothing."""

    core: str
    costs: Mapping[str, Cost]
    rules: Mapping[str, int]

    context = 1
    """How many instructions in front of a border between blocks, and behind it, know of each other."""

    def cycles(self, code: Sequence[Instruction], jump: int | None = None, *, wide_target: bool = False) -> list[int]:
        """Return what each instruction adds to the time of the sequence.

        Parameters
        ----------
        jump : position of the instruction that jumps, to the one behind it in ``code``.
        wide_target : that one has 32 bits and an address that is no multiple of 4.

        Raises
        ------
        DeviceError : the core's table lacks an instruction.
        """
        return [
            self._alone(instruction, i == jump)
            + self._after(instruction, code[i - 1] if i else None)
            + (self._rule("wide_target") if jump is not None and i == jump + 1 and wide_target else 0)
            for i, instruction in enumerate(code)
        ]

    def _alone(self, instruction: Instruction, jumps: bool) -> int:
        cost = self.costs.get(instruction.kind)
        if cost is None:
            raise DeviceError(f"the timing table of {self.core} has no '{instruction.kind}' ({instruction.text})")
        return cost.cycles + cost.per_register * instruction.registers + (cost.taken if jumps else 0)

    def _after(self, instruction: Instruction, before: Instruction | None) -> int:
        cycles = 0
        loaded = before is not None and before.kind in _LOADS
        if instruction.kind == "store" and instruction.offset_register and not loaded:
            cycles += self._rule("indexed_store")
        if before is None:
            return cycles
        if instruction.kind in _PIPELINED and loaded and not before.writes & instruction.address:
            cycles += self._rule("load_after_load")
        if before.kind in _RESULTS and before.writes & instruction.address:
            cycles += self._rule("address_from_result")
        if before.kind in _FLOAT_RESULTS and before.writes & instruction.reads:
            cycles += self._rule("float_result_next")
        return cycles

    def _rule(self, name: str) -> int:
        return self.rules.get(name, 0)
