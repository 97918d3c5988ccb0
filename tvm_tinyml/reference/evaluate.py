"""Run an integer graph in numpy: what every compiled library must compute, byte for byte."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule, relax
from tvm.ir import GenericConst, Op

from tvm_tinyml.passes.integer_ops import CONV2D_THEN, attributes_of, conv2d, then_of
from tvm_tinyml.passes.resize_to_gather import positions
from tvm_tinyml.passes.weight_codes import Form, decoded
from tvm_tinyml.reference import int16_functions, movement, operators, real

Array = NDArray[Any]
Evaluate = Callable[[Sequence[Any], relax.Call], Any]


Substitute = Callable[[relax.Var, relax.Call, Sequence[Any], Any], Any]
"""From an operator's variable, call, arguments and result to what is taken for the result."""


def evaluate(module: IRModule, inputs: Sequence[Array], substitute: Substitute | None = None) -> list[Array]:
    """Return the outputs of ``main`` for one sample, or several if it takes them.

    Parameters
    ----------
    module : integer operators and moves of data, as after :class:`tvm_tinyml.passes.FoldQuantization`, or a network in
        the canonical form, float or quantized.
    inputs : in the order of the parameters, with their shapes and dtypes; see `takes_samples` for more than one.
    substitute : called after each operator, to look at its result or to continue with another.
    """
    main = module["main"]
    values: dict[relax.Expr, Any] = dict(zip(main.params, inputs, strict=True))
    for block in main.body.blocks:
        for binding in block.bindings:
            result = _value(binding.value, values)
            if substitute is not None and isinstance(binding.value, relax.Call):
                result = substitute(binding.var, binding.value, _arguments(binding.value, values), result)
            values[binding.var] = result
    result = _value(main.body.body, values)
    return list(result) if isinstance(result, list) else [result]


def trace(module: IRModule, inputs: Sequence[Array]) -> dict[relax.Expr, Any]:
    """Return all that ``main`` computes, by its variables; inputs as for `evaluate`."""
    main = module["main"]
    values: dict[relax.Expr, Any] = dict(zip(main.params, inputs, strict=True))
    for block in main.body.blocks:
        for binding in block.bindings:
            values[binding.var] = _value(binding.value, values)
    return values


def recompute(
    bindings: Iterable[relax.VarBinding], known: Mapping[relax.Expr, Any], changed: Mapping[relax.Expr, Any]
) -> dict[relax.Expr, Any]:
    """Return what is computed if some tensors or constants were others; what does not depend on them stays.

    Parameters
    ----------
    bindings : of ``main``, or a part of them, in order.
    known : as from `trace`.
    changed : by variable or constant, what to take instead.
    """
    values = {**known, **changed}
    other = set(changed)
    for binding in bindings:
        if binding.var not in changed and not other.isdisjoint(_operands(binding.value)):
            values[binding.var] = _value(binding.value, values)
            other.add(binding.var)
    return values


def evaluate_constant(expr: relax.Expr) -> Any:
    """Return the array, or list of arrays, that an expression without variables computes."""
    return _value(expr, {})


def takes_samples(module: IRModule) -> bool:
    """Tell whether the first dimension of all tensors is that of samples, so that several can be computed together."""
    main = module["main"]
    computed: set[relax.Expr] = set(main.params)
    if not all(_is_one_sample(parameter.ty) for parameter in main.params):
        return False
    for block in main.body.blocks:
        for binding in block.bindings:
            value = binding.value
            if isinstance(value, relax.Call):
                if computed.isdisjoint(_operands(value)):
                    continue
                if not _is_one_sample(value.ty) or _mixes_samples(value):
                    return False
            computed.add(binding.var)
    return True


def _operands(value: relax.Expr) -> Iterator[relax.Expr]:
    match value:
        case relax.Call():
            for argument in value.args:
                yield from argument.fields if isinstance(argument, relax.Tuple) else [argument]
        case relax.TupleGetItem():
            yield value.tuple_value
        case relax.Tuple():
            yield from value.fields
        case _:
            yield value


def _is_one_sample(ty: Any) -> bool:
    if isinstance(ty, relax.TensorType):
        return [int(extent) for extent in ty.shape][:1] == [1]
    return all(_is_one_sample(field) for field in ty.fields)


def _mixes_samples(call: relax.Call) -> bool:
    match str(call.op.name):
        case "relax.permute_dims":
            return call.attrs.axes is None or int(call.attrs.axes[0]) != 0
        case "relax.mean" | "relax.sum":
            rank = len(call.args[0].ty.shape)
            return call.attrs.axis is None or 0 in [int(axis) % rank for axis in call.attrs.axis]
        case "relax.strided_slice":
            return 0 in [int(axis.value) for axis in call.args[1].fields]
        case _:
            return False


