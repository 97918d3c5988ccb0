"""Tensor intrinsics of the DSP extension: what they compute, and the helper that does it.

A helper has one body for each code generator (``targets/cortex_m/helpers``), so one intrinsic serves the object form
and the C form.
"""

# TVMScript is a language of its own: neither its decorator nor its annotations are Python types.
# mypy: disable-error-code="untyped-decorator, valid-type"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from tvm_tinyml import script

DOT4 = {"int8": "tinyml.dot4_s8", "int16": "tinyml.dot4_s16s8"}
"""c += a[0:4] . b[0:4] in int32, b int8, by a's type: two SXTB16 an operand of bytes, two SMLAD."""

MAC4 = {"int8": "tinyml.mac4_s8", "int16": "tinyml.mac4_s16s8"}
"""c[0:4] += a[0:4] * b[0:4], alike: two SXTB16 an operand of bytes, four SMLABB or SMLATT."""


Place = Callable[[Any], Any]
"""From the number of a product to where its byte is stored."""


def _dot4(dtype: str, place: Place) -> tirx.PrimFunc:
    @script.prim_func(s_tir=True)
    def dot4(
        a: T.Buffer((4,), dtype, offset_factor=1),
        b: T.Buffer((4,), "int8", offset_factor=1),
        c: T.Buffer((1,), "int32", offset_factor=1),
    ) -> None:
        with T.sblock("root"):
            T.reads(c[0], a[0:4], b[0:4])
            T.writes(c[0])
            for i in range(4):
                with T.sblock("update"):
                    k = T.axis.remap("R", [i])
                    c[0] = c[0] + T.Cast("int32", a[k]) * T.Cast("int32", b[place(k)])

    return dot4


def _dot4_by_helper(dtype: str, helper: str) -> tirx.PrimFunc:
    @script.prim_func(s_tir=True)
    def dot4(
        a: T.Buffer((4,), dtype, offset_factor=1),
        b: T.Buffer((4,), "int8", offset_factor=1),
        c: T.Buffer((1,), "int32", offset_factor=1),
    ) -> None:
        with T.sblock("root"):
            T.reads(c[0], a[0:4], b[0:4])
            T.writes(c[0])
            c[0] = T.call_extern("int32", helper, a.access_ptr("r"), b.access_ptr("r"), c[0])

    return dot4


def _mac4(dtype: str, place: Place) -> tirx.PrimFunc:
    @script.prim_func(s_tir=True)
    def mac4(
        a: T.Buffer((4,), dtype, offset_factor=1),
        b: T.Buffer((4,), "int8", offset_factor=1),
        c: T.Buffer((4,), "int32", offset_factor=1),
    ) -> None:
        with T.sblock("root"):
            T.reads(c[0:4], a[0:4], b[0:4])
            T.writes(c[0:4])
            for i in range(4):
                with T.sblock("update"):
                    k = T.axis.remap("S", [i])
                    c[k] = c[k] + T.Cast("int32", a[k]) * T.Cast("int32", b[place(k)])

    return mac4


def _mac4_by_helper(dtype: str, helper: str) -> tirx.PrimFunc:
    @script.prim_func(s_tir=True)
    def mac4(
        a: T.Buffer((4,), dtype, offset_factor=1),
        b: T.Buffer((4,), "int8", offset_factor=1),
        c: T.Buffer((4,), "int32", offset_factor=1),
    ) -> None:
        with T.sblock("root"):
            T.reads(c[0:4], a[0:4], b[0:4])
            T.writes(c[0:4])
            T.evaluate(T.call_extern("int32", helper, c.access_ptr("rw"), a.access_ptr("r"), b.access_ptr("r")))

    return mac4


PLACES: dict[str, Place] = {"int8": lambda k: k, "int16": lambda k: k % 2 * 2 + k // 2}
"""Beside halves, four bytes are stored in the order 0, 2, 1, 3: SXTB16 makes pairs of them as halves are."""

for _dtype, _place in PLACES.items():
    for _names, _what, _how in ((DOT4, _dot4, _dot4_by_helper), (MAC4, _mac4, _mac4_by_helper)):
        _name = _names[_dtype]
        TensorIntrin.register(_name, _what(_dtype, _place), _how(_dtype, _name.replace(".", "_")), override=True)
