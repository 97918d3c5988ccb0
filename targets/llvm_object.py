"""LLVM objects for a target, through the LLVM inside TVM: no toolchain is needed."""

from __future__ import annotations

from functools import cache
from importlib import resources

import tvm
from tvm import IRModule, tirx

from tvm_tinyml.llvm import compile_text, object_bytes
from tvm_tinyml.targets.assembly import assembly_of
from tvm_tinyml.targets.lowering import finish
from tvm_tinyml.targets.target import Target


def helper_ir(target: Target) -> str:
    """Return the LLVM IR text of the helpers that `target`'s kernels call."""
    return _helper_ir(tuple(target.helper_files))


@cache
def _helper_ir(names: tuple[str, ...]) -> str:
    folder = resources.files("tvm_tinyml.targets.cortex_m.helpers")
    texts = [folder.joinpath(name).read_text(encoding="ascii") for name in names]
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
    return object_bytes(tvm.get_global_func("target.build.llvm")(with_helpers, machine))


def compile_ir(text: str, target: Target) -> bytes:
    """Compile LLVM IR text (without triple and data layout) to one relocatable object."""
    return compile_text(text, target.llvm, target.data_layout)


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
