"""Assemble Thumb code with the LLVM inside TVM, so that no toolchain is needed."""

from __future__ import annotations

from functools import lru_cache

from tvm_tinyml.device.strip import strip
from tvm_tinyml.errors import DeviceError

_TRIPLES = {
    "cortex-m0plus": "thumbv6m-none-eabi",
    "cortex-m3": "thumbv7m-none-eabi",
    "cortex-m4": "thumbv7em-none-eabihf",
    "cortex-m7": "thumbv7em-none-eabihf",
    "cortex-m33": "thumbv8m.main-none-eabihf",
    "cortex-m55": "thumbv8.1m.main-none-eabihf",
    "cortex-m85": "thumbv8.1m.main-none-eabihf",
}


@lru_cache(maxsize=256)
def assemble(source: str, core: str = "cortex-m0plus") -> bytes:
    """Turn assembly source into a relocatable object without debug or unwind sections.

    For source that a program generates, not for a user's: LLVM prints an error in it and ends the whole process.

    Parameters
    ----------
    source : lines in unified syntax, Thumb. Name a section first; what stands in ``.text`` itself is dropped.
    core : cortex-m0plus, -m3, -m4, -m7, -m33, -m55 or -m85; decides which instructions are legal.

    Raises
    ------
    DeviceError : the core is unknown.
    """
    if core not in _TRIPLES:
        raise DeviceError(f"cannot assemble for '{core}'; known are {', '.join(_TRIPLES)}")
    # tvm takes over a second to import, and most users of this package need no assembler
    from tvm_tinyml.llvm import compile_text

    lines = (".syntax unified", ".thumb", *source.splitlines())
    text = "".join(f'module asm "{_escape(line)}"\n' for line in lines)
    target = {"kind": "llvm", "mtriple": _TRIPLES[core], "mcpu": core, "num-cores": 1, "vector-width": 32}
    return strip(compile_text(text, target), "assembled source", discard=(".text",))


def _escape(line: str) -> str:
    if line.isascii() and line.isprintable() and '"' not in line and "\\" not in line:
        return line
    return "".join(c if c.isprintable() and c.isascii() and c not in '"\\' else f"\\{ord(c):02X}" for c in line)
