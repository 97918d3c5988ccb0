"""Registers for straight-line code: write it with values, and let each value find a register.

A value that finds none free drives out the one that is needed last (Belady), which moves to a floating-point register
with VMOV, one cycle each way, and back when it is needed: no memory, no base address. Code in a loop can hold what it
must not lose in registers of its own, which it names in the text and leaves out of the pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(eq=False)
class Value:
    """What an instruction computes, or what a floating-point register holds from the beginning on.

    Attributes
    ----------
    home : floating-point register with a copy of it.
    uses : positions of the instructions that read it.
    """

    home: str | None = None
    given: bool = False
    uses: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Instruction:
    template: str
    result: Value | None
    operands: tuple[Value, ...]


class StraightLine:
    """A sequence of instructions on values.

    >>> code = StraightLine()
    >>> x, y = code("ldr {}, [r0]"), code("ldr {}, [r0, #4]")
    >>> total = code("add {}, {}, {}", x, y)
    >>> code.do("str {}, [r1]", total)
    >>> code.allocate(["r2", "r3"], [])
    ['ldr r2, [r0]', 'ldr r3, [r0, #4]', 'add r2, r2, r3', 'str r2, [r1]']
    """

    def __init__(self) -> None:
        self._instructions: list[_Instruction] = []

    def __call__(self, template: str, *operands: Value) -> Value:
        """Add an instruction and return its result.

        Parameters
        ----------
        template : with a ``{}`` for the result's register, then one for each operand's.
        """
        result = Value()
        self._add(template, result, operands)
        return result

    def do(self, template: str, *operands: Value) -> None:
        """Add an instruction without a result: a store, or one on registers outside of the pool."""
        self._add(template, None, operands)

    def given(self, home: str) -> Value:
        """Return the value that a floating-point register holds all the time."""
        return Value(home=home, given=True)

    def allocate(self, registers: Sequence[str], homes: Sequence[str]) -> list[str]:
        """Return the instructions with registers, and with the moves that this takes.

        Parameters
        ----------
        registers : core registers that the code may overwrite.
        homes : floating-point registers for values that find none of them.
        """
        return _Allocation(self._instructions, list(registers), list(homes)).lines

    def _add(self, template: str, result: Value | None, operands: tuple[Value, ...]) -> None:
        for operand in operands:
            operand.uses.append(len(self._instructions))
        self._instructions.append(_Instruction(template, result, operands))


class _Allocation:
    def __init__(self, instructions: Sequence[_Instruction], registers: list[str], homes: list[str]) -> None:
        self.lines: list[str] = []
        self._free, self._free_homes = registers, homes
        self._order = {register: i for i, register in enumerate(registers)}
        self._register: dict[Value, str] = {}
        for position, instruction in enumerate(instructions):
            self._issue(position, instruction)

    def _issue(self, position: int, instruction: _Instruction) -> None:
        operands = instruction.operands
        sources = []
        for operand in operands:
            if operand not in self._register:
                assert operand.home is not None, "an operand is computed before it is used"
                register = self._take(position, keep=operands)
                self.lines.append(f"vmov {register}, {operand.home}")
                self._register[operand] = register
            sources.append(self._register[operand])
        for operand in dict.fromkeys(operands):
            if operand.uses[-1] == position:
                self._release(operand)
        names = sources
        if instruction.result is not None:
            assert instruction.result.uses, f"the result of '{instruction.template}' is not used"
            # An operand may be driven out by the result: it is read before the result is written.
            register = self._take(position, keep=())
            self._register[instruction.result] = register
            names = [register, *sources]
        self.lines.append(instruction.template.format(*names))

    def _take(self, position: int, keep: Sequence[Value]) -> str:
        if not self._free:
            held = [value for value in self._register if value not in keep]
            assert held, "an instruction has more operands than there are registers"
            self._drive_out(max(held, key=lambda value: next(use for use in value.uses if use > position)))
        register = min(self._free, key=self._order.__getitem__)
        self._free.remove(register)
        return register

    def _drive_out(self, value: Value) -> None:
        register = self._register.pop(value)
        if value.home is None:
            assert self._free_homes, "more values are needed at once than there are registers"
            value.home = self._free_homes.pop(0)
            self.lines.append(f"vmov {value.home}, {register}")
        self._free.append(register)

    def _release(self, value: Value) -> None:
        self._free.append(self._register.pop(value))
        if value.home is not None and not value.given:
            self._free_homes.append(value.home)
