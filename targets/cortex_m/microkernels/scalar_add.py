"""Sums of two int8 tensors on cores without SMLAD: a factor for each, an offset, and a shift, proven at compile time.

What TFLite computes with three multiplications and six roundings is a function of 65,536 pairs of elements. `fit` looks
for factors and an offset of 32 bits with which

    (factor_a * a + factor_b * b + offset) >> shift

is that very function, but for the clamp.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.targets.cortex_m.microkernels import scalar_short as short
from tvm_tinyml.targets.cortex_m.microkernels.affine import WORD, Function
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import THUMB1, THUMB2, Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Ints, clamp

MOST_SHIFT = 22
"""Bits behind the point: more would leave no room for the sums of most layers."""

REACH = 3
"""How far from the nearest ones factors are tried."""

INT8 = np.arange(-128, 128)

UNROLL = 4


@dataclass(frozen=True)
class Sum:
    """A function of two elements.

    Attributes
    ----------
    factors, offset : what a kernel reads.
    shift, low, high : part of its code.
    """

    factors: tuple[int, int]
    offset: int
    shift: int
    low: int
    high: int

    @property
    def words(self) -> NDArray[np.int32]:
        """What a kernel reads."""
        return np.array([*self.factors, self.offset], np.int32)

    @property
    def name(self) -> str:
        """Part of a microkernel's name."""
        return f"{self.shift}_{self.low & 0xFF}_{self.high & 0xFF}"


def fit(function: Function) -> Sum | None:
    """Return a sum that has exactly the expected results, or None if none was found.

    Parameters
    ----------
    function : of two elements, each times the same number.
    """
    scale = int(function.values[0][-1]) // 127
    slopes = [slope * scale for slope in function.slopes]
    reach = 128 * (abs(slopes[0]) + abs(slopes[1])) + abs(function.offset) + abs(function.zero_point - function.low) + 1
    shift = min(MOST_SHIFT, 31 - math.frexp(reach)[1])
    if shift < 1:
        return None
    nearest = [round(slope * 2.0**shift) for slope in slopes]
    moves = sorted(itertools.product(range(-REACH, REACH + 1), repeat=2), key=lambda move: sum(map(abs, move)))
    for move in moves:
        factors = (nearest[0] + move[0], nearest[1] + move[1])
        found = Sum(factors, _offset(function, factors, shift), shift, function.low, function.high)
        if _is_exact(found, function):
            return found
    return None


def _products(factors: tuple[int, int]) -> Ints:
    return np.asarray(factors[0] * INT8[:, None] + factors[1] * INT8[None, :], np.int64)


def _offset(function: Function, factors: tuple[int, int], shift: int) -> int:
    """Return the offset nearest to the given one that has the expected results, if there is any."""
    products, expected, most = _products(factors), function.expected, np.iinfo(np.int64).max
    lower = np.where(expected > function.low, (expected << shift) - products, -most).max()
    upper = np.where(expected < function.high, ((expected + 1) << shift) - 1 - products, most).min()
    middle = round((function.offset + function.zero_point + 0.5) * (1 << shift))
    return int(np.clip(middle, lower, upper))


def _is_exact(found: Sum, function: Function) -> bool:
    total = _products(found.factors) + found.offset
    # Kernels of the Armv6-M count from the lower clamp.
    inside = max(np.abs(total).max(), np.abs(total - (found.low << found.shift)).max()) < WORD
    results = np.clip(total >> found.shift, found.low, found.high)
    return bool(inside and abs(found.offset) < WORD and (results == function.expected).all())


def add(form: Sum, *, narrow: bool) -> Microkernel:
    """Return the kernel for any number of elements above zero.

    Its arguments: constants (`Sum.words`), both inputs, the output, how many elements. Inputs and output are aligned to
    nothing.

    Parameters
    ----------
    narrow : with instructions of the Armv6-M only.
    """
    return Microkernel(
        name=f"tinyml_add_{'narrow' if narrow else 'mul'}_{form.name}",
        parameters=("const int32_t *constants", "const int8_t *a", "const int8_t *b", "int8_t *y", "int32_t count"),
        assembly=_narrow(form) if narrow else _wide(form),
        portable=f"""  for (int32_t i = 0; i < count; ++i) {{
    const int32_t sum = constants[0] * a[i] + constants[1] * b[i] + constants[2];
    y[i] = (int8_t)tinyml_bound(sum >> {form.shift}, {form.low}, {form.high});
  }}
""",
        condition=THUMB1 if narrow else THUMB2,
    )


def _wide(form: Sum) -> list[str]:
    """Two elements in 17 cycles, and what a clamp takes."""

    def finish(a: str, b: str) -> list[str]:
        lines = [f"mla {a}, {a}, r4, r6", f"mla {a}, {b}, r5, {a}", f"ssat {a}, #8, {a}, asr #{form.shift}"]
        return [*lines, *clamp(a, form.low, form.high)]

    two = ["ldrsb r9, [r1, #1]", "ldrsb r10, [r2, #1]", "ldrsb r7, [r1], #2", "ldrsb r8, [r2], #2"]
    two += [*finish("r7", "r8"), *finish("r9", "r10"), "strb r9, [r3, #1]", "strb r7, [r3], #2"]
    one = ["ldrsb r7, [r1], #1", "ldrsb r8, [r2], #1", *finish("r7", "r8"), "strb r7, [r3], #1"]
    lines = ["push {r4-r10, lr}", "ldm r0, {r4-r6}", "ldr r0, [sp, #32]", f"subs r0, #{UNROLL}", "blt 2f", ".p2align 2"]
    lines += ["1:", *two * (UNROLL // 2), f"subs r0, #{UNROLL}", "bge 1b", "2:", f"adds r0, #{UNROLL}", "beq 4f"]
    return [*lines, "3:", *one, "subs r0, #1", "bne 3b", "4:", "pop {r4-r10, pc}"]


def _narrow(form: Sum) -> list[str]:
    """One element in 19 cycles; one index for all tensors, from below zero up to it."""
    lines = ["push {r4-r7, lr}", "mov r4, r8", "push {r4}", "ldr r7, [sp, #24]", "adds r1, r1, r7", "adds r2, r2, r7"]
    lines += ["adds r3, r3, r7", "negs r7, r7", "ldm r0!, {r4, r5, r6}", *short.put("r0", form.low << form.shift)]
    lines += ["subs r6, r6, r0", "mov r8, r6", "movs r0, r4", "movs r6, r5"]
    lines += ["1:", "ldrsb r4, [r1, r7]", "ldrsb r5, [r2, r7]", "muls r4, r0, r4", "muls r5, r6, r5", "adds r4, r4, r5"]
    lines += ["add r4, r8", f"asrs r4, r4, #{form.shift}", f"cmp r4, #{form.high - form.low}", "bls 2f"]
    lines += ["asrs r5, r4, #31", f"movs r4, #{form.high - form.low}", "bics r4, r5", "2:"]
    lines += [*short.add("r4", form.low, "r5"), "strb r4, [r3, r7]", "adds r7, #1", "bne 1b"]
    return [*lines, "pop {r4}", "mov r8, r4", "pop {r4-r7, pc}", short.POOL]
