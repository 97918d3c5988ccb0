"""One module for each integer operator and its variants, and how to run it on a simulated core."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule, relax, tirx

from tests.passes.graphs import PLAIN, calls, conv2d, dense, int8, integer, model_of, tensor_spec
from tvm_tinyml import arithmetic
from tvm_tinyml.library import Library
from tvm_tinyml.model import Model
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.passes import LowerToKernels, SplitPadding, integer_ops
from tvm_tinyml.passes.kernels import KernelTraits
from tvm_tinyml.pipeline import compile_model
from tvm_tinyml.reference.evaluate import evaluate
from tvm_tinyml.schedules.cortex_m.fallback import Unscheduled
from tvm_tinyml.schedules.rule import ScheduleRule
from tvm_tinyml.session import Session
from tvm_tinyml.targets.cortex_m import cortex_m

Array = NDArray[Any]
Build = Callable[[np.random.Generator], IRModule]

SCALES = {
    "input1_zero_point": -128, "input1_multiplier": 1 << 30, "input1_shift": 0, "input2_zero_point": 5,
    "input2_multiplier": 1700000001, "input2_shift": -3, "left_shift": 20, "output_multiplier": 1500000007,
    "output_shift": -18,
}  # fmt: skip
FACTORS = {
    "input1_zero_point": 127, "input2_zero_point": -128, "left_shift": 0, "output_multiplier": 1500000007,
    "output_shift": -7,
}  # fmt: skip
RELU = {"output_zero_point": -20, "clamp_min": -20, "clamp_max": 90}


def _pool(op: integer_ops.IntegerOp, shape: Sequence[int], window: Sequence[int], **options: Any) -> Build:
    given = {"strides": [1, 1], "padding": [0, 0, 0, 0], "clamp_min": -128, "clamp_max": 127, **options}
    return lambda _: integer(lambda x: op(x, pool_size=list(window), **given), shape)


def _mean_pool(padding: list[int]) -> Build:
    given: dict[str, Any] = {"pool_size": [3, 2], "strides": [2, 1], "padding": padding, "input_zero_point": 11}
    given |= {"left_shift": 14, "multiplier": 1500000007, "shift": -14, **RELU}
    return lambda _: integer(lambda x: integer_ops.mean_pool2d(x, **given), (1, 7, 6, 3))


def _mean(axes: list[int], keepdims: int, shape: Sequence[int], zero_point: int = -128) -> Build:
    count = int(np.prod([shape[axis] for axis in axes]))
    multiplier, shift = arithmetic.mean_parameters(0.5, 0.4, count)
    given = {"input_zero_point": zero_point, "left_shift": 0, "multiplier": multiplier, "shift": shift, **PLAIN}
    return lambda _: integer(lambda x: integer_ops.mean(x, axes=axes, keepdims=keepdims, **given), shape)


def _lookup(rng: np.random.Generator) -> IRModule:
    table = relax.const(rng.integers(-128, 128, 256).astype(np.int8))
    return integer(lambda x: integer_ops.lookup(x, table), (3, 100))


def _softmax(classes: int, scale: float) -> Build:
    table = relax.const(arithmetic.softmax_exp_table(scale))
    given = {"multiplier": 1 << 30, "shift": 9, **PLAIN, "output_zero_point": -128}
    return lambda _: integer(lambda x: integer_ops.softmax(x, table, **given), (3, classes))


def _gather(_: np.random.Generator) -> IRModule:
    rows, columns = relax.const(np.array([3, 0, 0], np.int32)), relax.const(np.array([1, 4, 2, 4], np.int32))
    return integer(lambda x: integer_ops.gather2d(x, rows, columns), (1, 4, 5, 2))


def _sum(op: integer_ops.IntegerOp, a: Sequence[int], b: Sequence[int], **options: Any) -> Build:
    return lambda _: integer(lambda x, y: op(x, y, **{**SCALES, **PLAIN, **options}), a, b)


CONTRACTIONS: dict[str, Build] = {
    "pointwise": lambda rng: conv2d(rng, (1, 4, 5, 8), (6, 1, 1, 8)),
    "pointwise with a tail": lambda rng: conv2d(rng, (1, 3, 3, 7), (4, 1, 1, 7)),
    "pointwise of three channels": lambda rng: conv2d(rng, (1, 3, 3, 3), (4, 1, 1, 3)),
    "pointwise with strides": lambda rng: conv2d(rng, (1, 5, 6, 4), (3, 1, 1, 4), strides=[2, 3]),
    "3x3": lambda rng: conv2d(rng, (1, 6, 7, 4), (4, 3, 3, 4), **RELU),
    "3x3 with strides and padding": lambda rng: conv2d(
        rng, (1, 6, 7, 3), (5, 3, 3, 3), strides=[2, 2], padding=[1, 0, 1, 2]
    ),
    "3x3 with dilation": lambda rng: conv2d(rng, (1, 8, 8, 5), (2, 3, 3, 5), dilation=[2, 2]),
    "two images": lambda rng: conv2d(rng, (2, 4, 4, 2), (2, 2, 2, 2)),
    "grouped": lambda rng: conv2d(rng, (1, 5, 5, 15), (9, 3, 3, 5), groups=3),
    "grouped in two": lambda rng: conv2d(rng, (1, 4, 4, 8), (4, 3, 3, 4), groups=2),
    "grouped, one output a group": lambda rng: conv2d(rng, (1, 5, 5, 12), (3, 2, 2, 4), groups=3),
    "scales above one": lambda rng: conv2d(rng, (1, 3, 3, 2), (4, 1, 1, 2), shifts=(-2, 3)),
    "dense": lambda rng: dense(rng, 1, 37, 6),
    "dense of several rows": lambda rng: dense(rng, 3, 8, 5),
}
DEPTHWISE: dict[str, Build] = {
    "depthwise": lambda rng: conv2d(rng, (1, 5, 6, 8), (8, 3, 3, 1), groups=8, **RELU),
    "depthwise with padding": lambda rng: conv2d(rng, (1, 5, 6, 4), (4, 3, 3, 1), groups=4, padding=[1, 1, 1, 1]),
    "depthwise with strides": lambda rng: conv2d(rng, (1, 7, 6, 4), (4, 5, 1, 1), groups=4, strides=[2, 2]),
    "depthwise of three channels": lambda rng: conv2d(rng, (1, 5, 6, 3), (3, 3, 3, 1), groups=3),
    "depthwise, three outputs a channel": lambda rng: conv2d(rng, (1, 4, 4, 4), (12, 3, 3, 1), groups=4),
    "depthwise, as many outputs as channels": lambda rng: conv2d(rng, (1, 4, 4, 4), (16, 3, 3, 1), groups=4),
}
REDUCTIONS: dict[str, Build] = {
    "average of 2x2": _pool(integer_ops.avg_pool2d, (1, 5, 5, 3), (2, 2)),
    "average of 3x3 with strides": _pool(integer_ops.avg_pool2d, (1, 9, 9, 4), (3, 3), strides=[3, 2], clamp_min=-9),
    "average of 16x16": _pool(integer_ops.avg_pool2d, (1, 17, 16, 2), (16, 16)),
    "average of 1x1": _pool(integer_ops.avg_pool2d, (1, 3, 3, 2), (1, 1)),
    "average with padding": _pool(integer_ops.avg_pool2d, (1, 5, 5, 3), (3, 3), padding=[1, 1, 1, 1]),
    "largest of 2x3": _pool(integer_ops.max_pool2d, (1, 5, 7, 3), (2, 3), strides=[2, 2], clamp_max=60),
    "largest with padding": _pool(integer_ops.max_pool2d, (1, 5, 5, 3), (3, 3), padding=[1, 0, 2, 1]),
    "mean of a window": _mean_pool([0, 0, 0, 0]),
    "mean of a window with padding": _mean_pool([1, 1, 1, 0]),
    "mean over an image": _mean([1, 2], 1, (1, 5, 7, 6)),
    "mean over channels": _mean([3], 0, (2, 3, 2, 5), 127),
    "mean of everything": _mean([0, 1], 0, (4, 6)),
    "softmax": _softmax(12, 0.1),
    "softmax of one class": _softmax(1, 0.1),
    "softmax of 600 classes": _softmax(600, 0.001),
}
ELEMENTWISE: dict[str, Build] = {
    "add": _sum(integer_ops.add, (4, 9), (4, 9)),
    "add with broadcasting": _sum(integer_ops.add, (2, 1, 3), (4, 1), **RELU),
    "subtract": _sum(integer_ops.subtract, (5, 6), (6,)),
    "multiply": lambda _: integer(lambda x, y: integer_ops.multiply(x, y, **FACTORS, **PLAIN), (5, 8), (5, 1)),
    "multiply, raised": lambda _: integer(
        lambda x, y: integer_ops.multiply(x, y, **{**FACTORS, "left_shift": 14, "output_shift": -21}, **PLAIN),
        (9,),
        (9,),
    ),
    "lookup": _lookup,
    "pad2d": lambda _: integer(lambda x: integer_ops.pad2d(x, padding=[1, 2, 0, 3], value=-7), (2, 3, 2, 3)),
    "pad2d of one side": lambda _: integer(lambda x: integer_ops.pad2d(x, padding=[0, 0, 2, 0], value=9), (1, 3, 2, 3)),
    "gather2d": _gather,
}
UNSCHEDULED: tuple[ScheduleRule, ...] = (Unscheduled(),)
KERNELS = {**CONTRACTIONS, **DEPTHWISE, **REDUCTIONS, **ELEMENTWISE}


@functools.cache
def everything() -> tuple[Model, tuple[tuple[Array, ...], ...]]:
    """Return one network with all of `KERNELS` side by side, and two samples: random and zeros.

    One network, since what a build costs is hardly the kernels.
    """
    rng = np.random.default_rng(0)
    builder = relax.BlockBuilder()
    modules = {name: build(rng) for name, build in KERNELS.items()}
    inputs, results, arrays = [], [], []
    calls_of = {}
    for name, module in modules.items():
        (call,) = calls(module)
        renamed = {}
        for parameter in module["main"].params:
            shape = integer_ops.shape_of(parameter)
            renamed[parameter] = relax.Var(f"x{len(inputs)}", relax.TensorType(shape, "int8"))
            inputs.append(renamed[parameter])
            arrays.append(int8(rng, *shape))
        arguments = [renamed[a] if isinstance(a, relax.Var) else a for a in call.args]
        calls_of[name] = relax.Call(call.op, arguments, attrs=call.attrs)
    with builder.function("main", inputs):
        with builder.dataflow():
            results = [builder.emit_output(call) for call in calls_of.values()]
        builder.emit_func_output(relax.Tuple(results))
    module = builder.get().with_attr("tinyml.reference", "tflite")
    specs = tuple(tensor_spec(f"x{i}", x) for i, x in enumerate(inputs))
    outputs = tuple(tensor_spec(name, y) for name, y in zip(calls_of, results, strict=True))
    samples = tuple(arrays), tuple(np.zeros_like(array) for array in arrays)
    return Model("m", module, specs, outputs, "tflite"), samples


@functools.cache
def expected() -> tuple[dict[str, Array], ...]:
    """Return what each kernel must compute for each sample, by the numpy reference."""
    model, samples = everything()
    return tuple(dict(zip(KERNELS, evaluate(model.module, sample), strict=True)) for sample in samples)


@functools.cache
def computed(core: str, rules: tuple[ScheduleRule, ...]) -> tuple[dict[str, Array], ...]:
    """Return what each kernel computes for each sample on a core when it is scheduled by these rules."""
    model, samples = everything()
    library = compile_model(model, dataclasses.replace(cortex_m(core), rules=rules), BuildOptions(emit="lib"))
    with closing(Session(library.metadata, library.objects)) as session:
        return tuple(dict(zip(KERNELS, session.run(sample).outputs, strict=True)) for sample in samples)


def functions(module: IRModule, dot_length: int = 4) -> dict[str, tirx.PrimFunc]:
    """Return the kernels that a module is lowered to, by name, not scheduled."""
    lowered = LowerToKernels(KernelTraits(dot_length))(SplitPadding()(module))
    return {str(v.name_hint): f for v, f in lowered.functions.items() if isinstance(f, tirx.PrimFunc)}


@functools.cache
def lowered(name: str, dot_length: int = 4) -> dict[str, tirx.PrimFunc]:
    """Return the kernels of one of `KERNELS`, as `functions` does."""
    return functions(KERNELS[name](np.random.default_rng(0)), dot_length)


def build(
    module: IRModule, target: str, rules: Sequence[ScheduleRule] | None = None, options: BuildOptions | None = None
) -> Library:
    """Compile a module of the integer dialect, where given with other rules than the target's and without recipes."""
    machine = cortex_m(target)
    if rules is not None:
        machine = dataclasses.replace(machine, rules=tuple(rules), small_rules=tuple(rules), recipes=lambda _goal: {})
    return compile_model(model_of(module), machine, options or BuildOptions(emit="lib"))


def run(library: Library, inputs: Sequence[Array]) -> list[Array]:
    """Run a library on the simulator."""
    with closing(Session(library.metadata, library.objects)) as session:
        return session.run(inputs).outputs
