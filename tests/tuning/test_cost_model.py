"""The cost model learns what choices cost, and what it learned of one operator helps with another."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from tests.tuning.networks import TARGET, convolution, dense, several, workloads
from tvm_tinyml.choice import KERNEL, Choice
from tvm_tinyml.passes.integer_ops import shape_of
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.tuning.cost_model import LEAST_ROWS, CostModel
from tvm_tinyml.tuning.features import choice_features, key_features, output_shape
from tvm_tinyml.tuning.key import key_of
from tvm_tinyml.tuning.records import Key
from tvm_tinyml.tuning.space import GOAL, Choices, Kernels
from tvm_tinyml.tuning.workload import Workload

SPACE = Choices(
    {
        "ConvGemm": {"product": ["raw", "whole"], "tiles": [*range(1, 17)], "shared": [0, 1], "copies": [0, 1]},
        "Winograd": {"tile": [2, 4], "quads": [*range(1, 13)], "filters": ["all", "pair"]},
    }
)
EVERY = list(SPACE.every())

Ratio = Callable[[Choice], float]


def ratio(choice: Choice, best_tiles: int = 8) -> float:
    """Cycles over those of the default, with what knobs do to each other, as kernels have it."""
    if choice[KERNEL] == "Winograd":
        waste = abs(int(choice["quads"]) - 5) * (0.04 if choice["filters"] == "all" else 0.02)
        return 0.7 + waste + 0.2 * (choice["tile"] == 2)
    tiles = abs(int(choice["tiles"]) - best_tiles) / best_tiles
    return 0.9 + 0.5 * tiles + 0.1 * (choice["product"] == "raw") * int(choice["shared"]) - 0.05 * int(choice["copies"])


def key(workload: Workload) -> Key:
    return key_of(workload.call, Kernels(cortex_m(TARGET), GOAL))


def taught(workload: Workload, choices: Sequence[Choice], cost: Ratio, seed: int = 0) -> CostModel:
    model = CostModel(seed)
    for choice in choices:
        model.add(key(workload), choice, cost(choice))
    model.fit()
    return model


def drawn(count: int, seed: int) -> list[Choice]:
    return random.Random(seed).sample(EVERY, count)


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's, ties broken at random."""
    tie = np.random.default_rng(0).random(len(a))
    ranks = [np.argsort(np.lexsort((tie, np.asarray(values)))) for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


@pytest.mark.parametrize("seed", range(3))
def test_what_it_ranks_first_is_good(seed: int) -> None:
    """Of 48 trials it learns to pick, of all 176, ten that are far better than ten drawn at random."""
    workload = convolution()
    model = taught(workload, drawn(48, seed), ratio)
    predicted = model.predict(key(workload), EVERY)
    first = [ratio(EVERY[i]) for i in np.argsort(predicted)[:10]]
    costs = sorted(map(ratio, EVERY))
    at_random = np.mean([np.mean([ratio(c) for c in drawn(10, 100 + i)]) for i in range(20)])
    assert np.mean(first) < costs[0] + 0.25 * (at_random - costs[0])
    assert min(first) <= costs[3]
    assert rank_correlation(predicted, [ratio(choice) for choice in EVERY]) > 0.85


def test_the_same_trials_give_the_same_predictions() -> None:
    workload, trials = convolution(), drawn(40, 1)
    first, again = (taught(workload, trials, ratio, seed=7).predict(key(workload), EVERY) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (taught(workload, trials, ratio, seed=8).predict(key(workload), EVERY) != first).any()


def test_predictions_are_logarithms_of_ratios() -> None:
    workload = convolution()
    predicted = taught(workload, EVERY, ratio).predict(key(workload), EVERY)
    np.testing.assert_allclose(predicted, np.log([ratio(choice) for choice in EVERY]), atol=0.15)


def test_what_gives_no_kernel_is_expected_to_give_none() -> None:
    workload, model = convolution(), CostModel()
    for choice in drawn(60, 2):
        model.add(key(workload), choice, None if choice.get("copies") == 1 else 1.0)
    model.fit()
    without, with_kernel = (
        model.predict(key(workload), [choice for choice in EVERY if (choice.get("copies") == 1) == bad])
        for bad in (True, False)
    )
    assert without.min() > with_kernel.max()


def test_before_it_knows_enough_everything_is_alike() -> None:
    workload, model = convolution(), CostModel()
    model.fit()
    assert not model.predict(key(workload), EVERY).any()
    for choice in EVERY[: LEAST_ROWS - 1]:
        model.add(key(workload), choice, 0.5)
        model.fit()
        assert not model.predict(key(workload), EVERY).any()
    model.add(key(workload), EVERY[-1], 2.0)
    model.fit()
    assert model.trials == LEAST_ROWS
    assert model.predict(key(workload), EVERY).any()
    assert model.predict(key(workload), []).shape == (0,)


@pytest.mark.parametrize("seed", range(3))
def test_what_it_learned_of_one_layer_ranks_another(seed: int) -> None:
    """The other has more pixels and channels, other weights, and its best numbers of tiles are others."""
    model = taught(convolution((1, 8, 8, 8), 8), drawn(60, seed), ratio)
    other = convolution((1, 12, 10, 16), 24, strides=(2, 2))
    actual = [ratio(choice, best_tiles=6) for choice in EVERY]
    predicted = model.predict(key(other), EVERY)
    assert rank_correlation(predicted, actual) > 0.6
    first = np.mean([actual[i] for i in np.argsort(predicted)[:10]])
    assert first < np.mean(actual) - np.std(actual)


def test_a_kernel_that_was_never_seen_is_no_obstacle() -> None:
    workload = convolution()
    model = taught(workload, drawn(30, 0), ratio)
    found = model.predict(key(workload), [{KERNEL: "New", "knob": 3}, {KERNEL: "ConvGemm"}])
    assert np.isfinite(found).all()


@pytest.mark.parametrize("number", range(7))
def test_every_choice_of_every_operator_has_features(number: int) -> None:
    workload = workloads(several())[number]
    of_key = key_features(key(workload))
    assert np.isfinite([*of_key.values()]).all()
    known = workload.call if key(workload)["operator"] in ("conv2d", "dense") else workload.call.args[0]
    assert output_shape(key(workload)) == shape_of(known)
    choices = list(Kernels(cortex_m(TARGET), GOAL).choices(workload.call).every())
    features = [choice_features(of, choice) for of in [key(workload)] for choice in choices]
    assert all(np.isfinite([*each.values()]).all() for each in features)
    assert all(type(value) is float for each in (of_key, *features) for value in each.values())
    assert len({str(sorted(each.items())) for each in features}) == len(choices), "each can be told from the others"


def test_operators_that_differ_in_size_can_be_told_apart() -> None:
    shapes = [convolution(), convolution((1, 9, 8, 4)), convolution(channels=9), dense(), dense(length=17)]
    assert len({str(key_features(key(each))) for each in shapes}) == len(shapes)
