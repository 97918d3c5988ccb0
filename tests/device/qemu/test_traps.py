"""Which access an instruction makes, known by its code."""

from __future__ import annotations

import pytest
from device.thumb import program

from tvm_tinyml.device import ElfObject
from tvm_tinyml.device.qemu.traps import access_of

ACCESSES = {
    "ldr r0, [r1]": ("reads", 4), "ldr r0, [r1, r2]": ("reads", 4), "ldr r0, [sp, #4]": ("reads", 4),
    "ldr r0, 1f;1: nop": ("reads", 4), "ldrh r0, [r1]": ("reads", 2), "ldrh r0, [r1, r2]": ("reads", 2),
    "ldrsh r0, [r1, r2]": ("reads", 2), "ldrb r0, [r1]": ("reads", 1), "ldrb r0, [r1, r2]": ("reads", 1),
    "ldrsb r0, [r1, r2]": ("reads", 1), "ldmia r0!, {r1, r2}": ("reads", 4), "pop {r0, pc}": ("reads", 4),
    "str r0, [r1]": ("writes", 4), "str r0, [r1, r2]": ("writes", 4), "str r0, [sp, #4]": ("writes", 4),
    "strh r0, [r1]": ("writes", 2), "strh r0, [r1, r2]": ("writes", 2), "strb r0, [r1]": ("writes", 1),
    "strb r0, [r1, r2]": ("writes", 1), "stmia r0!, {r1, r2}": ("writes", 4), "push {r0, lr}": ("writes", 4),
    "ldr.w r0, [r1, #100]": ("reads", 4), "ldrh.w r9, [r1], #2": ("reads", 2), "ldrsb.w r9, [r1, r2]": ("reads", 1),
    "str.w r9, [r1, r2, lsl #2]": ("writes", 4), "strh.w r9, [r1]": ("writes", 2), "strb.w r9, [r1]": ("writes", 1),
    "ldmia.w r0, {r1, r9}": ("reads", 4), "stmdb r0!, {r1, r9}": ("writes", 4), "ldrd r0, r1, [r2]": ("reads", 4),
    "strd r0, r1, [r2]": ("writes", 4), "vldr s0, [r0]": ("reads", 4), "vstr d0, [r0]": ("writes", 4),
    "vldmia r0, {s0-s3}": ("reads", 4), "vpush {d8}": ("writes", 4),
    "vldrb.u8 q0, [r0]": None, "vstrw.32 q0, [r0]": None,
    "movs r0, #1": None, "cbz r0, 1f;nop;1: nop": None, "add sp, #8": None, "bx lr": None, "b.w 1f;1: nop": None,
    "mul r0, r1, r2": None, "vadd.f32 s0, s1, s2": None,
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ACCESSES.items(), ids=list(ACCESSES))
def test_an_access_is_known_by_its_code(text: str, expected: tuple[str, int] | None) -> None:
    parsed = ElfObject.parse(program("f", text, "cortex-m55"))
    (section,) = (s for s in parsed.sections if s.name == ".text.f")
    assert access_of(section.data[:4]) == expected


def test_code_that_is_not_there_is_no_access() -> None:
    assert access_of(b"") is None
