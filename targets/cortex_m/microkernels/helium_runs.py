"""The matrix product of `helium_gemm` for windows of several runs, each read where it lies.

It spares the copy of each window; in return every run ends with a vector of its own, loaded by the predicate.
"""

from __future__ import annotations

import numpy as np

from tvm_tinyml.targets.cortex_m.microkernels.helium_gemm import (
    CHANNELS,
    HEADER_WORDS,
    UNROLLED,
    VECTOR_BYTES,
    finish,
    loop,
    step,
    steps_of,
)
from tvm_tinyml.targets.cortex_m.microkernels.helium_gemm import PARAMETERS as PARAMETERS_OF_ONE_RUN
from tvm_tinyml.targets.cortex_m.microkernels.helium_output import LANES, MVE
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Ints, Output

_Y_NOW, _PIXELS_LEFT = 64, 68  # above d8 to d15
_CONSTANTS, _X, _Y, _PIXELS = (72 + 4 * i for i in range(4))
_GROUPS, _X_STRIDE, _X_STEP, _Y_STRIDE, _TURNS, _LAST, _RUNS, _RUN_STEP = (124 + 4 * i for i in range(8))

PARAMETERS = (*PARAMETERS_OF_ONE_RUN, "int32_t runs", "int32_t run_step")


def numbers(run_bytes: int, runs: int, run_stride: int, stride: int, channels: int) -> tuple[int, ...]:
    """Return the last seven arguments of `helium_runs`.

    Parameters
    ----------
    run_stride : from a run to the next in bytes; the others are as for `helium_gemm.numbers`.
    """
    done = VECTOR_BYTES * (steps_of(run_bytes) - 1)
    turns = done // VECTOR_BYTES // UNROLLED
    return stride, stride - runs * run_stride, channels, turns, run_bytes - done, runs, run_stride - done


def widened(weight: Ints, runs: int) -> Ints:
    """Return weights [O, K] with the vectors of each run filled up with zeros, as `helium_gemm.pack` takes them."""
    by_run = weight.reshape(len(weight), runs, -1)
    filled = np.pad(by_run, ((0, 0), (0, 0), (0, -by_run.shape[2] % VECTOR_BYTES)))
    return np.asarray(filled.reshape(len(weight), -1))


def helium_runs(steps: int, output: Output) -> Microkernel:
    """Return the kernel for runs of so many vectors; from three on all even ones share it, and all odd ones.

    Its arguments are those of `helium_gemm`, with `numbers` of this module; pixels come in pairs.
    """
    lines = ["push {r0-r11, lr}", "sub sp, #8", "vpush {d8-d15}", f"ldr r0, [sp, #{_LAST}]", "vctp.8 r0", "3:"]
    lines += [f"ldr r5, [sp, #{_CONSTANTS}]", "ldr r0, [r5], #4"]
    lines += [f"vldrw.u32 q{q}, [r5], #16" for q in (4, 5, 6, 7)]
    lines += [f"str r5, [sp, #{_CONSTANTS}]", f"ldr r9, [sp, #{_Y}]", "add r9, r9, r0", f"str r9, [sp, #{_Y_NOW}]"]
    lines += [f"ldr r1, [sp, #{_X}]", f"ldr r11, [sp, #{_PIXELS}]", ".p2align 2", "2:"]
    lines += [f"str r11, [sp, #{_PIXELS_LEFT}]", f"ldr r0, [sp, #{_X_STRIDE}]", f"ldr r7, [sp, #{_RUN_STEP}]"]
    lines += ["add r3, r1, r0", f"ldr r11, [sp, #{_RUNS}]", f"ldr r5, [sp, #{_CONSTANTS}]"]
    lines += ["clrm {r0, r2, r4, r6, r8, r10, r12, lr}", ".p2align 2", "4:"]
    kind = steps if steps < 3 else 3 + (steps - 1) % UNROLLED
    if kind in (2, 4):
        lines += step(2)
    if kind > 2:
        lines += loop(f"ldr r9, [sp, #{_TURNS}]", 2)
    lines += [*step(2, last=True), "add r1, r1, r7", "add r3, r3, r7", "subs r11, #1", "bne 4b"]
    lines += [f"ldr r9, [sp, #{_X_STEP}]", "add r1, r3, r9", f"ldr r7, [sp, #{_Y_NOW}]"]
    lines += finish(output, 2, f"ldr r0, [sp, #{_Y_STRIDE}]")
    lines += [f"str r7, [sp, #{_Y_NOW}]", f"ldr r11, [sp, #{_PIXELS_LEFT}]", "subs r11, #2", "bne 2b"]
    lines += [f"str r5, [sp, #{_CONSTANTS}]", f"ldr r0, [sp, #{_GROUPS}]", "subs r0, #1", f"str r0, [sp, #{_GROUPS}]"]
    lines += ["bne 3b", "vpop {d8-d15}", "add sp, #24", "pop {r4-r11, pc}"]
    return Microkernel(
        name=f"tinyml_helium_runs_{kind}_{output.name}",
        parameters=PARAMETERS,
        assembly=lines,
        portable=_portable(kind, output),
        condition=MVE,
    )


def _portable(kind: int, output: Output) -> str:
    steps = f"{UNROLLED} * turns + {kind - 2}" if kind > 2 else str(kind)
    epilogue = "".join(f"        {line}\n" for line in output.portable().splitlines())
    return f"""  const int32_t steps = {steps}, products = {VECTOR_BYTES} * (steps - 1) + last;
  const int32_t run_stride = run_step + {VECTOR_BYTES} * (steps - 1);
  const int32_t run_words = {CHANNELS * VECTOR_BYTES // 4} * steps;
  (void)x_step, (void)turns;
  for (; groups > 0; --groups, constants += {HEADER_WORDS} + run_words * runs) {{
    const int8_t *const weight = (const int8_t *)(constants + {HEADER_WORDS});
    for (int32_t p = 0; p < pixels; ++p)
      for (int32_t i = 0; i < {CHANNELS}; ++i) {{
        const int32_t *const scale = constants + 1 + i;
        const int32_t m = scale[{LANES}], c = scale[{2 * LANES}], s = -scale[{3 * LANES}];
        int32_t sum = scale[0];
        for (int32_t r = 0; r < runs; ++r)
          for (int32_t k = 0; k < products; ++k)
            sum += x[p * x_stride + r * run_stride + k] * weight[4 * run_words * r + \
{CHANNELS * VECTOR_BYTES} * (k / {VECTOR_BYTES}) + {VECTOR_BYTES} * i + k % {VECTOR_BYTES}];
{epilogue}        y[constants[0] + p * y_stride + i] = result;
      }}
  }}
"""
