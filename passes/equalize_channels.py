"""Equalize the channels of a tensor: what one layer makes larger the next one's weights make smaller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import IRModule, relax
from tvm.ir import GenericConst
from tvm.ir.transform import PassContext

from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.float_groups import Group, groups, leaves

HOMOGENEOUS = ("relax.nn.relu", "relax.nn.leakyrelu")
"""Activations f with f(s x) = s f(x) for s > 0."""


def equalizable(main: relax.Function) -> dict[str, tuple[Group, Group]]:
    """Return, by the tensor between them, the layers one of which reads what the other makes and nobody else does."""
    every = list(groups(main))
    reads = Counter(name for group in every for name in group.sources)
    reads.update(str(leaf.name) for leaf in leaves(main.body.body) if isinstance(leaf, relax.Var))
    makers = {group.name: group for group in every}
    pairs = {}
    for second in every:
        first = makers.get(second.sources[0]) if _has_own_filters(second) else None
        if first is not None and _has_own_filters(first) and reads[first.name] == 1 and _is_homogeneous(first):
            pairs[first.name] = (first, second)
    return pairs


def _has_own_filters(group: Group) -> bool:
    """Return whether each output channel has a filter: in a transposed convolution groups share them."""
    return group.is_layer and group.kind != "relax.nn.conv2d_transpose"


def column_peaks(group: Group) -> NDArray[np.float32]:
    """Return the largest magnitude among a layer's weights for each of its input channels."""
    weight = np.abs(group.weight.value.numpy())
    if weight.ndim == 2:
        columns: NDArray[np.float32] = weight.max(axis=0)
        return columns
    count = _groups_of(group)
    by_group = weight.reshape(count, -1, *weight.shape[1:])
    columns = by_group.max(axis=(1, 2, 3)).ravel()
    return columns


@tvm.transform.module_pass(opt_level=0, name="tinyml.EqualizeChannels")
class EqualizeChannels(CallablePass):
    """Divide channels of tensors by factors that the weights of the next layer are multiplied by: the outputs stay.

    Parameters
    ----------
    factors : float32 [channels], positive, by the names of tensors that `equalizable` returns.

    Source: Nagel et al., Data-Free Quantization, ICCV 2019, section 4.1.
    """

    def __init__(self, factors: Mapping[str, NDArray[np.float32]]) -> None:
        self._factors = factors

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module; `mod` is untouched."""
        main = mod["main"]
        constants: dict[relax.Expr, NDArray[np.float32]] = {}
        for name, (first, second) in equalizable(main).items():
            if name in self._factors:
                factor = self._factors[name].astype(np.float32)
                for constant in (first.weight, first.bias):
                    values = constants.get(constant, constant.value.numpy())
                    constants[constant] = values / factor.reshape(-1, *[1] * (values.ndim - 1))
                values = constants.get(second.weight, second.weight.value.numpy())
                constants[second.weight] = values * _spread(factor, second)
        bindings = [
            relax.VarBinding(binding.var, _replaced(binding.value, constants))
            for block in main.body.blocks
            for binding in block.bindings
        ]
        body = relax.SeqExpr([relax.DataflowBlock(bindings)], main.body.body)
        function = relax.Function(main.params, body, main.ret_ty, attrs=main.attrs)
        module = IRModule({**dict(mod.functions), mod.get_global_var("main"): function}, attrs=mod.attrs)
        return relax.transform.Normalize()(module)


def _is_homogeneous(group: Group) -> bool:
    return all(str(binding.value.op.name) in HOMOGENEOUS for binding in group.bindings[len(group.product) :])


def _groups_of(group: Group) -> int:
    return next(int(b.value.attrs.groups) for b in group.product if str(b.value.op.name) == group.kind)


def _spread(factor: NDArray[np.float32], group: Group) -> NDArray[np.float32]:
    """Return the factors of a layer's input channels in the shape of its weights."""
    weight = group.weight.value.numpy()
    if weight.ndim == 2:
        return factor
    count = _groups_of(group)
    by_group = np.repeat(factor.reshape(count, -1), len(weight) // count, axis=0)
    return by_group[:, None, None, :]


def _replaced(value: relax.Expr, constants: Mapping[relax.Expr, NDArray[np.float32]]) -> relax.Expr:
    if not isinstance(value, relax.Call) or not any(argument in constants for argument in value.args):
        return value
    arguments = [
        relax.const(constants[argument]) if isinstance(argument, GenericConst) and argument in constants else argument
        for argument in value.args
    ]
    return relax.Call(value.op, arguments, value.attrs)
