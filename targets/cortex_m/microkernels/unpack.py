"""Weights of four bits, two to a byte, made bytes again: one kernel for each form of code.

See `tvm_tinyml.passes.weight_codes` for the codes.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm_tinyml.passes.weight_codes import GROUP, UPPER, Form
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import DSP, THUMB2, Microkernel

PARAMETERS = ("void *weights", "const int32_t *packed")
"""Both are aligned to 4 bytes."""


NAMES = {Form.TABLE: "table", Form.LANES: "lanes", Form.ODD: "odd", Form.HALVES: "halves"}


def unpack(form: Form, *, pairs: bool, dsp: bool) -> Microkernel:
    """Return the kernel for a form of code, with any number of runs: words, aligned to 4 bytes like the result.

    Parameters
    ----------
    pairs : two weights are ``first + 256 * second``.
    dsp : with the DSP extension.
    """
    begin, head, end = list[str](), list[str](), list[str]()
    written = GROUP
    match form:
        case Form.PLAIN:
            assert not pairs
            return _plain(dsp=dsp)
        case Form.TABLE:
            begin, group, end, written = _table_of_two(pairs), _looked_up(), ["add sp, sp, #512"], 0
        case Form.LANES:
            head, group = ["ldm r1!, {r10, r11}"], _with_lanes(pairs)
        case Form.ODD | Form.HALVES:
            # r10: the bytes of multipliers, up to a whole word
            head, group = ["mov r10, r1", "add r5, r9, #3", "bic r5, r5, #3", "add r1, r1, r5"], _with_two(form, pairs)
    return Microkernel(
        name=f"tinyml_unpack_{NAMES[form]}" + ("_pairs" if pairs else ""),
        parameters=PARAMETERS,
        assembly=_all_runs("r4-r11", begin, head, group, end, written),
        portable=portable(form, pairs=pairs),
        condition=THUMB2,
    )


def _all_runs(
    saved: str,
    begin: Sequence[str],
    head: Sequence[str],
    group: Sequence[str],
    end: Sequence[str] = (),
    written: int = 0,
) -> list[str]:
    """Return the loops around what unpacks a group: words r3 and r4, to r0; r2 and r9 count.

    Parameters
    ----------
    written : bytes that r0 still has to be moved by after a group.
    """
    return [
        *(f"push {{{saved}, lr}}", *begin),
        *("0:", "ldr r2, [r1], #4", "cmp r2, #0", "beq 9f"),
        *("uxth r9, r2", "lsrs r2, r2, #16", "cmp r9, #0", "beq 2f", *head),
        *(".p2align 2", "1:", "ldm r1!, {r3, r4}", *group, *([f"adds r0, #{written}"] if written else [])),
        *("subs r9, #1", "bne 1b"),
        *("2:", "subs r2, #1", "bmi 0b", "ldr r3, [r1], #4", "str r3, [r0], #4", "b 2b"),
        *("9:", *end, f"pop {{{saved}, pc}}"),
    ]


def _plain(*, dsp: bool) -> Microkernel:
    """Return the kernel for weights that are 8 less than their bits, four at a time.

    Parameters
    ----------
    dsp : bytes are subtracted by one instruction; else by three that let no borrow out of a byte.
    """
    low, high = (("r5", "r6"), ("r7", "r8"))
    code: list[str] = []
    for word, (first, second) in (("r3", low), ("r4", high)):
        code += [f"and {first}, {word}, #0x0f0f0f0f", f"lsr {word}, {word}, #4", f"and {second}, {word}, #0x0f0f0f0f"]
        for register in (first, second):
            code += [f"ssub8 {register}, {register}, r12"] if dsp else _subtracted(register)
    return Microkernel(
        name="tinyml_unpack_dsp" if dsp else "tinyml_unpack",
        parameters=PARAMETERS,
        assembly=_all_runs("r4-r9", ["mov r12, #0x08080808"], [], [*code, "stm r0!, {r5, r6, r7, r8}"]),
        portable=portable(Form.PLAIN, pairs=False),
        condition=DSP if dsp else THUMB2,
    )


def _subtracted(register: str) -> list[str]:
    """Take 8 off four bytes of at most 15: with the top bit set nothing is borrowed, and then it is turned."""
    return [
        f"orr {register}, {register}, #0x80808080",
        f"sub {register}, {register}, r12",
        f"eor {register}, {register}, #0x80808080",
    ]


def _bits(j: int) -> str:
    """Return where the bits of weight j of a group are: register, first bit, how many."""
    return f"{'r3' if j < 8 else 'r4'}, #{8 * (j % 4) + j % 8 // 4 * 4}, #4"


def _with_lanes(pairs: bool) -> list[str]:
    """Sixteen weights, each with a multiplier less 1 in r10 or r11: bits * (multiplier - 1) + bits."""
    code = list[str]()
    for j in range(GROUP):
        register = f"r{5 + j % 4}"
        code += [f"sbfx {register}, {_bits(j)}", f"ubfx lr, {'r10' if j < 8 else 'r11'}, #{4 * (j % 8)}, #4"]
        code += [f"mla {register}, {register}, lr, {register}", *(_stored(j - 3, pairs) if j % 4 == 3 else [])]
    return code


def _with_two(form: Form, pairs: bool) -> list[str]:
    """Sixteen weights with the two multipliers of the byte at r10."""
    code = ["ldrb r12, [r10], #1", "lsrs r11, r12, #4", "and r12, r12, #15"]
    for j in range(GROUP):
        register, multiplier = f"r{5 + j % 4}", "r11" if UPPER[form][j] else "r12"
        code += [f"sbfx {register}, {_bits(j)}", f"mla {register}, {register}, {multiplier}, {register}"]
        code += _stored(j - 3, pairs) if j % 4 == 3 else []
    return code


def _table_of_two(pairs: bool) -> list[str]:
    """Put on the stack what any two weights are, by the byte that says which."""
    return [
        *("sub sp, sp, #512", "mov r5, sp", "movs r2, #0"),
        *("7:", "ldrsb r3, [r1, r2]", "movs r4, #0"),
        *("8:", f"{'ldrsb' if pairs else 'ldrb'} r6, [r1, r4]", "adds r4, #1", "add r6, r6, r3, lsl #8"),
        *("strh r6, [r5], #2", "cmp r4, #16", "bne 8b", "adds r2, #1", "cmp r2, #16", "bne 7b"),
        "adds r1, #16",
    ]


def _looked_up() -> list[str]:
    """Sixteen weights, two at a time; loads one after the other take a cycle each."""
    code = list[str]()
    for word, made in (("r3", ("r5", "r6")), ("r4", ("r7", "r8"))):
        first, second, third = made[0], "r10", made[1]
        code += [f"uxtb {first}, {word}", f"uxtb {second}, {word}, ror #8", f"uxtb {third}, {word}, ror #16"]
        code += [f"lsr {word}, {word}, #24"]
        code += [f"ldrh {register}, [sp, {register}, lsl #1]" for register in (first, second, third, word)]
        code += [f"orr {first}, {first}, {second}, lsl #16", f"orr {third}, {third}, {word}, lsl #16"]
    return [*code, "stm r0!, {r5, r6, r7, r8}"]


def _stored(first: int, pairs: bool) -> list[str]:
    if not pairs:
        return [f"strb r{5 + i}, [r0, #{first + i}]" for i in range(4)]
    sums = [f"add r{5 + i}, r{5 + i}, r{6 + i}, lsl #8" for i in (0, 2)]
    return [*sums, *(f"strh r{5 + i}, [r0, #{first + i}]" for i in (0, 2))]


def portable(form: Form, *, pairs: bool) -> str:
    """Return the body in C."""
    before, head, multiplier = "", "", ""
    bits = "packed[j / 8] >> (8 * (j % 4) + 4 * (j % 8 / 4))"
    match form:
        case Form.PLAIN:
            weight = "bits - 8"
        case Form.TABLE:
            before = "  const int8_t *table = (const int8_t *)packed;\n  packed += 4;\n"
            weight, bits = "table[bits]", "packed[j / 8] >> (4 * (j % 8))"
        case Form.LANES:
            head = "    const int32_t *multipliers = packed;\n    if (left > 0) packed += 2;\n"
            weight, multiplier = "((bits ^ 8) - 8)", "multipliers[j / 8] >> (4 * (j % 8))"
        case Form.ODD | Form.HALVES:
            head = "    const uint8_t *multipliers = (const uint8_t *)packed;\n    packed += (left + 3) / 4;\n"
            bit = 1 if form is Form.ODD else 2
            weight, multiplier = "((bits ^ 8) - 8)", f"*multipliers >> (j & {bit} ? 4 : 0)"
    times = f" * (1 + (({multiplier}) & 0xf))" if multiplier else ""
    step = ", ++multipliers" if form in UPPER else ""
    pair = "        if (j % 2 != 0 && to[j - 1] < 0) --to[j];\n" if pairs else ""
    return f"""  int8_t *to = (int8_t *)weights;
{before}  while (*packed != 0) {{
    int32_t left = *packed & 0xffff, copied = (*packed >> 16) & 0xffff, j;
    ++packed;
{head}    for (; left > 0; --left, packed += 2, to += 16{step}) {{
      for (j = 0; j < 16; ++j) {{
        const int32_t bits = ({bits}) & 0xf;
        to[j] = (int8_t)({weight}{times});
{pair}      }}
    }}
    memcpy(to, packed, 4 * (size_t)copied);
    to += 4 * copied, packed += copied;
  }}
"""
