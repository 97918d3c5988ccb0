"""A kernel says whether it reads and writes channels of wider tensors, and its buffers are as large as that takes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.passes.graphs import PLAIN, calls, conv2d, integer
from tests.passes.kernels import KERNELS, RELU, SCALES, Build
from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.integer_ops import attributes_of, shape_of, span
from tvm_tinyml.targets.cortex_m import cortex_m

MORE = 3
"""Channels of the wider tensors beside those of the operator."""

SHAPE = (1, 12, 12, 16)
EVERY: dict[str, Build] = {
    **KERNELS,
    "wide 3x3": lambda rng: conv2d(rng, SHAPE, (16, 3, 3, 16), padding=[1, 1, 1, 1], **RELU),
    "sum": lambda _: integer(lambda x, y: integer_ops.add(x, y, **SCALES, **PLAIN), SHAPE, SHAPE),
}

READING = {"ConvGemm", "Depthwise", "DepthwiseWords"}
WRITING = {*READING, "Winograd", "Pool", "Sum"}
"""With the DSP extension; names of their schedules."""


@pytest.mark.parametrize(
    ("core", "goal", "reading", "writing"),
    [
        *((core, "time", READING, WRITING) for core in ("cortex-m4", "cortex-m7", "cortex-m33+nofp")),
        ("cortex-m4", "ram", READING, WRITING - {"Winograd"}),
        ("cortex-m4", "flash", set(), set()),
        ("cortex-m55", "time", set(), {"Pool", "Sum"}),
        *((core, "time", set(), set()) for core in ("cortex-m3", "cortex-m0plus")),
    ],
)
def test_buffers_have_the_steps_that_a_kernel_speaks_of(
    core: str, goal: str, reading: set[str], writing: set[str]
) -> None:
    recipes = cortex_m(core).recipes(goal)
    read_by, written_by = set[str](), set[str]()
    for name, build in EVERY.items():
        (call,) = calls(build(np.random.default_rng(0)))
        x, y = shape_of(call.args[0]), shape_of(call)
        if len(x) != 4 or len(y) != 4:
            continue
        asked = {"input_step": x[-1] + MORE, "output_step": y[-1] + MORE}
        for recipe in recipes.get(call.op.name, ()):
            kernel = recipe.lower(call.args, {**attributes_of(call), **asked})
            if kernel is None:
                continue
            read, *_, written = (math.prod(map(int, buffer.shape)) for buffer in kernel.func.params)
            assert read == span(x, kernel.input_step or x[-1]), name
            assert written == span(y, kernel.output_step or y[-1]), name
            assert {kernel.input_step, kernel.output_step} <= {0, *asked.values()}
            schedule = str(kernel.func.attrs["tinyml.schedule"])
            read_by |= {schedule} if kernel.input_step else set()
            written_by |= {schedule} if kernel.output_step else set()
    assert (read_by, written_by) == (reading, writing)
