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
from tvm_tinyml.quantization.ranges import MEASURED, ranges_of
from tvm_tinyml.quantization.samples import Calibration, samples_of
from tvm_tinyml.quantization.scheme import activations, rounded, shared_tensors
from tvm_tinyml.quantization.sensitivity import before_softmax
from tvm_tinyml.quantization.statistics import observe

RECIPES = ("int8",)


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
    modules = []
    if equalization is not True:
        modules.append(model.module)
    if equalization is not False:
        modules.append(equalized(model.module, inputs))
    attempts = [_Attempt(module, inputs, observer, choose) for module in modules]
    return min(attempts, key=lambda attempt: attempt.noise).model(model)


class _Attempt:
    """A float network with integers for everything."""

    def __init__(self, module: IRModule, inputs: Sequence[NDArray[Any]], observer: str, choose: Round) -> None:
        self._module = module
        tensors = shared_tensors(module)
        ranges = ranges_of(module, inputs, observe(module, inputs), tensors, observer, "int8")
        self._scales = activations(tensors, ranges, "int8")
        self._simulation = Simulation(module, inputs, self._scales, choose)

    @property
    def noise(self) -> float:
        """Mean square of the outputs' errors."""
        return self._simulation.noise(before_softmax(self._module))[1]

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
