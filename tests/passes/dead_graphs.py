"""Seeded random integer graphs in which channels are constant, or not read by anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule, relax

from tvm_tinyml import arithmetic
from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.integer_ops import shape_of

Array = NDArray[Any]
RANGE = {"clamp_min": -128, "clamp_max": 127}


class DeadGraph:
    """A graph under construction: every method adds an operator and returns its result.

    All tensors have the same zero point, so that constants equal it as often as is asked for.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.zero_point = int(self.rng.integers(-128, 128))
        self._builder = relax.BlockBuilder()

    def pick(self, *choices: Any) -> Any:
        """Return one of the choices."""
        return choices[int(self.rng.integers(len(choices)))]

    def some(self, count: int, share: float) -> NDArray[np.intp]:
        """Return that share of the numbers below `count`."""
        return self.rng.permutation(count)[: round(share * count)]

    def emit(self, call: relax.Expr) -> relax.Var:
        """Add an operator."""
        return self._builder.emit(call)

    def finish(self, build: Callable[[relax.Var], relax.Expr], shape: Sequence[int]) -> IRModule:
        """Return the module of ``build(input)``, which may be a tuple of tensors."""
        x = relax.Var("x", relax.TensorType(list(shape), "int8"))
        with self._builder.function("main", [x]):
            with self._builder.dataflow():
                result = build(x)
                outputs = [self._builder.emit_output(r) for r in (result if isinstance(result, list) else [result])]
            self._builder.emit_func_output(relax.Tuple(outputs) if len(outputs) > 1 else outputs[0])
        return self._builder.get().with_attr("tinyml.reference", "tflite")

    def conv(
        self,
        x: relax.Var,
        channels: int,
        kernel: int = 1,
        *,
        dead: Sequence[int] | NDArray[np.intp] = (),
        unread: Sequence[int] | NDArray[np.intp] = (),
        bias: int | None = None,
        **attributes: Any,
    ) -> relax.Var:
        """Add a convolution whose filters `dead` are zero and which does not read the channels `unread`.

        `bias` is that of the dead filters, whose channels hold the zero point if it is 0; None: random.
        """
        groups = attributes.pop("groups", 1)
        weight = self._weight(channels, kernel, kernel, shape_of(x)[3] // groups)
        weight[list(dead)] = 0
        weight[..., list(unread)] = 0
        options = {"strides": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1], **attributes}
        own = {"groups": groups, "input_zero_point": self.zero_point}
        numbers = self._per_channel(weight, dead, bias)
        return self.emit(integer_ops.conv2d(x, *numbers, **{**own, **self._output(), **options}))

    def depthwise(self, x: relax.Var, kernel: int = 3, multiplier: int = 1, **more: Any) -> relax.Var:
        """Add a depthwise convolution; `dead`, `bias` and attributes as for `conv`."""
        channels = shape_of(x)[3]
        return self.conv(x, channels * multiplier, kernel, groups=channels, **more)

    def dense(self, x: relax.Var, units: int, *, dead: Sequence[int] = (), unread: Sequence[int] = ()) -> relax.Var:
        """Add a dense layer."""
        weight = self._weight(units, shape_of(x)[1])
        weight[list(dead)] = 0
        weight[:, list(unread)] = 0
        return self.emit(integer_ops.dense(x, *self._per_channel(weight, dead, None), **self._output()))

    def sum(self, x: relax.Var, y: relax.Expr, op: integer_ops.IntegerOp = integer_ops.add) -> relax.Var:
        """Add a sum or a difference."""
        scale = {f"input{i}_{k}": v for i in (1, 2) for k, v in (("multiplier", 2**30), ("shift", self.pick(-1, 0)))}
        zero = {"input1_zero_point": self.zero_point, "input2_zero_point": self.zero_point}
        rest = {"left_shift": 20, "output_multiplier": 1518500250, "output_shift": -19}
        return self.emit(op(x, y, **scale, **zero, **rest, **self._output()))

    def product(self, x: relax.Var, y: relax.Expr) -> relax.Var:
        """Add a product."""
        zero = {"input1_zero_point": self.zero_point, "input2_zero_point": self.zero_point}
        scale = {"left_shift": 0, "output_multiplier": 1518500250, "output_shift": -5}
        return self.emit(integer_ops.multiply(x, y, **zero, **scale, **self._output()))

    def lookup(self, x: relax.Var) -> relax.Var:
        """Add a function of each element."""
        return self.emit(integer_ops.lookup(x, relax.const(self.int8(256))))

    def int16_functions(self, x: relax.Var) -> relax.Var:
        """Add every function of an int16 tensor, between changes of type."""
        scale = {"multiplier": 1518500250, "output_zero_point": 0}
        wide = {"bits": 16, "input_zero_point": self.zero_point, "shift": 7, "clamp_min": -32768, "clamp_max": 32767}
        x = self.emit(integer_ops.requantize(x, **scale, **wide))
        points = relax.const(self.rng.integers(-(2**15), 2**15, 513).astype(np.int16))
        x = self.emit(integer_ops.interpolate(x, points))
        x = self.emit(integer_ops.slopes(x, magnitude=0, multipliers=[2**30, -1518500250], shifts=[1, 0]))
        for function in (integer_ops.logistic, integer_ops.tanh):
            sigmoid = relax.const(arithmetic.sigmoid_points(), "uint16")
            x = self.emit(function(x, sigmoid, multiplier=24576, shift=14))
        narrow = {"bits": 8, "input_zero_point": 0, "shift": -7, **RANGE}
        return self.emit(integer_ops.requantize(x, **scale, **narrow))

    def pool(self, x: relax.Var, op: integer_ops.IntegerOp = integer_ops.avg_pool2d, **more: Any) -> relax.Var:
        """Add a pool of 2x2."""
        options = {"pool_size": [2, 2], "strides": [1, 1], "padding": [0, 0, 0, 0], **RANGE, **more}
        if op is integer_ops.mean_pool2d:
            options |= {"input_zero_point": self.zero_point, "left_shift": 8, "multiplier": 1518500250}
            options |= {"shift": -7 if any(options["padding"]) else -9, "output_zero_point": self.zero_point}
        return self.emit(op(x, **options))

    def mean(self, x: relax.Var, keepdims: bool = False) -> relax.Var:
        """Add a mean over the image."""
        height, width = shape_of(x)[1:3]
        scale = {"left_shift": 0, "multiplier": int(2**31 / (height * width)) - 1, "shift": 0}
        options = {"axes": [1, 2], "keepdims": int(keepdims), "input_zero_point": self.zero_point, **scale}
        return self.emit(integer_ops.mean(x, **options, **self._output()))

    def flat(self, x: relax.Var) -> relax.Var:
        """Make each image a row."""
        return self.emit(relax.op.reshape(x, (shape_of(x)[0], int(np.prod(shape_of(x)[1:])))))

    def softmax(self, x: relax.Var) -> relax.Var:
        """Add a softmax."""
        table = np.rint(2.0**31 * np.exp(-0.05 * np.arange(256))).clip(0, 2**31 - 1).astype(np.int32)
        scale = {"multiplier": 2**30, "shift": 9, "output_zero_point": -128}
        return self.emit(integer_ops.softmax(x, relax.const(table), **scale, **RANGE))

    def resize(self, x: relax.Var, height: int, width: int) -> relax.Var:
        """Add a resizing to the nearest pixels."""
        how = ("NHWC", "nearest_neighbor", "asymmetric", "floor")
        return self.emit(relax.op.image.resize2d(x, (height, width), None, *how))

    def concat(self, *parts: relax.Expr, axis: int = 3) -> relax.Var:
        """Join tensors."""
        return self.emit(relax.op.concat(list(parts), axis))

    def constant(self, *shape: int) -> relax.Expr:
        """Return a random constant."""
        return relax.const(self.int8(*shape))

    def int8(self, *shape: int) -> Array:
        """Return random numbers."""
        return self.rng.integers(-128, 128, shape).astype(np.int8)

    def _weight(self, *shape: int) -> Array:
        weight = self.int8(*shape)
        weight[weight == 0] = 1  # what is dead is asked for
        return weight

    def _per_channel(self, weight: Array, dead: Any, bias: int | None) -> list[relax.Expr]:
        channels, taps = len(weight), int(np.prod(weight.shape[1:]))
        biases = self.rng.integers(-3000, 3000, channels)
        if bias is not None:
            biases[list(dead)] = bias
        multiplier = self.rng.integers(2**30, 2**31, channels)
        shift = np.full(channels, -7 - int(np.log2(taps) / 2))
        offset = self.zero_point * weight.reshape(channels, -1).sum(axis=1, dtype=np.int64)
        numbers = [(biases - offset).astype(np.int32), multiplier.astype(np.int32), shift.astype(np.int32)]
        return [relax.const(array) for array in (weight, *numbers)]

    def _output(self) -> dict[str, int]:
        low = self.pick(-128, self.zero_point)
        return {"output_zero_point": self.zero_point, "clamp_min": low, "clamp_max": 127}


