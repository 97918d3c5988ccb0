"""Quantizing a network, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray
from tvm import IRModule

from tvm_tinyml.errors import QuantizationError
from tvm_tinyml.model import Model, TensorSpec
from tvm_tinyml.options import nearest
from tvm_tinyml.passes.float_groups import leaves
from tvm_tinyml.passes.insert_quantization import Activation, InsertQuantization, Scheme, Weights
from tvm_tinyml.quantization.equalize import equalized
from tvm_tinyml.quantization.layers import Layer, Round, Simulation, corrected
from tvm_tinyml.quantization.observers import OBSERVERS
from tvm_tinyml.quantization.ranges import Ranges, candidates, ranges_of
from tvm_tinyml.quantization.samples import Calibration, samples_of
from tvm_tinyml.quantization.scheme import Shared, activation, activations, rounded, shared_tensors
from tvm_tinyml.quantization.sensitivity import before_softmax
from tvm_tinyml.quantization.statistics import Trace, observe, traces

Array = NDArray[Any]

RECIPES = ("int8",)

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
    bias_correction: bool = True,
    equalization: bool | None = None,
) -> Model:
    """Turn a float network into one of integers, by TFLite's scheme.

    Parameters
    ----------
    model : from `load`, float.
    recipe : ``int8``: activations and weights of 8 bits.
    calibration : samples of the inputs: arrays as for `Library.run`, an iterable of them such as a ``DataLoader``, the
        path of an ``.npz`` file, or ``random``.
    observer : how ranges are found: ``min-max``, ``moving-average``, ``percentile``, ``entropy``, ``mse``, or
        ``measured``: for each tensor that of them which adds the least error to the outputs.
    bias_correction : take the mean error of each channel off the biases.
    equalization : scale channels so that they are alike; None: if the outputs have less error then.

    Raises
    ------
    QuantizationError : there are no samples, the network is quantized already, or an option is not offered.
    InputError : the samples do not fit the network.
    """
    if not model.is_float:
        raise QuantizationError(f"Network '{model.name}' is quantized already. Quantize a float one.")
    for what, given, known in (("recipe", recipe, RECIPES), ("observer", observer, (*OBSERVERS, MEASURED))):
        if given not in known:
            raise QuantizationError(f"There is no {what} {given!r}.{nearest(given, known)} Known: {', '.join(known)}.")
    inputs = samples_of(calibration, model)
    choose: Round = corrected(nearest_integers) if bias_correction else nearest_integers
    modules = [] if equalization is True else [model.module]
    if equalization is not False:
        modules.append(equalized(model.module, inputs))
    best = min((_best(module, inputs, observer, choose) for module in modules), key=lambda attempt: attempt.noise)
    return best.on(inputs).model(model)


def _best(module: IRModule, inputs: Sequence[Array], observer: str, choose: Round) -> Attempt:
    """Return a network quantized with the ranges of an observer, or with the best of all, as some samples show it."""
    some = [array[:TRIED] for array in inputs]
    tensors, statistics, real = shared_tensors(module), observe(module, inputs), traces(module, some)
    names = list(OBSERVERS) if observer == MEASURED else [observer]
    found = [ranges_of(statistics, tensors, OBSERVERS[name], LEVELS["int8"]) for name in names]
    attempts = [Attempt(module, real, tensors, ranges, choose) for ranges in found]
    best = min(attempts, key=lambda attempt: attempt.noise)
    return min((best, best.improved(found)), key=lambda attempt: attempt.noise) if observer == MEASURED else best


class Attempt:
    """A float network with integers for everything.

    Parameters
    ----------
    real : for each batch of samples all that the float network computes.
    ranges : of all tensors that have none by themselves.
    choose : decides about the integers of a layer.

    Attributes
    ----------
    noise : mean square of the outputs' errors on the samples.
    """

    def __init__(
        self, module: IRModule, real: Sequence[Trace], tensors: Sequence[Shared], ranges: Ranges, choose: Round
    ) -> None:
        self._module, self._tensors, self._ranges, self._choose = module, tensors, ranges, choose
        self._scales = activations(tensors, ranges, "int8")
        self._outputs = before_softmax(module)
        self._simulation = Simulation(module, real, self._scales, choose)
        self.noise = self._simulation.noise(self._outputs)[1]

    def on(self, inputs: Sequence[Array]) -> Attempt:
        """Return the same attempt with other samples."""
        return self._with(traces(self._module, inputs), self._ranges)

    def improved(self, found: Sequence[Ranges]) -> Attempt:
        """Return another attempt: each tensor in turn gets the range with which the outputs have the least error."""
        ranges, least = dict(self._ranges), self.noise
        changed: dict[str, Activation] = {}
        for names, now in self._ranges.items():
            for bounds in candidates(found, names):
                if bounds != now:
                    trial = {**changed, **dict.fromkeys(names, activation(bounds, "int8"))}
                    noise = self._simulation.noise(self._outputs, trial)[1]
                    if noise < least:
                        least, changed, ranges[names] = noise, trial, bounds
        return self._with(self._simulation.real, ranges)

    def _with(self, real: Sequence[Trace], ranges: Ranges) -> Attempt:
        return Attempt(self._module, real, self._tensors, ranges, self._choose)

    def model(self, source: Model) -> Model:
        """Return the quantized network."""
        main = self._module["main"]
        module = InsertQuantization(Scheme(self._scales, self._simulation.weights))(self._module)
        return replace(
            source,
            module=module,
            inputs=self._specs(source.inputs, main.params),
            outputs=self._specs(source.outputs, leaves(main.body.body)),
        )

    def _specs(self, specs: Sequence[TensorSpec], variables: Sequence[Any]) -> tuple[TensorSpec, ...]:
        pairs = zip(specs, variables, strict=True)
        return tuple(_quantized(spec, self._scales[str(variable.name)]) for spec, variable in pairs)


def nearest_integers(layer: Layer) -> Weights:
    """Return the integers next to a layer's weights."""
    return rounded(layer.group.weight.value.numpy(), layer.group.bias.value.numpy(), layer.input_scale)


def _quantized(spec: TensorSpec, of: Activation) -> TensorSpec:
    return replace(spec, dtype=of.dtype, scale=of.scale, zero_point=of.zero_point)
