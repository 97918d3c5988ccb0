"""A microkernel called by itself: its assembly on a simulated core, and its C body on the host."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.compile.toolchains import WARNINGS, need
from tvm_tinyml.device import Simulator, assemble
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel

GUARD_BYTES, GUARD = 64, 0xA5
"""On both sides of a buffer on the host."""

Argument = NDArray[Any] | int | tuple[NDArray[Any], int]
"""An array behind a pointer, a number, or a pointer to so many bytes into an array that is also handed over."""


def on_core(
    core: str, microkernel: Microkernel, arguments: Sequence[Argument], misaligned: Sequence[int] = ()
) -> list[NDArray[Any]]:
    """Call the assembly; the arrays afterwards. An access that hardware refuses, or beside a buffer, is an error.

    misaligned : positions of arrays that begin at an odd address; the others are aligned to 4 bytes and no more.
    """
    source = f"{microkernel.as_assembly()}\n.global {microkernel.name}"
    with Simulator(core, check_alignment=True) as simulator:
        simulator.load([assemble(source, core)])
        places: list[tuple[NDArray[Any], int]] = []
        values = []
        for position, argument in enumerate(arguments):
            if isinstance(argument, int):
                values.append(argument)
            elif isinstance(argument, tuple):
                values.append(next(a for array, a in places if array is argument[0]) + argument[1])
            else:
                address = simulator.allocate(argument.nbytes, offset=1 if position in misaligned else 4)
                simulator.write(address, argument.tobytes())
                places.append((argument, address))
                values.append(address)
        simulator.call(microkernel.name, *values)
        simulator.check_guards()
        return [
            np.frombuffer(simulator.read(address, array.nbytes), array.dtype).reshape(array.shape)
            for array, address in places
        ]


def on_host(microkernel: Microkernel, arguments: Sequence[Argument], folder: Path) -> list[NDArray[Any]]:
    """Call the C body; the arrays afterwards. It must compile without a warning, and do nothing undefined.

    What it writes beside a buffer is an error.
    """
    helpers = resources.files("tvm_tinyml.targets.cortex_m.helpers").joinpath("helpers.h").read_text(encoding="ascii")
    text = f"{helpers}\n{microkernel.as_c()}".replace(f"static void {microkernel.name}", f"void {microkernel.name}")
    prototype = f"void {microkernel.name}({', '.join(microkernel.parameters)});"
    (folder / "kernel.c").write_text(f"#include <stdint.h>\n{prototype}\n{text}")
    flags = [*WARNINGS, "-O1", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error", "-shared", "-fPIC"]
    command = [need("gcc"), *flags, "kernel.c", "-o", "kernel.so"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    originals = [argument for argument in arguments if isinstance(argument, np.ndarray)]
    buffers = [np.full(array.nbytes + 2 * GUARD_BYTES, GUARD, np.uint8) for array in originals]
    for buffer, array in zip(buffers, originals, strict=True):
        buffer[GUARD_BYTES : GUARD_BYTES + array.nbytes] = np.frombuffer(array.tobytes(), np.uint8)

    def pointer(array: NDArray[Any], offset: int = 0) -> ctypes.c_void_p:
        buffer = next(buffer for buffer, original in zip(buffers, originals, strict=True) if original is array)
        return ctypes.c_void_p(buffer.ctypes.data + GUARD_BYTES + offset)

    values = [a if isinstance(a, int) else pointer(*a) if isinstance(a, tuple) else pointer(a) for a in arguments]
    getattr(ctypes.CDLL(str(folder / "kernel.so")), microkernel.name)(*values)
    for position, buffer in enumerate(buffers):
        beside = np.concatenate([buffer[:GUARD_BYTES], buffer[-GUARD_BYTES:]])
        assert (beside == GUARD).all(), f"{microkernel.name} writes beside its array {position}"
    return [
        buffer[GUARD_BYTES:-GUARD_BYTES].view(array.dtype).reshape(array.shape)
        for buffer, array in zip(buffers, originals, strict=True)
    ]
