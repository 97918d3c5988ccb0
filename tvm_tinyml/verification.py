"""Comparing a library with the reference of its integer graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tvm_tinyml.arrays import count_differing
from tvm_tinyml.library import Library
from tvm_tinyml.model import Model
from tvm_tinyml.passes import FoldQuantization
from tvm_tinyml.reference.evaluate import evaluate


@dataclass(frozen=True)
class Verification:
    """How many output bytes were compared over how many inputs, and how many differ."""

    samples: int
    compared: int
    differing: int


def verify(model: Model, library: Library, *, samples: int = 3, seed: int = 0) -> Verification:
    """Run a library on the simulator with random inputs and compare with the numpy reference.

    Raises
    ------
    DeviceError : no simulator, or the program failed on it.
    """
    rng = np.random.default_rng(seed)
    graph = FoldQuantization()(model.module)
    compared = differing = 0
    for _ in range(samples):
        inputs = []
        for spec in model.inputs:
            limits = np.iinfo(spec.dtype)
            inputs.append(rng.integers(limits.min, limits.max, spec.shape, spec.dtype, endpoint=True))
        expected = evaluate(graph, inputs)
        outputs = library.run({spec.name: x for spec, x in zip(model.inputs, inputs, strict=True)})
        wrong, size = count_differing(list(outputs.values()), expected)
        differing, compared = differing + wrong, compared + size
    return Verification(samples, compared, differing)
