"""Quantizing a network, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule, relax

from tvm_tinyml.errors import QuantizationError
from tvm_tinyml.model import Model, TensorSpec
from tvm_tinyml.options import nearest
from tvm_tinyml.passes import FoldQuantization
from tvm_tinyml.passes.float_groups import groups, leaves
from tvm_tinyml.passes.insert_quantization import Activation, InsertQuantization, Scheme, Weights
from tvm_tinyml.quantization.accuracy import Labelled, accuracy, labelled_samples
from tvm_tinyml.quantization.costs import costs_on
from tvm_tinyml.quantization.equalize import equalized
from tvm_tinyml.quantization.grids import NARROW, weight_bytes
from tvm_tinyml.quantization.layers import Layer, Simulation, corrected, real_constants
from tvm_tinyml.quantization.mixed import MIXED, Bits, Budget, all_narrow, budgets_of, bytes_of, check_weights, mixed
from tvm_tinyml.quantization.observers import OBSERVERS
from tvm_tinyml.quantization.ranges import Ranges, candidates, ranges_of
from tvm_tinyml.quantization.report import LayerReport, Point, QuantizationReport, TensorReport
from tvm_tinyml.quantization.rounding import learned
from tvm_tinyml.quantization.samples import Calibration, samples_of
from tvm_tinyml.quantization.scheme import Shared, activation, activations, rounded, shared_tensors
from tvm_tinyml.quantization.signal import before_softmax, decibels
from tvm_tinyml.quantization.statistics import Trace, observe, traces

Array = NDArray[Any]

RECIPES = ("int8", "int16x8", "w4", f"{MIXED}BUDGET")

MEASURED = "measured"
"""Instead of an observer's name: each tensor gets the range of the one with which the outputs have the least error."""

LEVELS = {"int8": 2**8, "int16": 2**16}

TRIED = 32
"""Samples on which ranges are compared."""


def quantize(
    model: Model,
    recipe: str = "int8",
    *,
    calibration: Calibration = None,
    observer: str = MEASURED,
    narrow: str = "codebook",
    bias_correction: bool = True,
    equalization: bool | None = None,
    accuracy_on: Labelled | None = None,
    target: str | None = None,
    **build_options: Any,
) -> Model:
    """Turn a float network into one of integers, by TFLite's scheme.

    Parameters
    ----------
    model : from `load`, float.
    recipe : ``int8``: activations and weights of 8 bits. ``int16x8``: activations of 16. ``w4``: weights of 4 bits, in
        all layers that have kernels for them: those without groups. ``mixed:60%``, ``mixed:20000``: as many of them
        as it takes for weights to keep to a share of the bytes of 8 bits, or to so many bytes; those first that cost
        the outputs the least. ``mixed:flash=40000,ram=110%,cycles=4000000``: the same for what the library takes on
        the target.
    calibration : samples of the inputs: arrays as for `Library.run`, an iterable of them such as a ``DataLoader``, the
        path of an ``.npz`` file, or ``random``.
    observer : how ranges are found: ``min-max``, ``moving-average``, ``percentile``, ``entropy``, ``mse``, or
        ``measured``: for each tensor that of them which adds the least error to the outputs.
    narrow : what four bits are: an integer, with a scale for each ``channel``; for each ``group`` of 32 weights of a
        channel, a multiple of the channel's; or the index in a ``codebook`` of 16 numbers for each layer.
    bias_correction : take the mean error of each channel off the biases.
    equalization : scale channels so that they are alike; None: if the outputs have less error then.
    accuracy_on : samples that the network is scored on, before and after: the path of an ``.npz`` file with an array
        ``labels`` beside the inputs, or inputs and labels. Nothing is chosen by them.
    target, build_options : as for `build`. With a target the report has what precisions take there.

    Returns
    -------
    The network; its ``quantization`` says what was done and how far the integers are from the floats.

    Raises
    ------
    QuantizationError : there are no samples, the network is quantized already, an option is not offered, or a budget
        cannot be met.
    ModelError : an operator has no kernel for activations of 16 bits.
    InputError : the samples do not fit the network.
    """
    if not model.is_float:
        raise QuantizationError(f"Network '{model.name}' is quantized already. Quantize a float one.")
    budgets = _checked(recipe, observer, narrow, target)
    check_weights(budgets, model.module, narrow)
    costs = costs_on(target, build_options)
    inputs = samples_of(calibration, model)
    scored = None if accuracy_on is None else labelled_samples(accuracy_on, model)
    way = _Way("int16" if recipe == "int16x8" else "int8", bias_correction, narrow)
    if recipe == "w4":
        way = replace(way, bits=all_narrow(model.module))
    modules = [] if equalization is True else [model.module]
    if equalization is not False:
        modules.append(equalized(model.module, inputs))
    best = min((_best(module, inputs, observer, way) for module in modules), key=lambda attempt: attempt.noise)

    def point(name: str, attempt: Attempt, on_target: bool = True) -> Point:
        taken = vars(costs(attempt.model(model))) if costs and on_target else {}
        bits = attempt.way.bits
        return Point(name, bytes_of(model.module, bits, narrow), attempt.decibels, tuple(bits), **taken)

    def narrowed(names: Sequence[str], on_target: bool) -> Point:
        return point(f"and {names[-1]}" if names else "int8", best.with_bits(dict.fromkeys(names, 4)), on_target)

    if budgets:
        bits, steps = mixed(model.module, budgets, narrowed)
        best = best.with_bits(bits)
    else:
        steps = [point(recipe, best)] if costs else []
        if costs and recipe == "w4":
            steps.insert(0, narrowed([], True))
    final = best.on(inputs)
    quantized = final.model(model)
    report = QuantizationReport(
        recipe=recipe,
        observer=observer,
        equalized=final.module is not model.module,
        samples=len(inputs[0]),
        decibels=final.decibels,
        tensors=final.tensors(),
        layers=final.layers(),
        narrow=narrow,
        choices=steps,
        accuracy=None if scored is None else accuracy(model, quantized, *scored),
    )
    quantized = replace(quantized, quantization=report)
    FoldQuantization()(quantized.module)  # refuses what there are no integer operators for, now and not at the build
    return quantized


