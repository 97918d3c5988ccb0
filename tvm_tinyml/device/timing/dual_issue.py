"""Time of a sequence on a core that issues two instructions at a time, in order, or vectors in beats: a scoreboard."""

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
HELIUM_RULES = frozenset(("early_vector_address", "late_vector_accumulator", "late_vector_store_data", "late_scalar"))
SLOTS = ("any", "first", "last", "alone")

_ACCUMULATORS = {"float": "float_", "vector": "vector_"}  # begin of a class -> part of its rule's name


@dataclass(frozen=True)
class Issue:
    """How a class of instructions is issued.

    units : what it occupies in its first cycle.
    beats : what it occupies in its first two cycles, for one half of a vector after the other; an instruction for
        other units can be issued between.
    latency : cycles until its results can be used; of a vector, until its first half can.
    slot : "first" cannot be the second of a pair, nothing is paired with "last" behind it, "alone" is never paired.
    cycles : before the next instruction can be issued; 0 for one that takes no part in it.
    per_cycle : registers of its list that are moved in one cycle; 0 if it has none.
    early : its operands are needed ``early_operand`` cycles sooner.
    taken : cycles lost when it jumps.
    unforwarded : a vector store takes its result no sooner than any other instruction.
    """

    units: tuple[str, ...]
    latency: int
    slot: str
    beats: tuple[str, ...] = ()
    cycles: int = 1
    per_cycle: int = 0
    early: bool = False
    taken: int = 0
    unforwarded: bool = False


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

    context = 1 << 30
    """See ``SingleIssue.context``: all of them, through operands that are not ready."""

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
        self.unforwarded: set[int] = set()
        self.issued: list[Instruction] = []  # in this cycle
        self.full = False
        self.free = {unit: [0] * count for unit, count in core.units.items()}  # the cycle from which each one is

    @property
    def end(self) -> int:
        """The first cycle in which nothing has been issued."""
        return self.cycle + 1 if self.issued else self.cycle

    def issue(self, instruction: Instruction, *, jumps: bool) -> None:
        issue = self.core.issue_of(instruction)
        if not issue.cycles:
            return
        operands = (self._needed(register, instruction, issue) for register in instruction.reads)
        needed = max((self._units_free(issue), *operands))
        if needed > self.cycle:
            self._next(needed)
        if not self._fits(instruction, issue):
            self._next(self.cycle + 1)
        self._occupy(issue.units, 1)
        self._occupy(issue.beats, 2)
        self.issued.append(instruction)
        self.full = issue.slot in ("last", "alone")
        busy = -(-instruction.registers // issue.per_cycle) if issue.per_cycle else issue.cycles
        if busy > 1:
            self.cycle += busy - 1
            self.full = True
        for register in instruction.writes:
            latency = self.core.rules["base_latency"] if register in instruction.base else issue.latency
            self.ready[register] = self.cycle + latency
        self.unforwarded -= instruction.writes
        if issue.unforwarded:
            self.unforwarded |= instruction.writes
        if jumps:
            self._next(self.cycle + 1 + issue.taken)

    def _needed(self, register: int, instruction: Instruction, issue: Issue) -> int:
        """Return the cycle in which an operand lets the instruction be issued."""
        rules, ready, kind = self.core.rules, self.ready.get(register), instruction.kind
        if ready is None:
            return 0
        if register in instruction.offsets:
            return ready + rules["early_vector_address"]
        if register in instruction.address:
            return ready + rules["early_operand"]
        if register in instruction.accumulator:
            return ready - rules[f"late_{_ACCUMULATORS.get(kind.partition('_')[0], '')}accumulator"]
        if register in instruction.scalars:
            return ready - rules["late_scalar"]
        if kind == "vector_store":
            return ready - (0 if register in self.unforwarded else rules["late_vector_store_data"])
        if kind in ("store", "float_store"):
            return ready - rules["late_store_data"]
        return ready + (rules["early_operand"] if issue.early else 0)

    def _units_free(self, issue: Issue) -> int:
        wanted = Counter(issue.units + issue.beats)
        return max((sorted(self.free[unit])[count - 1] for unit, count in wanted.items()), default=0)

    def _occupy(self, units: Sequence[str], cycles: int) -> None:
        for unit in units:
            free = self.free[unit]
            free[free.index(min(free))] = self.cycle + cycles

    def _fits(self, instruction: Instruction, issue: Issue) -> bool:
        if not self.issued:
            return True
        if self.full or len(self.issued) == 2 or issue.slot not in ("any", "last"):
            return False
        return self.core.may_pair(self.issued[0], instruction)

    def _next(self, cycle: int) -> None:
        self.cycle = cycle
        self.issued, self.full = [], False
