"""Small programs for the tests of the device layer."""

from __future__ import annotations

from typing import Any

from tvm_tinyml.device import Simulator, assemble

CORES = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33")

_TRIPLES = {
    "cortex-m0plus": "thumbv6m-none-eabi",
    "cortex-m3": "thumbv7m-none-eabi",
    "cortex-m4": "thumbv7em-none-eabihf",
}


def function(name: str, body: str, *, section: str | None = None) -> str:
    """Assembly source of a global function in a section of its own."""
    return "\n".join(
        [
            f'.section {section or ".text." + name},"ax",%progbits',
            ".balign 4",
            f".global {name}",
            f".type {name},%function",
            f"{name}:",
            *body.split(";"),
            f".size {name}, . - {name}",
        ]
    )


def program(name: str, body: str, core: str = "cortex-m0plus") -> bytes:
    """Object with one function; instructions are separated by semicolons."""
    return assemble(function(name, body), core)


def compile_ir(functions: str, core: str = "cortex-m4") -> bytes:
    """Object that TVM makes of LLVM text IR, untouched: with debug sections, unwind tables and half-precision helpers.

    The text defines ``i32 @f(i32)``; the object defines ``entry``, which calls f and stores its result in ``result``.
    """
    import tempfile
    from pathlib import Path

    import tvm
    from tvm import tirx
    from tvm.target import Target

    target = Target({"kind": "llvm", "mtriple": _TRIPLES[core], "mcpu": core, "num-cores": 1})
    text = f"""
{functions}
@result = global i32 0
define void @wrapper(i32 %x) {{
  %y = call i32 @f(i32 %x)
  store i32 %y, ptr @result
  ret void
}}
"""
    x = tirx.Var("x", tvm.ir.PrimType("int32"))
    call = tirx.Evaluate(tirx.call_extern("void", "wrapper", x))
    body = tirx.AttrStmt(tirx.IntImm("int32", 0), "pragma_import_llvm", tvm.ir.StringImm(text), call)
    entry = tirx.PrimFunc([x], body, ret_type=tvm.ir.TupleType([])).with_attr("global_symbol", "entry")
    module = tirx.transform.BindTarget(target)(tvm.IRModule({"entry": entry}))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "entry.o"
        tvm.get_global_func("target.build.llvm")(module, target).write_to_file(str(path), "o")
        return path.read_bytes()


TABLE_LOOKUP = """
@table = constant [4 x i32] [i32 10, i32 20, i32 30, i32 40]
@offset = global i32 7
declare i32 @increment(i32)
define i32 @f(i32 %i) {
  %p = getelementptr [4 x i32], ptr @table, i32 0, i32 %i
  %v = load i32, ptr %p
  %o = load i32, ptr @offset
  %s = add i32 %v, %o
  %r = call i32 @increment(i32 %s)
  ret i32 %r
}
"""
"""f(i) = increment(table[i] + offset): constants, a variable and a call to another object."""


def measure(core: str) -> list[Any]:
    """Everything that a call gives, as plain lists and numbers."""
    with Simulator(core) as simulator:
        simulator.load([compile_ir(TABLE_LOOKUP, core), program("increment", "adds r0, #1;bx lr")])
        address = simulator.allocate(100)
        result = simulator.call("entry", 3)
        profile = result.profile
        arrays = (profile.block_start, profile.edge_source, profile.edge_target, profile.edge_count)
        return [
            result.value,
            result.instructions,
            dict(result.instructions_by_symbol),
            result.stack_bytes,
            address,
            dict(simulator.symbols),
            *(array.tolist() for array in arrays),
        ]
