"""The C form: the whole program as readable C99, with no header but the standard's and, on Arm, ACLE's."""

from __future__ import annotations

import re
from importlib import resources

import numpy as np
import tvm
from numpy.typing import NDArray

from tvm_tinyml.program import Buffer, Place, Program, Step
from tvm_tinyml.targets.assembly import c_of
from tvm_tinyml.targets.lowering import finish

C_TYPES = {f"{sign}int{bits}": f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)} | {
    "float32": "float"
}

_DEFINITION = re.compile(r"^TVM_DLL void (\w+)\(([^)]*)\) \{\n(.*?)^\}\n", re.MULTILINE | re.DOTALL)


def sources(program: Program) -> dict[str, str]:
    """Return the C files by name, without the public header."""
    prefix = program.prefix
    return {
        f"{prefix}.c": _program(program),
        f"{prefix}_weights.c": _weights(program),
        f"{prefix}_weights.h": _weights_header(program),
        f"{prefix}_helpers.h": _helpers(program),
    }


def _program(program: Program) -> str:
    prefix = program.prefix
    return "\n".join(
        [
            f"/* {program.name}: {len(program.steps)} calls, {program.macs_executed} multiply-accumulates."
            " Generated code. */",
            f'#include "{prefix}.h"',
            "",
            f'#include "{prefix}_helpers.h"',
            f'#include "{prefix}_weights.h"',
            "",
            _kernels(program),
            _run(program),
        ]
    )


def _kernels(program: Program) -> str:
    """Return the definitions of the kernels, as TVM's C generator writes them, less what belongs to TVM's runtime."""
    c = tvm.target.Target({"kind": "c"})
    text = tvm.get_global_func("target.build.c")(finish(program.functions, c), c).inspect_source()
    inputs = {step.kernel: len(step.reads) for step in program.steps}
    bodies = {name: (parameters, body) for name, parameters, body in _DEFINITION.findall(text)}
    overlapping = program.overlapping
    missing = set(program.kernels) ^ set(bodies)
    assert not missing, f"each kernel has one definition: {missing}"
    kernels = [
        f"static void {name}({_parameters(bodies[name][0], inputs[name], name in overlapping)})"
        f" {{\n{bodies[name][1]}}}\n"
        for name in program.kernels
    ]
    return "\n".join([*_microkernels(program), *kernels])


def _microkernels(program: Program) -> list[str]:
    """Return the definitions of the microkernels that the kernels call, each once."""
    used: dict[str, str] = {}
    for func in program.functions.functions.values():
        used |= c_of(func)
    return [used[name] for name in sorted(used)]


def _parameters(text: str, inputs: int, overlapping: bool) -> str:
    """Return the parameters of a kernel; only where no call writes what it reads are they promised to be apart."""
    pointer = " *" if overlapping else " *restrict "
    parts = [re.sub(r" *\* *", pointer, part) for part in text.split(", ")]
    return ", ".join(f"const {part}" if i < inputs else part for i, part in enumerate(parts))


def _run(program: Program) -> str:
    prefix, upper = program.prefix, program.prefix.upper()
    outside_inputs = [b for b in program.input_buffers if b.place is Place.INPUT]
    outside_outputs = [b for b in program.output_buffers if b.place is Place.OUTPUT]
    lines = [
        f"int32_t {prefix}_run(const struct {prefix}_inputs *inputs, const struct {prefix}_outputs *outputs,",
        f"    const struct {prefix}_workspace_pools *pools) {{",
    ]
    pointers = [*(["inputs"] if outside_inputs else []), *(["outputs"] if outside_outputs else [])]
    lines += [f"  (void){name};" for name in ("inputs", "outputs") if name not in pointers]
    lines += [f"  if ({_any_null([*pointers, 'pools'])}) return {upper}_ERROR_NULL;"]
    lines += [f"  const void *const input_{b.index} = inputs->input_{b.index};" for b in outside_inputs]
    lines += [f"  void *const output_{b.index} = outputs->output_{b.index};" for b in outside_outputs]
    lines += [f"  int8_t *const {pool.name} = pools->{pool.name};" for pool in program.pools]
    members = [f"input_{b.index}" for b in outside_inputs] + [f"output_{b.index}" for b in outside_outputs]
    members += [pool.name for pool in program.pools if pool.size_bytes]
    if members:
        lines += [f"  if ({_any_null(members)}) return {upper}_ERROR_NULL;"]
    lines += [
        f"  if (((uintptr_t){pool.name} & ({upper}_{pool.name.upper()}_ALIGN - 1u)) != 0u) "
        f"return {upper}_ERROR_ALIGNMENT;"
        for pool in program.pools
    ]
    lines += [
        f"  if (((uintptr_t){buffer.place.value}_{buffer.index} & {buffer.alignment_bytes - 1}u) != 0u) "
        f"return {upper}_ERROR_ALIGNMENT;"
        for buffer in (*outside_inputs, *outside_outputs)
        if buffer.alignment_bytes > 1
    ]
    lines += [f"  {_call(program, step)}" for step in program.steps]
    return "\n".join([*lines, "  return 0;", "}", ""])


