"""Quantizing a network, step by step."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from numpy.typing import NDArray

from tvm_tinyml.errors import QuantizationError
from tvm_tinyml.model import Model
from tvm_tinyml.options import nearest
from tvm_tinyml.passes import FoldQuantization
from tvm_tinyml.quantization.accuracy import Labelled, accuracy, labelled_samples
from tvm_tinyml.quantization.attempt import MEASURED, Attempt, Way, best_attempt
from tvm_tinyml.quantization.costs import costs_on
from tvm_tinyml.quantization.equalize import equalized
from tvm_tinyml.quantization.grids import NARROW
from tvm_tinyml.quantization.mixed import MIXED, Budget, all_narrow, budgets_of, bytes_of, check_weights, mixed
from tvm_tinyml.quantization.observers import OBSERVERS
from tvm_tinyml.quantization.precisions import precisions
from tvm_tinyml.quantization.progress import Progress, silent
from tvm_tinyml.quantization.report import Point, QuantizationReport
from tvm_tinyml.quantization.samples import Calibration, samples_of

Array = NDArray[Any]

RECIPES = ("int8", "int16x8", "w4", f"{MIXED}BUDGET")


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
    progress: Progress = silent,
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
    target, build_options : as for `build`. With a target the report has what precisions take there, in all and layer
        by layer.

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
    way = Way("int16" if recipe == "int16x8" else "int8", bias_correction, narrow)
    if recipe == "w4":
        way = replace(way, bits=all_narrow(model.module))
    modules = [] if equalization is True else [model.module]
    if equalization is not False:
        modules.append(equalized(model.module, inputs))
    attempts = [best_attempt(module, inputs, observer, way, progress) for module in modules]
    best = min(attempts, key=lambda attempt: attempt.noise)
    cost = cache(lambda attempt: costs(attempt.model(model))) if costs else None

    def point(name: str, attempt: Attempt, on_target: bool = True) -> Point:
        found = cost(attempt) if cost and on_target else None
        taken = (found.flash_bytes, found.ram_bytes, found.cycles) if found else ()
        bits = attempt.way.bits
        return Point(name, bytes_of(model.module, bits, narrow), attempt.decibels, tuple(bits), *taken)

    most, made = 1 + 2 * len(all_narrow(model.module)), itertools.count()

    def narrowed(names: Sequence[str], on_target: bool) -> Point:
        progress("mixtures, at most", next(made), most)
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
        layers=final.layers(precisions(best, inputs, cost, progress)),
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


