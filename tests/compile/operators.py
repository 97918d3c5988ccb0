"""The generators of one-operator models."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator

import tests.tflite_models as models
import tvm_tinyml as tinyml
from benchmarks.int8_graph import Network

OTHER = {"quantize", "dequantize"}
"""Float interfaces are tested in tests/frontend."""


def generators() -> dict[str, Callable[[int], Network]]:
    """Return the generators by name."""
    return {
        name: function
        for name, function in vars(models).items()
        if inspect.isfunction(function)
        and function.__module__ == models.__name__
        and list(inspect.signature(function).parameters) == ["seed"]
        and name not in OTHER
    }


def models_of(name: str, number: int, first_seed: int = 0) -> Iterator[tuple[int, Network, tinyml.Model]]:
    """Yield seed, network and model of `number` models."""
    for seed in range(first_seed, first_seed + number):
        network = generators()[name](seed)
        yield seed, network, tinyml.load(network.data, name="m")