def _value(expr: relax.Expr, values: Mapping[relax.Expr, Any]) -> Any:
    match expr:
        case relax.Var():
            return values[expr]
        case GenericConst():
            return values[expr] if expr in values else expr.value.numpy()
        case relax.Tuple():
            return [_value(field, values) for field in expr.fields]
        case relax.TupleGetItem():
            return _value(expr.tuple_value, values)[int(expr.index)]
        case _:
            return _OPERATORS[expr.op.name](_arguments(expr, values), expr)


def _arguments(call: relax.Call, values: Mapping[relax.Expr, Any]) -> list[Any]:
    return [_value(argument, values) for argument in call.args if _is_tensor(argument)]


def _is_tensor(expr: relax.Expr) -> bool:
    if isinstance(expr, relax.Tuple):
        return all(_is_tensor(field) for field in expr.fields)
    return isinstance(expr, relax.Var | GenericConst)


def _conv2d(args: Sequence[Array], call: relax.Call) -> Array:
    a: Mapping[str, Any] = attributes_of(call)
    return operators.conv2d(
        *args,
        strides=tuple(a["strides"]),
        padding=tuple(a["padding"]),
        dilation=tuple(a["dilation"]),
        **_pick(a, "groups", "input_zero_point", "output_zero_point", "clamp_min", "clamp_max"),
    )


def _conv2d_transpose(args: Sequence[Array], call: relax.Call) -> Array:
    a: Mapping[str, Any] = attributes_of(call)
    return operators.conv2d_transpose(
        *args,
        strides=tuple(a["strides"]),
        padding=tuple(a["padding"]),
        output_padding=tuple(a["output_padding"]),
        dilation=tuple(a["dilation"]),
        **_pick(a, "groups", "input_zero_point", "output_zero_point", "clamp_min", "clamp_max"),
    )


def _conv2d_then(second: str) -> Evaluate:
    def run(args: Sequence[Array], call: relax.Call) -> Array:
        own = len(conv2d.arguments)
        then = relax.Call(Op.get(second), [], attrs=then_of(attributes_of(call)))
        result: Array = _OPERATORS[second]([_conv2d(args[:own], call), *args[own:]], then)
        return result

    return run


def _dense(args: Sequence[Array], call: relax.Call) -> Array:
    return operators.dense(*args, **_pick(attributes_of(call), "output_zero_point", "clamp_min", "clamp_max"))


def _sum(function: Callable[..., Array]) -> Evaluate:
    def run(args: Sequence[Array], call: relax.Call) -> Array:
        a = attributes_of(call)
        scaled = {
            f"{ours}_{what}": a[f"{theirs}_{what}"]
            for ours, theirs in (("a", "input1"), ("b", "input2"))
            for what in ("zero_point", "multiplier", "shift")
        }
        rest = _pick(
            a, "left_shift", "output_multiplier", "output_shift", "output_zero_point", "clamp_min", "clamp_max"
        )
        return function(*args, **scaled, **rest)

    return run


def _multiply(args: Sequence[Array], call: relax.Call) -> Array:
    a = attributes_of(call)
    return operators.mul(
        *args,
        a_zero_point=a["input1_zero_point"],
        b_zero_point=a["input2_zero_point"],
        multiplier=a["output_multiplier"],
        shift=a["output_shift"],
        **_pick(a, "left_shift", "output_zero_point", "clamp_min", "clamp_max"),
    )


def _pool(function: Callable[..., Array]) -> Evaluate:
    def run(args: Sequence[Array], call: relax.Call) -> Array:
        a: Mapping[str, Any] = attributes_of(call)
        window = {"strides": tuple(a["strides"]), "padding": tuple(a["padding"])}
        names = "input_zero_point", "left_shift", "multiplier", "shift", "output_zero_point", "clamp_min", "clamp_max"
        return function(*args, tuple(a["pool_size"]), **window, **_pick(a, *names))

    return run


def _mean(args: Sequence[Array], call: relax.Call) -> Array:
    a: Mapping[str, Any] = attributes_of(call)
    result = operators.mean(
        args[0],
        a["axes"],
        keep_dims=bool(a["keepdims"]),
        **_pick(a, "left_shift", "multiplier", "shift", "input_zero_point", "output_zero_point"),
    )
    return np.clip(result, a["clamp_min"], a["clamp_max"]).astype(args[0].dtype)


def _pad2d(args: Sequence[Array], call: relax.Call) -> Array:
    a: Mapping[str, Any] = attributes_of(call)
    top, left, bottom, right = a["padding"]
    return movement.pad(args[0], ((0, 0), (top, bottom), (left, right), (0, 0)), a["value"])


def _pad(args: Sequence[Array], call: relax.Call) -> Array:
    widths = [int(i) for i in call.attrs.pad_width]
    pairs = list(zip(widths[::2], widths[1::2], strict=True))
    return movement.pad(args[0], pairs, args[0].dtype.type(call.attrs.pad_value))


def _permute(args: Sequence[Array], call: relax.Call) -> Array:
    axes = call.attrs.axes
    order = [int(i) for i in axes] if axes is not None else list(range(args[0].ndim))[::-1]
    return movement.transpose(args[0], order)


