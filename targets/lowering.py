"""From a scheduled PrimFunc to a plain C function: pointers in, no TVM runtime, no heap.

TVM's own ``MakePackedAPI`` wraps a function for its runtime. Here the wrapper is replaced: every buffer becomes a bare
pointer, and scratch too large for the stack becomes an offset into one more pointer, ``scratch``, which the memory plan
serves like any other tensor.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import IRModule, s_tir, tirx
from tvm.ir import PointerType, PrimType
from tvm.ir.transform import PassContext

STACK_LIMIT_BYTES = 256
"""A buffer of a kernel beyond this size lives in the planned scratch, not on the stack."""

SCRATCH_ALIGNMENT_BYTES = 16

_C = tvm.target.Target({"kind": "c"})


def _simplify() -> list[tvm.transform.Pass]:
    """Return TVM's passes from a scheduled block function down to loops and flat buffers."""
    s, x = s_tir.transform, tirx.transform
    return [
        tirx.transform.BindTarget(_C),
        s.CanonicalizeLoop(), s.LowerInitBlock(), s.PlanAndUpdateBufferAllocationLocation(), s.ConvertBlocksToOpaque(),
        s.CompactBufferAllocation(), s.LowerMatchBuffer(), s.StmtSimplify(), s.AnnotateIrregularLoop(),
        s.LowerOpaqueBlock(), x.FlattenBuffer(), x.NarrowDataType(32), s.LoopPartition(), x.VectorizeLoop(False),
        x.StorageRewrite(), s.HoistIfThenElse(), x.UnrollLoop(), s.RenormalizeSplitPattern(), x.StmtSimplify(),
        x.RemoveNoOp(), s.RewriteUnsafeSelect(), x.CommonSubexprElim(), x.VerifyMemory(),
    ]  # fmt: skip


def _size_bytes(buffer: tirx.Buffer) -> int:
    size = int(tvm.DataType(str(buffer.dtype)).itemsize)
    for extent in buffer.shape:
        size *= int(extent)
    return size


@tirx.transform.prim_func_pass(opt_level=0, name="tinyml.BuffersToPointers")
class _BuffersToPointers:
    """Give a function bare pointers for its buffers; note ``tinyml.scratch_bytes`` as an attribute."""

    def transform_function(self, func: tirx.PrimFunc, _mod: IRModule, _ctx: PassContext) -> tirx.PrimFunc:
        params, declarations = [], []
        for param in func.params:
            pointer = tirx.Var(param.name, PointerType(PrimType(str(param.dtype)), "global"))
            declarations.append(tirx.DeclBuffer(param, data=pointer))
            params.append(pointer)
        scratch = tirx.Var("scratch", PointerType(PrimType("int8"), "global"))
        scratch_bytes = 0

        def place(allocation: tirx.AllocBuffer) -> tirx.Stmt:
            nonlocal scratch_bytes
            size = _size_bytes(allocation.buffer)
            if size <= STACK_LIMIT_BYTES:
                return allocation
            kind = PointerType(PrimType(str(allocation.buffer.dtype)), "global")
            pointer = tirx.op.reinterpret(kind, tirx.op.handle_add_byte_offset(scratch, scratch_bytes))
            scratch_bytes += -(-size // SCRATCH_ALIGNMENT_BYTES) * SCRATCH_ALIGNMENT_BYTES
            return tirx.DeclBuffer(allocation.buffer, data=pointer)

        body = tvm_ffi.structural_map(func.body, (tirx.AllocBuffer, place))
        if scratch_bytes:
            params.append(scratch)
        lowered = tirx.PrimFunc(
            params, tirx.SeqStmt([*declarations, body]), ret_type=tvm.ir.TupleType([]), attrs=func.attrs
        )
        return lowered.with_attr("tinyml.scratch_bytes", scratch_bytes)


def lower_kernels() -> tvm.transform.Pass:
    """Return the pass that lowers every PrimFunc of a module to a plain C function; Relax functions pass through.

    The result has no target yet; `finish` gives it one.
    """
    return tvm.transform.Sequential([*_simplify(), _BuffersToPointers()], name="tinyml.LowerKernels")


def finish(kernels: IRModule, target: tvm.target.Target) -> IRModule:
    """Lower the last intrinsics of `kernels` for a code generator and return the module it takes."""
    bound = IRModule({var: func.with_attr("target", target) for var, func in kernels.functions.items()})
    return tvm.transform.Sequential([tirx.transform.LowerTVMBuiltin(), tirx.transform.LowerIntrin()])(bound)


def scratch_bytes(kernel: tirx.PrimFunc) -> int:
    """Return how much scratch a lowered kernel wants, in bytes."""
    return int(kernel.attrs["tinyml.scratch_bytes"])
