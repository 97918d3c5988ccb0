"""Compilers for the C form: on the host through ctypes, and for Cortex-M into objects that the simulator loads."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tvm_tinyml import Library
from tvm_tinyml.artifacts.folder import write_folder
from tvm_tinyml.targets.cortex_m import cortex_m

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1")


def need(program: str) -> str:
    """Return the path of a program, or skip."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"needs {program}: .ci/run installs it")
    return path


def compile_objects(library: Library, folder: Path, compiler: str, flags: Sequence[str]) -> list[Path]:
    """Compile the C form, one object a file, without a warning."""
    folder.mkdir(parents=True, exist_ok=True)
    write_folder(folder / "library", library.files())
    objects = []
    for name in library.sources:
        if name.endswith(".c"):
            objects.append(folder / f"{name}.o")
            source = folder / "library" / "src" / name
            files = [f"-I{folder}/library/include", "-c", source, "-o", objects[-1]]
            command = [need(compiler), *WARNINGS, *flags, *files]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
    return objects


def cross_compile(library: Library, folder: Path, target: str) -> list[bytes]:
    """Compile the C form for a Cortex-M with arm-none-eabi-gcc."""
    flags = [*cortex_m(target, library.metadata["float_abi"]).gcc_flags, "-O2", "-ffreestanding"]
    return [path.read_bytes() for path in compile_objects(library, folder, "arm-none-eabi-gcc", flags)]


class HostLibrary:
    """The C form on the host.

    Parameters
    ----------
    misalign : byte by which inputs and outputs miss word alignment.
    """

    def __init__(self, library: Library, folder: Path, compiler: str = "gcc", *, misalign: int = 0) -> None:
        objects = compile_objects(library, folder, compiler, ("-O2", "-fPIC"))
        shared = folder / "library.so"
        subprocess.run([need(compiler), "-shared", *objects, "-o", shared], check=True)
        self._run = getattr(ctypes.CDLL(str(shared)), f"tvmgen_{library.name}_run")
        self._metadata = library.metadata
        self._misalign = misalign

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one inference."""
        described = self._metadata["pools"].values()
        pool = self._aligned(sum(each["size_bytes"] for each in described))
        pool[:] = 0xA5
        sources = [self._buffer(t, pool) for t in self._metadata["inputs"]]
        results = [self._buffer(t, pool) for t in self._metadata["outputs"]]
        for buffer, array in zip(sources, inputs, strict=True):
            buffer[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        pools = [pool[each["begin_bytes"] :] for each in described]
        structs = [self._struct(group) for group in (sources, results, pools)]
        assert self._run(*structs) == 0
        return [
            buffer.copy().view(np.dtype(t["dtype"])).reshape(t["shape"])
            for buffer, t in zip(results, self._metadata["outputs"], strict=True)
        ]

    def _buffer(self, tensor: dict[str, Any], pool: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if tensor["workspace_offset"] is not None:
            return pool[tensor["workspace_offset"] :][: tensor["size_bytes"]]
        return self._aligned(tensor["size_bytes"] + self._misalign)[self._misalign :]

    @staticmethod
    def _aligned(size: int) -> NDArray[np.uint8]:
        raw = np.zeros(size + 16, np.uint8)
        return raw[-raw.ctypes.data % 16 :][:size]

    @staticmethod
    def _struct(buffers: Sequence[NDArray[np.uint8]]) -> Any:
        return (ctypes.c_void_p * max(len(buffers), 1))(*(b.ctypes.data for b in buffers))
