"""Depthwise convolution: transpose some channels into planes with their border, slide over each plane, go on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import tvm_ffi
from tvm import DataType, relax, tirx
from tvm.ir import StringImm
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.choice import NONE, Knobs, Space, Value
from tvm_tinyml.passes.integer_ops import Attributes
from tvm_tinyml.passes.kernels.kernel import Kernel, Method, Recipe, flat
from tvm_tinyml.passes.tensor_layouts import Layout, Planes, Tiles, input_layout, output_layout
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import texts
from tvm_tinyml.targets.cortex_m.microkernels.output import Output, choose_output
from tvm_tinyml.targets.cortex_m.microkernels.planes import CHANNELS
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import ScaledOutput, Scales
from tvm_tinyml.targets.cortex_m.recipes.channels import Channels, all_exact
from tvm_tinyml.targets.cortex_m.recipes.depthwise_geometry import (
    Block,
    Group,
    Index,
    Layer,
    blocks,
    groups,
    is_depthwise,
    rows_alike,
)
from tvm_tinyml.targets.cortex_m.recipes.depthwise_in_planes import (
    cycles_in_planes,
    depthwise_in_planes,
    planes_of,
    tiles_of,
)
from tvm_tinyml.targets.cortex_m.recipes.depthwise_plan import Place, Plan
from tvm_tinyml.targets.cortex_m.recipes.depthwise_rows import Rows
from tvm_tinyml.targets.cortex_m.recipes.depthwise_scales import COMMON, OWN, choose_scales, shift_of
from tvm_tinyml.targets.cortex_m.recipes.depthwise_strips import Strips
from tvm_tinyml.targets.cortex_m.recipes.overlap import overlap

FLIP_CYCLES = 3
"""What a column of outputs takes more if every second one has its sign flipped; instructions of its kernel."""

Choice: TypeAlias = "tuple[Layer, list[Plan]]"

ROWS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
"""Of outputs at once, to choose from."""


class Depthwise(Recipe):
    """``tinyml.conv2d`` of one input channel for each output channel, with its padding.

    Parameters
    ----------
    scratch_bytes : of planes at once, if one row of outputs does not take more. The less, the more rows are packed
        twice.

    Knobs: ``planes`` in ``strips`` or ``rows``; ``side``, whether they lie on it; ``rows`` of outputs at once;
    ``shift``, one that is ``common`` to all channels or each its ``own``.
    """

    def __init__(self, scratch_bytes: int = 10240) -> None:
        self._scratch_bytes = scratch_bytes

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE) -> Kernel | None:
        """Return the kernel, or None where its conditions are not met."""
        if not is_depthwise(arguments, attributes) or not self.allows(arguments, attributes, knobs):
            return None
        steps = attributes.get("input_step", 0), attributes.get("output_step", 0)
        layer = Layer.of(arguments, attributes, *steps)
        output, channels = _channels(arguments, attributes, layer)
        if not all_exact(channels, output):
            return None
        form, scales = choose_scales(channels, output, own_shifts=knobs.get("shift") == OWN)
        if planes := input_layout(attributes):
            tiles = output_layout(attributes)
            if planes != planes_of(layer) or not _writes(layer, form, tiles):
                return None
            assert isinstance(planes, Planes)
            assert tiles is None or isinstance(tiles, Tiles)
            lying = depthwise_in_planes(arguments, attributes, layer, planes, tiles, form, scales, self.name)
            instead = _estimates(self._choices(layer, form, knobs.get("rows")))
            assert lying.method
            method = replace(lying.method, estimates={planes.name: round(cycles_in_planes(layer)), **instead})
            return replace(lying, method=method, knobs={"planes": planes.name, "shift": shift_of(form)})
        choices = [choice for choice in self._choices(layer, form, knobs.get("rows")) if _has(choice, knobs)]
        if not choices:
            return None
        chosen, plans = choices[0]
        weight = scales.weight[:, chosen.order]
        kernel = _build(flat(arguments[0], steps[0]), chosen, plans, replace(scales, weight=weight))
        method = _method(choices, one_shift=isinstance(form, ScaledOutput))
        knobs = {**_knobs(choices[0]), "shift": shift_of(form)}
        return replace(kernel, method=method, knobs=knobs, input_step=steps[0], output_step=steps[1])

    def reads(
        self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE
    ) -> tuple[Layout, int] | None:
        """See `Recipe.reads`: planes, if it has a kernel for them."""
        layer = Layer.of(arguments, attributes, attributes.get("input_step", 0))
        planes = planes_of(layer)
        if planes is None:
            return None
        output, channels = _channels(arguments, attributes, layer)
        form, _ = choose_scales(channels, output, own_shifts=knobs.get("shift") == OWN)
        choices = [choice for choice in self._choices(layer, form, knobs.get("rows")) if _has(choice, knobs)]
        return (planes, round(_cycles(choices[0]) - cycles_in_planes(layer))) if choices else None

    def writes(
        self, arguments: Sequence[relax.Expr], attributes: Attributes, layout: Layout, knobs: Knobs = NONE
    ) -> int | None:
        """See `Recipe.writes`: tiles, where it reads planes."""
        layer = Layer.of(arguments, attributes)
        if not isinstance(layout, Tiles) or not isinstance(input_layout(attributes), Planes):
            return None
        output, channels = _channels(arguments, attributes, layer)
        form, _ = choose_scales(channels, output, own_shifts=knobs.get("shift") == OWN)
        flips = FLIP_CYCLES if layout.value_bytes == 1 else 0
        return -flips * layer.channels_in * layer.across.outputs if _writes(layer, form, layout) else None

    def space(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> Space:
        """See `Recipe.space`."""
        if not is_depthwise(arguments, attributes):
            return {}
        layer = Layer.of(arguments, attributes)
        output, channels = _channels(arguments, attributes, layer)
        form, _ = choose_scales(channels, output, own_shifts=False)
        every = [_knobs(choice) for rows in (None, *ROWS) for choice in self._choices(layer, output, rows)]
        plans = {name: sorted({knobs[name] for knobs in every}) for name in ("planes", "side", "rows")}
        return {**plans, "shift": [COMMON, OWN] if isinstance(form, ScaledOutput) else [OWN]}

    def guard(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> str:
        """See `Recipe.guard`."""
        if not is_depthwise(arguments, attributes):
            return ""
        layer = Layer.of(arguments, attributes)
        output, channels = _channels(arguments, attributes, layer)
        if not all_exact(channels, output):
            return "none"
        return shift_of(choose_scales(channels, output, own_shifts=False)[0])

    def _choices(self, layer: Layer, output: Output | ScaledOutput, rows: Value | None = None) -> list[Choice]:
        """Return the plans of all phases, and the layer as they see it, the fastest first.

        Parameters
        ----------
        rows : of outputs at once, about; None: as many as the scratch allows.
        """
        choices: list[Choice] = []
        for seen in (layer, layer.turned):
            phases = list(itertools.product(seen.down.phases(), seen.across.phases()))
            for way in (Strips.of, Rows.of):
                plans = [way(*phase, layer.multiplier, output, self._scratch_bytes) for phase in phases]
                complete: list[Plan] = [plan for plan in plans if plan is not None]
                if rows is not None:
                    most = [min(int(rows), plan.rows) for plan in complete]
                    alike = [rows_alike(plan.down.outputs, each) for plan, each in zip(complete, most, strict=True)]
                    complete = [plan.with_rows(each) for plan, each in zip(complete, alike, strict=True)]
                if len(complete) == len(plans):
                    choices.append((seen, complete))
        return sorted(choices, key=_cycles)


def _writes(layer: Layer, output: Output | ScaledOutput, tiles: Layout | None) -> bool:
    """Return whether the outputs of planes can be written in a layout; None: NHWC."""
    if not isinstance(tiles, Tiles):
        return tiles is None
    can = isinstance(output, ScaledOutput) or tiles.value_bytes == 2  # the constant of one shift flips signs
    return can and tiles == tiles_of(layer, tiles.value_bytes)


def _channels(arguments: Sequence[relax.Expr], attributes: Attributes, layer: Layer) -> tuple[Output, Channels]:
    """Return the epilogue and the channels of a layer, with weights in the order of the model."""
    output = choose_output(*(attributes[k] for k in ("output_zero_point", "clamp_min", "clamp_max")))
    return output, Channels.of(arguments, attributes, np.arange(layer.taps), output)


def _knobs(choice: Choice) -> dict[str, Value]:
    seen, plans = choice
    side = "sideways" if seen.sideways else "upright"
    return {"planes": plans[0].name, "side": side, "rows": max(plan.rows for plan in plans)}


def _has(choice: Choice, knobs: Knobs) -> bool:
    return all(value == knobs.get(name, value) for name, value in _knobs(choice).items())


def _cycles(choice: Choice) -> float:
    layer, plans = choice
    return layer.batch * layer.channels_in * layer.multiplier * sum(plan.cycles for plan in plans)


def _method(choices: Sequence[Choice], *, one_shift: bool) -> Method:
    """Describe the first choice, compared with the others."""
    layer, plans = choices[0]
    estimates = _estimates(choices)
    shifts = "one shift" if one_shift else "a shift a channel"
    phases = f", {len(plans)} phases of the dilation" if len(plans) > 1 else ""
    return Method(
        f"depthwise, {CHANNELS} channels and {plans[0].rows} rows at once, {shifts}{phases}",
        next(iter(estimates)),
        sorted({kernel.name for plan in plans for part in groups(layer.channels_in) for kernel in plan.packing(part)}),
        estimates,
    )


def _estimates(choices: Sequence[Choice]) -> dict[str, int]:
    """Return the cycles of each choice, by its layout."""
    names = [f"{each[0].layout}{', on their side' if seen.sideways else ''}" for seen, each in choices]
    return {name: round(_cycles(choice)) for name, choice in zip(names, choices, strict=True)}


def _build(x: relax.Expr, layer: Layer, plans: Sequence[Plan], scales: Scales) -> Kernel:
    """Return the function: for each image, phase and block of rows, each group of channels."""
    parts = groups(layer.channels_in)
    # A loop of calls gains nothing by being unrolled: the compiler does not know an extent that is read from memory.
    extents = [part.count for part in parts]
    starts = list(itertools.accumulate((len(plan.numbers) for plan in plans), initial=len(extents)))
    numbers = np.array([*extents, *(number for plan in plans for number in plan.numbers)], np.int32)
    constants = np.concatenate([numbers, plans[0].constants(scales).ravel()])
    sizes = layer.input_span, constants.size, CHANNELS, layer.output_span
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        image = T.arg("x", T.Buffer((sizes[0],), "int8"))
        packed = T.arg("constants", T.Buffer((sizes[1],), "int32"))
        border = T.arg("border", T.Buffer((sizes[2],), "int8"))
        y = T.arg("output", T.Buffer((sizes[3],), "int8"))
        with T.sblock("root"):
            T.reads()
            T.writes()
            dtype = plans[0].scratch_dtype
            size = max(plan.scratch_bytes for plan in plans) // DataType(dtype).itemsize
            scratch = T.sblock_alloc_buffer((size,), dtype, align=4)
            with T.serial(layer.batch) as number:
                for plan, start in zip(plans, starts, strict=False):
                    for block in blocks(plan.down, plan.rows):
                        with T.serial(block.count) as i:
                            buffers = Place(image, packed, border, y, scratch, numbers=start, channels=starts[-1])
                            _emit(buffers, layer, plan, block, parts, number, block.start + i * block.rows)
    func = builder.get()
    kernels = [kernel for plan in plans for part in parts for kernel in (*plan.packing(part), plan.microkernel())]
    called = _callees(func)  # none fills a border where there is none
    used = [kernel for kernel in kernels if kernel.name in called]
    func = func.with_attr({**texts(used), "tinyml.schedule": Depthwise.__name__})
    filling = relax.const(np.full(CHANNELS, layer.border, np.int8))
    order = [span for number in range(layer.batch) for plan in plans for span in _order(layer, plan, number)]
    return Kernel(
        "depthwise_conv2d",
        func,
        [x, relax.const(constants), filling],
        layer.macs,
        overlaps=[overlap(order, read_first=sum(part.count for part in parts) == 1)],
        in_place=[0] if len(order) == layer.batch and layer.keeps_shape else [],
    )


def _order(layer: Layer, plan: Plan, number: int) -> Iterator[tuple[int, int]]:
    """Yield of each block of rows the first byte that it reads of the input, and the end of what it writes."""
    down, across = plan.down, plan.across
    first_across = across.offset(across.border(0, across.positions(across.outputs))[0])
    channels = layer.channels_in * layer.multiplier
    for block in blocks(down, plan.rows):
        for start in range(block.start, block.start + block.count * block.rows, block.rows):
            first = down.offset(start * down.stride + block.front) + first_across
            last = down.output_offset + (start + block.rows - 1) * down.output_step
            last += across.output_offset + (across.outputs - 1) * across.output_step
            yield int(number * layer.image_bytes + first), number * layer.output_bytes + last + channels


def _callees(func: tirx.PrimFunc) -> set[str]:
    """Return the names of the functions that a kernel calls."""
    names: set[str] = set()
    tvm_ffi.structural_walk(func.body, (StringImm, lambda text: names.add(text.value)))
    return names


def _emit(
    buffers: Place, layer: Layer, plan: Plan, block: Block, parts: Sequence[Group], number: Index, start: Index
) -> None:
    """Compute the rows of outputs from ``start`` on of one image, all channels."""
    plan.fill(buffers, block)
    down, across = plan.down, plan.across
    for position_of, group in enumerate(parts):
        with T.serial(buffers.constants[position_of] if group.count > 1 else 1) as i:
            channel = group.first + CHANNELS * i
            first = (channel + group.skipped) * layer.multiplier
            position = start * down.stride
            x = number * layer.image_bytes + down.offset(position) + across.offset(0) + channel
            y = number * layer.output_bytes + down.output_offset + across.output_offset
            y += start * down.output_step + first
            plan.compute(replace(buffers, x=x, y=y, channel=first), block, group)
