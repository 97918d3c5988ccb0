"""Sums of two tensors of one shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tvm import relax
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_tinyml import reference
from tvm_tinyml.choice import NONE, Knobs
from tvm_tinyml.passes.integer_ops import Attributes, shape_of, span
from tvm_tinyml.passes.kernels.kernel import Kernel, Method, Overlap, Recipe
from tvm_tinyml.targets.cortex_m.microkernels import add
from tvm_tinyml.targets.cortex_m.microkernels.affine import Function, fit
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel, texts

INT8 = np.arange(-128, 128, dtype=np.int8)

_SHARED = ("left_shift", "output_multiplier", "output_shift", "output_zero_point", "clamp_min", "clamp_max")
"""Parameters of the reference that have the attributes' names."""


class Sum(Recipe):
    """``tinyml.add`` or ``tinyml.subtract`` without broadcasting.

    Parameters
    ----------
    kind : "add" or "subtract".
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE) -> Kernel | None:
        """Return the kernel, or None where its conditions are not met."""
        if knobs or shape_of(arguments[0]) != shape_of(arguments[1]):
            return None
        found = affine_sum(self._kind, attributes)
        step = attributes.get("output_step", 0)
        return None if found is None else sum_kernel(self._kind, arguments, *found, Sum.__name__, step)


def affine_sum(kind: str, attributes: Attributes) -> tuple[Microkernel, NDArray[np.int32]] | None:
    """Return the microkernel of an "add" or "subtract", and its constants, or None where none is exact."""
    affine = fit(sum_function(kind, attributes))
    return None if affine is None else (add.add(affine.rounding), affine.words)


def sum_kernel(
    kind: str,
    arguments: Sequence[relax.Expr],
    kernel: Microkernel,
    words: NDArray[np.int32],
    schedule: str,
    output_step: int = 0,
) -> Kernel:
    """Return the function that calls a microkernel of (constants, a, b, result, elements) on two whole tensors.

    With an ``output_step`` it does so pixel by pixel: see `Kernel`.
    """
    shape = shape_of(arguments[0])
    size = math.prod(shape)
    pixels, channels = (size // shape[-1], shape[-1]) if output_step else (1, size)
    step = output_step or size
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        a, b = (T.arg(name, T.Buffer((size,), "int8")) for name in "ab")
        constants = T.arg("constants", T.Buffer((len(words),), "int32"))
        y = T.arg("output", T.Buffer((span([pixels, channels], step),), "int8"))
        with T.sblock("root"):
            T.reads()
            T.writes()
            with T.serial(pixels) as pixel:
                pointers = *(T.address_of(buffer[pixel * channels]) for buffer in (a, b)), T.address_of(y[pixel * step])
                T.evaluate(T.call_extern("int32", kernel.name, constants.access_ptr("r"), *pointers, channels))
    func = builder.get().with_attr({**texts([kernel]), "tinyml.schedule": schedule})
    flat = [relax.op.reshape(argument, (size,)) for argument in arguments]
    method = Method("one affine function of both elements")
    # Behind the first pixel every output lies further on than what it is made of.
    overlaps = [Overlap(i, (pixels - 1) * (step - channels)) for i in range(2)]
    return Kernel(
        kind, func, [*flat, relax.const(words)], method=method, overlaps=overlaps, output_step=output_step
    )


def sum_function(kind: str, attributes: Attributes) -> Function:
    """Return what an "add" or "subtract" does with all 65,536 pairs of elements, as values of `add.BYTE_SCALE`."""
    sides = ("input1", "input2")
    zero_points = [attributes[f"{side}_zero_point"] for side in sides]
    signs = (1, -1 if kind == "subtract" else 1)
    output = _scale(attributes, "output") * 2.0 ** attributes["left_shift"]
    slopes = [sign * output * _scale(attributes, side) for sign, side in zip(signs, sides, strict=True)]
    offset = -sum(slope * zero_point for slope, zero_point in zip(slopes, zero_points, strict=True))
    operator = reference.sub if kind == "subtract" else reference.add
    expected = operator(
        INT8[:, None],
        INT8[None, :],
        a_zero_point=zero_points[0],
        b_zero_point=zero_points[1],
        a_multiplier=attributes["input1_multiplier"],
        a_shift=attributes["input1_shift"],
        b_multiplier=attributes["input2_multiplier"],
        b_shift=attributes["input2_shift"],
        **{key: attributes[key] for key in _SHARED},
    )
    halves = add.BYTE_SCALE * INT8.astype(np.int64)
    return Function(
        values=[halves, halves],
        slopes=[slope / add.BYTE_SCALE for slope in slopes],
        offset=offset,
        zero_point=attributes["output_zero_point"],
        low=attributes["clamp_min"],
        high=attributes["clamp_max"],
        expected=expected.astype(np.int64),
    )


def _scale(attributes: Attributes, name: str) -> float:
    multiplier: int = attributes[f"{name}_multiplier"]
    shift: int = attributes[f"{name}_shift"]
    return multiplier * float(2.0 ** (shift - 31))
