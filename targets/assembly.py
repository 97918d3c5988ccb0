"""The microkernels that kernels carry along as text: what they are called, and whether they touch the FPU."""

from __future__ import annotations

import re

from tvm import IRModule, tirx

_FPU = re.compile(r"^v\w+", re.MULTILINE)


def assembly_of(function: tirx.PrimFunc) -> dict[str, str]:
    """Return the assembly of the microkernels that a kernel calls, by name."""
    return {str(name): str(text) for name, text in (function.attrs.get("tinyml.assembly") or {}).items()}


def c_of(function: tirx.PrimFunc) -> dict[str, str]:
    """Return the C of the microkernels that a kernel calls, by name."""
    return {str(name): str(text) for name, text in (function.attrs.get("tinyml.c") or {}).items()}


def callees(functions: IRModule) -> dict[str, set[str]]:
    """Return for each kernel, by its symbol, the names of its microkernels."""
    return {str(func.attrs["global_symbol"]): set(assembly_of(func)) for func in functions.functions.values()}


def uses_fpu(functions: IRModule) -> bool:
    """Return whether any microkernel touches a register of the FPU."""
    return any(_FPU.search(text) for func in functions.functions.values() for text in assembly_of(func).values())
