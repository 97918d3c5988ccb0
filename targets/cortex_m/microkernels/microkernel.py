"""A function written as assembly by one of our generators, with a body in C that does the same anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

DSP = "defined(__ARM_FEATURE_DSP)"
DSP_AND_FP = f"{DSP} && defined(__ARM_FP)"
THUMB2 = "defined(__thumb2__)"
THUMB1 = "defined(__thumb__)"
"""When the C form takes the assembly: the compiler's own word that the core has what a generator uses. Thumb-2 has all
of Thumb-1."""


@dataclass(frozen=True)
class Microkernel:
    """The innermost loops of a kernel, with registers allocated by hand.

    Constants, scratch and whatever else is words are aligned to 4 bytes. Tensors of bytes are aligned to nothing; where
    words of them are accessed all the same, the generator says so: it takes a cycle more, and Armv6-M does not allow
    it. LDM, STM, LDRD, STRD and VLDM, which no core allows at other addresses, are for words alone.

    Attributes
    ----------
    name : everything that its code depends on, so that equal names mean equal code.
    parameters : in C; arguments beyond the fourth are on the stack.
    assembly : instructions in unified syntax, from the entry to the return.
    portable : the body of the function in C99, without its braces.
    condition : of the preprocessor, for the assembly in the C form.
    """

    name: str
    parameters: Sequence[str]
    assembly: Sequence[str]
    portable: str
    condition: str = DSP_AND_FP

    def as_assembly(self) -> str:
        """Return the function in a section of its own; its symbol is local."""
        head = (f'.section .text.{self.name},"ax",%progbits', ".p2align 2", f".type {self.name},%function")
        tail = (f".size {self.name}, . - {self.name}",)
        return "\n".join([*head, ".thumb_func", f"{self.name}:", *self.assembly, *tail, ""])

    def as_c(self) -> str:
        """Return the function as C: the same assembly where the compiler has the instructions, else the body in C."""
        unused = ", ".join(f"{parameter} __attribute__((unused))" for parameter in self.parameters)
        # GCC would read Thumb-1 in the older syntax.
        lines = [*([".syntax unified"] if self.condition == THUMB1 else []), *self.assembly]
        text = "\n".join(f'    "{line}\\n"' for line in lines)
        return (
            f"#if defined(__GNUC__) && {self.condition}\n"
            f"__attribute__((naked, noinline)) static void {self.name}({unused}) {{\n"
            f"  __asm__ volatile(\n{text});\n}}\n"
            f"#else\n"
            f"static void {self.name}({', '.join(self.parameters)}) {{\n{self.portable}}}\n"
            f"#endif\n"
        )


def texts(microkernels: Sequence[Microkernel]) -> dict[str, Mapping[str, str]]:
    """Return the attributes by which a PrimFunc carries the microkernels that it calls, by name."""
    return {
        "tinyml.assembly": {m.name: m.as_assembly() for m in microkernels},
        "tinyml.c": {m.name: m.as_c() for m in microkernels},
    }


def move(register: str, value: int) -> list[str]:
    """Put a constant of 0 to 2**32 - 1 into a register."""
    low, high = value & 0xFFFF, value >> 16 & 0xFFFF
    return [f"movw {register}, #{low}", *([f"movt {register}, #{high}"] if high else [])]


def add(register: str, source: str, value: int, spare: str) -> list[str]:
    """Add a constant of -2**31 to 2**31 - 1; ``spare`` is overwritten when it does not fit an instruction."""
    if value == 0:
        return [] if register == source else [f"mov {register}, {source}"]
    if abs(value) < 4096:
        return [f"{'addw' if value > 0 else 'subw'} {register}, {source}, #{abs(value)}"]
    return [*move(spare, value & 0xFFFF_FFFF), f"add {register}, {source}, {spare}"]
