"""The object form of what is not a kernel: constants and ``run``, as LLVM IR text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.program import ALIGNMENT_BYTES, Buffer, Place, Program, Step

ERROR_NULL, ERROR_ALIGNMENT = -1, -2


def main_ir(program: Program) -> str:
    """Return LLVM IR of the constants and of ``<prefix>_run``."""
    return "\n".join(
        [
            *(_constant(program, i, array) for i, array in enumerate(program.constants)),
            "declare void @llvm.memcpy.p0.p0.i32(ptr, ptr, i32, i1)",
            *_declarations(program),
            _run(program),
        ]
    )


def _constant(program: Program, index: int, array: NDArray[np.generic]) -> str:
    digits = array.astype(array.dtype.newbyteorder("<")).tobytes().hex("\\").upper()
    data = f"\\{digits}" if digits else ""
    kind = "global" if index in program.in_ram else "constant"
    name = f"@{program.prefix}_constant_{index}"
    return f'{name} = dso_local {kind} [{array.nbytes} x i8] c"{data}", section "{program.section_of(index)}", align 4'


def _declarations(program: Program) -> list[str]:
    arity = {step.kernel: len(step.operands) + (step.scratch is not None) for step in program.steps if step.kernel}
    return [f"declare void @{kernel}({', '.join(['ptr'] * count)})" for kernel, count in arity.items()]


def _run(program: Program) -> str:
    body = _Body()
    inputs = [b for b in program.input_buffers if b.place is Place.INPUT]
    outputs = [b for b in program.output_buffers if b.place is Place.OUTPUT]
    arguments = [*(["%inputs"] if inputs else []), *(["%outputs"] if outputs else []), "%pools"]
    for argument in arguments:
        body.fail_if(f"icmp eq ptr {argument}, null", ERROR_NULL)
    for parent, buffers in (("%inputs", inputs), ("%outputs", outputs)):
        for position, buffer in enumerate(buffers):
            pointer = f"%{buffer.place.value}_{buffer.index}"
            body.add(f"%field_{buffer.place.value}_{buffer.index} = getelementptr ptr, ptr {parent}, i32 {position}")
            body.add(f"{pointer} = load ptr, ptr %field_{buffer.place.value}_{buffer.index}")
            body.fail_if(f"icmp eq ptr {pointer}, null", ERROR_NULL)
            if buffer.alignment_bytes > 1:
                body.fail_if_misaligned(pointer, buffer.alignment_bytes)
    for position, pool in enumerate(program.pools):
        name = f"%pool_{pool.name}"
        body.add(f"{name}_field = getelementptr ptr, ptr %pools, i32 {position}")
        body.add(f"{name} = load ptr, ptr {name}_field")
        if pool.size_bytes:
            body.fail_if(f"icmp eq ptr {name}, null", ERROR_NULL)
        body.fail_if_misaligned(name, ALIGNMENT_BYTES)
    for step in program.steps:
        _call(program, step, body)
    return "\n".join(
        [
            f"define i32 @{program.prefix}_run(ptr %inputs, ptr %outputs, ptr %pools) nounwind {{",
            *body.lines,
            "  ret i32 0",
            "}",
        ]
    )


class _Body:
    """Lines of a function, with fresh names."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._count = 0

    def add(self, line: str) -> None:
        self.lines.append(f"  {line}")

    def fresh(self) -> int:
        self._count += 1
        return self._count

    def fail_if(self, condition: str, code: int) -> None:
        """Return `code` when the condition holds, go on otherwise."""
        n = self.fresh()
        self.add(f"%bad_{n} = {condition}")
        self.add(f"br i1 %bad_{n}, label %fail_{n}, label %go_{n}")
        self.lines += [f"fail_{n}:", f"  ret i32 {code}", f"go_{n}:"]

    def fail_if_misaligned(self, pointer: str, alignment_bytes: int) -> None:
        """Return an error when a pointer is not aligned, go on otherwise."""
        self.add(f"{pointer}_address = ptrtoint ptr {pointer} to i32")
        self.add(f"{pointer}_rest = and i32 {pointer}_address, {alignment_bytes - 1}")
        self.fail_if(f"icmp ne i32 {pointer}_rest, 0", ERROR_ALIGNMENT)


def _call(program: Program, step: Step, body: _Body) -> None:
    buffers = [*step.operands, *((step.scratch,) if step.scratch else ())]
    pointers = [_pointer(program, buffer, body) for buffer in buffers]
    if step.kernel is None:
        source, to = pointers
        size = step.operands[0].size_bytes
        body.add(f"call void @llvm.memcpy.p0.p0.i32(ptr align 1 {to}, ptr align 1 {source}, i32 {size}, i1 false)")
    else:
        body.add(f"call void @{step.kernel}({', '.join(f'ptr {pointer}' for pointer in pointers)})")


def _pointer(program: Program, buffer: Buffer, body: _Body) -> str:
    match buffer.place:
        case Place.CONSTANT:
            return f"@{program.prefix}_constant_{buffer.index}"
        case Place.INPUT | Place.OUTPUT:
            return _element(f"%{buffer.place.value}_{buffer.index}", buffer.begin_bytes, body)
        case Place.WORKSPACE:
            pool, offset = program.pool_of(buffer)
            return _element(f"%pool_{pool.name}", offset, body)


def _element(pointer: str, offset_bytes: int, body: _Body) -> str:
    if not offset_bytes:
        return pointer
    name = f"%p_{body.fresh()}"
    body.add(f"{name} = getelementptr i8, ptr {pointer}, i32 {offset_bytes}")
    return name
