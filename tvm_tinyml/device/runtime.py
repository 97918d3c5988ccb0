"""The functions that compiled code calls without being asked to, as our own Armv6-M assembly.

A library for a bare device needs memcpy, memset and, on small cores, 64-bit arithmetic and division. Firmware takes
them from its toolchain; the simulator has none, so it takes these. They run on every Cortex-M.

Interfaces: "Run-time ABI for the Arm Architecture" (RTABI32), sections "Integer functions" and "Memory copying,
clearing, and setting"; __clzsi2, __divsi3 and their like are GCC's names, which objects for the GNU environment use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from tvm_tinyml.device.assembler import assemble
from tvm_tinyml.device.elf import UNDEFINED, ElfObject


@dataclass(frozen=True)
class Routine:
    """Functions that share code; ``body`` has a label for each of ``names``."""

    names: tuple[str, ...]
    body: str

    def source(self) -> str:
        """The assembly source, in a section of its own."""
        head = [f'.section .text.runtime.{self.names[0]},"ax",%progbits', ".balign 4"]
        # Weak, so that a program that brings its own memcpy but takes our memmove does not meet two memcpy.
        head += [f".weak {name}\n.type {name},%function" for name in self.names]
        tail = [f".size {name}, . - {name}" for name in self.names]
        return "\n".join([*head, self.body, *tail])


# Copies 16 bytes at a time where both pointers are aligned; single bytes, last one first, elsewhere.
_COPY = """
__aeabi_memcpy8:
__aeabi_memcpy4:
__aeabi_memcpy:
memcpy:
.Lcopy:
    mov     r12, r0
    mov     r3, r0
    orrs    r3, r1
    lsls    r3, r3, #30
    bne     .Lbytes
    subs    r2, #16
    blo     .Lfew_words
    push    {r4, r5, r6}
.Lblocks:
    ldmia   r1!, {r3, r4, r5, r6}
    stmia   r0!, {r3, r4, r5, r6}
    subs    r2, #16
    bhs     .Lblocks
    pop     {r4, r5, r6}
.Lfew_words:
    adds    r2, #12
    bmi     .Lno_word
.Lwords:
    ldmia   r1!, {r3}
    stmia   r0!, {r3}
    subs    r2, #4
    bpl     .Lwords
.Lno_word:
    adds    r2, #4
.Lbytes:
    subs    r2, #1
    blo     .Lcopied
.Lbyte:
    ldrb    r3, [r1, r2]
    strb    r3, [r0, r2]
    subs    r2, #1
    bhs     .Lbyte
.Lcopied:
    mov     r0, r12
    bx      lr

__aeabi_memmove8:
__aeabi_memmove4:
__aeabi_memmove:
memmove:
    subs    r3, r0, r1
    cmp     r3, r2
    bhs     .Lnot_behind
    subs    r2, #1          /* the destination begins inside of the source: last byte first */
    blo     .Lmoved
.Lbackward:
    ldrb    r3, [r1, r2]
    strb    r3, [r0, r2]
    subs    r2, #1
    bhs     .Lbackward
.Lmoved:
    bx      lr
.Lnot_behind:
    subs    r3, r1, r0
    cmp     r3, r2
    bhs     .Lcopy          /* no overlap */
    mov     r12, r0
.Lforward:
    ldrb    r3, [r1]
    strb    r3, [r0]
    adds    r1, #1
    adds    r0, #1
    subs    r2, #1
    bne     .Lforward
    mov     r0, r12
    bx      lr
"""

# memset(pointer, value, size), but __aeabi_memset(pointer, size, value): the ABI's order differs from C's.
_SET = """
__aeabi_memclr8:
__aeabi_memclr4:
__aeabi_memclr:
    movs    r2, #0
__aeabi_memset8:
__aeabi_memset4:
__aeabi_memset:
    mov     r3, r1
    mov     r1, r2
    mov     r2, r3
memset:
    mov     r12, r0
    uxtb    r1, r1
    lsls    r3, r1, #8
    orrs    r1, r3
    lsls    r3, r1, #16
    orrs    r1, r3