def _checked(recipe: str, observer: str, narrow: str, target: str | None) -> list[Budget]:
    """Refuse names that are not offered, and return the budgets of a recipe."""
    kind = f"{MIXED}BUDGET" if recipe.startswith(MIXED) else recipe
    observers, ways = (*OBSERVERS, MEASURED), tuple(NARROW)
    for what, given, known in (("recipe", kind, RECIPES), ("observer", observer, observers), ("narrow", narrow, ways)):
        if given not in known:
            close = nearest(given, known)
            raise QuantizationError(f"There is no {what} {given!r}.{close} Known: {', '.join(known)}.")
    budgets = budgets_of(recipe) if recipe.startswith(MIXED) else []
    if target is None and (names := [budget.quantity for budget in budgets if budget.quantity != "weights"]):
        raise QuantizationError(f"Budgets of {', '.join(names)} are those of a target. Name one, such as cortex-m4.")
    return budgets


@dataclass(frozen=True)
class _Way:
    """How tensors and weights become integers.

    Attributes
    ----------
    dtype : of activations.
    corrects : whether biases make up for mean errors.
    narrow : what four bits are, a key of `NARROW`.
    bits : of the weights of layers that have not 8.
    """

    dtype: str
    corrects: bool
    narrow: str
    bits: Bits = field(default_factory=dict)

    def choose(self, layer: Layer) -> Weights:
        """Return the integers of a layer."""
        bits = self.bits.get(layer.group.name, 8)
        choose = nearest_integers if bits == 8 else learned(NARROW[self.narrow])
        return corrected(choose)(layer) if self.corrects else choose(layer)


def _best(module: IRModule, inputs: Sequence[Array], observer: str, way: _Way) -> Attempt:
    """Return a network quantized with the ranges of an observer, or with the best of all, as some samples show it."""
    some = [array[:TRIED] for array in inputs]
    tensors, statistics, real = shared_tensors(module), observe(module, inputs), traces(module, some)
    names = list(OBSERVERS) if observer == MEASURED else [observer]
    found = [ranges_of(statistics, tensors, OBSERVERS[name], LEVELS[way.dtype]) for name in names]
    attempts = [Attempt(module, real, tensors, ranges, way) for ranges in found]
    best = min(attempts, key=lambda attempt: attempt.noise)
    return min((best, best.improved(found)), key=lambda attempt: attempt.noise) if observer == MEASURED else best


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
        self, module: IRModule, real: Sequence[Trace], tensors: Sequence[Shared], ranges: Ranges, way: _Way
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

    def improved(self, found: Sequence[Ranges]) -> Attempt:
        """Return another attempt: each tensor in turn gets the range with which the outputs have the least error."""
        ranges, least = dict(self._ranges), self.noise
        changed: dict[str, Activation] = {}
        for names, now in self._ranges.items():
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

    def layers(self) -> list[LayerReport]:
        """Return what became of each layer's weights."""
        found = []
        for group in groups(self.module["main"]):
            if group.is_layer:
                values, weights = group.weight.value.numpy(), self._simulation.weights[group.name]
                error = values - real_constants(group, weights, 1.0)[group.weight]
                bits = self.way.bits.get(group.name, 8)
                ratio = decibels(float(np.square(values).mean()), float(np.square(error).mean()))
                found.append(LayerReport(group.name, bits, weight_bytes(values.shape, bits, self.way.narrow), ratio))
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
