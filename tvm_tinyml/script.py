"""TVMScript that is parsed in no time: TVM's own decorator reads the source of every caller first, twice."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from tvm import tirx
from tvm.script.parser import parse
from tvm.script.parser.core.utils import inspect_function_capture


def prim_func(*, s_tir: bool) -> Callable[[Callable[..., Any]], tirx.PrimFunc]:
    """Return what makes a PrimFunc of a function: ``T.prim_func`` for a function that is not in an ``ir_module``.

    Use it as ``@script.prim_func(s_tir=True)``: the parser looks for these very words.

    Parameters
    ----------
    s_tir : whether the function has blocks that can be scheduled. The parser reads it off the text.
    """
    # Annotations are texts here, so that what only they name is no variable of the function.
    outside = sys._getframe(1).f_locals

    def parsed(function: Callable[..., Any]) -> tirx.PrimFunc:
        return parse(function, {**outside, **inspect_function_capture(function)})

    parsed.dispatch_token = "tirx"  # type: ignore[attr-defined]
    return parsed
