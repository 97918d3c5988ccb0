"""What an order needs to know of a network: what operators read and write, and how large that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property


def members(operators: int) -> Iterator[int]:
    """Yield the operators of a set."""
    while operators:
        yield (operators & -operators).bit_length() - 1
        operators &= operators - 1


@dataclass(frozen=True)
class Operator:
    """The tensors that an operator reads and writes, by number."""

    reads: tuple[int, ...]
    writes: tuple[int, ...]


@dataclass(frozen=True)
class OperatorGraph:
    """Operators in an order that works, and tensors.

    Tensors are counted whole: while an operator runs, all that it reads and writes is there. That it may write over
    what it reads comes later, with the offsets. A set of operators is an integer, bit i for operator i.

    Attributes
    ----------
    sizes : bytes of each tensor; 0 for what takes none of the memory that is planned.
    kept : tensors that are needed to the end. What no operator writes is there from the start.
    """

    operators: Sequence[Operator]
    sizes: Sequence[int]
    kept: frozenset[int]

    @property
    def everything(self) -> int:
        """The set of all operators."""
        return (1 << len(self.operators)) - 1

    @cached_property
    def readers(self) -> list[int]:
        """Of each tensor the set of operators that read it."""
        found = [0] * len(self.sizes)
        for i, operator in enumerate(self.operators):
            for tensor in operator.reads:
                found[tensor] |= 1 << i
        return found

    @cached_property
    def predecessors(self) -> list[int]:
        """Of each operator the set of those whose results it reads."""
        return [sum({self._writers[t] for t in operator.reads}) for operator in self.operators]

    @cached_property
    def start_bytes(self) -> int:
        """Bytes of the tensors that are there from the start."""
        return sum(size for size, writer in zip(self.sizes, self._writers, strict=True) if not writer)

    @cached_property
    def floor_bytes(self) -> int:
        """Bytes that every order needs: of one operator, of the last one before each operator, at the start or the end.

        Of what an operator depends on one runs last. Then everything else that it depends on has run, and what is read
        by that last one, by the operator itself or by any after these two is alive.
        """
        floor = max(self.start_bytes, sum(self.sizes[t] for t in self.kept))
        for operator in self.operators:
            floor = max(floor, sum(self.sizes[t] for t in {*operator.reads, *operator.writes}))
        all_before = [*zip(self.before, (after | 1 << i for i, after in enumerate(self.after)), strict=True)]
        for before, later in (*all_before, (self.everything, 0)):
            last_ones = [i for i in members(before) if not self.after[i] & before]
            if len(last_ones) > 1:
                floor = max(floor, min(self._alive_bytes(last, before, later) for last in last_ones))
        return floor

    def _alive_bytes(self, last: int, before: int, later: int) -> int:
        """Return the bytes surely alive while `last` runs as the last of `before`, and before all of `later`."""
        readers = later | self.after[last] | 1 << last
        return self._written_bytes[last] + sum(
            size
            for size, writer, reads, kept in zip(self.sizes, self._writers, self.readers, self._is_kept, strict=True)
            if not writer & ~before and not writer >> last & 1 and (kept or reads & readers)
        )

    @cached_property
    def _writers(self) -> list[int]:
        """Of each tensor the set of the one operator that writes it, or of none."""
        found = [0] * len(self.sizes)
        for i, operator in enumerate(self.operators):
            for tensor in operator.writes:
                found[tensor] = 1 << i
        return found

    @cached_property
    def _is_kept(self) -> list[bool]:
        return [tensor in self.kept for tensor in range(len(self.sizes))]

    @cached_property
    def before(self) -> list[int]:
        """Of each operator the set of those that it depends on."""
        found = [0] * len(self.operators)
        for i, predecessors in enumerate(self.predecessors):
            for k in members(predecessors):
                found[i] |= found[k] | 1 << k
        return found

    @cached_property
    def after(self) -> list[int]:
        """Of each operator the set of those that depend on it."""
        found = [0] * len(self.operators)
        for i, before in enumerate(self.before):
            for k in members(before):
                found[k] |= 1 << i
        return found

    @cached_property
    def followers(self) -> list[list[int]]:
        """Of each operator those that read its results."""
        found: list[list[int]] = [[] for _ in self.operators]
        for i, predecessors in enumerate(self.predecessors):
            for k in members(predecessors):
                found[k].append(i)
        return found

    @cached_property
    def _written_bytes(self) -> list[int]:
        return [sum(self.sizes[t] for t in operator.writes) for operator in self.operators]

    @cached_property
    def _freed(self) -> list[list[tuple[int, int]]]:
        """Of each operator the sizes that it may free, each with the others that must have run before."""
        return [
            [
                (self.sizes[t], self.readers[t] & ~(1 << i))
                for t in {*operator.reads, *operator.writes}
                if t not in self.kept
            ]
            for i, operator in enumerate(self.operators)
        ]

    def run(self, operator: int, done: int, live_bytes: int) -> tuple[int, int]:
        """Return the bytes alive while an operator runs and after it, where `live_bytes` are when `done` have run."""
        during = after = live_bytes + self._written_bytes[operator]
        for size, others in self._freed[operator]:
            if not others & ~done:
                after -= size
        return during, after

    def peak_bytes(self, order: Sequence[int]) -> int:
        """Return the most bytes that are alive at a time."""
        done, peak, live = 0, self.start_bytes, self.start_bytes
        for operator in order:
            during, live = self.run(operator, done, live)
            done, peak = done | 1 << operator, max(peak, during)
        return peak

    def segments(self) -> list[int]:
        """Return sets of operators that every order runs one set after the other.

        Each but the last ends with an operator that depends on all before it and that all after it depend on.
        """
        cuts = [
            i for i, (b, a) in enumerate(zip(self.before, self.after, strict=True)) if b | a | 1 << i == self.everything
        ]
        ends = [*(self.before[i] | 1 << i for i in cuts), self.everything]
        return [end & ~start for start, end in zip([0, *ends], ends, strict=False) if end & ~start]
