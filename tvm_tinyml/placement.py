"""From calls over buffers to buffers at addresses: what may lie over what, in which pool, and where in there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tvm_tinyml.passes.plan_memory import Lifetime, check_plan, plan_offsets
from tvm_tinyml.pools import SCRATCH_TOUCHES, only, share_out
from tvm_tinyml.program import ALIGNMENT_BYTES, Buffer, Kernel, Place, Pool, Region, Step
from tvm_tinyml.proof import prove

Memory = tuple[Place, int]
"""What buffers are parts of: an input, an output, a constant, or a region of the pool."""

Moves = Mapping[Memory, Buffer]
"""Where memories go: each becomes a part of another one."""


def memory_of(buffer: Buffer) -> Memory:
    """Return what a buffer is a part of."""
    return buffer.place, buffer.index


@dataclass(frozen=True)
class Calls:
    """Calls in order, before anything has an address.

    Attributes
    ----------
    inputs, outputs : buffers of the model's.
    """

    steps: Sequence[Step]
    inputs: Sequence[Buffer]
    outputs: Sequence[Buffer]

    def moved(self, moves: Moves) -> Calls:
        """Return the same calls with buffers that have moved, and moved on."""

        def target(buffer: Buffer) -> Buffer:
            while (to := moves.get(memory_of(buffer))) is not None:
                buffer = replace(
                    buffer, place=to.place, index=to.index, begin_bytes=to.begin_bytes + buffer.begin_bytes
                )
            return buffer

        steps = [
            replace(
                step,
                operands=tuple(target(buffer) for buffer in step.operands),
                scratch=target(step.scratch) if step.scratch else None,
            )
            for step in self.steps
        ]
        return Calls(steps, [target(b) for b in self.inputs], [target(b) for b in self.outputs])

    def accesses(self) -> Iterator[tuple[int, Buffer, bool]]:
        """Yield call, buffer, and whether it is written: inputs are, before the first call; outputs are read last."""
        for buffer in self.inputs:
            yield -1, buffer, True
        for i, step in enumerate(self.steps):
            for buffer in step.reads:
                yield i, buffer, False
            for buffer in step.writes:
                yield i, buffer, True
        for buffer in self.outputs:
            yield len(self.steps), buffer, False

    def whole(self) -> list[Step]:
        """Return the calls between one that writes the inputs and one that reads the outputs."""
        first = Step("inputs", None, tuple(self.inputs), results=len(self.inputs))
        last = Step("outputs", None, tuple(self.outputs), results=0)
        return [first, *self.steps, last]

    def lifetimes(self) -> dict[int, Lifetime]:
        """Return size and use, from call to call, of each region of the pool."""
        found: dict[int, Lifetime] = {}
        for i, buffer, _ in self.accesses():
            if buffer.place is Place.WORKSPACE:
                life = found.get(buffer.index, Lifetime(0, i, i))
                found[buffer.index] = Lifetime(max(life.size_bytes, buffer.end_bytes), life.first, i)
        return found


def place(
    calls: Calls, kernels: Mapping[str, Kernel], limits: Mapping[str, int]
) -> tuple[Calls, dict[int, Region], list[Pool]]:
    """Give every region an offset in a pool.

    Parameters
    ----------
    limits : sizes of the pools in bytes, the fastest first; none for one of any size. What fits nowhere else goes to
        the last one, whatever its size.

    Returns
    -------
    The calls, some of whose buffers share a region now; the regions by index; and the pools.
    """
    values, calls = calls, share(calls, kernels)
    lifetimes = calls.lifetimes()
    distances = distances_of(calls, kernels, lifetimes)
    touches = touches_of(calls, lifetimes)
    regions: dict[int, Region] = {}
    pools: list[Pool] = []
    begin = 0
    for name, members in share_out(lifetimes, distances, touches, limits).items():
        lives, between = only(members, lifetimes, distances)
        offsets, size = plan_offsets(lives, ALIGNMENT_BYTES, between)
        check_plan(lives, offsets, between)
        for index, life in lives.items():
            regions[index] = Region(begin + offsets[index], life.size_bytes, life.first, life.last)
        pools.append(Pool(name, begin, size, limits.get(name)))
        begin += size

    def address(buffer: Buffer) -> int:
        return regions[buffer.index].offset_bytes + buffer.begin_bytes

    prove(values.whole(), calls.whole(), kernels, address, begin)
    return calls, regions, pools


def share(calls: Calls, kernels: Mapping[str, Kernel]) -> Calls:
    """Let results take the place of arguments that nothing reads any more, where a kernel allows it."""
    for i in range(len(calls.steps)):
        kernel = kernels.get(calls.steps[i].kernel or "")
        for read in kernel.in_place if kernel else ():
            step, lifetimes = calls.steps[i], calls.lifetimes()
            argument, result = step.operands[read], step.operands[-1]
            if argument.size_bytes != result.size_bytes or not _is_whole(argument, lifetimes):
                continue
            if lifetimes[argument.index].last > i:
                continue
            if _is_whole(result, lifetimes):
                calls = calls.moved({memory_of(result): argument})
                break
            if result.place is Place.WORKSPACE:
                calls = calls.moved({memory_of(argument): result})
                break
    return calls


def _is_whole(buffer: Buffer, lifetimes: Mapping[int, Lifetime]) -> bool:
    """Return whether a region of the pool is this buffer and nothing else."""
    whole = buffer.place is Place.WORKSPACE and buffer.size_bytes == lifetimes[buffer.index].size_bytes
    return whole and not buffer.begin_bytes


def touches_of(calls: Calls, lifetimes: Mapping[int, Lifetime]) -> dict[int, float]:
    """Return how often each region is read or written, byte for byte."""
    uses = dict.fromkeys(lifetimes, 0)
    scratch = {step.scratch.index for step in calls.steps if step.scratch}
    for _, buffer, _ in calls.accesses():
        if buffer.place is Place.WORKSPACE:
            uses[buffer.index] += (SCRATCH_TOUCHES if buffer.index in scratch else 1) * buffer.used_bytes
    return {index: bytes_used / max(lifetimes[index].size_bytes, 1) for index, bytes_used in uses.items()}


def distances_of(
    calls: Calls, kernels: Mapping[str, Kernel], lifetimes: Mapping[int, Lifetime]
) -> dict[tuple[int, int], int]:
    """Return for regions (upper, lower) how far behind the beginning of the lower one the upper one may begin.

    The lower one is written from its beginning on while the upper one is still read, whose beginning is needed no more.
    Wherever a byte of the lower one is written, it must lie below all that is read or written later in the upper one.
    Source of the idea: Blacker, Bridges, Hadfield, "Diagonal Memory Optimisation for Machine Learning on
    Micro-controllers", 2020 (arXiv:2010.01668).
    """
    uses: dict[int, list[tuple[int, Buffer, bool]]] = {index: [] for index in lifetimes}
    for i, buffer, written in calls.accesses():
        if buffer.place is Place.WORKSPACE:
            uses[buffer.index].append((i, buffer, written))
    found: dict[tuple[int, int], int] = {}
    for lower, life in lifetimes.items():
        writes = [(i, buffer) for i, buffer, written in uses[lower] if written]
        for upper, other in lifetimes.items():
            if upper == lower or not life.overlaps(other):
                continue
            distance = max(
                (
                    _apart(calls, kernels, i, buffer, accessed) if i == j else buffer.end_bytes - accessed.begin_bytes
                    for i, buffer in writes
                    for j, accessed, _ in uses[upper]
                    if j >= i
                ),
                default=0,
            )
            if distance < life.size_bytes:
                found[upper, lower] = max(distance, 0)
    return found


def _apart(calls: Calls, kernels: Mapping[str, Kernel], i: int, written: Buffer, accessed: Buffer) -> int:
    """Return how far apart the regions of two buffers of one call must begin."""
    whole = written.end_bytes - accessed.begin_bytes
    if not 0 <= i < len(calls.steps):
        return whole
    step = calls.steps[i]
    kernel = kernels.get(step.kernel or "")
    if kernel is None or accessed in step.writes:
        return whole
    leaves = {
        overlap.read: overlap.distance_bytes
        for overlap in kernel.overlaps
        if written == (step.scratch if overlap.scratch else step.operands[-1])
    }
    reads = [k for k, buffer in enumerate(step.reads) if buffer == accessed]
    if any(k not in leaves for k in reads):
        return whole
    return max(leaves[k] for k in reads) + written.begin_bytes - accessed.begin_bytes