def random_graph(seed: int) -> IRModule:
    """Return a graph of some operators of all kinds in which about half of the channels are dead."""
    g = DeadGraph(seed)
    shape = (g.pick(1, 1, 2), g.pick(5, 6, 7), g.pick(5, 6), g.pick(1, 3, 4))
    return g.finish(lambda x: _network(g, x), shape)


def _network(g: DeadGraph, x: relax.Var) -> relax.Expr | list[relax.Expr]:
    for _ in range(g.pick(3, 4, 5, 6)):
        x = _stage(g, x)
    # Most of what went before can be read off an image; the scores alone would hide much of it.
    images = [x if g.rng.random() < 0.3 else g.conv(x, 3)]
    if g.rng.random() < 0.5:
        x = g.mean(x) if g.rng.random() < 0.5 else g.flat(g.mean(x, keepdims=True))
    else:
        x = g.flat(g.pool(x, strides=[3, 3]))
    hidden = g.dense(x, 6, dead=g.some(6, g.pick(0.0, 0.5, 0.5, 1.0)), unread=g.some(shape_of(x)[1], 0.3))
    result = g.dense(hidden, 3)
    return [*images, g.softmax(result) if g.rng.random() < 0.5 else result]


def _stage(g: DeadGraph, x: relax.Var) -> relax.Var:
    """Add a layer, a few of them, or a branch; images stay at least 4x4."""
    height, width, channels = shape_of(x)[1:]
    small = min(height, width) < 5
    same = [1, 1, 1, 1]
    match int(g.rng.integers(10)):
        case 0 | 1:
            return _conv(g, x, g.pick(4, 6, 8), 3, padding=same)
        case 2:
            return _conv(g, x, g.pick(5, 8), 3, padding=same if small else [1, 0, 1, 0])
        case 3 | 4:
            y = g.depthwise(x, 3, g.pick(1, 1, 2), padding=same, **_planted(g, 2 * channels, channels))
            return _conv(g, y, g.pick(4, 8), 1)
        case 5:
            y = _conv(g, g.lookup(_conv(g, x, 6, 1)), channels, 3, padding=same)
            return g.sum(x, y, g.pick(integer_ops.add, integer_ops.subtract))
        case 6:
            y, z = _conv(g, x, 4, 1), _conv(g, x, 6, 3, padding=same)
            joined = g.concat(y, g.constant(*shape_of(y)[:3], 2), z) if g.rng.random() < 0.5 else g.concat(z, y)
            return _conv(g, joined, 5, 1)
        case 7:
            pooled = g.pool(x, g.pick(integer_ops.avg_pool2d, integer_ops.max_pool2d, integer_ops.mean_pool2d),
                            padding=g.pick([1, 1, 0, 0], [0, 1, 1, 0]))  # fmt: skip
            other = g.pick(g.constant(1, 1, 1, channels), g.constant(1, 1, 1, 1), g.constant(channels), pooled)
            return g.sum(pooled, other) if g.rng.random() < 0.5 else g.product(pooled, other)
        case 8:
            y = _conv(g, x, 4, 1)
            return g.conv(y, 4, 3, groups=2, padding=same, dead=g.some(4, 0.5))
        case _:
            y = _conv(g, x, 6, 1)
            gate = _conv(g, g.mean(y, keepdims=True), 6, 1)
            return g.product(y, gate)


def _conv(g: DeadGraph, x: relax.Var, channels: int, kernel: int, **attributes: Any) -> relax.Var:
    unread = g.some(shape_of(x)[3], g.pick(0.0, 0.3))
    return g.conv(x, channels, kernel, unread=unread, **_planted(g, channels, channels), **attributes)


def _planted(g: DeadGraph, most: int, channels: int) -> dict[str, Any]:
    """Choose dead filters below `most` or `channels`, whichever is less, and their bias."""
    return {"dead": g.some(min(most, channels), g.pick(0.0, 0.4, 0.8, 1.0)), "bias": g.pick(0, None)}
