"""Time of a sequence on a core that issues two instructions at a time, in order: a scoreboard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tvm_tinyml.device.timing.decode import Instruction
from tvm_tinyml.errors import DeviceError

RULES = frozenset(
    ("early_operand", "late_accumulator", "late_float_accumulator", "late_store_data", "base_latency", "mispredicted")
)
SLOTS = ("any", "first", "alone")


@dataclass(frozen=True)
class Issue:
    """How a class of instructions is issued.

    units : what it occupies in its first cycle.
    latency : cycles until its results can be used.
    slot : "first" cannot be the second of a pair, "alone" is never paired.
    cycles : before the next instruction can be issued.
    per_cycle : registers of its list that are moved in one cycle; 0 if it has none.
    early : its operands are needed ``early_operand`` cycles sooner.
    taken : cycles lost when it jumps.
    """

    units: tuple[str, ...]
    latency: int
    slot: str
    cycles: int = 1
    per_cycle: int = 0
    early: bool = False
    taken: int = 0


@dataclass(frozen=True)
class DualIssue:
    """A core with its table.

    units : how many there are of each.
    narrow : only two 16-bit instructions make a pair, and the name of one begins with one of ``partners``.
    """

    core: str
    issues: Mapping[str, Issue]
    units: Mapping[str, int]
    rules: Mapping[str, int]
    narrow: bool = False
    partners: tuple[str, ...] = ()

    def cycles(self, code: Sequence[Instruction], jump: int | None = None, *, wide_target: bool = False) -> list[int]:
        """Return what each instruction adds to the time of the sequence; see ``SingleIssue.cycles``."""
        board = _Scoreboard(self)
        ends = [0]
        for i, instruction in enumerate(code):
            board.issue(instruction, jumps=i == jump)
            ends.append(board.end)
        return [end - before for before, end in pairwise(ends)]

    def issue_of(self, instruction: Instruction) -> Issue:
        """Return the table's entry; DeviceError if it has none."""
        issue = self.issues.get(instruction.kind)
        if issue is None:
            raise DeviceError(f"the timing table of {self.core} has no '{instruction.kind}' ({instruction.text})")
        return issue

    def may_pair(self, first: Instruction, second: Instruction) -> bool:
        """Return whether the encodings of two instructions let them be issued together."""
        if not self.narrow:
            return True
        short = first.size_bytes == second.size_bytes == 2
        return short and (first.text.startswith(self.partners) or second.text.startswith(self.partners))


class _Scoreboard:
    def __init__(self, core: DualIssue) -> None:
        self.core = core
        self.cycle = 0
        self.ready: dict[int, int] = {}
        self.issued: list[Instruction] = []  # in this cycle
        self.used: Counter[str] = Counter()
        self.full = False

    @property
    def end(self) -> int:
        """The first cycle in which nothing has been issued."""
        return self.cycle + 1 if self.issued else self.cycle

    def issue(self, instruction: Instruction, *, jumps: bool) -> None:
        issue = self.core.issue_of(instruction)
        needed = max((self._needed(register, instruction, issue) for register in instruction.reads), default=0)
        if needed > self.cycle:
            self._next(needed)
        if not self._fits(instruction, issue):
            self._next(self.cycle + 1)
        self.used.update(issue.units)
        self.issued.append(instruction)
        self.full = issue.slot == "alone"
        busy = -(-instruction.registers // issue.per_cycle) if issue.per_cycle else issue.cycles
        if busy > 1:
            self.cycle += busy - 1
            self.full = True
        for register in instruction.writes:
            latency = self.core.rules["base_latency"] if register in instruction.base else issue.latency
            self.ready[register] = self.cycle + latency
        if jumps:
            self._next(self.cycle + 1 + issue.taken)

    def _needed(self, register: int, instruction: Instruction, issue: Issue) -> int:
        """Return the cycle in which an operand lets the instruction be issued."""
        rules, ready = self.core.rules, self.ready.get(register)
        if ready is None:
            return 0
        if register in instruction.address:
            return ready + rules["early_operand"]
        if register in instruction.accumulator:
            is_float = instruction.kind == "float_multiply_add"
            return ready - rules["late_float_accumulator" if is_float else "late_accumulator"]
        if instruction.kind in ("store", "float_store"):
            return ready - rules["late_store_data"]
        return ready + (rules["early_operand"] if issue.early else 0)

    def _fits(self, instruction: Instruction, issue: Issue) -> bool:
        if not self.issued:
            return True
        if self.full or len(self.issued) == 2 or issue.slot != "any":
            return False
        wanted = self.used + Counter(issue.units)
        return self.core.may_pair(self.issued[0], instruction) and all(
            count <= self.core.units[unit] for unit, count in wanted.items()
        )

    def _next(self, cycle: int) -> None:
        self.cycle = cycle
        self.issued, self.used, self.full = [], Counter(), False
