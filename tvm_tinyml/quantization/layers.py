"""Integers of layers, one layer after the other, each on what the layers before it make of the samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule, relax

from tvm_tinyml.passes.float_groups import Group, groups
from tvm_tinyml.passes.insert_quantization import Activation, Weights
from tvm_tinyml.quantization.ranges import rounding
from tvm_tinyml.quantization.scheme import integer_bias, keeps_quantization
from tvm_tinyml.quantization.statistics import Trace
from tvm_tinyml.reference.evaluate import recompute

Array = NDArray[Any]
Round = Callable[["Layer"], Weights]
"""From a layer to its integers."""


@dataclass(frozen=True)
class Layer:
    """A layer with what reaches it.

    Attributes
    ----------
    group : its operators.
    input_scale : of the integers that it reads.
    inputs : for each batch of samples what the layer before it makes, as its integers stand for it.
    wanted : for each batch what the float network makes of the samples before the layer's activation.
    """

    group: Group
    input_scale: float
    inputs: Sequence[Array]
    wanted: Sequence[Array]

    def computed(self, weights: Weights) -> list[Array]:
        """Return what the layer makes of its inputs before its activation, with integers for weights."""
        (source,), product = self.group.reads, self.group.product
        constants = real_constants(self.group, weights, self.input_scale)
        return [recompute(product, {}, {**constants, source: array})[product[-1].var] for array in self.inputs]


class Simulation:
    """A float network and what it becomes with integers, computed side by side on the samples.

    Parameters
    ----------
    real : for each batch of samples all that the float network computes.
    scales : of all tensors, by their names.
    choose : decides about a layer, which sees the errors of those before it.

    Attributes
    ----------
    real, simulated : for each batch all tensors, by their variables, and what their integers stand for.
    weights : integers of all layers, by the names of the tensors that they make.
    """

    def __init__(
        self, module: IRModule, real: Sequence[Trace], scales: Mapping[str, Activation], choose: Round
    ) -> None:
        main = module["main"]
        self.real = real
        self.simulated: list[dict[relax.Expr, Any]] = [{} for _ in self.real]
        self.weights: dict[str, Weights] = {}
        self._scales = dict(scales)
        self._parameters, self._groups = list(main.params), list(groups(main))
        self._constants: dict[str, Mapping[relax.Expr, Array]] = {}
        for values, known in zip(self.simulated, self.real, strict=True):
            values |= {p: rounding(scales[str(p.name)])(known[p]) for p in self._parameters}
        for group in self._groups:
            if group.is_layer:
                layer = self._layer(group)
                self.weights[group.name] = choose(layer)
                self._constants[group.name] = real_constants(group, self.weights[group.name], layer.input_scale)
            for values in self.simulated:
                values |= self._computed(group, values, self._scales)

    def noise(
        self, tensors: Sequence[relax.Expr], changed: Mapping[str, Activation] | None = None
    ) -> tuple[float, float]:
        """Return the mean squares of some tensors' numbers and of their errors.

        Parameters
        ----------
        changed : other scales, by the names of tensors, that are tried.
        """
        wanted, made = [], []
        for real, simulated in zip(self.real, self.simulated, strict=True):
            values = self._changed(real, simulated, changed) if changed else simulated
            wanted += [real[tensor].ravel().astype(np.float64) for tensor in tensors]
            made += [values[tensor].ravel() for tensor in tensors]
        expected = np.concatenate(wanted)
        return float(np.square(expected).mean()), float(np.square(expected - np.concatenate(made)).mean())

    def _changed(
        self, real: Trace, simulated: Trace, changed: Mapping[str, Activation]
    ) -> Trace:
        """Return what is simulated for a batch with some other scales."""
        other: dict[relax.Expr, Any] = {
            p: rounding(changed[str(p.name)])(real[p]) for p in self._parameters if str(p.name) in changed
        }
        for group in self._groups:
            if group.name in changed or not other.keys().isdisjoint(group.reads):
                other |= self._computed(group, {**simulated, **other}, {**self._scales, **changed})
        return {**simulated, **other}

    def _computed(
        self, group: Group, values: Trace, scales: Mapping[str, Activation]
    ) -> dict[relax.Expr, Any]:
        """Return what a group makes of integers."""
        given = {**self._constants.get(group.name, {}), **{var: values[var] for var in group.reads}}
        made = recompute(group.bindings, {}, given)
        last = group.bindings[-1].var
        return {last: made[last] if keeps_quantization(group) else rounding(scales[group.name])(made[last])}

    def _layer(self, group: Group) -> Layer:
        (source,) = group.reads
        return Layer(
            group,
            self._scales[str(source.name)].scale,
            [values[source] for values in self.simulated],
            [known[group.product[-1].var] for known in self.real],
        )


def real_constants(group: Group, weights: Weights, input_scale: float) -> dict[relax.Expr, Array]:
    """Return by a layer's constants the numbers that its integers stand for."""
    scale = weights.scale.reshape(-1, *[1] * (weights.values.ndim - 1)) if weights.scale.ndim else weights.scale
    bias = weights.bias * np.float64(np.float32(input_scale)) * np.resize(weights.scale, weights.bias.shape)
    return {group.weight: (weights.values * scale).astype(np.float32), group.bias: bias.astype(np.float32)}


def corrected(round_weights: Round) -> Round:
    """Return what rounds a layer's weights and then takes the mean error of each channel off its bias.

    Source: Nagel et al., Data-Free Quantization, ICCV 2019, section 4.2; here with the mean over the samples.
    """

    def choose(layer: Layer) -> Weights:
        weights = round_weights(layer)
        errors = [a - b for a, b in zip(layer.computed(weights), layer.wanted, strict=True)]
        error = np.concatenate([e.reshape(-1, e.shape[-1]) for e in errors]).mean(axis=0, dtype=np.float64)
        correction = integer_bias(error, layer.input_scale, weights.scale)
        bias = np.clip(weights.bias.astype(np.int64) - correction, -(2**31), 2**31 - 1).astype(np.int32)
        return replace(weights, bias=bias)

    return choose
