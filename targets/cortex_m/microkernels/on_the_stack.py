"""Microkernels for cores with the DSP extension but without floating-point registers: those are words on the stack.

Generators use floating-point registers as a store of words: they move them, and load them from memory. Each move
becomes one load or store, which takes a cycle more than the move where it stands alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from tvm_tinyml.targets.cortex_m.microkernels.microkernel import DSP, DSP_AND_FP

_MOVE = re.compile(r"vmov(?P<condition>\w\w)? (?P<operands>.+)")
_LOAD = re.compile(r"vldm(ia)? (?P<base>\w+)(?P<advance>!?), \{(?P<list>.+)\}")
_STACK = re.compile(r"(?P<head>.*\[sp)(, #(?P<offset>\d+))?(?P<tail>\].*)")
_ADDRESS = re.compile(r"(?P<head>add \w+, sp, #)(?P<offset>\d+)")
_C_FORM = re.compile(r"(?<=__asm__ volatile\(\n)(?P<text>.*?)(?=\);\n)", re.DOTALL)


def assembly_on_the_stack(text: str) -> str:
    """Return an assembly function without floating-point registers."""
    return "\n".join(_rewritten(text.split("\n")))


def c_on_the_stack(text: str) -> str:
    """Return the C form of the same."""

    def rewritten(found: re.Match[str]) -> str:
        lines = [line.strip().removeprefix('"').removesuffix('\\n"') for line in found["text"].splitlines()]
        return "\n".join(f'    "{line}\\n"' for line in _rewritten(lines))

    return _C_FORM.sub(rewritten, text).replace(DSP_AND_FP, DSP)


def _rewritten(lines: Sequence[str]) -> list[str]:
    lines = [line for line in lines if not line.startswith(("vpush", "vpop"))]  # there is nothing to save
    registers = [int(number) for line in lines if line.startswith("v") for number in re.findall(r"\bs(\d+)\b", line)]
    if not registers:
        return list(lines)
    instructions = [line for line in lines if line and not line.startswith(".") and not line.endswith(":")]
    assert instructions[0].startswith("push"), "words on the stack are made room for behind a push"
    size = 4 * (max(registers) + 2)  # and a word for a register that loads need
    return [new for line in lines for new in _line(line, size)]


def _line(line: str, size: int) -> Iterator[str]:
    rules: dict[str, Callable[[], Iterator[str]]] = {"vmov": lambda: _moves(line), "vldm": lambda: _loads(line, size)}
    for start, rule in rules.items():
        if line.startswith(start):
            yield from rule()
            return
    assert not line.startswith("v"), f"no word on the stack does what '{line}' does"
    if line.startswith("pop"):
        yield f"add sp, #{size}"
    stack = _STACK.fullmatch(line) or _ADDRESS.fullmatch(line)
    if stack is None:
        yield line
    elif "[" in line:
        yield f"{stack['head']}, #{int(stack['offset'] or 0) + size}{stack['tail']}"
    else:
        yield f"{stack['head']}{int(stack['offset']) + size}"
    if line.startswith("push"):
        yield f"sub sp, #{size}"


def _home(register: str) -> str:
    return f"[sp, #{4 * int(register.removeprefix('s'))}]"


def _is_float(register: str) -> bool:
    return re.fullmatch(r"s\d+", register) is not None


def _moves(line: str) -> Iterator[str]:
    """One register or two from one side to the other."""
    found = _MOVE.fullmatch(line)
    assert found is not None, line
    operands, condition = found["operands"].split(", "), found["condition"] or ""
    half = len(operands) // 2
    for to, by in zip(operands[:half], operands[half:], strict=True):
        assert _is_float(to) != _is_float(by), line
        yield f"ldr{condition} {to}, {_home(by)}" if _is_float(by) else f"str{condition} {by}, {_home(to)}"


def _loads(line: str, size: int) -> Iterator[str]:
    """Load words one by one through a register that is saved."""
    found = _LOAD.fullmatch(line)
    assert found is not None, line
    base, spare = found["base"], "r3" if found["base"] != "r3" else "r2"
    yield f"str {spare}, [sp, #{size - 4}]"
    for i, register in enumerate(_listed(found["list"])):
        yield f"ldr {spare}, [{base}], #4" if found["advance"] else f"ldr {spare}, [{base}, #{4 * i}]"
        yield f"str {spare}, {_home(register)}"
    yield f"ldr {spare}, [sp, #{size - 4}]"


def _listed(registers: str) -> Iterator[str]:
    for part in registers.split(", "):
        first, _, last = part.partition("-")
        for number in range(int(first[1:]), int((last or first)[1:]) + 1):
            yield f"s{number}"
