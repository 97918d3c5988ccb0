"""Keys: layers that cost the same have one, whatever their weights are, and those that do not have others."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tuning.networks import TARGET, convolution, dense, several, weights, workloads
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.tuning.agreement import CYCLES
from tvm_tinyml.tuning.key import key_of
from tvm_tinyml.tuning.measure import Job, Measured, measure_safely
from tvm_tinyml.tuning.records import checked_key
from tvm_tinyml.tuning.space import Kernels
from tvm_tinyml.tuning.workload import Workload

ROOT = Path(__file__).parents[2]
KERNELS = Kernels(cortex_m(TARGET), "time")
OUTPUT = {"output": (0.1, -3), "effective_scale": 0.002}

Make = Callable[[], Workload]


def key(workload: Workload) -> dict[str, Any]:
    return key_of(workload.call, KERNELS)


@pytest.mark.parametrize("number", range(7))
def test_a_key_is_plain(number: int) -> None:
    found = key(workloads(several())[number])
    assert json.loads(json.dumps(found)) == found == checked_key(found)


OTHER_WEIGHTS: dict[str, tuple[Make, Make]] = {
    "conv": (lambda: convolution(seed=1, **OUTPUT), lambda: convolution(seed=2, **OUTPUT)),
    "another scale": (lambda: convolution(**OUTPUT), lambda: convolution(output=(0.3, -3), effective_scale=0.001)),
    "another input": (lambda: convolution(**OUTPUT), lambda: convolution(quantization=(0.2, 5), **OUTPUT)),
    "another zero point": (lambda: convolution(**OUTPUT), lambda: convolution(output=(0.1, 7), effective_scale=0.002)),
    "without a bias": (lambda: dense(**OUTPUT), lambda: dense(bias=False, **OUTPUT)),
    "depthwise": (
        lambda: convolution(depthwise=True, seed=1, **OUTPUT),
        lambda: convolution(depthwise=True, seed=2, **OUTPUT),
    ),
    "dense": (lambda: dense(seed=1, **OUTPUT), lambda: dense(seed=2, **OUTPUT)),
}


@pytest.mark.parametrize("name", OTHER_WEIGHTS)
def test_layers_that_only_their_numbers_tell_apart_have_one_key_and_cost_the_same(name: str) -> None:
    first, second = (make() for make in OTHER_WEIGHTS[name])
    assert first != second
    assert key(first) == key(second)
    every = list(KERNELS.choices(first.call).every())
    assert every == list(KERNELS.choices(second.call).every())
    for choice in [None, *random.Random(name).sample(every, min(4, len(every)))]:
        one, other = (measure_safely(Job(workload, TARGET, choice)) for workload in (first, second))
        if isinstance(one, Measured) and isinstance(other, Measured):
            assert one.choice == other.choice
            for memory, cycles in one.cycles.items():
                assert abs(other.cycles[memory] - cycles) <= CYCLES * cycles, "more than its place in flash costs"
        else:
            assert one == other


def with_one(values: np.ndarray[Any, Any], channel: int, value: float) -> np.ndarray[Any, Any]:
    values[channel] = value
    return values


OTHERS: dict[str, tuple[Make, Make]] = {
    "no pair of channels": (
        lambda: convolution((1, 6, 6, 200), weights=weights(1, 8, 3, 3, 200), **OUTPUT),
        lambda: convolution((1, 6, 6, 200), weights=weights(-128, 8, 3, 3, 200), **OUTPUT),
    ),
    "one channel that has no partner": (
        lambda: convolution((1, 6, 6, 200), weights=weights(1, 8, 3, 3, 200), **OUTPUT),
        lambda: convolution((1, 6, 6, 200), weights=with_one(weights(1, 8, 3, 3, 200), 3, 127), **OUTPUT),
    ),
    "a last channel that has no partner in front of it": (
        lambda: convolution((1, 6, 6, 200), 9, weights=weights(1, 9, 3, 3, 200), **OUTPUT),
        lambda: convolution((1, 6, 6, 200), 9, weights=with_one(weights(1, 9, 3, 3, 200), 8, 127), **OUTPUT),
    ),
    "a channel with a scale above 1": (
        lambda: convolution(output=(0.1, -3), effective_scale=np.full(8, 0.01)),
        lambda: convolution(output=(0.1, -3), effective_scale=with_one(np.full(8, 0.01), 7, 1.5)),
    ),
    "a shift of its own": (
        lambda: convolution(depthwise=True, output=(0.1, -128), activation="RELU", effective_scale=np.full(4, 0.01)),
        lambda: convolution(
            depthwise=True, output=(0.1, -128), activation="RELU", effective_scale=np.array([0.01, 1e-5, 0.1, 0.4])
        ),
    ),
    "a scale for each channel": (
        lambda: dense(output=(0.1, -3), effective_scale=0.01),
        lambda: dense(per_channel=True, output=(0.1, -3), effective_scale=np.tile([0.01, 0.02], 5)),
    ),
    "a clamp above the zero point": (
        lambda: convolution(output=(0.1, -3), effective_scale=0.01),
        lambda: convolution(output=(0.1, -3), effective_scale=0.01, activation="RELU"),
    ),
    "a clamp that hides the rounding": (
        lambda: convolution(output=(0.1, 5), effective_scale=0.01),
        lambda: convolution(output=(0.1, -128), effective_scale=0.01),
    ),
    "an upper clamp": (
        lambda: convolution(output=(0.1, -128), effective_scale=0.01),
        lambda: convolution(output=(0.1, -128), effective_scale=0.01, activation="RELU6"),
    ),
    "a clamp below 0, whose instructions are longer": (
        lambda: convolution(output=(0.1, 3), effective_scale=0.01, activation="RELU"),
        lambda: convolution(output=(0.1, -3), effective_scale=0.01, activation="RELU"),
    ),
    "a zero point that need not be added": (
        lambda: convolution(output=(0.1, -3), effective_scale=0.01),
        lambda: convolution(output=(0.1, 0), effective_scale=0.01),
    ),
    "a padding": (lambda: convolution(**OUTPUT), lambda: convolution((1, 10, 10, 4), padding="VALID", **OUTPUT)),
    "a stride": (
        lambda: convolution((1, 9, 9, 4), padding="VALID", **OUTPUT),
        lambda: convolution((1, 9, 9, 4), padding="VALID", strides=(2, 2), **OUTPUT),
    ),
    "a dilation": (
        lambda: convolution((1, 9, 9, 4), kernel=(2, 2), padding="VALID", **OUTPUT),
        lambda: convolution((1, 9, 9, 4), kernel=(2, 2), padding="VALID", dilation=(2, 2), **OUTPUT),
    ),
    "groups": (lambda: convolution(groups=2, **OUTPUT), lambda: convolution(groups=4, **OUTPUT)),
    "a size": (lambda: dense(length=16, **OUTPUT), lambda: dense(length=20, **OUTPUT)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_kernels_cannot_do_alike_has_another_key(name: str) -> None:
    plain, other = (make() for make in OTHERS[name])
    assert key(plain) != key(other)


def test_on_other_cores_schedules_that_scale_otherwise_have_another_key() -> None:
    """There no recipe says so."""
    kernels = Kernels(cortex_m("cortex-m55"), "time")
    below, above = (
        convolution((1, 6, 5, 6), depthwise=True, output=(0.1, -3), effective_scale=scale) for scale in (0.4, 0.6)
    )
    assert key_of(below.call, kernels) != key_of(above.call, kernels)


def test_neither_weights_nor_numbers_of_the_arithmetic_are_in_a_key() -> None:
    """It is reviewed by people, and says nothing of a network's training."""
    found = key(convolution())
    assert set(found) == {
        *("operator", "shapes", "dtypes", "layout", "strides", "padding", "dilation", "groups"),
        *("epilogue", "guards", "kernels"),
    }
    assert len(json.dumps(found)) < 600


def test_versions_of_the_kernels_are_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(convolution())
    monkeypatch.setattr("tvm_tinyml.tuning.key.KERNELS_VERSION", 99)
    assert key(convolution()) == {**before, "kernels": 99}


PROGRAM = """
import json
from tests.tuning.networks import several, workloads
from tests.tuning.test_key import key

print(json.dumps([[each.digest, key(each)] for each in workloads(several())]))
"""


def test_another_process_with_other_hashes_finds_the_same() -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "12"}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout) == [[each.digest, key(each)] for each in workloads(several())]