def _reshape(args: Sequence[Array], call: relax.Call) -> Array:
    shape = [int(i) for i in call.ty.shape]
    if args[0].size > math.prod(shape):
        shape[0] = -1  # several samples
    return movement.reshape(args[0], shape)


def _split(args: Sequence[Array], call: relax.Call) -> list[Array]:
    where, axis = call.attrs.indices_or_sections, int(call.attrs.axis)
    sections = [int(i) for i in where] if hasattr(where, "__len__") else int(where)
    return np.split(args[0], sections, axis=axis)


def _unpack(args: Sequence[Array], call: relax.Call) -> Array:
    a: Mapping[str, Any] = attributes_of(call)
    made = decoded(args[0], Form(a["form"]), pairs=bool(a["pairs"]))
    return made.view(f"int{a['bits']}").reshape(a["shape"])


def _view(args: Sequence[Array], call: relax.Call) -> Array:
    a: Mapping[str, Any] = attributes_of(call)
    return args[0].ravel()[a["begin"] :][: math.prod(a["shape"])].reshape(a["shape"])


def _join(args: Sequence[Array], call: relax.Call) -> Array:
    return np.concatenate([part.ravel() for part in args]).reshape(attributes_of(call)["shape"])


def _channels(args: Sequence[Array], call: relax.Call) -> Array:
    a: Mapping[str, Any] = attributes_of(call)
    pixels = math.prod(a["shape"][:-1])
    index = a["begin"] + a["step"] * np.arange(pixels)[:, None] + np.arange(a["shape"][-1])
    result: Array = args[0].ravel()[index].reshape(a["shape"])
    return result


def _resize(args: Sequence[Array], call: relax.Call) -> Array:
    mode, rounding = str(call.attrs.coordinate_transformation_mode), str(call.attrs.rounding_method)
    sizes = zip(args[0].shape[1:3], [int(i) for i in call.args[1].values], strict=True)
    rows, columns = (positions(size, resized, mode, rounding) for size, resized in sizes)
    return args[0][:, rows[:, None], columns[None, :]]


def _strided_slice(args: Sequence[Array], call: relax.Call) -> Array:
    axes, begin, end, strides = ([int(v.value) for v in field.fields] for field in call.args[1:5])
    index = [slice(None)] * args[0].ndim
    for axis, start, stop, step in zip(axes, begin, end, strides, strict=True):
        index[axis] = slice(start, stop, step)
    return np.ascontiguousarray(args[0][tuple(index)])


def _pick(attributes: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: attributes[name] for name in names if name in attributes}


_OPERATORS: dict[str, Evaluate] = {
    **real.OPERATORS,
    "tinyml.conv2d": _conv2d,
    "tinyml.conv2d_transpose": _conv2d_transpose,
    **{fused.op.name: _conv2d_then(second) for second, fused in CONV2D_THEN.items()},
    "tinyml.dense": _dense,
    "tinyml.add": _sum(operators.add),
    "tinyml.subtract": _sum(operators.sub),
    "tinyml.multiply": _multiply,
    "tinyml.avg_pool2d": _pool(operators.avg_pool2d),
    "tinyml.max_pool2d": _pool(operators.max_pool2d),
    "tinyml.mean_pool2d": _pool(operators.mean_pool2d),
    "tinyml.mean": _mean,
    "tinyml.lookup": lambda args, _: operators.lookup(*args),
    "tinyml.softmax": lambda args, call: operators.softmax(*args, **attributes_of(call)),
    "tinyml.requantize": lambda args, call: int16_functions.requantize(*args, **attributes_of(call)),
    "tinyml.logistic": lambda args, call: int16_functions.logistic(*args, **attributes_of(call)),
    "tinyml.tanh": lambda args, call: int16_functions.tanh(*args, **attributes_of(call)),
    "tinyml.interpolate": lambda args, _: int16_functions.interpolate(*args),
    "tinyml.slopes": lambda args, call: int16_functions.slopes(*args, **attributes_of(call)),
    "tinyml.softmax_int16": lambda args, call: int16_functions.softmax_int16(*args, **attributes_of(call)),
    "tinyml.pad2d": _pad2d,
    "tinyml.gather2d": lambda args, _: args[0][:, args[1][:, None], args[2][None, :]],
    "tinyml.unpack": _unpack,
    "tinyml.view": _view,
    "tinyml.join": _join,
    "tinyml.channels": _channels,
    "tinyml.interleave": lambda args, _: movement.concat(args, -1),
    "tinyml.spread": lambda args, _: args[0],
    "tinyml.lay_out": lambda args, _: args[0],
    "relax.reshape": _reshape,
    "relax.permute_dims": _permute,
    "relax.concat": lambda args, call: movement.concat(args[0], int(call.attrs.axis)),
    "relax.split": _split,
    "relax.strided_slice": _strided_slice,
    "relax.nn.pad": _pad,
    "relax.image.resize2d": _resize,
}
