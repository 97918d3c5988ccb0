"""Weights of four bits, two to a byte, made bytes again by the instructions of the Armv6-M: see `unpack`."""

from __future__ import annotations

from tvm_tinyml.passes.weight_codes import GROUP, UPPER, Form
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import THUMB1, Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.unpack import NAMES, PARAMETERS, portable


def unpack_short(form: Form, *, pairs: bool) -> Microkernel:
    """Return the kernel for a form of code: its arguments are those of `unpack.unpack`.

    r0 and r1 move, r7 counts groups and r12 holds how many words behind them are copied. With multipliers r6 points to
    them, or is the weight's own; with a table it points to that.
    """
    begin, head, group = list[str](), list[str](), list[str]()
    match form:
        case Form.TABLE:
            begin = ["mov r6, r1", "adds r1, #16"]
            for byte in range(GROUP // 2):
                group += [f"ldrb r3, [r1, #{byte}]", "lsls r2, r3, #28", "lsrs r2, r2, #28", "lsrs r3, r3, #4"]
                group += ["ldrsb r2, [r6, r2]", "ldrsb r3, [r6, r3]", *_stored(2 * byte, pairs)]
        case Form.LANES:
            head = ["ldm r1!, {r4, r5}"]
        case Form.ODD | Form.HALVES:
            head = ["mov r6, r1", "adds r3, r7, #3", "lsrs r3, r3, #2", "lsls r3, r3, #2", "adds r1, r1, r3"]
            group = ["ldrb r5, [r6]", "adds r6, #1", "lsls r4, r5, #28", "lsrs r4, r4, #28", "adds r4, #1"]
            group += ["lsrs r5, r5, #4", "adds r5, #1"]
    if form is not Form.TABLE:
        for j in range(0, GROUP, 2):
            group += [*_weight(form, j, "r2"), *_weight(form, j + 1, "r3"), *_stored(j, pairs)]
    return Microkernel(
        name=f"tinyml_unpack_short{f'_{NAMES[form]}' if form in NAMES else ''}" + ("_pairs" if pairs else ""),
        parameters=PARAMETERS,
        assembly=[
            *("push {r4-r7, lr}", *begin),
            # Conditional branches reach 256 bytes only: they go around others.
            *("0:", "ldm r1!, {r2}", "cmp r2, #0", "bne 1f", "pop {r4-r7, pc}"),
            *("1:", "uxth r7, r2", "lsrs r2, r2, #16", "mov r12, r2", "cmp r7, #0", "bne 2f", "b 4f"),
            *("2:", *head),
            *("3:", *group, "adds r0, #16", "adds r1, #8", "subs r7, #1", "beq 4f", "b 3b"),
            *("4:", "mov r2, r12"),
            *("5:", "subs r2, #1", "bpl 6f", "b 0b"),
            *("6:", "ldm r1!, {r3}", "stm r0!, {r3}", "b 5b"),
        ],
        portable=portable(form, pairs=pairs),
        condition=THUMB1,
    )


def _weight(form: Form, j: int, register: str) -> list[str]:
    """Return what makes weight j of a group."""
    upper = j % 8 // 4
    lines = [f"ldrb {register}, [r1, #{j // 8 * 4 + j % 4}]"]
    if form is Form.PLAIN:
        cut = ["lsrs {0}, {0}, #4"] if upper else ["lsls {0}, {0}, #28", "lsrs {0}, {0}, #28"]
        return [*lines, *(line.format(register) for line in cut), f"subs {register}, #8"]
    lines += [f"lsls {register}, {register}, #{24 if upper else 28}", f"asrs {register}, {register}, #28"]
    if form is Form.LANES:
        word = "r4" if j < 8 else "r5"
        lines += [f"lsls r6, {word}, #{28 - 4 * (j % 8)}", "lsrs r6, r6, #28", "adds r6, #1"]
        return [*lines, f"muls {register}, r6, {register}"]
    return [*lines, f"muls {register}, {'r5' if UPPER[form][j] else 'r4'}, {register}"]


def _stored(j: int, pairs: bool) -> list[str]:
    """Store weights j and j + 1, in r2 and r3."""
    if pairs:
        return ["lsls r3, r3, #8", "adds r3, r3, r2", f"strh r3, [r0, #{j}]"]
    return [f"strb r2, [r0, #{j}]", f"strb r3, [r0, #{j + 1}]"]
