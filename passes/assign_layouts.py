"""Each tensor between two convolutions gets the layout in which both together take the fewest cycles."""

from __future__ import annotations

import math

import tvm
from tvm import IRModule, relax
from tvm.ir import Op
from tvm.ir.transform import PassContext
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_tinyml.choice import Knobs, knobs_of
from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.apply_recipes import Recipes, first_kernel_of_either
from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.choose_kernels import choice_of
from tvm_tinyml.passes.integer_ops import Attributes, attributes_of, shape_of
from tvm_tinyml.passes.kernels.kernel import Recipe
from tvm_tinyml.passes.rewrite_calls import Graph
from tvm_tinyml.passes.steps import Steps
from tvm_tinyml.passes.tensor_layouts import INPUT_LAYOUT, OUTPUT_LAYOUT, Layout, encoded

ROOM = 1.1
"""Times the bytes of the largest tensors next to each other that others may take in another layout."""


@tvm.transform.module_pass(opt_level=0, name="tinyml.AssignLayouts")
class AssignLayouts(CallablePass):
    """Put a `lay_out` behind each convolution whose result's one reader wants it in another layout than NHWC.

    Both have the kernels that they would have anyway, in another form. What they save together, by their recipes'
    estimates, decides; NHWC stays where nothing is saved, where a tensor has several readers or is an output, and where
    it is a part of another one. There kernels go on packing what they read.

    No tensor lies over another one in these layouts, and some take more than NHWC. So a tensor must have room beside
    what it is computed from, and what is computed from it: hardly more than the two largest that are next to each other
    anyway, where a depthwise convolution that keeps the shape writes over what it reads.

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
        self._room_bytes = ROOM * max(map(_together, convolutions), default=0)
        for reader in convolutions:
            layout = self._best(reader)
            if layout:
                self.layouts[reader.args[0]] = layout

    def _best(self, reader: relax.Call) -> Layout | None:
        """Return the layout in which a convolution is to read its first operand; None: as it is."""
        writer = self._graph.producer(reader.args[0])
        if writer is None or not _is_convolution(writer) or not self._graph.is_read_once(reader.args[0]):
            return None
        if self._steps.asked(writer) or self._steps.asked(reader):
            return None
        reads = self._recipe(reader)
        found = reads.reads(reader.args, attributes_of(reader), _knobs(reader)) if reads else None
        if found is None or not self._has_room(found[0], writer, reader):
            return None
        layout, saved = found
        writes = self._recipe(writer)
        before = self.layouts.get(writer.args[0])
        asked: Attributes = {INPUT_LAYOUT: before} if before else {}
        attributes = {**attributes_of(writer), **asked}
        more = writes.writes(writer.args, attributes, layout, _knobs(writer)) if writes else None
        if more is None or saved + more <= 0:
            return None
        both = self._takes(writer, {**asked, OUTPUT_LAYOUT: layout}) and self._takes(reader, {INPUT_LAYOUT: layout})
        return layout if both else None

    def _has_room(self, layout: Layout, writer: relax.Call, reader: relax.Call) -> bool:
        """Return whether a tensor may lie so: see `AssignLayouts`."""
        return layout.size_bytes + max(_bytes(writer.args[0]), _bytes(reader)) <= self._room_bytes

    def _recipe(self, call: relax.Call) -> Recipe | None:
        """Return the recipe that takes a call as it is."""
        if call not in self._recipe_of:
            found = first_kernel_of_either(self._recipes, call, {})
            self._recipe_of[call] = None if found is None else found[1]
        return self._recipe_of[call]

    def _takes(self, call: relax.Call, asked: Attributes) -> bool:
        return first_kernel_of_either(self._recipes, call, asked) is not None


def _knobs(call: relax.Call) -> Knobs:
    return knobs_of(choice_of(call) or {})


def _bytes(tensor: relax.Expr) -> int:
    """Return what a tensor of int8 takes."""
    return math.prod(shape_of(tensor))


def _together(call: relax.Call) -> int:
    """Return what input and result of a convolution take in NHWC."""
    image, result = shape_of(call.args[0]), shape_of(call)
    in_place = attributes_of(call)["groups"] == image[3] > 1 and image == result
    return _bytes(call) if in_place else _bytes(call.args[0]) + _bytes(call)


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
