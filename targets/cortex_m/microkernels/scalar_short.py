"""What the Armv6-M needs several instructions for."""

from __future__ import annotations

POOL = ".ltorg"
"""Behind the return of code that uses `put` or `add`: the constants that are too large for an instruction."""

LARGEST = 255
"""Immediate of MOVS, ADDS and SUBS."""


def put(register: str, value: int) -> list[str]:
    """Put a constant into a low register."""
    return [f"movs {register}, #{value}" if 0 <= value <= LARGEST else f"ldr {register}, ={value}"]


def add(register: str, value: int, spare: str) -> list[str]:
    """Add a constant to a register; both are low, and ``spare`` is overwritten where an immediate does not do."""
    if value == 0:
        return []
    if abs(value) <= LARGEST:
        return [f"{'adds' if value > 0 else 'subs'} {register}, #{abs(value)}"]
    return [*put(spare, value), f"add {register}, {spare}"]
