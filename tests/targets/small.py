"""One small network with a padded convolution, a depthwise one, a pool, a branch and a softmax, for golden text."""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax

from tvm_tinyml import passes
from tvm_tinyml.flatten import flatten
from tvm_tinyml.frontend.qdq import RELU, UNIT_INTERVAL, QdqBuilder, Quantization, Weight
from tvm_tinyml.model import Model
from tvm_tinyml.program import Program
from tvm_tinyml.schedules.rule import ApplySchedules
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.targets.lowering import lower_kernels

MIDDLE = Quantization(0.25, -128)


def small_network() -> Model:
    """Return the network, the same one every time."""
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> Weight:
        return Weight(rng.integers(-127, 128, shape).astype(np.int8), np.float32(0.01))

    q = QdqBuilder("tflite")
    x = q.input("x", (1, 4, 4, 2), "int8", Quantization(0.5, -3))
    window = {"strides": (1, 1), "padding": (1, 1, 1, 1), "to": MIDDLE}
    bias = rng.integers(-500, 500, 4).astype(np.int32)
    y = q.conv2d(x, weight(4, 3, 3, 2), bias, name="conv", activation=RELU, **window)
    z = q.conv2d(y, weight(4, 3, 3, 1), None, name="depthwise", groups=4, **window)
    z = q.apply(relax.op.add, y, z, to=MIDDLE, name="sum")
    pool = {"pool_size": (2, 2), "strides": (2, 2), "layout": "NHWC"}
    z = q.apply(lambda v: relax.op.nn.avg_pool2d(v, **pool), z, to=MIDDLE, name="pool")
    z = q.dense(q.reshape(z, (1, 16), "flat"), weight(3, 16), None, to=Quantization(0.1, 4), name="dense")
    q.output("y", q.apply(relax.op.nn.softmax, z, to=UNIT_INTERVAL, name="y"), "int8")
    return q.finish("small")


def small_program() -> Program:
    """Return its program for the Cortex-M4."""
    model, target = small_network(), cortex_m("cortex-m4")
    steps = [passes.FoldQuantization(), passes.SplitPadding(), passes.LowerToKernels(target.traits)]
    steps += [ApplySchedules(target.rules), lower_kernels()]
    return flatten(tvm.transform.Sequential(steps)(model.module), model, io_in_workspace=False, pools={})
