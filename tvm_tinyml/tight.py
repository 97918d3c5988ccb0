"""Where a workspace is full, and whether it would shrink if what lies there between two operators did not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tvm_tinyml.passes.integer_ops import CONV2D_THEN
from tvm_tinyml.program import ALIGNMENT_BYTES, Buffer, Place, Program, Step

_FIRSTS = ("conv2d", "depthwise_conv2d")
_SECONDS = [fused.name.removeprefix("conv2d_") for fused in CONV2D_THEN.values()]


def may_shrink(program: Program) -> bool:
    """Return whether convolutions that are one with the operators behind them could make the workspace smaller.

    That takes a result of a convolution, on the way to such an operator, whenever the workspace is full: other moments
    stay as they are.
    """
    pairs = list(_pairs(program))
    full = [i for i in range(len(program.steps)) if _is_full(program, i)]
    return bool(pairs) and all(any(first <= i <= last for first, last in pairs) for i in full)


def _pairs(program: Program) -> Iterator[tuple[int, int]]:
    """Yield the calls of each convolution and the operator behind it, of whose operands it is the last one computed."""
    for last, step in enumerate(program.steps):
        if _kind(program, step) in _SECONDS:
            before = program.steps[:last]
            writers = (i for i, s in enumerate(before) if any(_meet(r, w) for r in step.reads for w in s.writes))
            first = max(writers, default=last)
            if _kind(program, program.steps[first]) in _FIRSTS:
                yield first, last


def _kind(program: Program, step: Step) -> str:
    return program.kernels[step.kernel].kind if step.kernel else ""


def _meet(a: Buffer, b: Buffer) -> bool:
    same = a.place is b.place is Place.WORKSPACE and a.index == b.index
    return same and a.begin_bytes < b.end_bytes and b.begin_bytes < a.end_bytes


def _is_full(program: Program, step: int) -> bool:
    """Return whether all of the workspace is in use during a call."""
    used = np.zeros(-(-program.workspace_bytes // ALIGNMENT_BYTES), np.bool_)
    for region in program.regions.values():
        if region.first <= step <= region.last:
            end = region.offset_bytes + region.size_bytes
            used[region.offset_bytes // ALIGNMENT_BYTES : -(-end // ALIGNMENT_BYTES)] = True
    return bool(used.all())
