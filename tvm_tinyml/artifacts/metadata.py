"""What is known of a library without running it: the content of ``metadata.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import tvm

from tvm_tinyml.device.elf import STT_FUNC, ElfObject
from tvm_tinyml.model import TensorSpec
from tvm_tinyml.program import ALIGNMENT_BYTES, Buffer, Place, Program
from tvm_tinyml.targets.target import Target

Metadata = dict[str, Any]


def metadata(
    program: Program,
    target: Target,
    objects: Sequence[bytes],
    *,
    stack_bytes: int,
    options: Mapping[str, Any],
    version: str,
    tuned: int = 0,
) -> Metadata:
    """Return the keys of ``bench --json`` that need no run, and what a device needs to call the library.

    Parameters
    ----------
    objects : the library's relocatable objects.
    stack_bytes : worst case of one ``run``.
    options : of the build, as the user gave them.
    version : of this package.
    tuned : kernels that were made as a tuning log says.
    """
    sizes = [ElfObject.parse(data).size() for data in objects]
    constants = sum(size.rodata_bytes + size.data_bytes for size in sizes)
    code = sum(size.code_bytes for size in sizes)
    static = sum(size.data_bytes + size.bss_bytes for size in sizes)
    return {
        "model": program.name,
        "target": target.name,
        "float_abi": target.float_abi,
        "options": dict(options),
        "version": version,
        "tvm": tvm.__version__,
        "macs": program.macs,
        "macs_executed": program.macs_executed,
        "ram_bytes": {
            "workspace": program.workspace_bytes,
            "stack": stack_bytes,
            "static": static,
            "total": program.workspace_bytes + stack_bytes + static,
        },
        "flash_bytes": {"weights": constants, "code": code, "total": constants + code},
        "kernels": {"total": len(program.kernels), "tuned": tuned},
        "layers": [
            {
                "name": step.name,
                "op": program.kernels[step.kernel].kind if step.kernel else "copy",
                "tensor": step.tensor,
                "kernel": step.kernel,
                "schedule": program.kernels[step.kernel].schedule if step.kernel else None,
                "method": program.kernels[step.kernel].method if step.kernel else None,
                "macs": program.kernels[step.kernel].macs if step.kernel else 0,
                "weight_bytes": sum(b.size_bytes for b in step.reads if b.place is Place.CONSTANT),
                "weight_bytes_in_ram": sum(
                    b.size_bytes for b in step.reads if b.place is Place.CONSTANT and b.index in program.in_ram
                ),
                "output_bytes": sum(b.size_bytes for b in step.operands[-step.results :]),
                "scratch_bytes": step.scratch.size_bytes if step.scratch else 0,
                "operands": [
                    _operand(program, b) for b in (*step.operands, *((step.scratch,) if step.scratch else ()))
                ],
            }
            for step in program.steps
        ],
        "code_bytes": _code_bytes(objects),
        "constants": [
            {"size_bytes": array.nbytes, "memory": "ram" if i in program.in_ram else "flash"}
            for i, array in enumerate(program.constants)
        ],
        "inputs": _tensors(program, program.inputs, program.input_buffers),
        "outputs": _tensors(program, program.outputs, program.output_buffers),
        "inputs_destroyed": any(b.place is Place.WORKSPACE for b in program.input_buffers),
        "pools": {
            pool.name: {
                "size_bytes": pool.size_bytes,
                "align_bytes": ALIGNMENT_BYTES,
                "begin_bytes": pool.begin_bytes,
                "limit_bytes": pool.limit_bytes,
            }
            for pool in program.pools
        },
        "memory_map": memory_map(program),
        "cuts": [asdict(cut) for cut in program.cuts],
        "quantization": program.quantization.as_dict() if program.quantization else None,
    }


def memory_map(program: Program) -> list[dict[str, Any]]:
    """Return each region of the pool: offset, size and the calls (by index) from which to which it is in use."""
    calls = len(program.steps)
    return [
        {
            "buffer": index,
            "offset": region.offset_bytes,
            "size_bytes": region.size_bytes,
            "first": max(region.first, 0),
            "last": min(region.last, calls - 1),
        }
        for index, region in program.regions.items()
    ]


def _tensors(program: Program, specs: Sequence[TensorSpec], buffers: Sequence[Buffer]) -> list[dict[str, Any]]:
    return [
        {
            "name": spec.name,
            "shape": list(spec.shape),
            "dtype": spec.dtype,
            "scale": spec.scale,
            "zero_point": spec.zero_point,
            "size_bytes": buffer.size_bytes,
            "workspace_offset": program.offset_bytes(buffer) if buffer.place is Place.WORKSPACE else None,
        }
        for spec, buffer in zip(specs, buffers, strict=True)
    ]


def _operand(program: Program, buffer: Buffer) -> list[str | int]:
    """Return where an operand lives: place, index there or offset in the pool, size, and where in there it begins."""
    if buffer.place is Place.WORKSPACE:
        return [buffer.place.value, program.offset_bytes(buffer), buffer.size_bytes, 0]
    return [buffer.place.value, buffer.index, buffer.size_bytes, buffer.begin_bytes]


def _code_bytes(objects: Sequence[bytes]) -> dict[str, int]:
    """Return the size of every function."""
    return {
        symbol.name: symbol.size_bytes
        for data in objects
        for symbol in ElfObject.parse(data).symbols
        if symbol.type == STT_FUNC and not symbol.local
    }
