"""What a float network is made of: groups of operators between the tensors that will be quantized."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tvm import relax
from tvm.ir import GenericConst

MOVES = (
    "relax.reshape",
    "relax.permute_dims",
    "relax.concat",
    "relax.split",
    "relax.strided_slice",
    "relax.nn.pad",
    "relax.image.resize2d",
)
"""Operators that give the integers themselves another place."""

LAYERS = ("relax.nn.conv2d", "relax.nn.conv2d_transpose", "relax.matmul")
"""Operators with weights."""


@dataclass(frozen=True)
class Group:
    """The operators between two tensors that are quantized: a layer with its bias and activation, or one operator.

    Attributes
    ----------
    bindings : in order; the last one's variable is called after the tensor that the group computes.
    """

    bindings: tuple[relax.VarBinding, ...]

    @property
    def name(self) -> str:
        """Of the tensor that it computes."""
        return str(self.bindings[-1].var.name)

    @property
    def kind(self) -> str:
        """Name of the operator that does the work; empty for a part of a tuple."""
        names = [str(b.value.op.name) for b in self.bindings if isinstance(b.value, relax.Call)]
        return next((name for name in names if name in LAYERS), names[0] if names else "")

    @property
    def moves(self) -> bool:
        """Whether it only moves elements."""
        return not self.kind or (self.kind in MOVES and len(self.bindings) == 1)

    @property
    def reads(self) -> list[relax.Var]:
        """The tensors that it reads."""
        own = {binding.var for binding in self.bindings}
        found = [leaf for binding in self.bindings for leaf in leaves(binding.value)]
        return [leaf for leaf in found if isinstance(leaf, relax.Var) and leaf not in own]

    @property
    def sources(self) -> list[str]:
        """Names of the tensors that it reads."""
        return [str(var.name) for var in self.reads]

    @property
    def is_layer(self) -> bool:
        """Whether it has weights."""
        return self.kind in LAYERS

    @property
    def product(self) -> tuple[relax.VarBinding, ...]:
        """What a layer computes before its activation, the bias included."""
        return self.bindings[: self._addition + 1]

    @property
    def weight(self) -> GenericConst:
        """Weights of a layer, float32, output channels first."""
        calls = [b.value for b in self.product if str(b.value.op.name) in (*LAYERS, "relax.permute_dims")]
        return next(a for call in calls for a in call.args if isinstance(a, GenericConst))

    @property
    def bias(self) -> GenericConst:
        """Bias of a layer, float32 [output channels]."""
        return self.bindings[self._addition].value.args[1]

    @property
    def _addition(self) -> int:
        return next(i for i, b in enumerate(self.bindings) if str(b.value.op.name) == "relax.add")


def groups(main: relax.Function) -> Iterator[Group]:
    """Yield the groups of a float network, in order.

    A variable ``real`` is inside of a group, every other one is the last of its own.
    """
    inside: list[relax.VarBinding] = []
    for block in main.body.blocks:
        for binding in block.bindings:
            inside.append(binding)
            if binding.var.name != "real":
                yield Group(tuple(inside))
                inside = []


def leaves(expr: relax.Expr) -> Sequence[relax.Expr]:
    """Return the variables and constants that an expression is made of."""
    match expr:
        case relax.Tuple():
            return [leaf for each in expr.fields for leaf in leaves(each)]
        case relax.TupleGetItem():
            return [expr.tuple_value]
        case relax.Call():
            return [leaf for argument in expr.args for leaf in leaves(argument)]
        case _:
            return [expr]
