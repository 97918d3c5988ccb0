"""How often a network is right, float and in integers, on samples with labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule

from tvm_tinyml.arrays import fit, read_npz
from tvm_tinyml.errors import QuantizationError
from tvm_tinyml.model import Model
from tvm_tinyml.passes import FoldQuantization
from tvm_tinyml.quantization.samples import LABELS, samples_of
from tvm_tinyml.quantization.statistics import batches
from tvm_tinyml.reference.evaluate import evaluate

Array = NDArray[Any]

Labelled: TypeAlias = str | Path | tuple[Any, Any]
"""The path of an ``.npz`` file that has an array ``labels`` beside the inputs, or inputs and labels."""


@dataclass(frozen=True)
class Accuracy:
    """Shares of samples, 0 to 1.

    Attributes
    ----------
    samples : how many.
    float_right, integer_right : the class with the largest output is the label.
    same : both networks name the same class.
    """

    samples: int
    float_right: float
    integer_right: float
    same: float

    def text(self) -> str:
        """Return one line."""
        return (
            f"accuracy {100 * self.integer_right:.2f} % in integers, {100 * self.float_right:.2f} % in floats, on "
            f"{self.samples} samples; the same class for {100 * self.same:.2f} %"
        )


def labelled_samples(given: Labelled, model: Model) -> tuple[list[Array], Array]:
    """Return float32 [samples, *shape] for each input of a float network, and int64 [samples].

    Raises
    ------
    QuantizationError : there are no labels, or they do not fit the samples or the network.
    InputError : the samples do not fit the network.
    """
    if isinstance(given, tuple):
        inputs, labels = samples_of(given[0], model), np.asarray(given[1])
    else:
        arrays = read_npz(given)
        if LABELS not in arrays:
            raise QuantizationError(f"'{given}' has no array '{LABELS}'. Add the class of each sample, from 0 on.")
        inputs, labels = samples_of(given, model), arrays[LABELS]
    labels = labels.reshape(-1)
    if labels.dtype.kind not in "iu" or len(labels) != len(inputs[0]):
        raise QuantizationError(
            f"There are {len(inputs[0])} samples and {len(labels)} labels of type {labels.dtype}. Give each an integer."
        )
    classes = math.prod(model.outputs[0].shape)
    if len(model.outputs) != 1 or labels.min() < 0 or labels.max() >= classes:
        raise QuantizationError(
            f"Labels {labels.min()} to {labels.max()} do not fit '{model.name}' with {len(model.outputs)} outputs, the "
            f"first of {classes} numbers. Accuracy is for networks with one output, which has a number for each class."
        )
    return inputs, labels.astype(np.int64)


def accuracy(model: Model, quantized: Model, inputs: Sequence[Array], labels: Array) -> Accuracy:
    """Compare a float network and what it became."""
    wanted = _classes(model.module, inputs)
    by_name = {spec.name: array for spec, array in zip(quantized.inputs, inputs, strict=True)}
    integers, _ = fit(by_name, [vars(spec) for spec in quantized.inputs])
    made = _classes(FoldQuantization()(quantized.module), integers)
    return Accuracy(
        samples=len(labels),
        float_right=float((wanted == labels).mean()),
        integer_right=float((made == labels).mean()),
        same=float((wanted == made).mean()),
    )


def _classes(module: IRModule, inputs: Sequence[Array]) -> Array:
    """Return int64 [samples], the index of the largest output of each."""
    found = []
    for arrays in batches(module, inputs):
        samples = arrays[0].size // inputs[0][0].size
        found.append(evaluate(module, arrays)[0].reshape(samples, -1).argmax(axis=1))
    return np.concatenate(found)
