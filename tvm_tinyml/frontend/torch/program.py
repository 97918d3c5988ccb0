"""The nodes of an exported program: arguments by name, shapes as plain numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from tvm_tinyml.errors import ModelError

TRAINING = ("train", "training", "use_input_stats")
"""Arguments that tell an operator to compute as in training."""


class Call:
    """One operator of a program.

    Attributes
    ----------
    node : a tensor argument is such a node as well.
    name : of its result.
    kind : the operator's name without overload, such as ``aten.conv2d``; one that works in place without its ``_``.
    """

    def __init__(self, node: fx.Node) -> None:
        self.node = node
        self.name = node.name
        self.kind = _kind(node)

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}'"

    def __getitem__(self, argument: str) -> Any:
        """Return an argument by its name in the operator's schema: as given, or its default."""
        schema = self.node.target._schema  # type: ignore[union-attr]
        for i, known in enumerate(schema.arguments):
            if known.name == argument:
                positional = i < len(self.node.args)
                given = self.node.args[i] if positional else self.node.kwargs.get(argument, known.default_value)
                return _plain(given)
        raise KeyError(argument)

    def has(self, argument: str) -> bool:
        """Tell whether the operator's schema knows an argument."""
        return any(known.name == argument for known in self.node.target._schema.arguments)  # type: ignore[union-attr]

    def first(self) -> Any:
        """Return the first argument, whatever its name."""
        return _plain(self.node.args[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result."""
        return shape_of(self.node)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of each result."""
        return [tuple(map(extent, value.shape)) for value in self.node.meta["val"]]

    def refuse(self, reason: str) -> ModelError:
        """Return the error that says why this operator cannot be imported."""
        return ModelError(f"{self}: {reason}")


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of a tensor."""
    return tuple(map(extent, node.meta["val"].shape))


def extent(size: Any) -> int:
    """Return a dimension as a number: a batch that may vary is 1."""
    if isinstance(size, int):
        return size
    expression = size.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, 1)))


def calls(program: ExportedProgram) -> Iterator[Call]:
    """Yield the operators that compute tensors which something reads."""
    for node in program.graph.nodes:
        if node.op == "call_function" and node.users and not isinstance(node.meta.get("val"), _NUMBERS):
            yield Call(node)


def check_supported(program: ExportedProgram, known: Iterable[str]) -> None:
    """Raise ModelError, with all their names, if there are operators whose kind is not known."""
    unknown = [str(call) for call in calls(program) if call.kind not in known]
    if unknown:
        raise ModelError(f"Operators that are not supported: {', '.join(unknown)}. Supported: {', '.join(known)}.")


def check_inference(program: ExportedProgram) -> None:
    """Raise ModelError if the program computes as in training."""
    training = [
        str(call)
        for call in calls(program)
        if _has_schema(call.node) and any(call.has(name) and call[name] is True for name in TRAINING)
    ]
    if training:
        raise ModelError(
            f"The program computes as in training: {', '.join(training)}. Export it for inference: "
            "torch.export.export(model.eval(), inputs)."
        )


def functional(program: ExportedProgram) -> ExportedProgram:
    """Return the program with nothing that is computed in place, but otherwise with the same operators."""
    in_place = any(
        node.op == "call_function" and _has_schema(node) and node.target._schema.is_mutable
        for node in program.graph.nodes
    )
    return program.run_decompositions({}) if in_place else program


_NUMBERS = (bool, int, float, torch.SymBool, torch.SymFloat, torch.SymInt)


def _plain(argument: Any) -> Any:
    """Return an argument in which sizes are numbers."""
    if isinstance(argument, list | tuple):
        return [_plain(each) for each in argument]
    if isinstance(argument, fx.Node) and isinstance(argument.meta.get("val"), _NUMBERS):
        return extent(argument.meta["val"])
    return extent(argument) if isinstance(argument, torch.SymInt) else argument


def _has_schema(node: fx.Node) -> bool:
    return hasattr(node.target, "_schema")


def _kind(node: fx.Node) -> str:
    if not _has_schema(node):
        return str(getattr(node.target, "__name__", node.target))
    name = str(node.target._schema.name).replace("::", ".")  # type: ignore[union-attr]
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name
