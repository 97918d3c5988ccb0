"""Random planning problems, the same for each seed: networks of layers, and buffers with any lifetimes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tvm_tinyml.passes.plan_memory import Lifetime

SEEDS = range(200)
TENSORS = (10, 300)
SMALLEST_BYTES = 64
LARGEST_BYTES = (512, 4_096, 65_536)
"""One for each graph. Where sizes differ little, many steps are nearly full, and a plan is harder to find."""


@dataclass
class MemoryGraph:
    """A problem of the planner.

    Attributes
    ----------
    kind : "network", "network with distances", or "intervals".
    distances : see `tvm_tinyml.passes.plan_memory.Distances`.
    """

    kind: str
    lifetimes: dict[int, Lifetime] = field(default_factory=dict)
    distances: dict[tuple[int, int], int] = field(default_factory=dict)


def memory_graph(seed: int) -> MemoryGraph:
    """Return a problem of 10 to 300 buffers; of ten seeds four are networks, three such with distances."""
    rng = np.random.default_rng(seed)
    count, sizes = _log_uniform(rng, *TENSORS), (SMALLEST_BYTES, int(rng.choice(LARGEST_BYTES)))
    if seed % 10 < 7:
        return _Network(rng, count, sizes, seed % 10 >= 4).graph
    graph = MemoryGraph("intervals")
    for i in range(count):
        first, length = int(rng.integers(count)), _log_uniform(rng, 1, max(2, count // 4))
        graph.lifetimes[i] = Lifetime(_log_uniform(rng, *sizes), first, first + length)
    return graph


def _log_uniform(rng: np.random.Generator, low: int, high: int) -> int:
    return round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))


class _Network:
    """A network that grows layer by layer: chains, residual additions, branches that are concatenated, long skips."""

    def __init__(self, rng: np.random.Generator, count: int, sizes: tuple[int, int], with_distances: bool) -> None:
        self.graph = MemoryGraph("network with distances" if with_distances else "network")
        self._rng, self._count, self._sizes, self._step = rng, count, sizes, 0
        value = self._tensor(_log_uniform(rng, *sizes))
        while self._left():
            value = (self._chain, self._residual, self._branches, self._skip)[rng.integers(4)](value)
        self._use(value)
        if with_distances:
            self._overlap()

    def _overlap(self) -> None:
        """Let most layers write over what they read for the last time."""
        lifetimes = self.graph.lifetimes
        for i, life in lifetimes.items():
            for j, output in lifetimes.items():
                layer = life.first < life.last == output.first < output.last
                if layer and self._rng.random() < 0.7:
                    self.graph.distances[i, j] = self._distance(life.size_bytes, output.size_bytes)

    def _distance(self, size: int, output: int) -> int:
        """Return a distance as rows have it: the input's end is read last, and some rows are read again."""
        rows = int(size * np.exp(self._rng.uniform(np.log(0.01), np.log(0.5))))
        return min(max(output - size, 0) + rows, output - 1)

    def _left(self) -> bool:
        return len(self.graph.lifetimes) < self._count

    def _tensor(self, size: int) -> int:
        self.graph.lifetimes[len(self.graph.lifetimes)] = Lifetime(size, self._step, self._step)
        return len(self.graph.lifetimes) - 1

    def _use(self, value: int) -> None:
        life = self.graph.lifetimes[value]
        self.graph.lifetimes[value] = Lifetime(life.size_bytes, life.first, self._step)

    def _layer(self, *inputs: int, size: int | None = None) -> int:
        """Return the output of a layer; some layers have a scratch, which lives during their step alone."""
        self._step += 1
        for value in inputs:
            self._use(value)
        if self._left() and self._rng.random() < 0.3:
            self._tensor(_log_uniform(self._rng, *self._sizes))
        return self._tensor(size or _log_uniform(self._rng, *self._sizes))

    def _size(self, value: int) -> int:
        return self.graph.lifetimes[value].size_bytes

    def _chain(self, value: int) -> int:
        for _ in range(self._rng.integers(1, 5)):
            if self._left():
                value = self._layer(value)
        return value

    def _residual(self, value: int) -> int:
        inner = self._chain(value)
        inner = self._layer(inner, size=self._size(value))
        return self._layer(value, inner, size=self._size(value))

    def _branches(self, value: int) -> int:
        ends = [self._chain(value) for _ in range(self._rng.integers(2, 5))]
        return self._layer(*ends, size=sum(map(self._size, ends)))

    def _skip(self, value: int) -> int:
        """Down and up again, as in a network for segmentation: what is kept waits for many layers."""
        down = self._chain(value)
        inner = self._residual(self._branches(self._chain(down)) if self._rng.random() < 0.5 else down)
        return self._layer(value, inner)
