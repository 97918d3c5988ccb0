"""Dense layers of a few rows whose weights of four bits are multiplied as they are stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from tvm_tinyml.choice import NONE, Knobs
from tvm_tinyml.passes.integer_ops import Attributes
from tvm_tinyml.passes.kernels.kernel import Kernel, Recipe, constant
from tvm_tinyml.passes.pack_weights import coding_of_weights
from tvm_tinyml.passes.weight_codes import Kind, multipliers_of
from tvm_tinyml.targets.cortex_m.microkernels import dense_narrow, dense_rows
from tvm_tinyml.targets.cortex_m.microkernels.dense_narrow import FOUR, LARGEST_SUMS
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Ints, Output, choose_output
from tvm_tinyml.targets.cortex_m.recipes.channels import Channels, all_exact
from tvm_tinyml.targets.cortex_m.recipes.conv_gemm import geometry
from tvm_tinyml.targets.cortex_m.recipes.dense import (
    MOST_ROWS,
    RowCall,
    rows_as_pixels,
    rows_function,
    shares_scale,
    with_scale,
)
from tvm_tinyml.targets.cortex_m.recipes.outliers import WithOutliers

LEAST_IN_TABLE = 2048
"""Weights for which it pays to make a table of all pairs."""


class DenseNarrow(Recipe):
    """``tinyml.dense`` of at most three rows, and ``tinyml.conv2d`` of as many pixels without padding and groups.

    Whatever a build's goal, the widened row may lie in scratch: unpacked weights would take more.
    """

    def __init__(self) -> None:
        self._rows = WithOutliers(_Rows())

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE) -> Kernel | None:
        """Return the kernel, or None where its conditions are not met; it has no knobs."""
        return None if _kind(arguments, attributes) is None else self._rows.lower(arguments, attributes, knobs)

    def guard(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> str:
        """See `Recipe.guard`."""
        return "" if _kind(arguments, attributes) is None else self._rows.guard(arguments, attributes)


class _Rows(Recipe):
    """The same, without a channel that the epilogue cannot do."""

    @property
    def name(self) -> str:
        return DenseNarrow.__name__

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE) -> Kernel | None:
        kind = _kind(arguments, attributes)
        if knobs or kind is None:
            return None
        is_dense = "groups" not in attributes
        source, window = rows_as_pixels(arguments) if is_dense else geometry(arguments, attributes)
        if source.pixels > MOST_ROWS:
            return None
        output = choose_output(*(attributes[k] for k in ("output_zero_point", "clamp_min", "clamp_max")))
        order = window.order_of_all()
        layer = Channels.of(arguments, attributes, order, output)
        form = _form(kind, layer, order >= 0) if all_exact(layer, output) else None
        if form is None:
            return None
        made = rows_function(
            "dense" if is_dense else "conv2d",
            *(arguments[0], source, window, form.calls(layer, output)),
            algorithm=f"rows of four bits, {form.channels} channels at once",
            row_sums=form.row_sums,
            table=form.table,
        )
        return dataclasses.replace(made, func=made.func.with_attr("tinyml.schedule", self.name), reads_narrow=True)

    def guard(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> str:
        kind = _kind(arguments, attributes)
        return "" if kind is None else kind.name.lower()


def _kind(arguments: Sequence[relax.Expr], attributes: Attributes) -> Kind | None:
    """Return how four bits say what the weights are, or None where they do not, or this is no dense layer."""
    if any(attributes.get("padding", ())):
        return None
    coding = coding_of_weights(constant(arguments[1]), attributes)
    return coding.kind if coding else None


@dataclass(frozen=True)
class _Form:
    """How weights are stored, and which microkernel reads them.

    Attributes
    ----------
    channels : at once, at most.
    unit : words of the row are padded to a multiple of it.
    kernel : from channels at once, output and whether they share a scale.
    pack : from channels of the layer, biases, scales and channels at once to constants.
    row_sums, table : see `rows_function`.
    """

    channels: int
    unit: int
    kernel: Callable[..., Microkernel]
    pack: Callable[[slice, Ints, dense_rows.Words | None, int], dense_rows.Words]
    row_sums: int = 0
    table: dense_rows.Words | None = None

    def calls(self, layer: Channels, output: Output) -> list[RowCall]:
        """Return passes of all channels at once, and one of those that are left."""
        count, words = len(layer.bias), -(-layer.weight.shape[1] // (2 * self.unit)) * self.unit
        whole, shared = count - count % self.channels, shares_scale(layer)
        calls = []
        for start, stop, at_once in ((0, whole, self.channels), (whole, count, count - whole)):
            if start < stop:
                chosen = slice(start, stop)
                scales = dense_rows.scale_words(
                    *(values[chosen] for values in (layer.multiplier, layer.shift, layer.zero_point))
                )
                packed = self.pack(chosen, layer.bias[chosen], None if shared else scales, at_once)
                kernel = self.kernel(at_once, output, shared=shared)
                calls.append(RowCall(start, stop, kernel, with_scale(packed, scales, shared=shared), words))
        return calls


def _form(kind: Kind, layer: Channels, is_weight: NDArray[np.bool_]) -> _Form | None:
    """Return the form for a kind of weights, or None where it does not fit, or does not pay.

    Parameters
    ----------
    is_weight : [K], whether a product is one of a weight, and not one of zeros that fill the last word of a run.
    """
    match kind:
        case Kind.PLAIN if (layer.largest < np.resize(LARGEST_SUMS, len(layer.largest))).all():
            return _nibbles(layer)
        case Kind.TABLE:
            return _table(layer, is_weight)
        case _:
            return _scaled(layer)


def _nibbles(layer: Channels) -> _Form:
    def pack(chosen: slice, bias: Ints, scales: dense_rows.Words | None, at_once: int) -> dense_rows.Words:
        return dense_narrow.pack_nibbles(layer.weight[chosen], bias, scales, at_once)

    words = layer.weight.shape[1] // 2
    return _Form(2 * FOUR, 1, dense_narrow.dense_nibbles, pack, row_sums=words)


def _scaled(layer: Channels) -> _Form | None:
    weight = _padded(layer.weight, 4)
    multipliers = multipliers_of(weight.astype(np.int8), dense_narrow.GROUP)
    if not multipliers.all():
        return None
    bits = weight // multipliers.repeat(dense_narrow.GROUP, axis=1)[:, : weight.shape[1]]

    def pack(chosen: slice, bias: Ints, scales: dense_rows.Words | None, at_once: int) -> dense_rows.Words:
        return dense_narrow.pack_scaled(bits[chosen], multipliers[chosen], bias, scales, at_once)

    return _Form(FOUR, 2, dense_narrow.dense_scaled, pack, row_sums=dense_narrow.GROUP_WORDS)


def _table(layer: Channels, is_weight: NDArray[np.bool_]) -> _Form | None:
    numbers = np.unique(layer.weight[:, is_weight])
    if layer.weight.size < LEAST_IN_TABLE or len(numbers) > 16:
        return None
    indices = _padded(np.where(is_weight, np.searchsorted(numbers, layer.weight), 0), 8)

    def pack(chosen: slice, bias: Ints, scales: dense_rows.Words | None, at_once: int) -> dense_rows.Words:
        return dense_narrow.pack_table(indices[chosen], bias, scales, at_once)

    return _Form(FOUR, 4, dense_narrow.dense_table, pack, table=np.resize(numbers, 16).astype(np.int32))


def _padded(values: Ints, multiple: int) -> Ints:
    return np.pad(values, ((0, 0), (0, -values.shape[1] % multiple)))