.Lalign:
    lsls    r3, r0, #30
    beq     .Laligned
    subs    r2, #1
    blo     .Lset
    strb    r1, [r0]
    adds    r0, #1
    b       .Lalign
.Laligned:
    subs    r2, #16
    blo     .Lno_block
    push    {r4, r5}
    mov     r3, r1
    mov     r4, r1
    mov     r5, r1
.Lblock:
    stmia   r0!, {r1, r3, r4, r5}
    subs    r2, #16
    bhs     .Lblock
    pop     {r4, r5}
.Lno_block:
    adds    r2, #12
    bmi     .Lno_word
.Lword:
    stmia   r0!, {r1}
    subs    r2, #4
    bpl     .Lword
.Lno_word:
    adds    r2, #4
    subs    r2, #1
    blo     .Lset
.Lbyte:
    strb    r1, [r0, r2]
    subs    r2, #1
    bhs     .Lbyte
.Lset:
    mov     r0, r12
    bx      lr
"""

# 64-bit product from 16-bit halves of the low words, since Armv6-M has no long multiplication.
_MULTIPLY = """
__muldi3:
__aeabi_lmul:
    push    {r4, r5}
    muls    r1, r2, r1
    muls    r3, r0, r3
    adds    r1, r1, r3
    lsrs    r3, r0, #16
    uxth    r0, r0
    lsrs    r4, r2, #16
    uxth    r2, r2
    mov     r5, r3
    muls    r5, r4, r5
    adds    r1, r1, r5
    muls    r3, r2, r3
    muls    r4, r0, r4
    muls    r0, r2, r0
    lsls    r5, r3, #16
    lsrs    r3, r3, #16
    adds    r0, r0, r5
    adcs    r1, r3
    lsls    r5, r4, #16
    lsrs    r4, r4, #16
    adds    r0, r0, r5
    adcs    r1, r4
    pop     {r4, r5}
    bx      lr
"""

# A shift by a register uses its low byte; 32 to 255 shift everything out. So of the two parts that the far word
# contributes, one for shifts below 32 and one for those above, the other one is 0, or both are equal.
_SHIFT_LEFT = """
__ashldi3:
__aeabi_llsl:
    lsls    r1, r2
    mov     r3, r0
    lsls    r0, r2
    mov     r12, r3
    subs    r2, #32
    lsls    r3, r2
    orrs    r1, r3
    rsbs    r2, r2, #0
    mov     r3, r12
    lsrs    r3, r2
    orrs    r1, r3
    bx      lr
"""

_SHIFT_RIGHT = """
__lshrdi3:
__aeabi_llsr:
    lsrs    r0, r2
    mov     r3, r1
    lsrs    r1, r2
    mov     r12, r3
    subs    r2, #32
    lsrs    r3, r2
    orrs    r0, r3
    rsbs    r2, r2, #0
    mov     r3, r12
    lsls    r3, r2
    orrs    r0, r3
    bx      lr
"""

_SHIFT_RIGHT_SIGNED = """
__ashrdi3:
__aeabi_lasr:
    lsrs    r0, r2
    mov     r3, r1
    asrs    r1, r2
    subs    r2, #32
    bmi     .Lbelow_32
    asrs    r3, r2
    mov     r0, r3
    bx      lr
.Lbelow_32:
    rsbs    r2, r2, #0
    lsls    r3, r2
    orrs    r0, r3
    bx      lr
"""

# Division by 0 gives quotient 0 and the dividend as remainder, as the SDIV and UDIV instructions do.
_DIVIDE = """
__modsi3:
    push    {r4, lr}
    bl      .Lsigned
    mov     r0, r1
    pop     {r4, pc}

__umodsi3:
    push    {r4, lr}
    bl      .Ldivide
    mov     r0, r1
    pop     {r4, pc}

