"""The generators of one-operator models, without the corner cases that the front end refuses."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from itertools import count, islice

import tests.tflite_models as models
import tvm_tinyml as tinyml
from benchmarks.int8_graph import Network
from tvm_tinyml.errors import ModelError

OTHER = {"sum_", "quantize", "dequantize"}
"""SUM is not among our operators; float interfaces are tested in test_interfaces.py."""

REFUSED = ("strides below 1", "beta is")


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


def accepted(name: str, number: int, first_seed: int = 0) -> Iterator[tuple[int, Network, tinyml.Model]]:
    """Yield seed, network and model of the first `number` models that the front end takes."""
    return islice(_accepted(name, first_seed), number)


def _accepted(name: str, first_seed: int) -> Iterator[tuple[int, Network, tinyml.Model]]:
    for seed in islice(count(first_seed), 40):
        network = generators()[name](seed)
        try:
            yield seed, network, tinyml.load(network.data, name="m")
        except ModelError as error:
            assert any(text in str(error) for text in REFUSED), error
