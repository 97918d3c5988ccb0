"""A float network with integers for everything, in one way of many: what they are, and how far from the floats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule, relax

from tvm_tinyml.model import Model, TensorSpec
from tvm_tinyml.passes.float_groups import groups, leaves
from tvm_tinyml.passes.insert_quantization import Activation, InsertQuantization, Scheme, Weights
from tvm_tinyml.quantization.grids import NARROW, weight_bytes
from tvm_tinyml.quantization.layers import Layer, Simulation, corrected, real_constants
from tvm_tinyml.quantization.mixed import Bits
from tvm_tinyml.quantization.observers import OBSERVERS
from tvm_tinyml.quantization.progress import Progress, counted, silent
from tvm_tinyml.quantization.ranges import Ranges, candidates, ranges_of
from tvm_tinyml.quantization.report import LayerReport, Precision, TensorReport
from tvm_tinyml.quantization.rounding import learned, nearest_on
from tvm_tinyml.quantization.scheme import Shared, activation, activations, rounded, shared_tensors
from tvm_tinyml.quantization.signal import before_softmax, decibels
from tvm_tinyml.quantization.statistics import Trace, observe, traces

Array = NDArray[Any]

MEASURED = "measured"
"""Instead of an observer's name: each tensor gets the range of the one with which the outputs have the least error."""

LEVELS = {"int8": 2**8, "int16": 2**16}

TRIED = 32
"""Samples on which ranges are compared."""


@dataclass(frozen=True)
class Way:
    """How tensors and weights become integers.

    Attributes
    ----------
    dtype : of activations.
    corrects : whether biases make up for mean errors.
    narrow : what four bits are, a key of `NARROW`.
    bits : of the weights of layers that have not 8.
    learns : whether weights of four bits make up for each other's errors, or only the size of the network is wanted.
    """

    dtype: str
    corrects: bool
    narrow: str
    bits: Bits = field(default_factory=dict)
    learns: bool = True

    def choose(self, layer: Layer) -> Weights:
        """Return the integers of a layer."""
        bits = self.bits.get(layer.group.name, 8)
        choose = nearest_integers if bits == 8 else (learned if self.learns else nearest_on)(NARROW[self.narrow])
        return corrected(choose)(layer) if self.corrects else choose(layer)


def best_attempt(
    module: IRModule, inputs: Sequence[Array], observer: str, way: Way, progress: Progress = silent
) -> Attempt:
    """Return a network quantized with the ranges of an observer, or with the best of all, as some samples show it."""
    some = [array[:TRIED] for array in inputs]
    tensors, statistics, real = shared_tensors(module), observe(module, inputs, progress), traces(module, some)
    names = list(OBSERVERS) if observer == MEASURED else [observer]
    found = [ranges_of(statistics, tensors, OBSERVERS[name], LEVELS[way.dtype]) for name in names]
    tried = counted(found, "observers", progress)
    attempts = [Attempt(module, real, tensors, ranges, way) for ranges in tried]
    best = min(attempts, key=lambda attempt: attempt.noise)
    if observer != MEASURED:
        return best
    return min((best, best.improved(found, progress)), key=lambda attempt: attempt.noise)


