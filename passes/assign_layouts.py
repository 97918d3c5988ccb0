"""Each tensor between two convolutions gets the layout in which both together take the fewest cycles."""

from __future__ import annotations

import math

import tvm
from tvm import IRModule, relax
from tvm.ir import Op
from tvm.ir.transform import PassContext
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_tinyml.choice import knobs_of
from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.apply_recipes import Recipes, first_kernel
from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.choose_kernels import choice_of
from tvm_tinyml.passes.integer_ops import Attributes, attributes_of, shape_of
from tvm_tinyml.passes.kernels.kernel import Recipe
from tvm_tinyml.passes.rewrite_calls import Graph
from tvm_tinyml.passes.split_padding import without_padding
from tvm_tinyml.passes.steps import Steps
from tvm_tinyml.passes.tensor_layouts import INPUT_LAYOUT, OUTPUT_LAYOUT, Layout, encoded

MORE = 1.6
"""Times the bytes of a tensor in NHWC that planes and tiles may take anywhere."""

ROOM = 1.05
"""Times the bytes of the largest tensors next to each other that others may take in layouts with more."""


@tvm.transform.module_pass(opt_level=0, name="tinyml.AssignLayouts")
class AssignLayouts(CallablePass):
    """Put a `lay_out` behind each convolution whose result's one reader wants it in another layout than NHWC.

    Both have the kernels that they would have anyway, in another form. What they save together, by their recipes'
    estimates, decides; NHWC stays where nothing is saved, where a tensor has several readers or is an output, and where
    it is a part of another one. There kernels go on packing what they read. A layout that takes much more than NHWC is
    for tensors that have room beside what they are computed from, and what is computed from them: no more than the
    largest tensors of the network have.

    Parameters
    ----------
    recipes : a target's.
    """

    def __init__(self, recipes: Recipes) -> None:
        self._recipes = recipes

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module; `mod` is untouched."""
        layouts = _Decisions(mod["main"], self._recipes).layouts
        if not layouts:
            return mod
        rewriter = _Rewriter(mod, layouts)
        rewriter.builder_.update_func(mod.get_global_var("main"), rewriter.visit_expr(mod["main"]))
        return rewriter.builder_.get()


class _Decisions:
    """Which tensors have which layouts, decided in the order in which they are computed.

    Attributes
    ----------
    layouts : by the tensor's variable.
    """

    def __init__(self, main: relax.Function, recipes: Recipes) -> None:
        self._graph, self._steps, self._recipes = Graph(main), Steps(main), recipes
        self._recipe_of: dict[relax.Call, Recipe | None] = {}
        self.layouts: dict[relax.Var, Layout] = {}
        values = [binding.value for block in main.body.blocks for binding in block.bindings]
        convolutions = [value for value in values if _is_convolution(value)]
        self._room_bytes = ROOM * max((_bytes(call.args[0]) + _bytes(call) for call in convolutions), default=0)
        for block in main.body.blocks:
            for binding in block.bindings:
                layout = self._best(binding.value)
                if layout:
                    self.layouts[binding.value.args[0]] = layout

    def _best(self, reader: relax.Expr) -> Layout | None:
        """Return the layout in which a call is to read its first operand; None: as it is."""
        if not _is_convolution(reader) or not self._graph.is_read_once(reader.args[0]):
            return None
        writer = self._graph.producer(reader.args[0])
        if writer is None or not _is_convolution(writer) or self._steps.asked(writer) or self._steps.asked(reader):
            return None
        reads, writes = self._recipe(reader), self._recipe(writer)
        if reads is None or writes is None:
            return None
        found = reads.reads(reader.args, attributes_of(reader), knobs_of(choice_of(reader) or {}))
        asked, knobs = self._asked(writer), knobs_of(choice_of(writer) or {})
        saved: dict[Layout, int] = {}
        for layout, cycles in found.items():
            others = writes.writes(writer.args, asked, layout, knobs)
            if others is not None and cycles + others > 0:
                saved[layout] = cycles + others
        for layout in sorted(saved, key=saved.__getitem__, reverse=True):
            beside = max(_bytes(writer.args[0]), _bytes(reader))
            if layout.size_bytes > MORE * _bytes(reader.args[0]) and layout.size_bytes + beside > self._room_bytes:
                continue
            asked_of_both = {**asked, OUTPUT_LAYOUT: layout}, {INPUT_LAYOUT: layout}
            if self._takes(writer, asked_of_both[0]) and self._takes(reader, asked_of_both[1]):
                return layout
        return None

    def _asked(self, writer: relax.Call) -> Attributes:
        """Return the attributes of a call with the layout that its input has."""
        layout = self.layouts.get(writer.args[0])
        return {**attributes_of(writer), **({INPUT_LAYOUT: layout} if layout else {})}

    def _recipe(self, call: relax.Call) -> Recipe | None:
        """Return the recipe that takes a call as it is."""
        if call not in self._recipe_of:
            found = first_kernel(self._recipes, _unpadded(call, self._recipes), {})
            self._recipe_of[call] = None if found is None else found[1]
        return self._recipe_of[call]

    def _takes(self, call: relax.Call, asked: Attributes) -> bool:
        layouts = {name: asked[name] for name in (INPUT_LAYOUT, OUTPUT_LAYOUT) if name in asked}
        return first_kernel(self._recipes, _unpadded(call, self._recipes), layouts) is not None


def _unpadded(call: relax.Call, recipes: Recipes) -> relax.Call:
    """Return a call as the recipe that takes it sees it: with its padding, or when that is split off."""
    if not any(attributes_of(call)["padding"]) or first_kernel(recipes, call, {}):
        return call
    return without_padding(call, relax.BlockBuilder().normalize)


def _bytes(tensor: relax.Expr) -> int:
    """Return what a tensor of int8 takes."""
    return math.prod(shape_of(tensor))


def _is_convolution(value: relax.Expr) -> bool:
    return isinstance(value, relax.Call) and isinstance(value.op, Op) and value.op == integer_ops.conv2d.op


@mutator
class _Rewriter(PyExprMutator):  # type: ignore[misc]
    def __init__(self, mod: IRModule, layouts: dict[relax.Var, Layout]) -> None:
        super().__init__(mod)
        self._layouts = layouts

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        layout = self._layouts.get(call.args[0]) if call.args else None
        call = self.visit_expr_post_order(call)
        if layout is None:
            return call
        laid = self.builder_.emit(integer_ops.lay_out(call.args[0], layout=encoded(layout)), "laid")
        return relax.Call(call.op, [laid, *call.args[1:]], call.attrs, call.ty_args)
