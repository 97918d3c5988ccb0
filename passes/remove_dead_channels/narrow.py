"""One operator without the channels that leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from tvm import relax

from tvm_tinyml.passes.integer_ops import attributes_of, conv2d, dense, shape_of
from tvm_tinyml.passes.remove_dead_channels.known import Constants, shares_of
from tvm_tinyml.passes.remove_dead_channels.links import Link, Mask, Operator, Weighted


@dataclass(frozen=True)
class Narrowing:
    """What is left of a network's tensors.

    Attributes
    ----------
    kept : the channels of each tensor that stay.
    constants : what those hold that leave although they are read.
    narrowed : from old variables to new ones, for those operators that were rebuilt already.
    """

    kept: Mapping[relax.Var, Mask]
    constants: Mapping[relax.Var, Constants]
    narrowed: dict[relax.Var, relax.Var]

    def value(self, operator: Operator) -> relax.Expr:
        """Return the operator's value from what is left of its operands."""
        call = operator.value
        if operator.rigid or isinstance(call, relax.Var):
            return self.renamed(call)
        kept = self.kept[operator.var]
        operands = [self._operand(operand, link, kept) for operand, link in operator.links]
        left = [operand for operand in operands if operand is not None]
        match str(call.op.name):
            case "tinyml.conv2d" | "tinyml.dense":
                return self._weighted(operator, left[0])
            case "relax.concat":
                return left[0] if len(left) == 1 else relax.op.concat(left, int(call.attrs.axis))
            case "relax.reshape":
                return relax.op.reshape(left[0], [*shape_of(operator.var)[:-1], int(kept.sum())])
            case _:
                return relax.Call(call.op, [*left, *call.args[len(left) :]], call.attrs, call.ty_args)

    def _operand(self, operand: relax.Expr, link: Link, kept_out: Mask) -> relax.Expr | None:
        """Return what is left of an operand; None if that is nothing."""
        if isinstance(operand, relax.Var):
            return self.narrowed.get(operand)
        mask = link.needed(kept_out)
        return operand if mask.all() else relax.const(np.compress(mask, operand.value.numpy(), axis=-1))

    def _weighted(self, operator: Operator, x: relax.Expr) -> relax.Call:
        call, kept = operator.value, self.kept[operator.var]
        (operand, link), *_ = operator.links
        weight, bias, *scales = (argument.value.numpy()[kept] for argument in call.args[1:])
        attributes = attributes_of(call)
        if not isinstance(link, Weighted):  # depthwise: a group for each channel
            attributes["groups"] = shape_of(x)[-1]
        elif operand in self.kept:
            left = self.kept[operand]
            if operand in self.constants:
                shares = shares_of(call, self.constants[operand])[kept]
                bias = (bias + shares[:, ~left].sum(axis=1)).astype(bias.dtype)
            weight = np.compress(left, weight, axis=-1)
        constants = [relax.const(array, str(array.dtype)) for array in (weight, bias, *scales)]
        return (conv2d if call.op == conv2d.op else dense)(x, *constants, **attributes)

    def renamed(self, expr: relax.Expr) -> relax.Expr:
        """Return the expression with new variables for old ones."""
        match expr:
            case relax.Var():
                return self.narrowed.get(expr, expr)
            case relax.Tuple():
                return relax.Tuple([self.renamed(field) for field in expr.fields])
            case relax.TupleGetItem():
                return relax.TupleGetItem(self.renamed(expr.tuple_value), int(expr.index))
            case relax.Call():
                return relax.Call(expr.op, [self.renamed(argument) for argument in expr.args], expr.attrs, expr.ty_args)
            case _:
                return expr