class Attempt:
    """A float network with integers for everything.

    Parameters
    ----------
    real : for each batch of samples all that the float network computes.
    ranges : of all tensors that have none by themselves.

    Attributes
    ----------
    way : how it became integers.
    noise : mean square of the outputs' errors on the samples.
    decibels : of the outputs, signal to noise.
    """

    def __init__(
        self, module: IRModule, real: Sequence[Trace], tensors: Sequence[Shared], ranges: Ranges, way: Way
    ) -> None:
        self.module = module
        self.way = way
        self._tensors, self._ranges = tensors, ranges
        self._scales = activations(tensors, ranges, way.dtype)
        self._outputs = before_softmax(module)
        self._simulation = Simulation(module, real, self._scales, way.choose)
        power, self.noise = self._simulation.noise(self._outputs)
        self.decibels = decibels(power, self.noise)

    def on(self, inputs: Sequence[Array]) -> Attempt:
        """Return the same attempt with other samples."""
        return self._with(traces(self.module, inputs), self._ranges)

    def with_bits(self, bits: Bits) -> Attempt:
        """Return the same attempt with other bits for weights."""
        way = replace(self.way, bits=bits)
        return Attempt(self.module, self._simulation.real, self._tensors, self._ranges, way)

    def improved(self, found: Sequence[Ranges], progress: Progress = silent) -> Attempt:
        """Return another attempt: each tensor in turn gets the range with which the outputs have the least error."""
        ranges, least = dict(self._ranges), self.noise
        changed: dict[str, Activation] = {}
        for names, now in counted([*self._ranges.items()], "ranges of tensors", progress):
            for bounds in candidates(found, names):
                if bounds != now:
                    trial = {**changed, **dict.fromkeys(names, activation(bounds, self.way.dtype))}
                    noise = self._simulation.noise(self._outputs, trial)[1]
                    if noise < least:
                        least, changed, ranges[names] = noise, trial, bounds
        return self._with(self._simulation.real, ranges)

    def _with(self, real: Sequence[Trace], ranges: Ranges) -> Attempt:
        return Attempt(self.module, real, self._tensors, ranges, self.way)

    def model(self, source: Model) -> Model:
        """Return the quantized network."""
        main = self.module["main"]
        module = InsertQuantization(Scheme(self._scales, self._simulation.weights))(self.module)
        return replace(
            source,
            module=module,
            inputs=self._specs(source.inputs, main.params),
            outputs=self._specs(source.outputs, leaves(main.body.body)),
        )

    def tensors(self) -> list[TensorReport]:
        """Return what became of each tensor."""
        return [
            self._tensor(var, self._scales[str(var.name)])
            for var in self._simulation.simulated[0]
            if isinstance(var.ty, relax.TensorType)
        ]

    def layers(self, precisions: Mapping[str, Sequence[Precision]]) -> list[LayerReport]:
        """Return what became of each layer's weights, and what layers take by precision, as it is told."""
        found = []
        for group in groups(self.module["main"]):
            if group.is_layer:
                values, weights = group.weight.value.numpy(), self._simulation.weights[group.name]
                error = values - real_constants(group, weights, 1.0)[group.weight]
                bits = self.way.bits.get(group.name, 8)
                ratio = decibels(float(np.square(values).mean()), float(np.square(error).mean()))
                size = weight_bytes(values.shape, bits, self.way.narrow)
                found.append(LayerReport(group.name, bits, size, ratio, precisions.get(group.name, ())))
        return found

    def _tensor(self, var: relax.Var, to: Activation) -> TensorReport:
        arrays = [known[var] for known in self._simulation.real]
        limits = np.iinfo(to.dtype)
        low, high = (to.scale * (bound - to.zero_point) for bound in (limits.min - 0.5, limits.max + 0.5))
        outside = sum(int(((array < low) | (array > high)).sum()) for array in arrays)
        return TensorReport(
            name=str(var.name),
            dtype=to.dtype,
            scale=to.scale,
            zero_point=to.zero_point,
            low=float(min(array.min() for array in arrays)),
            high=float(max(array.max() for array in arrays)),
            clipped_share=outside / sum(array.size for array in arrays),
            decibels=decibels(*self._simulation.noise([var])),
        )

    def _specs(self, specs: Sequence[TensorSpec], variables: Sequence[Any]) -> tuple[TensorSpec, ...]:
        pairs = zip(specs, variables, strict=True)
        return tuple(_quantized(spec, self._scales[str(variable.name)]) for spec, variable in pairs)


def nearest_integers(layer: Layer) -> Weights:
    """Return the integers next to a layer's weights."""
    return rounded(layer.group.weight.value.numpy(), layer.group.bias.value.numpy(), layer.input_scale)


def _quantized(spec: TensorSpec, of: Activation) -> TensorSpec:
    return replace(spec, dtype=of.dtype, scale=of.scale, zero_point=of.zero_point)
