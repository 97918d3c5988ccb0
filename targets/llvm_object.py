"""LLVM objects for a target, through the LLVM inside TVM: no toolchain is needed."""

from __future__ import annotations

import json
import tempfile
from importlib import resources
from pathlib import Path

import tvm
from tvm import IRModule, tirx

from tvm_tinyml.targets.assembly import assembly_of
from tvm_tinyml.targets.lowering import finish
from tvm_tinyml.targets.target import Target


def helper_ir(target: Target) -> str:
    """Return the LLVM IR text of the helpers that `target`'s kernels call."""
    folder = resources.files("tvm_tinyml.targets.cortex_m.helpers")
    texts = [folder.joinpath(name).read_text(encoding="ascii") for name in target.helper_files]
    declarations: dict[str, None] = {}
    lines = []
    for line in "".join(texts).splitlines():
        (declarations.setdefault(line) if line.startswith("declare ") else lines.append(line))
    return "\n".join([*declarations, *lines])


def compile_kernels(kernels: IRModule, target: Target, *, small: bool = False) -> list[bytes]:
    """Compile lowered kernels to relocatable objects; each kernel keeps its ``global_symbol``.

    Those that may write where they read are an object of their own: in a module with others, TVM's code generator
    promises LLVM of their pointers, too, that they are apart.

    Parameters
    ----------
    small : few bytes of code rather than few cycles.
    """
    apart = {var: bool(func.attrs.get("tirx.noalias")) for var, func in kernels.functions.items()}
    parts = [[var for var in kernels.functions if apart[var] is promise] for promise in (True, False)]
    # Beyond the first level LLVM unrolls loops; it would not for functions that are marked for size, which TVM cannot.
    machine = tvm.target.Target({**target.llvm, "opt-level": 1} if small else dict(target.llvm))
    return [_compile(IRModule({var: kernels[var] for var in part}), target, machine) for part in parts if part]


def _compile(kernels: IRModule, target: Target, machine: tvm.target.Target) -> bytes:
    finished = finish(kernels, machine)
    helpers, first = helper_ir(target), _assembly(finished)
    imported = {}
    for var, func in finished.functions.items():
        imported[var] = _import_ir(func, tvm.ir.StringImm(first + helpers))
        first = ""  # helpers are merged, assembly would be defined twice
    with_helpers = IRModule(imported)
    return _object_bytes(tvm.get_global_func("target.build.llvm")(with_helpers, machine))


def compile_ir(text: str, target: Target) -> bytes:
    """Compile LLVM IR text (without triple and data layout) to one relocatable object."""
    description = json.dumps(dict(target.llvm)).replace('"', "\\22")
    module = "\n".join(
        [
            f'target datalayout = "{target.data_layout}"',
            f'target triple = "{target.llvm["mtriple"]}"',
            text,
            "!llvm.module.flags = !{!0}",
            f'!0 = !{{i32 4, !"tvm_target", !"{description}"}}',
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "module.ll")
        path.write_text(module, encoding="ascii")
        return _object_bytes(tvm.runtime.load_module(str(path)))


def _assembly(kernels: IRModule) -> str:
    """Return the microkernels that functions call, as IR text; their symbols are local to the object."""
    used: dict[str, str] = {}
    for func in kernels.functions.values():
        used |= assembly_of(func)
    lines = [line for name in sorted(used) for line in used[name].splitlines()]
    return "".join(f'module asm "{line.replace(chr(34), chr(92) + "22")}"\n' for line in [".syntax unified", *lines])


def _import_ir(func: tirx.PrimFunc, text: tvm.ir.StringImm) -> tirx.PrimFunc:
    body = tirx.AttrStmt(tirx.IntImm("int32", 0), "pragma_import_llvm", text, func.body)
    return tirx.PrimFunc(func.params, body, ret_type=func.ret_type, attrs=func.attrs)


def _object_bytes(module: tvm.runtime.Module) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "module.o")
        module.write_to_file(str(path), "o")
        return path.read_bytes()