__divsi3:
__aeabi_idiv:
__aeabi_idivmod:
.Lsigned:
    push    {r4, r5, r6, lr}
    asrs    r4, r0, #31
    asrs    r5, r1, #31
    eors    r0, r4
    subs    r0, r0, r4
    eors    r1, r5
    subs    r1, r1, r5
    eors    r5, r4
    bl      .Ldivide
    eors    r0, r5
    subs    r0, r0, r5
    eors    r1, r4
    subs    r1, r1, r4
    pop     {r4, r5, r6, pc}

__udivsi3:
__aeabi_uidiv:
__aeabi_uidivmod:
.Ldivide:
    cmp     r1, #0
    beq     .Lby_zero
    movs    r2, #0
    movs    r3, #1
.Lscale:
    cmp     r1, r0
    bhs     .Lsubtract
    cmp     r1, #0
    bmi     .Lsubtract
    lsls    r1, r1, #1
    lsls    r3, r3, #1
    b       .Lscale
.Lsubtract:
    cmp     r0, r1
    blo     .Lnext_bit
    subs    r0, r0, r1
    orrs    r2, r3
.Lnext_bit:
    lsrs    r1, r1, #1
    lsrs    r3, r3, #1
    bne     .Lsubtract
    mov     r1, r0
    mov     r0, r2
    bx      lr
.Lby_zero:
    mov     r1, r0
    movs    r0, #0
    bx      lr
"""

_LEADING_ZEROS = """
__clzsi2:
    movs    r1, #32
    lsrs    r2, r0, #16
    beq     .Lbelow_16
    mov     r0, r2
    subs    r1, #16
.Lbelow_16:
    lsrs    r2, r0, #8
    beq     .Lbelow_8
    mov     r0, r2
    subs    r1, #8
.Lbelow_8:
    lsrs    r2, r0, #4
    beq     .Lbelow_4
    mov     r0, r2
    subs    r1, #4
.Lbelow_4:
    lsrs    r2, r0, #2
    beq     .Lbelow_2
    mov     r0, r2
    subs    r1, #2
.Lbelow_2:
    lsrs    r2, r0, #1
    beq     .Lone_bit
    subs    r0, r1, #2
    bx      lr
.Lone_bit:
    subs    r0, r1, r0
    bx      lr
"""


def _sized(name: str) -> tuple[str, ...]:
    """The variants for pointers that are known to be aligned to 4 and 8 bytes."""
    return name, f"{name}4", f"{name}8"


ROUTINES = (
    Routine(("memcpy", "memmove", *_sized("__aeabi_memcpy"), *_sized("__aeabi_memmove")), _COPY),
    Routine(("memset", *_sized("__aeabi_memset"), *_sized("__aeabi_memclr")), _SET),
    Routine(("__aeabi_lmul", "__muldi3"), _MULTIPLY),
    Routine(("__aeabi_llsl", "__ashldi3"), _SHIFT_LEFT),
    Routine(("__aeabi_llsr", "__lshrdi3"), _SHIFT_RIGHT),
    Routine(("__aeabi_lasr", "__ashrdi3"), _SHIFT_RIGHT_SIGNED),
    Routine(
        (
            "__aeabi_uidiv",
            "__aeabi_uidivmod",
            "__aeabi_idiv",
            "__aeabi_idivmod",
            "__divsi3",
            "__udivsi3",
            "__modsi3",
            "__umodsi3",
        ),
        _DIVIDE,
    ),
    Routine(("__clzsi2",), _LEADING_ZEROS),
)
"""All routines; none needs another one."""

SUPPLIED = frozenset(name for routine in ROUTINES for name in routine.names)
"""Every symbol that the runtime can define; what a bare library may leave undefined."""


def supplements(objects: Sequence[ElfObject]) -> list[ElfObject]:
    """The runtime objects that define symbols which ``objects`` need and do not define themselves."""
    defined = {s.name for o in objects for s in o.symbols if not s.local and s.section != UNDEFINED}
    needed = {s.name for o in objects for s in o.symbols if not s.local and s.section == UNDEFINED} - defined
    return [_object(routine) for routine in ROUTINES if needed.intersection(routine.names)]


@cache
def _object(routine: Routine) -> ElfObject:
    return ElfObject.parse(assemble(routine.source()), f"runtime object '{routine.names[0]}'")
