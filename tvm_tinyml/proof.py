"""Every plan is replayed before anything is emitted: no call may read a byte that something else has written over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tvm_tinyml.passes.replay_plan import Call, Span, replay_plan
from tvm_tinyml.program import Buffer, Kernel, Place, Step

Address = Callable[[Buffer], int]
"""From a placed buffer to where it begins in all pools laid one behind the other."""


def prove(
    values: Sequence[Step], placed: Sequence[Step], kernels: Mapping[str, Kernel], address: Address, pool_bytes: int
) -> None:
    """Refuse a plan that loses a byte.

    Parameters
    ----------
    values : the calls when each value had memory of its own: what is read and written.
    placed : the same calls afterwards: where it lies. The first writes the inputs, the last reads the outputs.

    Raises
    ------
    AssertionError : a call reads a byte that is not there any more.
    """
    replay_plan([_call(v, p, kernels, address) for v, p in zip(values, placed, strict=True)], pool_bytes)


def _call(value: Step, placed: Step, kernels: Mapping[str, Kernel], address: Address) -> Call:
    reads, writes = (
        [(v, p) for v, p in zip(of_value, of_placed, strict=True) if p.place is Place.WORKSPACE]
        for of_value, of_placed in ((value.reads, placed.reads), (value.writes, placed.writes))
    )
    kernel = kernels.get(placed.kernel or "")
    distances: dict[tuple[int, int], int] = {}
    for i, (_, read) in enumerate(reads):
        for k, (_, write) in enumerate(writes):
            least = _distance(placed, kernel, read, write, address)
            if least is not None:
                distances[i, k] = least
    return Call(value.name, _spans(reads, address), _spans(writes, address), distances)


def _spans(buffers: Sequence[tuple[Buffer, Buffer]], address: Address) -> list[Span]:
    """Return where values lie: each with the buffer that it was, and the one that it is placed in."""
    return [
        Span(v.index, address(p), address(p) + v.size_bytes, v.begin_bytes, v.run_bytes, v.step_bytes)
        for v, p in buffers
    ]


def _distance(step: Step, kernel: Kernel | None, read: Buffer, write: Buffer, address: Address) -> int | None:
    """Return how far a kernel wants a buffer behind one that it writes, in every argument where it reads it."""
    if kernel is None:
        return None
    arguments = [i for i, buffer in enumerate(step.reads) if buffer == read]
    is_scratch = step.scratch is not None and write == step.scratch
    if not is_scratch and address(read) == address(write) and set(arguments) <= set(kernel.in_place):
        return 0
    known = {o.read: o.distance_bytes for o in kernel.overlaps if o.scratch == is_scratch}
    return max((known[i] for i in arguments), default=None) if set(arguments) <= set(known) else None