def _any_null(names: list[str]) -> str:
    return " || ".join(f"{name} == NULL" for name in names)


def _call(program: Program, step: Step) -> str:
    if step.kernel is None:
        source, to = step.operands
        return f"memcpy({_pointer(program, to)}, {_pointer(program, source)}, {source.size_bytes}u);"
    operands = [*step.operands, *((step.scratch,) if step.scratch else ())]
    return f"{step.kernel}({', '.join(_pointer(program, buffer) for buffer in operands)});"


def _pointer(program: Program, buffer: Buffer) -> str:
    match buffer.place:
        case Place.CONSTANT:
            return f"{program.prefix}_constant_{buffer.index}"
        case Place.INPUT | Place.OUTPUT:
            name = f"{buffer.place.value}_{buffer.index}"
            if not buffer.begin_bytes:
                return name
            const = "const " if buffer.place is Place.INPUT else ""
            return f"({const}void *)(({const}int8_t *){name} + {buffer.begin_bytes})"
        case Place.WORKSPACE:
            pool, offset = program.pool_of(buffer)
            address = f"{pool.name} + {offset}"
            return address if buffer.dtype == "int8" else f"(void *)({address})"


def _helpers(program: Program) -> str:
    guard = f"{program.prefix.upper()}_HELPERS_H_"
    text = resources.files("tvm_tinyml.targets.cortex_m.helpers").joinpath("helpers.h").read_text(encoding="ascii")
    return f"#ifndef {guard}\n#define {guard}\n{text}#endif\n"


def _weights_header(program: Program) -> str:
    upper = program.prefix.upper()
    count = range(len(program.constants))
    sections = {_mark(program, i): program.section_of(i) for i in count}
    declarations = [f"extern {_declaration(program, i)};" for i in count]
    return "\n".join(
        [
            f"#ifndef {upper}_WEIGHTS_H_",
            f"#define {upper}_WEIGHTS_H_",
            "#include <stdint.h>",
            "/* One section for all weights of a memory, so that a linker script can place them. */",
            "#if defined(__GNUC__) && defined(__ELF__)",
            *(f'#define {mark} __attribute__((section("{name}"), aligned(4)))' for mark, name in sections.items()),
            "#else",
            *(f"#define {mark}" for mark in sections),
            "#endif",
            *declarations,
            "#endif",
            "",
        ]
    )


def _weights(program: Program) -> str:
    definitions = [
        f"{_mark(program, i)} {_declaration(program, i)} = {{\n{_numbers(array)}}};\n"
        for i, array in enumerate(program.constants)
    ]
    return "\n".join([f'#include "{program.prefix}_weights.h"', "", *definitions])


def _mark(program: Program, index: int) -> str:
    """Return the macro that puts a constant into its section."""
    return f"{program.prefix.upper()}_WEIGHTS{'_IN_RAM' if index in program.in_ram else ''}"


def _declaration(program: Program, index: int) -> str:
    array = program.constants[index]
    const = "" if index in program.in_ram else "const "
    return f"{const}{C_TYPES[str(array.dtype)]} {program.prefix}_constant_{index}[{array.size}]"


def _numbers(array: NDArray[np.generic]) -> str:
    numbers = [_literal(value) for value in array.tolist()]
    per_line = 24 if array.itemsize == 1 else 8
    lines = (", ".join(numbers[i : i + per_line]) for i in range(0, len(numbers), per_line))
    return "".join(f"  {line},\n" for line in lines)


def _literal(value: int | float) -> str:
    if isinstance(value, float):
        return f"{value!r}f"
    return "INT32_MIN" if value == -(2**31) else str(value)
