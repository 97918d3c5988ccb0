"""Whether what is recorded of a choice is what it costs."""

from __future__ import annotations

from tvm_tinyml.tuning.measure import Measured
from tvm_tinyml.tuning.records import Record

CYCLES = 0.05
"""Part of the cycles by which layers of one key may differ: numbers that are part of the code of schedules move its
loops in flash, and some kernels branch on data."""

CODE, CODE_BYTES = 0.1, 64
"""The same for code, whose instructions are longer for some numbers, and bytes that make no difference."""


def disagreement(noted: Record, now: Record | Measured) -> str:
    """Return what does not hold of a record, with both numbers; nothing if it holds."""
    for memory, cycles in noted.cycles.items():
        found = now.cycles.get(memory)
        if found is not None and abs(found - cycles) > CYCLES * cycles:
            return f"{cycles:,} cycles in {memory} are noted, and it takes {found:,}"
    if now.workspace_bytes != noted.workspace_bytes:
        return f"{noted.workspace_bytes:,} bytes of workspace are noted, and it takes {now.workspace_bytes:,}"
    if abs(now.code_bytes - noted.code_bytes) > max(CODE * noted.code_bytes, CODE_BYTES):
        return f"{noted.code_bytes:,} bytes of code are noted, and it takes {now.code_bytes:,}"
    return ""
