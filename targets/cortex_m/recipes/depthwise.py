"""Depthwise convolution: transpose some channels into planes with their border, slide over each plane, go on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from tvm import DataType, relax
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.passes.integer_ops import Attributes, shape_of
from tvm_tinyml.passes.kernels.kernel import Kernel
from tvm_tinyml.targets.cortex_m.microkernels import scaled_output
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import texts
from tvm_tinyml.targets.cortex_m.microkernels.output import Output, choose_output
from tvm_tinyml.targets.cortex_m.microkernels.planes import CHANNELS
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import ScaledOutput, Scales
from tvm_tinyml.targets.cortex_m.recipes.channels import Channels, all_exact
from tvm_tinyml.targets.cortex_m.recipes.depthwise_geometry import Block, Group, Index, Layer, blocks, groups
from tvm_tinyml.targets.cortex_m.recipes.depthwise_plan import Place, Plan
from tvm_tinyml.targets.cortex_m.recipes.depthwise_rows import Rows
from tvm_tinyml.targets.cortex_m.recipes.depthwise_strips import Strips


class Depthwise:
    """``tinyml.conv2d`` of one input channel for each output channel, with its padding.

    Parameters
    ----------
    scratch_bytes : of planes at once, if one row of outputs does not take more. The less, the more rows are packed
        twice.
    """

    def __init__(self, scratch_bytes: int = 10240) -> None:
        self._scratch_bytes = scratch_bytes

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> Kernel | None:
        """Return the kernel, or None where its conditions are not met."""
        channels_in, depth = shape_of(arguments[0])[3], shape_of(arguments[1])[3]
        if attributes["groups"] != channels_in or depth != 1 or channels_in == 1:
            return None
        layer = Layer.of(arguments, attributes)
        output = choose_output(*(attributes[k] for k in ("output_zero_point", "clamp_min", "clamp_max")))
        channels = Channels.of(arguments, attributes, np.arange(layer.taps), output)
        if not all_exact(channels, output):
            return None
        form, scales = _scales(channels, output)
        chosen, plans = self._choose(layer, form)
        weight = scales.weight[:, chosen.order]
        return _build(arguments[0], chosen, plans, replace(scales, weight=weight))

    def _choose(self, layer: Layer, output: Output | ScaledOutput) -> tuple[Layer, list[Plan]]:
        """Return the fastest plans of all phases, and the layer as they see it."""
        choices: list[tuple[Layer, list[Plan]]] = []
        for seen in (layer, layer.turned):
            phases = list(itertools.product(seen.down.phases(), seen.across.phases()))
            for way in (Strips.of, Rows.of):
                plans = [way(*phase, layer.multiplier, output, self._scratch_bytes) for phase in phases]
                complete: list[Plan] = [plan for plan in plans if plan is not None]
                if len(complete) == len(plans):
                    choices.append((seen, complete))
        return min(choices, key=lambda choice: sum(plan.cycles for plan in choice[1]))


def _scales(channels: Channels, output: Output) -> tuple[Output | ScaledOutput, Scales]:
    """Return the cheapest epilogue, and the constants for it."""
    scale = (channels.weight, channels.bias, channels.multiplier, channels.shift, channels.zero_point)
    if not output.corrected:
        for shift in scaled_output.SHIFTS:
            form = ScaledOutput(shift, output.low, output.high)
            scales = scaled_output.scaled(form, *scale)
            if scales is not None:
                return form, scales
    return output, scaled_output.doubled(*scale)


def _build(x: relax.Expr, layer: Layer, plans: Sequence[Plan], scales: Scales) -> Kernel:
    """Return the function: for each image, phase and block of rows, each group of channels."""
    parts = groups(layer.channels_in)
    # A loop of calls gains nothing by being unrolled: the compiler does not know an extent that is read from memory.
    extents = [part.count for part in parts]
    starts = list(itertools.accumulate((len(plan.numbers) for plan in plans), initial=len(extents)))
    numbers = np.array([*extents, *(number for plan in plans for number in plan.numbers)], np.int32)
    constants = np.concatenate([numbers, plans[0].constants(scales).ravel()])
    sizes = layer.batch * layer.image_bytes, constants.size, CHANNELS, layer.batch * layer.output_bytes
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
    used = [kernel for plan in plans for part in parts for kernel in plan.microkernels(part)]
    func = builder.get().with_attr({**texts(used), "tinyml.schedule": Depthwise.__name__})
    flat = relax.op.reshape(x, (sizes[0],))
    filling = relax.const(np.full(CHANNELS, layer.border, np.int8))
    return Kernel("depthwise_conv2d", func, [flat, relax.const(constants), filling], layer.macs)


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
