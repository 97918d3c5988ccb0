"""Knobs of schedule rules: each value computes the reference's bytes or is refused, and what is decided is told."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
import tvm_ffi
from tvm import IRModule, relax, tirx

from tests.knobs import nonsense, run, settings
from tests.passes.graphs import calls
from tests.passes.kernels import KERNELS, lowered
from tests.simulated import needs_simulator
from tvm_tinyml.choice import KERNEL, Knobs, allowed
from tvm_tinyml.schedules.cortex_m.contraction import MOST_SUMS, DotProductTile, Tile
from tvm_tinyml.schedules.rule import ApplySchedules, ScheduleRule
from tvm_tinyml.targets.cortex_m import cortex_m

CORES = ("cortex-m4", "cortex-m3", "cortex-m0plus")
LAYERS = (
    *("pointwise", "pointwise with a tail", "3x3", "two images", "grouped", "dense", "dense of several rows"),
    *("depthwise", "depthwise with strides", "depthwise, three outputs a channel"),
    *("average of 2x2", "largest of 2x3", "mean over an image"),
)
KNOBS = {
    "DotProductTile": {"pixels", "channels", "outermost", "unroll", "taps"},
    "ScalarTile": {"pixels", "channels", "outermost", "unroll", "taps"},
    "DepthwiseChannels": {"taps"},
    "ReduceInPlace": {"outermost", "taps"},
}


def kernel(name: str, core: str) -> tirx.PrimFunc:
    """Return the kernel of an operator, not scheduled."""
    return next(iter(lowered(name, cortex_m(core).traits.dot_length).values()))


def call_of(name: str) -> relax.Call:
    (call,) = calls(KERNELS[name](np.random.default_rng(0)))
    return call


def cases(core: str, name: str) -> Iterator[tuple[ScheduleRule, tirx.PrimFunc, Knobs]]:
    """Yield the rules with knobs that take an operator's kernel, with what they decide without knobs."""
    func = kernel(name, core)
    for rule in cortex_m(core).rules:
        scheduled = rule.apply(func)
        if scheduled is not None and rule.name in KNOBS:
            yield rule, func, scheduled.knobs


@needs_simulator
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("name", LAYERS)
def test_each_value_computes_the_reference_or_is_refused(name: str, core: str, rng: np.random.Generator) -> None:
    choices = []
    for rule, func, default in cases(core, name):
        for knobs in settings(default, rule.space(func), rng):
            scheduled = rule.apply(func, knobs)
            if scheduled is not None:
                assert scheduled.knobs == knobs
                choices.append({KERNEL: rule.name, **knobs})
    assert choices
    assert run(call_of(name), cortex_m(core), choices) == [(choice, 0) for choice in choices]


@pytest.mark.parametrize("core", CORES)
def test_what_is_decided_without_knobs_is_told_in_full(core: str) -> None:
    for name in LAYERS:
        for rule, func, default in cases(core, name):
            space = rule.space(func)
            assert set(default) == set(space) == KNOBS[rule.name]
            assert allowed(default, space)
            first, second = rule.apply(func), rule.apply(func, default)
            assert first is not None
            assert second is not None
            assert tvm_ffi.structural_equal(first.schedule.mod["main"], second.schedule.mod["main"])


@pytest.mark.parametrize("core", CORES)
def test_every_knob_has_a_kernel_for_which_it_has_a_choice(core: str) -> None:
    every = [(rule.name, rule.space(func)) for name in LAYERS for rule, func, _ in cases(core, name)]
    chosen = {(rule, knob) for rule, space in every for knob, values in space.items() if len(values) > 1}
    assert chosen == {(rule, knob) for rule, _ in every for knob in KNOBS[rule]}


@pytest.mark.parametrize("core", CORES)
def test_what_is_not_given_is_left_to_the_rule(core: str) -> None:
    for name in ("pointwise", "3x3", "depthwise", "average of 2x2"):
        for rule, func, _ in cases(core, name):
            for knob, values in rule.space(func).items():
                schedules = {value: rule.apply(func, {knob: value}) for value in values}
                assert all(each is not None and each.knobs[knob] == value for value, each in schedules.items())


@pytest.mark.parametrize("core", CORES)
def test_what_is_no_value_of_a_knob_is_refused(core: str) -> None:
    for name in LAYERS:
        func = kernel(name, core)
        for rule in cortex_m(core).rules:
            scheduled = rule.apply(func)
            if scheduled is not None:
                for knobs in nonsense(scheduled.knobs, rule.space(func)):
                    assert rule.apply(func, knobs) is None, (rule.name, knobs)


@pytest.mark.parametrize("core", CORES)
def test_spaces_are_plain_and_the_same_each_time(core: str) -> None:
    for name in (*LAYERS, "softmax", "lookup", "add", "pad2d", "pointwise of three channels"):
        func = kernel(name, core)
        for rule in cortex_m(core).rules:
            space = rule.space(func)
            assert json.loads(json.dumps(space)) == space
            assert list(rule.space(func).items()) == list(space.items())
            assert all(len(set(values)) == len(values) for values in space.values())
            assert bool(space) == (rule.name in KNOBS and rule.apply(func) is not None)


def test_a_tile_of_more_sums_than_registers_is_refused() -> None:
    func, rule = kernel("dense of several rows", "cortex-m4"), DotProductTile([Tile(1, 1)])
    assert rule.space(func)["pixels"] == [1, 3]
    assert rule.space(func)["channels"] == [1, 5]
    assert MOST_SUMS < 15
    assert rule.apply(func, {"pixels": 3, "channels": 5}) is None


def test_a_function_tells_what_was_decided_for_it() -> None:
    func = kernel("3x3", "cortex-m4")
    module = {"left": func, "chosen": _with_choice(func, {KERNEL: "DotProductTile", "pixels": 1, "taps": 1})}
    module["refused"] = _with_choice(func, {KERNEL: "DotProductTile", "pixels": 3})
    scheduled = ApplySchedules(cortex_m("cortex-m4").rules)(IRModule(module))
    told = {v.name_hint: json.loads(str(f.attrs["tinyml.choice"])) for v, f in scheduled.functions.items()}
    plain = {KERNEL: "DotProductTile", "outermost": "channels", "unroll": 1}
    assert told["left"] == {**plain, "pixels": 5, "channels": 1, "taps": 0}
    assert told["chosen"] == {**plain, "pixels": 1, "channels": 4, "taps": 1}
    assert told["refused"] == told["left"]


def _with_choice(func: tirx.PrimFunc, choice: Knobs) -> tirx.PrimFunc:
    return func.with_attr("tinyml.choice", json.dumps(choice))
